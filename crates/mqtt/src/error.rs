//! Why bytes are no packet, or a packet cannot be written.

use std::fmt;

use iotedge_model::TopicError;
use thiserror::Error;

use crate::{ConnectReturnCode, PacketType, Role, StrError};

/// Which field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// CONNECT's protocol name.
    ProtocolName,
    /// CONNECT's client id.
    ClientId,
    /// CONNECT's will topic.
    WillTopic,
    /// CONNECT's will message.
    WillMessage,
    /// CONNECT's user name.
    UserName,
    /// CONNECT's password.
    Password,
    /// PUBLISH's topic name.
    TopicName,
    /// A filter of SUBSCRIBE or UNSUBSCRIBE.
    TopicFilter,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProtocolName => "protocol name",
            Self::ClientId => "client id",
            Self::WillTopic => "will topic",
            Self::WillMessage => "will message",
            Self::UserName => "user name",
            Self::Password => "password",
            Self::TopicName => "topic name",
            Self::TopicFilter => "topic filter",
        })
    }
}

/// Why the other side's bytes are refused. All of them end the connection ([MQTT-4.8.0-1]);
/// [`DecodeError::connack`] says whether an answer goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The fixed header announces more than the limit. Known before the body arrives.
    #[error("packet of {size} bytes, more than the {max} allowed")]
    PacketTooLarge {
        /// Bytes of the whole packet, fixed header included.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The remaining length goes on after its fourth byte (2.2.3).
    #[error("the remaining length has more than four bytes")]
    RemainingLength,
    /// The remaining length is not the one that this type always has.
    #[error("{packet} with a remaining length of {remaining}")]
    WrongLength {
        /// The type.
        packet: PacketType,
        /// Its remaining length.
        remaining: usize,
    },
    /// Packet types 0 and 15 (table 2.1).
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// [MQTT-2.2.2-2], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1].
    #[error("{packet} with the flags {flags:#06b} in its fixed header")]
    ReservedFlags {
        /// The type.
        packet: PacketType,
        /// The lower half of the first byte.
        flags: u8,
    },
    /// A packet that only the other side sends (table 2.1).
    #[error("{packet} is never sent to a {role}")]
    UnexpectedPacket {
        /// The type.
        packet: PacketType,
        /// Who got it.
        role: Role,
    },
    /// [MQTT-3.1.0-1], [MQTT-3.2.0-1].
    #[error("the first packet is {packet}, not {expected}")]
    WrongFirstPacket {
        /// The type that came.
        packet: PacketType,
        /// CONNECT for a server, CONNACK for a client.
        expected: PacketType,
    },
    /// [MQTT-3.1.0-2]; for a client a second CONNACK.
    #[error("a second {0} on one connection")]
    Repeated(PacketType),
    /// [MQTT-3.14.4-2].
    #[error("a packet after DISCONNECT")]
    AfterDisconnect,
    /// A field reaches beyond the packet's end.
    #[error("{0} ends in the middle of a field")]
    Truncated(PacketType),
    /// Bytes are left after the last field.
    #[error("{packet} with {count} bytes after its last field")]
    TrailingBytes {
        /// The type.
        packet: PacketType,
        /// How many.
        count: usize,
    },
    /// [MQTT-1.5.3-1], [MQTT-3.1.3-4], [MQTT-3.1.3-10], [MQTT-3.1.3-11], [MQTT-3.3.2-1],
    /// [MQTT-3.8.3-1], [MQTT-3.10.3-1].
    #[error("the {0} is not valid UTF-8")]
    Utf8(Field),
    /// [MQTT-1.5.3-2], [MQTT-4.7.3-2].
    #[error("the {0} contains the character U+0000")]
    Nul(Field),
    /// [MQTT-3.3.2-2], [MQTT-4.7.3-1].
    #[error("{field}: {reason}")]
    InvalidTopic {
        /// Topic name or will topic.
        field: Field,
        /// Why.
        reason: TopicError,
    },
    /// [MQTT-4.7.3-1].
    #[error("{0} with an empty topic filter")]
    EmptyFilter(PacketType),
    /// [MQTT-3.8.3-3], [MQTT-3.10.3-2].
    #[error("{0} without a topic filter")]
    EmptyFilterList(PacketType),
    /// SUBACK has a code for each filter ([MQTT-3.8.4-5]).
    #[error("SUBACK without a return code")]
    EmptyCodeList,
    /// [MQTT-2.3.1-1].
    #[error("{0} with packet id 0")]
    PacketIdZero(PacketType),
    /// [MQTT-3.3.1-4].
    #[error("PUBLISH with QoS 3")]
    PublishQos,
    /// [MQTT-3.3.1-2].
    #[error("PUBLISH with QoS 0 and DUP")]
    DupWithQos0,
    /// [MQTT-3.8.3-4]: QoS 3 or reserved bits.
    #[error("SUBSCRIBE asks for QoS byte {0:#04x}")]
    SubscribeQos(u8),
    /// [MQTT-3.9.3-2].
    #[error("SUBACK with return code {0:#04x}")]
    SubAckCode(u8),
    /// [MQTT-3.1.2-1].
    #[error("the protocol name is neither MQTT nor MQIsdp")]
    ProtocolName,
    /// [MQTT-3.1.2-2].
    #[error("protocol level {level} is not supported")]
    UnsupportedProtocolLevel {
        /// 3 for MQTT 3.1, 5 for MQTT 5.
        level: u8,
    },
    /// [MQTT-3.1.2-3].
    #[error("CONNECT with its reserved flag set")]
    ConnectReservedFlag,
    /// [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15].
    #[error("CONNECT without a will, but with will QoS or will retain")]
    WillFlags,
    /// [MQTT-3.1.2-14].
    #[error("CONNECT with will QoS 3")]
    WillQos,
    /// [MQTT-3.1.2-22].
    #[error("CONNECT with a password and no user name")]
    PasswordWithoutUserName,
    /// CONNACK's acknowledge flags other than session present (3.2.2.1).
    #[error("CONNACK with reserved acknowledge flags {0:#04x}")]
    ConnAckFlags(u8),
    /// CONNACK's code is not of table 3.1.
    #[error("CONNACK with return code {0}")]
    ConnAckCode(u8),
    /// [MQTT-3.2.2-4].
    #[error("CONNACK refuses and says that a session is present")]
    SessionPresentOnRefusal,
}

