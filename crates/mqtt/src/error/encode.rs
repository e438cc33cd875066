//! Why a packet cannot be written.

use iotedge_model::TopicError;
use thiserror::Error;

use super::Field;
use crate::{PacketType, ReasonCode};

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
    /// A CONNECT is written in its own version, and this one is of another.
    #[error("CONNECT of another version than the connection's")]
    OtherVersion,
    /// AUTH is of version 5 alone.
    #[error("{0}, which MQTT 3.1.1 does not have")]
    NotIn311(PacketType),
    /// 3.1.1 has none.
    #[error("{0} has properties, which MQTT 3.1.1 cannot carry")]
    Properties(PacketType),
    /// 3.1.1 knows the QoS alone.
    #[error("SUBSCRIBE has subscription options, which MQTT 3.1.1 cannot carry")]
    SubscriptionOptions,
    /// Version 5: the packet cannot carry this code; 3.1.1: it cannot carry any error.
    #[error("{packet} cannot carry the reason {reason}")]
    ReasonCode {
        /// The type.
        packet: PacketType,
        /// The code.
        reason: ReasonCode,
    },
    /// Not 1 to 268,435,455 (5: 3.8.2.1.2).
    #[error("a subscription identifier of {0}")]
    SubscriptionId(u32),
    /// 5: [MQTT-1.5.4-2].
    #[error("the {0} contains the character U+0000")]
    Nul(Field),
    /// 5: [MQTT-3.8.3-4].
    #[error("SUBSCRIBE with no local on a shared subscription")]
    NoLocalOnShared,
    /// Authentication data stands without a method, or AUTH has no method (5: 3.1.2.11.10,
    /// 3.15.2.2.2).
    #[error("{0} without an authentication method, which it needs")]
    NoAuthenticationMethod(PacketType),
    /// More than the receiver's maximum packet size (5: [MQTT-3.1.2-24], [MQTT-3.2.2-15]), even
    /// without reason string and user properties.
    #[error("packet of {size} bytes, more than the {max} that the receiver takes")]
    ReceiverLimit {
        /// Bytes of the whole packet.
        size: usize,
        /// The receiver's limit.
        max: usize,
    },
}
