//! The envelope: a message with all that travels with it through queues, rules and bridges.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Now, Principal, Topic, UnixMillis};

/// A message's number in this gateway: grows with acceptance, never given twice, so that it is
/// also the order of every queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub u64);

/// Ties together all that came of one accepted message: its republications, its log lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

impl TraceId {
    /// One that nothing else has: process-wide randomness beside a counter, mixed.
    pub fn unique() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        use std::sync::OnceLock;
        use std::sync::atomic::{AtomicU64, Ordering};
        static SEED: OnceLock<(u64, u64)> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let random = || RandomState::new().build_hasher().finish();
        let (a, b) = *SEED.get_or_init(|| (random(), random()));
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self((u128::from(mix(a ^ n)) << 64) | u128::from(mix(b.wrapping_add(n))))
    }
}

/// SplitMix64's finaliser: a bijection, so that counters stay distinct.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for TraceId {
    /// As a UUID, the form of SQL's `traceid()`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            v >> 96,
            (v >> 80) & 0xffff,
            (v >> 64) & 0xffff,
            (v >> 48) & 0xffff,
            v & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Quality of service (MQTT 3.1.1, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum QoS {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl From<QoS> for u8 {
    fn from(q: QoS) -> Self {
        q as Self
    }
}

impl TryFrom<u8> for QoS {
    type Error = &'static str;
    fn try_from(value: u8) -> Result<Self, Self::Error> {
        match value {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err("QoS is 0, 1 or 2"),
        }
    }
}

/// The way a message came in: the `protocol` label of metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT over TCP or TLS.
    Mqtt,
    /// MQTT over WebSocket.
    WebSocket,
    /// HTTP publish.
    Http,
    /// From inside the gateway.
    Internal,
}

impl Protocol {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT",
            Self::WebSocket => "WebSocket",
            Self::Http => "HTTP",
            Self::Internal => "Internal",
        }
    }
}

/// Where a message entered the gateway. Kept through republish and queues.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Source {
    /// A client that publishes over MQTT.
    Mqtt,
    /// A client that publishes over MQTT in WebSocket frames.
    WebSocket,
    /// An HTTP publish.
    Http,
    /// A will: seen by clients and rules, ignored by the shadow service (today's guide, "Using
    /// shadows in devices").
    Will,
    /// An upstream's inbound route: never sent back to that upstream.
    Upstream {
        /// The upstream's name.
        name: Arc<str>,
    },
    /// A serial, Modbus or GPIO device.
    Device {
        /// Its name in the configuration.
        name: Arc<str>,
    },
    /// A rule's republish action.
    Rule {
        /// The rule.
        name: Arc<str>,
    },
    /// Another part of the daemon (shadows, lifecycle events, the control socket).
    Service {
        /// The room.
        name: Arc<str>,
    },
}

impl Source {
    /// The protocol label.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Mqtt | Self::Will => Protocol::Mqtt,
            Self::WebSocket => Protocol::WebSocket,
            Self::Http => Protocol::Http,
            _ => Protocol::Internal,
        }
    }

    /// One text for a column: `mqtt`, `upstream:cloud`.
    pub fn to_column(&self) -> String {
        match self {
            Self::Mqtt => "mqtt".into(),
            Self::WebSocket => "websocket".into(),
            Self::Http => "http".into(),
            Self::Will => "will".into(),
            Self::Upstream { name } => format!("upstream:{name}"),
            Self::Device { name } => format!("device:{name}"),
            Self::Rule { name } => format!("rule:{name}"),
            Self::Service { name } => format!("service:{name}"),
        }
    }

    /// Back from [`Source::to_column`].
    pub fn from_column(text: &str) -> Option<Self> {
        match text {
            "mqtt" => return Some(Self::Mqtt),
            "websocket" => return Some(Self::WebSocket),
            "http" => return Some(Self::Http),
            "will" => return Some(Self::Will),
            _ => {}
        }
        let (kind, name) = text.split_once(':')?;
        let name = Arc::from(name);
        Some(match kind {
            "upstream" => Self::Upstream { name },
            "device" => Self::Device { name },
            "rule" => Self::Rule { name },
            "service" => Self::Service { name },
            _ => return None,
        })
    }
}

/// MQTT 5's payload format indicator (MQTT 5, 3.3.2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PayloadFormat {
    /// Unspecified bytes.
    Bytes,
    /// UTF-8 text.
    Utf8,
}

/// A name and value of MQTT 5 (3.3.2.3.7); names may repeat and keep their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserProperty {
    /// Name.
    pub name: Arc<str>,
    /// Value.
    pub value: Arc<str>,
}

/// The user property with which gateways sign the messages that they send on to another broker, one
/// for each gateway that a message has come by: who finds itself among them has had it.
pub const HOPS: &str = "iotedge-via";

/// The MQTT 5 properties that travel with a message from publisher to receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Properties {
    /// Payload format indicator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_format: Option<PayloadFormat>,
    /// Content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Arc<str>>,
    /// Response topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<Topic>,
    /// Correlation data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<Vec<u8>>,
    /// User properties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<UserProperty>,
    /// What they are in a packet, once one was written.
    #[serde(skip)]
    pub wire: WireForm,
}

/// The bytes of something that is written many times and built once. It follows what it was made
/// from: a copy, which may be changed, has none, and it counts for nothing in comparisons.
#[derive(Debug, Default)]
pub struct WireForm(OnceLock<Box<[u8]>>);

impl WireForm {
    /// The bytes; `build` makes them the first time.
    pub fn get_or_build(&self, build: impl FnOnce() -> Box<[u8]>) -> &[u8] {
        self.0.get_or_init(build)
    }