impl DecodeError {
    /// The CONNACK that a server sends before it closes: for an unsupported protocol level
    /// ([MQTT-3.1.2-2]); for everything else there is none ([MQTT-3.1.4-1]).
    pub fn connack(&self) -> Option<ConnectReturnCode> {
        match self {
            Self::UnsupportedProtocolLevel { .. } => {
                Some(ConnectReturnCode::UnacceptableProtocolVersion)
            }
            _ => None,
        }
    }

    pub(crate) fn of_str(field: Field, error: StrError) -> Self {
        match error {
            StrError::Nul => Self::Nul(field),
            // A field read from the wire is never too long: its length stood in two bytes.
            StrError::Utf8 | StrError::TooLong => Self::Utf8(field),
        }
    }
}

/// Why a packet cannot be written. Nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// More than [`crate::MAX_REMAINING_LENGTH`] behind the fixed header.
    #[error("the packet's remaining length is {0}, more than MQTT can carry")]
    PacketTooLarge(usize),
    /// More than 65,535 bytes.
    #[error("the {field} has {len} bytes, more than MQTT can carry")]
    FieldTooLong {
        /// The field.
        field: Field,
        /// Its bytes.
        len: usize,
    },
    /// [MQTT-2.3.1-1].
    #[error("PUBLISH with QoS 1 or 2 needs a packet id")]
    NoPacketId,
    /// [MQTT-2.3.1-5].
    #[error("PUBLISH with QoS 0 has no packet id")]
    PacketIdWithQos0,
    /// [MQTT-3.3.1-2].
    #[error("PUBLISH with QoS 0 has no DUP flag")]
    DupWithQos0,
    /// [MQTT-3.3.2-2], [MQTT-4.7.3-1].
    #[error("{field}: {reason}")]
    InvalidTopic {
        /// Topic name or will topic.
        field: Field,
        /// Why.
        reason: TopicError,
    },
    /// [MQTT-4.7.3-1].
    #[error("{0} with an empty topic filter")]
    EmptyFilter(PacketType),
    /// [MQTT-3.8.3-3], [MQTT-3.10.3-2].
    #[error("{0} without a topic filter")]
    EmptyFilterList(PacketType),
    /// [MQTT-3.8.4-5].
    #[error("SUBACK without a return code")]
    EmptyCodeList,
    /// [MQTT-3.1.2-22].
    #[error("CONNECT with a password and no user name")]
    PasswordWithoutUserName,
    /// [MQTT-3.2.2-4].
    #[error("CONNACK refuses and says that a session is present")]
    SessionPresentOnRefusal,
    /// Version 5 is not spoken.
    #[error("only MQTT 3.1.1 can be written")]
    UnsupportedVersion,
    /// 3.1.1 has none.
    #[error("{0} has properties, which MQTT 3.1.1 cannot carry")]
    Properties(PacketType),
}
