//! The packets as values, the same ones for both versions (MQTT 3.1.1 and MQTT 5, section 3).

use std::fmt;
use std::num::NonZeroU16;

mod properties;
mod values;

pub use properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    Property, PublishProperties, PublishPropertiesRef, SubscribeProperties, UnsubscribeProperties,
    WillProperties,
};
pub use values::{
    Ack, Auth, ConnAck, Connect, Disconnect, LastWill, Publish, RetainHandling, SubAck, SubAckCode,
    Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe,
};

/// A packet id: never 0 ([MQTT-2.3.1-1]).
pub type PacketId = NonZeroU16;

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// 3.1.1, protocol level 4.
    #[default]
    V311,
    /// 5, protocol level 5.
    V5,
}

impl Version {
    /// The protocol level in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
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
    /// Client goes; in version 5 the server too.
    Disconnect = 14,
    /// Enhanced authentication; version 5 only.
    Auth = 15,
}

impl PacketType {
    /// From the upper half of the first byte; `None` for the reserved 0.
    /// 15 is reserved in 3.1.1.
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
            15 => Self::Auth,
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
            Self::Auth => "AUTH",
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
    PubAck(Ack),
    /// 3.5.
    PubRec(Ack),
    /// 3.6.
    PubRel(Ack),
    /// 3.7.
    PubComp(Ack),
    /// 3.8.
    Subscribe(Subscribe),
    /// 3.9.
    SubAck(SubAck),
    /// 3.10.
    Unsubscribe(Unsubscribe),
    /// 3.11.
    UnsubAck(UnsubAck),
    /// 3.12.
    PingReq,
    /// 3.13.
    PingResp,
    /// 3.14.
    Disconnect(Disconnect),
    /// 3.15; version 5 only.
    Auth(Auth),
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
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}
