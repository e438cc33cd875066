//! Bytes to packets (MQTT 3.1.1, section 2.2; MQTT 5, section 2.1).

mod body;
mod connect;
mod properties;
mod reader;

use std::fmt;
use std::num::NonZeroU32;

use bytes::{Buf, BytesMut};

use crate::{DecodeError, Packet, PacketType, Version};

/// Whose end of the connection a decoder reads for: it says which packets may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A server: CONNECT comes first and once.
    Server,
    /// A client: CONNACK comes first and once.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has come.
    First,
    /// CONNECT or CONNACK has come.
    Open,
    /// DISCONNECT has come.
    Ended,
    /// An error was found; it is told again at each call.
    Failed(DecodeError),
}

/// Takes packets off the front of a connection's buffer. One for each connection: it knows that
/// the first packet must be CONNECT (CONNACK), that there is no second one, and that nothing
/// follows DISCONNECT.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    spoken: Spoken,
    max_packet_bytes: usize,
    max_user_property_bytes: usize,
    stage: Stage,
    missing: usize,
}

/// What a CONNECT has said of its sender, as far as it could be read: what is wrong behind it is
/// answered accordingly.
#[derive(Debug, Clone, Copy)]
struct Spoken {
    version: Version,
    max_packet_bytes: Option<NonZeroU32>,
}

/// What the fixed header says.
#[derive(Debug, Clone, Copy)]
struct FixedHeader {
    packet: PacketType,
    flags: u8,
    /// Bytes of the fixed header itself.
    len: usize,
    remaining: usize,
    /// The remaining length has no byte too many.
    minimal: bool,
    /// Bytes of user properties that are taken.
    user_bytes: usize,
}

impl Decoder {
    /// A decoder for a new connection. `max_packet_bytes` limits a whole packet, its fixed header
    /// included.
    pub fn new(role: Role, max_packet_bytes: usize) -> Self {
        Self {
            role,
            spoken: Spoken {
                version: Version::V311,
                max_packet_bytes: None,
            },
            max_packet_bytes,
            max_user_property_bytes: usize::MAX,
            stage: Stage::First,
            missing: 0,
        }
    }

