//! Properties (MQTT 5, 2.2.2), a struct for each packet that has some. What a peer leaves out
//! reads as the default that the standard gives it, and what has its default is not written.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use iotedge_model::{Properties, QoS, UserProperty};

use crate::Str;

macro_rules! property_ids {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// A property's identifier (MQTT 5, table 2-4).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Property {
            $(
                #[doc = $text]
                $name = $code,
            )*
        }

        impl Property {
            /// From the identifier on the wire.
            pub(crate) fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Property {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

property_ids! {
    PayloadFormatIndicator = 0x01, "payload format indicator";
    MessageExpiryInterval = 0x02, "message expiry interval";
    ContentType = 0x03, "content type";
    ResponseTopic = 0x08, "response topic";
    CorrelationData = 0x09, "correlation data";
    SubscriptionIdentifier = 0x0b, "subscription identifier";
    SessionExpiryInterval = 0x11, "session expiry interval";
    AssignedClientIdentifier = 0x12, "assigned client identifier";
    ServerKeepAlive = 0x13, "server keep alive";
    AuthenticationMethod = 0x15, "authentication method";
    AuthenticationData = 0x16, "authentication data";
    RequestProblemInformation = 0x17, "request problem information";
    WillDelayInterval = 0x18, "will delay interval";
    RequestResponseInformation = 0x19, "request response information";
    ResponseInformation = 0x1a, "response information";
    ServerReference = 0x1c, "server reference";
    ReasonString = 0x1f, "reason string";
    ReceiveMaximum = 0x21, "receive maximum";
    TopicAliasMaximum = 0x22, "topic alias maximum";
    TopicAlias = 0x23, "topic alias";
    MaximumQos = 0x24, "maximum QoS";
    RetainAvailable = 0x25, "retain available";
    UserProperty = 0x26, "user property";
    MaximumPacketSize = 0x27, "maximum packet size";
    WildcardSubscriptionAvailable = 0x28, "wildcard subscription available";
    SubscriptionIdentifierAvailable = 0x29, "subscription identifier available";
    SharedSubscriptionAvailable = 0x2a, "shared subscription available";
}

/// CONNECT's properties (3.1.2.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds that the session outlives the connection; 0 not at all, `u32::MAX` for ever.
    pub session_expiry: u32,
    /// How many QoS 1 and 2 messages the client takes at once; 65,535 by default.
    pub receive_maximum: NonZeroU16,
    /// Bytes of the largest packet that the client takes; no limit by default.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest topic alias that the client takes; 0 for none.
    pub topic_alias_maximum: u16,
    /// The client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// Reason strings and user properties may come in any packet that has them; by default they
    /// may.
    pub request_problem_information: bool,
    /// User properties.
    pub user: Vec<UserProperty>,
    /// Asks for enhanced authentication (4.12).
    pub authentication_method: Option<Str>,
    /// Only with a method.
    pub authentication_data: Option<Bytes>,
}

impl Default for ConnectProperties {
    fn default() -> Self {
        Self {
            session_expiry: 0,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// The will's properties (3.1.3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WillProperties {
    /// Seconds between the connection's end and the will; 0 by default.
    pub delay: u32,
    /// Seconds that the will lives once it is published.
    pub message_expiry: Option<u32>,
    /// What travels with the will. An empty one is the same as `None`.
    pub message: Option<Box<Properties>>,
}

/// CONNACK's properties (3.2.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Seconds, where the server does not use the client's own value.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at once; 65,535 by default.
    pub receive_maximum: NonZeroU16,
    /// The highest QoS that the server takes; 2 by default.
    pub maximum_qos: QoS,
    /// Retained messages are supported; they are by default.
    pub retain_available: bool,
    /// Bytes of the largest packet that the server takes; no limit by default.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client id that the server gave to a client without one.
    pub assigned_client_id: Option<Str>,
    /// The highest topic alias that the server takes; 0 for none.
    pub topic_alias_maximum: u16,
    /// For people who look for an error.
    pub reason_string: Option<Str>,
    /// User properties.
    pub user: Vec<UserProperty>,
    /// Filters may have wildcards; by default.
    pub wildcard_subscription_available: bool,
    /// SUBSCRIBE may have a subscription identifier; by default.
    pub subscription_identifier_available: bool,
    /// `$share` filters are supported; by default.
    pub shared_subscription_available: bool,
    /// Seconds, which the client must use instead of its own ([MQTT-3.1.2-21]).
    pub server_keep_alive: Option<u16>,
    /// The base of response topics.
    pub response_information: Option<Str>,
    /// Another server to use.
    pub server_reference: Option<Str>,
    /// As in CONNECT.
    pub authentication_method: Option<Str>,
    /// Only with a method.
    pub authentication_data: Option<Bytes>,
}

impl Default for ConnAckProperties {
    fn default() -> Self {
        Self {
            session_expiry: None,
            receive_maximum: NonZeroU16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user: Vec::new(),
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// PUBLISH's properties (3.3.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishProperties {
    /// Seconds that the message lives.
    pub message_expiry: Option<u32>,
    /// Stands for the topic, or is to stand for it from now on.
    pub topic_alias: Option<NonZeroU16>,
    /// The subscriptions that matched, 1 to 268,435,455 each; only in a PUBLISH to a client.
    pub subscription_ids: Vec<u32>,
    /// What travels with the message from publisher to receivers. An empty one is the same as
    /// `None`.
    pub message: Option<Box<Properties>>,
}

impl PublishProperties {
    /// The same by reference.
    pub fn by_ref(&self) -> PublishPropertiesRef<'_> {
        PublishPropertiesRef {
            message_expiry: self.message_expiry,
            topic_alias: self.topic_alias,
            subscription_ids: &self.subscription_ids,
            message: self.message.as_deref(),
        }
    }
}

/// [`PublishProperties`] by reference, for the hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishPropertiesRef<'a> {
    /// Seconds that the message still lives ([MQTT-3.3.2-6]).
    pub message_expiry: Option<u32>,
    /// Stands for the topic, or is to stand for it from now on.
    pub topic_alias: Option<NonZeroU16>,
    /// The subscriptions that matched, 1 to 268,435,455 each.
    pub subscription_ids: &'a [u32],
    /// What travels with the message.
    pub message: Option<&'a Properties>,
}

/// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK (3.4.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AckProperties {
    /// For people who look for an error.
    pub reason_string: Option<Str>,
    /// User properties.
    pub user: Vec<UserProperty>,
}

/// SUBSCRIBE's properties (3.8.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscribeProperties {
    /// Comes back in each PUBLISH that one of the filters matches; at most 268,435,455.
    pub subscription_id: Option<NonZeroU32>,
    /// User properties.
    pub user: Vec<UserProperty>,
}

/// UNSUBSCRIBE's properties (3.10.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnsubscribeProperties {
    /// User properties.
    pub user: Vec<UserProperty>,
}

/// DISCONNECT's properties (3.14.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DisconnectProperties {
    /// A client changes CONNECT's value; a server never sends it ([MQTT-3.14.2-2]).
    pub session_expiry: Option<u32>,
    /// For people who look for an error.
    pub reason_string: Option<Str>,
    /// User properties.
    pub user: Vec<UserProperty>,
    /// Another server to use.
    pub server_reference: Option<Str>,
}

/// AUTH's properties (3.15.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthProperties {
    /// The method, as in CONNECT.
    pub method: Option<Str>,
    /// What the method defines.
    pub data: Option<Bytes>,
    /// For people who look for an error.
    pub reason_string: Option<Str>,
    /// User properties.
    pub user: Vec<UserProperty>,
}