    /// The bytes, if they were built.
    pub fn get(&self) -> Option<&[u8]> {
        self.0.get().map(|bytes| &**bytes)
    }
}

impl Clone for WireForm {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for WireForm {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for WireForm {}

impl Hash for WireForm {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Properties {
    /// Whether a message has come by this gateway ([`HOPS`]).
    pub fn came_by(&self, gateway: &str) -> bool {
        let mut user = self.user.iter();
        user.any(|p| &*p.name == HOPS && &*p.value == gateway)
    }

    /// Bytes that they cost to keep: their texts and a flat sum for each user property.
    fn cost(&self) -> usize {
        let user = self.user.iter();
        self.content_type.as_ref().map_or(0, |text| text.len())
            + self.response_topic.as_ref().map_or(0, |t| t.as_str().len())
            + self.correlation_data.as_ref().map_or(0, Vec::len)
            + user
                .map(|p| p.name.len() + p.value.len() + 64)
                .sum::<usize>()
    }
}

/// A message with its envelope.
///
/// `id`, `accepted_at` and `trusted` are given by the broker when it accepts the message; until
/// then they are zero. Everything else is the publisher's.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its number, given at acceptance.
    pub id: MessageId,
    /// What it belongs to.
    pub trace: TraceId,
    /// How often a rule has republished it.
    pub hops: u8,
    /// Who published it.
    pub principal: Arc<Principal>,
    /// The client id it was published with; empty for what has none.
    pub client_id: Arc<str>,
    /// The address it was published from; `None` from inside, over a Unix socket and once stored.
    pub source_ip: Option<IpAddr>,
    /// Where it came in.
    pub source: Source,
    /// Its topic.
    pub topic: Topic,
    /// Its bytes.
    pub payload: Bytes,
    /// The publisher's QoS.
    pub qos: QoS,
    /// The publisher's RETAIN flag.
    pub retain: bool,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// Whether the clock could be believed then.
    pub trusted: bool,
    /// How long it lives after `accepted_at`, in seconds (MQTT 5, 3.3.2.3.3).
    pub expiry: Option<u32>,
    /// MQTT 5 properties; `None` for most messages.
    pub properties: Option<Box<Properties>>,
}

impl Message {
    /// A message not yet accepted, from inside the gateway.
    pub fn internal(service: &str, topic: Topic, payload: Bytes, qos: QoS) -> Self {
        let source = Source::Service {
            name: Arc::from(service),
        };
        let principal = Arc::new(Principal::service(service));
        Self::from_inside(principal, source, topic, payload, qos)
    }

    /// The same for who keeps its principal and its name.
    pub fn from_inside(
        principal: Arc<Principal>,
        source: Source,
        topic: Topic,
        payload: Bytes,
        qos: QoS,
    ) -> Self {
        Self {
            id: MessageId(0),
            trace: TraceId(0),
            hops: 0,
            principal,
            client_id: Arc::from(""),
            source_ip: None,
            source,
            topic,
            payload,
            qos,
            retain: false,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: None,
            properties: None,
        }
    }

    /// Whether it has expired. Only a trusted clock on both ends can say so.
    pub fn is_expired(&self, now: &Now) -> bool {
        match self.expiry {
            Some(seconds) if self.trusted && now.trusted => {
                now.wall.0 >= self.accepted_at.0.saturating_add(u64::from(seconds) * 1000)
            }
            _ => false,
        }
    }

    /// Seconds that it still lives (MQTT 5, [MQTT-3.3.2-6]); all of them where the clock could not
    /// say how long it has waited. `None` for one that does not expire.
    pub fn remaining_expiry(&self, now: &Now) -> Option<u32> {
        let seconds = self.expiry?;
        if !(self.trusted && now.trusted) {
            return Some(seconds);
        }
        let waited = now.wall.0.saturating_sub(self.accepted_at.0) / 1000;
        Some(seconds.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX)))
    }

    /// Bytes that it costs to keep: payload, topic, properties and a flat sum for the rest.
    pub fn cost(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |p| p.cost());
        self.payload.len() + self.topic.as_str().len() + properties + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_cost_what_they_hold() {
        let topic = Topic::new("t").expect("a topic");
        let mut message = Message::internal("x", topic, Bytes::from_static(b"12"), QoS::AtMostOnce);
        let bare = message.cost();
        message.properties = Some(Box::new(Properties {
            content_type: Some("four".into()),
            correlation_data: Some(vec![0; 1_000]),
            user: vec![UserProperty {
                name: "n".into(),
                value: "".into(),
            }],
            ..Properties::default()
        }));
        assert_eq!(message.cost() - bare, 4 + 1_000 + 1 + 64);
    }

    #[test]
    fn a_source_comes_back_from_its_column() {
        for source in [
            Source::Mqtt,
            Source::WebSocket,
            Source::Http,
            Source::Will,
            Source::Upstream { name: "a:b".into() },
            Source::Device { name: "d".into() },
            Source::Rule { name: "r".into() },
            Source::Service { name: "s".into() },
        ] {
            assert_eq!(Source::from_column(&source.to_column()), Some(source));
        }
        assert_eq!(Source::from_column("nothing"), None);
    }

    #[test]
    fn an_untrusted_clock_expires_nothing() {
        let mut message =
            Message::internal("t", Topic::new("a").unwrap(), Bytes::new(), QoS::AtMostOnce);
        message.expiry = Some(1);
        let late = Now {
            mono: 0,
            wall: UnixMillis(1 << 50),
            trusted: true,
        };
        assert!(
            !message.is_expired(&late),
            "accepted with an untrusted clock"
        );
        message.trusted = true;
        assert!(message.is_expired(&late));
        assert!(!message.is_expired(&Now {
            trusted: false,
            ..late
        }));
    }
}