    /// The version that a client has said in its CONNECT; 3.1.1 without. A server's decoder
    /// learns it from the CONNECT that comes.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.spoken.version = version;
        self
    }

    /// Limits the names and values of a packet's user properties, and of its will's; a pair counts
    /// as 16 bytes at least. What is read of them costs much more memory than what was sent.
    #[must_use]
    pub fn with_max_user_property_bytes(mut self, max: usize) -> Self {
        self.max_user_property_bytes = max;
        self
    }

    /// The version of the connection. For a server: as soon as a CONNECT's protocol level has been
    /// read, even where the rest of it is refused; 3.1.1 before, and for levels that are not
    /// supported.
    pub fn version(&self) -> Version {
        self.spoken.version
    }

    /// For a server: the largest packet that the client takes, as its CONNECT says it, even where
    /// the rest of it is refused (5: 3.1.2.11.4).
    pub fn receiver_limit(&self) -> Option<NonZeroU32> {
        self.spoken.max_packet_bytes
    }

    /// The next packet at the front of `buf`, or `None` when it is not whole yet. Strings and
    /// payloads share the buffer; nothing is copied. What is wrong is said as early as it can be
    /// seen: type, flags and size before the body arrives.
    ///
    /// After an error the connection is of no more use ([MQTT-4.8.0-1]): every further call tells
    /// the same error and takes nothing.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        if let Stage::Failed(error) = self.stage {
            return Err(error);
        }
        let result = self.next(buf);
        if let Err(error) = result {
            self.stage = Stage::Failed(error);
        }
        result
    }

    /// After `decode` returned `None`: how many bytes the packet needs at least. A hint for the
    /// next read; allocating them at once would let a peer's five bytes cost the whole limit.
    pub fn missing(&self) -> usize {
        self.missing
    }

    fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = self.header(buf)? else {
            return Ok(None);
        };
        let size = header.len + header.remaining;
        if buf.len() < size {
            self.missing = size - buf.len();
            return Ok(None);
        }
        self.missing = 0;
        buf.advance(header.len);
        let packet = body::decode(header, self.role, &mut self.spoken, buf)?;
        if self.spoken.version == Version::V5 && !header.minimal {
            // CONNECT: its version was not known before.
            return Err(DecodeError::RemainingLength);
        }
        match header.packet {
            PacketType::Connect | PacketType::ConnAck => self.stage = Stage::Open,
            PacketType::Disconnect => self.stage = Stage::Ended,
            _ => {}
        }
        Ok(Some(packet))
    }

    /// Reads and checks the fixed header; `None` when it is not whole.
    fn header(&mut self, buf: &BytesMut) -> Result<Option<FixedHeader>, DecodeError> {
        let Some((&first, rest)) = buf.split_first() else {
            self.missing = 2;
            return Ok(None);
        };
        let packet =
            PacketType::from_first_byte(first).ok_or(DecodeError::ReservedType(first >> 4))?;
        if packet == PacketType::Auth && self.spoken.version == Version::V311 {
            return Err(DecodeError::ReservedType(15));
        }
        let flags = first & 0x0f;
        self.check_stage(packet)?;
        check_flags(packet, flags)?;
        let integer = variable_byte_integer(rest).ok_or(DecodeError::RemainingLength)?;
        let Some((remaining, length_bytes)) = integer else {
            self.missing = 1;
            return Ok(None);
        };
        let minimal = is_minimal(remaining, length_bytes);
        if self.spoken.version == Version::V5 && !minimal {
            return Err(DecodeError::RemainingLength);
        }
        let len = 1 + length_bytes;
        check_length(packet, remaining, self.spoken.version)?;
        let size = len + remaining;
        if size > self.max_packet_bytes {
            return Err(DecodeError::PacketTooLarge {
                size,
                max: self.max_packet_bytes,
            });
        }
        Ok(Some(FixedHeader {
            packet,
            flags,
            len,
            remaining,
            minimal,
            user_bytes: self.max_user_property_bytes,
        }))
    }

    fn check_stage(&self, packet: PacketType) -> Result<(), DecodeError> {
        use PacketType as P;
        let role = self.role;
        let legal = match role {
            Role::Server => !matches!(packet, P::ConnAck | P::SubAck | P::UnsubAck | P::PingResp),
            Role::Client => match packet {
                P::Connect | P::Subscribe | P::Unsubscribe | P::PingReq => false,
                P::Disconnect => self.spoken.version == Version::V5,
                _ => true,
            },
        };
        if !legal {
            return Err(DecodeError::UnexpectedPacket { packet, role });
        }
        let expected = match role {
            Role::Server => P::Connect,
            Role::Client => P::ConnAck,
        };
        match self.stage {
            // Only AUTH may come before CONNACK (5: [MQTT-3.2.0-1]).
            Stage::First if role == Role::Client && packet == P::Auth => Ok(()),
            Stage::First if packet != expected => {
                Err(DecodeError::WrongFirstPacket { packet, expected })
            }
            Stage::Open if packet == expected => Err(DecodeError::Repeated(packet)),
            Stage::Ended => Err(DecodeError::AfterDisconnect),
            Stage::Failed(error) => Err(error),
            Stage::First | Stage::Open => Ok(()),
        }
    }
}

fn check_flags(packet: PacketType, flags: u8) -> Result<(), DecodeError> {
    match packet.required_flags() {
        Some(required) if required != flags => Err(DecodeError::ReservedFlags { packet, flags }),
        Some(_) => Ok(()),
        None => match flags & 0b1110 {
            0b0110 | 0b1110 => Err(DecodeError::PublishQos),
            0b1000 => Err(DecodeError::DupWithQos0),
            _ => Ok(()),
        },
    }
}

/// Packets that have always the same length are checked before their body arrives.
fn check_length(packet: PacketType, remaining: usize, version: Version) -> Result<(), DecodeError> {
    use PacketType as P;
    let fixed = match packet {
        P::PingReq | P::PingResp => 0,
        _ if version == Version::V5 => return Ok(()),
        P::Disconnect => 0,
        P::ConnAck | P::PubAck | P::PubRec | P::PubRel | P::PubComp | P::UnsubAck => 2,
        P::Connect | P::Publish | P::Subscribe | P::SubAck | P::Unsubscribe | P::Auth => {
            return Ok(());
        }
    };
    if remaining == fixed {
        Ok(())
    } else {
        Err(DecodeError::WrongLength { packet, remaining })
    }
}

/// A variable byte integer off the front and how many bytes it took (3.1.1: 2.2.3, 5: 1.5.5):
/// `Some(None)` when it is not whole, `None` when it goes on after its fourth byte.
#[allow(clippy::option_option)] // three outcomes, told apart at both places that call it
fn variable_byte_integer(bytes: &[u8]) -> Option<Option<(usize, usize)>> {
    let mut value = 0_usize;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { None } else { Some(None) }
}

/// Whether `value` needs all of the `len` bytes that it was written with (5: [MQTT-1.5.5-1]).
fn is_minimal(value: usize, len: usize) -> bool {
    len <= 1 || value >> (7 * (len - 1)) != 0
}
