//! Why bytes are no packet, or a packet cannot be written.

use std::fmt;

use iotedge_model::TopicError;
use thiserror::Error;

use crate::{PacketType, Property, ReasonCode, Role, StrError, Version};

mod encode;

pub use encode::EncodeError;

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
    /// A property's string or bytes.
    Property(Property),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Property(property) => return property.fmt(f),
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

/// Why the other side's bytes are refused. All of them end the connection (3.1.1: [MQTT-4.8.0-1],
/// 5: [MQTT-4.13.1-1]); [`DecodeError::connack`] says whether an answer goes first.
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
    /// The remaining length goes on after its fourth byte (2.2.3), or in version 5 has more
    /// bytes than it needs ([MQTT-1.5.5-1]).
    #[error("the remaining length has more bytes than it may have")]
    RemainingLength,
    /// Another variable byte integer has more bytes than it needs, or more than four
    /// (5: [MQTT-1.5.5-1]).
    #[error("{0} with a variable byte integer of more bytes than it may have")]
    VariableByteInteger(PacketType),
    /// The remaining length is not the one that this type always has.
    #[error("{packet} with a remaining length of {remaining}")]
    WrongLength {
        /// The type.
        packet: PacketType,
        /// Its remaining length.
        remaining: usize,
    },
    /// Packet types 0 and, in 3.1.1, 15 (table 2.1).
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
    /// 3.1.1: [MQTT-3.8.3-4], QoS 3 or reserved bits; 5: QoS 3 (3.8.3.1).
    #[error("SUBSCRIBE asks for QoS byte {0:#04x}")]
    SubscribeQos(u8),
    /// 5: [MQTT-3.8.3-5].
    #[error("SUBSCRIBE with reserved bits in subscription options {0:#04x}")]
    SubscriptionOptions(u8),
    /// Retain handling 3 (5: 3.8.3.1).
    #[error("SUBSCRIBE with retain handling 3")]
    RetainHandling,
    /// 5: [MQTT-3.8.3-4].
    #[error("SUBSCRIBE with no local on a shared subscription")]
    NoLocalOnShared,
    /// 3.1.1: [MQTT-3.9.3-2].
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
    /// A reason code that this packet cannot carry (5: [MQTT-3.2.2-8], [MQTT-3.4.2-1],
    /// [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
    /// [MQTT-3.14.2-1], [MQTT-3.15.2-1]).
    #[error("{packet} with reason code {code:#04x}")]
    ReasonCode {
        /// The type.
        packet: PacketType,
        /// The code.
        code: u8,
    },
    /// Not an identifier of table 2-4 (5: 2.2.2.2).
    #[error("{packet} with a property of identifier {id:#04x}, which is none")]
    UnknownProperty {
        /// The type.
        packet: PacketType,
        /// The identifier.
        id: u32,
    },
    /// More bytes of user properties than the limit.
    #[error("{0} with more user properties than are allowed")]
    UserProperties(PacketType),
    /// A property of another packet (5: 2.2.2.2).
    #[error("{packet} with a {property}, which it cannot have")]
    WrongProperty {
        /// The type.
        packet: PacketType,
        /// The property.
        property: Property,
    },
    /// A property that stands once at most (5: 2.2.2.2 and each packet's own section).
    #[error("{packet} with more than one {property}")]
    RepeatedProperty {
        /// The type.
        packet: PacketType,
        /// The property.
        property: Property,
    },
    /// A value that the standard excludes: a zero (5: [MQTT-3.3.2-8], 3.1.2.11.3, 3.1.2.11.4,
    /// 3.8.2.1.2), or a byte that is neither 0 nor 1.
    #[error("{property} of {value}")]
    PropertyValue {
        /// The property.
        property: Property,
        /// The value.
        value: u32,
    },
    /// A property that only the other side sends: a subscription identifier to a server
    /// (5: [MQTT-3.3.4-6]), a session expiry interval in a server's DISCONNECT
    /// (5: [MQTT-3.14.2-2]).
    #[error("{packet} with a {property} is never sent to a {role}")]
    PropertyDirection {
        /// The type.
        packet: PacketType,
        /// The property.
        property: Property,
        /// Who got it.
        role: Role,
    },
    /// Authentication data stands without a method (5: 3.1.2.11.10), or AUTH has no method
    /// (5: 3.15.2.2.2).
    #[error("{0} without an authentication method, which it needs")]
    NoAuthenticationMethod(PacketType),
    /// 5: 3.3.2.1.
    #[error("PUBLISH with an empty topic name and no topic alias")]
    NoTopic,
}

impl DecodeError {
    /// The CONNACK that a server sends before it closes, where a CONNECT is what is wrong.
    /// `version` is what [`crate::Decoder::version`] says. 3.1.1 has one for an unsupported
    /// protocol level alone ([MQTT-3.1.2-2], [MQTT-3.1.4-1]); version 5 for everything.
    pub fn connack(&self, version: Version) -> Option<ReasonCode> {
        match (version, self) {
            (_, Self::UnsupportedProtocolLevel { .. }) | (Version::V5, _) => {
                Some(self.reason_code())
            }
            (Version::V311, _) => None,
        }
    }

    /// What version 5 says in CONNACK or DISCONNECT before it closes (5: 4.13).
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UserProperties(_) => ReasonCode::QuotaExceeded,
            Self::UnsupportedProtocolLevel { .. } | Self::ProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::PropertyValue {
                property: Property::TopicAlias,
                ..
            } => ReasonCode::TopicAliasInvalid,
            Self::InvalidTopic {
                field: Field::Property(_),
                ..
            } => ReasonCode::ProtocolError,
            Self::InvalidTopic { .. } => ReasonCode::TopicNameInvalid,
            Self::EmptyFilter(_) => ReasonCode::TopicFilterInvalid,
            Self::UnexpectedPacket { .. }
            | Self::WrongFirstPacket { .. }
            | Self::Repeated(_)
            | Self::AfterDisconnect
            | Self::EmptyFilterList(_)
            | Self::EmptyCodeList
            | Self::PacketIdZero(_)
            | Self::SubscribeQos(_)
            | Self::RetainHandling
            | Self::NoLocalOnShared
            | Self::ReasonCode { .. }
            | Self::RepeatedProperty { .. }
            | Self::PropertyValue { .. }
            | Self::PropertyDirection { .. }
            | Self::NoAuthenticationMethod(_)
            | Self::NoTopic
            | Self::SubAckCode(_)
            | Self::ConnAckCode(_)
            | Self::SessionPresentOnRefusal => ReasonCode::ProtocolError,
            Self::RemainingLength
            | Self::VariableByteInteger(_)
            | Self::WrongLength { .. }
            | Self::ReservedType(_)
            | Self::ReservedFlags { .. }
            | Self::Truncated(_)
            | Self::TrailingBytes { .. }
            | Self::Utf8(_)
            | Self::Nul(_)
            | Self::PublishQos
            | Self::DupWithQos0
            | Self::SubscriptionOptions(_)
            | Self::ConnectReservedFlag
            | Self::WillFlags
            | Self::WillQos
            | Self::PasswordWithoutUserName
            | Self::ConnAckFlags(_)
            | Self::UnknownProperty { .. }
            | Self::WrongProperty { .. } => ReasonCode::MalformedPacket,
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
