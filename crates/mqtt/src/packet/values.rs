//! What each packet says.

use bytes::Bytes;
use iotedge_model::QoS;

use super::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    PublishProperties, SubscribeProperties, UnsubscribeProperties, WillProperties,
};
use crate::{PacketId, ReasonCode, Str, Version};

/// CONNECT (3.1).
///
/// An empty client id is decoded whatever `clean` says: whether it is allowed is the server's
/// choice, and its refusal is CONNACK 2 (3.1.1: [MQTT-3.1.3-8], [MQTT-3.1.3-9]) or 0x85 (5:
/// [MQTT-3.1.3-8]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks. A CONNECT is always written in its own version.
    pub version: Version,
    /// Clean session; in version 5 clean start.
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
    /// Version 5 only; `None` when all have their defaults.
    pub properties: Option<Box<ConnectProperties>>,
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
    pub properties: Option<Box<WillProperties>>,
}

/// CONNACK (3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    /// The server has state of an earlier connection; never with a refusal ([MQTT-3.2.2-4], 5:
    /// [MQTT-3.2.2-6]).
    pub session_present: bool,
    /// Accepted, or why not. 3.1.1's return codes are read as their counterparts and written as
    /// [`ReasonCode::return_code`] says.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: Option<Box<ConnAckProperties>>,
}

impl From<ReasonCode> for ConnAck {
    /// Without a session and without properties.
    fn from(reason: ReasonCode) -> Self {
        Self {
            session_present: false,
            reason,
            properties: None,
        }
    }
}

/// PUBLISH (3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// It may have been sent before.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// A valid topic name; empty in version 5 where a topic alias stands for it.
    pub topic: Str,
    /// There exactly with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The message's bytes.
    pub payload: Bytes,
    /// Version 5 only.
    pub properties: Option<Box<PublishProperties>>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The PUBLISH's packet id.
    pub packet_id: PacketId,
    /// Version 5; always success in 3.1.1.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// Without properties.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: None,
        }
    }
}

impl From<PacketId> for Ack {
    /// Success.
    fn from(packet_id: PacketId) -> Self {
        Self::new(packet_id, ReasonCode::Success)
    }
}

/// SUBSCRIBE (3.8): one filter at least. The filters are strings that are not empty; whether
/// they are valid filters (4.7.1) is for the receiver to check, since it knows what `$share`
/// and the profile's limits mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id.
    pub packet_id: PacketId,
    /// Filters, each with what is asked for.
    pub filters: Vec<(Str, SubscriptionOptions)>,
    /// Version 5 only.
    pub properties: Option<Box<SubscribeProperties>>,
}

/// How a filter is subscribed (MQTT 5, 3.8.3.1). 3.1.1 knows the QoS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Highest QoS of deliveries.
    pub qos: QoS,
    /// Nothing that the same client id published.
    pub no_local: bool,
    /// Deliveries keep the publisher's RETAIN flag.
    pub retain_as_published: bool,
    /// Retained messages at SUBSCRIBE.
    pub retain_handling: RetainHandling,
}

impl From<QoS> for SubscriptionOptions {
    /// As 3.1.1 subscribes.
    fn from(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }
}

/// Which retained messages a SUBSCRIBE brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    Send = 0,
    /// All that match, if the subscription is new.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

/// SUBACK (3.9): a code for each filter, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The SUBSCRIBE's packet id.
    pub packet_id: PacketId,
    /// One code at least.
    pub codes: Vec<SubAckCode>,
    /// Version 5 only.
    pub properties: Option<Box<AckProperties>>,
}

/// The answer to one filter ([MQTT-3.9.3-2]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubAckCode {
    /// Subscribed, with this QoS at most.
    Granted(QoS),
    /// Not subscribed: an error of table 3-8 in version 5; 3.1.1 has 0x80 for all of them.
    Refused(ReasonCode),
}

impl SubAckCode {
    /// Not subscribed: 0x80.
    pub const FAILURE: Self = Self::Refused(ReasonCode::UnspecifiedError);
}

impl From<SubAckCode> for ReasonCode {
    fn from(code: SubAckCode) -> Self {
        match code {
            SubAckCode::Granted(QoS::AtMostOnce) => Self::Success,
            SubAckCode::Granted(QoS::AtLeastOnce) => Self::GrantedQos1,
            SubAckCode::Granted(QoS::ExactlyOnce) => Self::GrantedQos2,
            SubAckCode::Refused(reason) => reason,
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
    /// Version 5 only.
    pub properties: Option<Box<UnsubscribeProperties>>,
}

/// UNSUBACK (3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// The UNSUBSCRIBE's packet id.
    pub packet_id: PacketId,
    /// Version 5: one for each filter, in their order, and one at least. 3.1.1 has none: empty
    /// when read, left out when written.
    pub codes: Vec<ReasonCode>,
    /// Version 5 only.
    pub properties: Option<Box<AckProperties>>,
}

impl From<PacketId> for UnsubAck {
    /// As 3.1.1 has it.
    fn from(packet_id: PacketId) -> Self {
        Self {
            packet_id,
            codes: Vec::new(),
            properties: None,
        }
    }
}

/// DISCONNECT (3.14). Its default is the normal one, the only one that 3.1.1 has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// Why. Version 5; always success (normal disconnection) in 3.1.1.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: Option<Box<DisconnectProperties>>,
}

impl From<ReasonCode> for Disconnect {
    /// Without properties.
    fn from(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: None,
        }
    }
}

/// AUTH (MQTT 5, 3.15).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// `None` only in the short form that means success; else a method is there (3.15.2.2.2).
    pub properties: Option<Box<AuthProperties>>,
}

impl From<ReasonCode> for Auth {
    /// Without properties: only success can be written so.
    fn from(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: None,
        }
    }
}
