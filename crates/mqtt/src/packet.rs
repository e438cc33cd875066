//! The packets as values (MQTT 3.1.1, section 3).

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;
use iotedge_model::{Properties, QoS};

use crate::Str;

/// A packet id: never 0 ([MQTT-2.3.1-1]).
pub type PacketId = NonZeroU16;

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// 3.1.1, protocol level 4.
    V311,
    /// 5, protocol level 5. Not spoken yet: such a CONNECT is refused.
    V5,
}

/// What kind of packet (table 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Client asks to connect.
    Connect = 1,
    /// Its answer.
    ConnAck = 2,
    /// A message.
    Publish = 3,
    /// QoS 1: received.
    PubAck = 4,
    /// QoS 2, first answer: received.
    PubRec = 5,
    /// QoS 2: release.
    PubRel = 6,
    /// QoS 2: complete.
    PubComp = 7,
    /// Client subscribes.
    Subscribe = 8,
    /// Its answer.
    SubAck = 9,
    /// Client unsubscribes.
    Unsubscribe = 10,
    /// Its answer.
    UnsubAck = 11,
    /// Client asks whether anyone is there.
    PingReq = 12,
    /// Its answer.
    PingResp = 13,
    /// Client goes.
    Disconnect = 14,
}

impl PacketType {
    /// From the upper half of the first byte; `None` for the reserved 0 and 15.
    pub fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The name as the standard writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        }
    }

    /// The flags that this type must carry (table 2.2); `None` for PUBLISH, where they mean
    /// something.
    pub(crate) fn required_flags(self) -> Option<u8> {
        match self {
            Self::Publish => None,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => Some(0b0010),
            _ => Some(0),
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// 3.1.
    Connect(Connect),
    /// 3.2.
    ConnAck(ConnAck),
    /// 3.3.
    Publish(Publish),
    /// 3.4.
    PubAck(PacketId),
    /// 3.5.
    PubRec(PacketId),
    /// 3.6.
    PubRel(PacketId),
    /// 3.7.
    PubComp(PacketId),
    /// 3.8.
    Subscribe(Subscribe),
    /// 3.9.
    SubAck(SubAck),
    /// 3.10.
    Unsubscribe(Unsubscribe),
    /// 3.11.
    UnsubAck(PacketId),
    /// 3.12.
    PingReq,
    /// 3.13.
    PingResp,
    /// 3.14.
    Disconnect,
}

impl Packet {
    /// What kind it is.
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect => PacketType::Disconnect,
        }
    }
}

/// CONNECT (3.1).
///
/// An empty client id is decoded whatever `clean` says: whether it is allowed is the server's
/// choice, and its refusal is CONNACK 2 ([MQTT-3.1.3-8], [MQTT-3.1.3-9]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks.
    pub version: Version,
    /// Clean session.
    pub clean: bool,
    /// Seconds between two packets at most; 0 switches it off.
    pub keep_alive: u16,
    /// Client id; may be empty.
    pub client_id: Str,
    /// The will.
    pub will: Option<LastWill>,
    /// User name.
    pub username: Option<Str>,
    /// Password: any bytes; never without a user name in 3.1.1 ([MQTT-3.1.2-22]).
    pub password: Option<Bytes>,
}

/// The will in a CONNECT (3.1.2.5); its topic is a valid topic name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWill {
    /// Topic name.
    pub topic: Str,
    /// Will message.
    pub payload: Bytes,
    /// Will QoS.
    pub qos: QoS,
    /// Will retain.
    pub retain: bool,
    /// Version 5 only.
    pub properties: Option<Box<Properties>>,
}

/// CONNACK (3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    /// The server has state of an earlier connection; never with a refusal ([MQTT-3.2.2-4]).
    pub session_present: bool,
    /// Accepted, or why not.
    pub code: ConnectReturnCode,
}

/// The codes of CONNACK (table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// Connected.
    Accepted = 0,
    /// The server does not speak this version.
    UnacceptableProtocolVersion = 1,
    /// The client id is not allowed.
    IdentifierRejected = 2,
    /// The service is unavailable.
    ServerUnavailable = 3,
    /// User name or password is malformed.
    BadUserNameOrPassword = 4,
    /// Not authorized.
    NotAuthorized = 5,
}

impl TryFrom<u8> for ConnectReturnCode {
    /// The code, which is reserved.
    type Error = u8;
    fn try_from(code: u8) -> Result<Self, u8> {
        Ok(match code {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            other => return Err(other),
        })
    }
}

/// PUBLISH (3.3); the topic is a valid topic name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// It may have been sent before.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name.
    pub topic: Str,
    /// There exactly with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The message's bytes.
    pub payload: Bytes,
    /// Version 5 only.
    pub properties: Option<Box<Properties>>,
}

/// SUBSCRIBE (3.8): one filter at least. The filters are strings that are not empty; whether
/// they are valid filters (4.7.1) is for the receiver to check, since it knows what `$share`
/// and the profile's limits mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id.
    pub packet_id: PacketId,
    /// Filters, each with the QoS asked for.
    pub filters: Vec<(Str, QoS)>,
}

/// SUBACK (3.9): a code for each filter, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The SUBSCRIBE's packet id.
    pub packet_id: PacketId,
    /// One code at least.
    pub codes: Vec<SubAckCode>,
}

/// The answer to one filter ([MQTT-3.9.3-2]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubAckCode {
    /// Subscribed, with this QoS at most.
    Granted(QoS),
    /// Not subscribed: 0x80.
    Failure,
}

impl From<SubAckCode> for u8 {
    fn from(code: SubAckCode) -> Self {
        match code {
            SubAckCode::Granted(qos) => qos.into(),
            SubAckCode::Failure => 0x80,
        }
    }
}

impl TryFrom<u8> for SubAckCode {
    /// The code, which is reserved.
    type Error = u8;
    fn try_from(code: u8) -> Result<Self, u8> {
        match code {
            0x80 => Ok(Self::Failure),
            qos => QoS::try_from(qos).map(Self::Granted).map_err(|_| qos),
        }
    }
}

/// UNSUBSCRIBE (3.10): one filter at least; see [`Subscribe`] about the filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet id.
    pub packet_id: PacketId,
    /// Filters.
    pub filters: Vec<Str>,
}
