//! What connections may do: `[broker]` of the configuration, as far as a connection holds it.

use std::time::Duration;

use iotedge_model::{QoS, SharedFilter, Topic, reserved};

/// How a breach of a limit is answered, and where a broker deviates from the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// As MQTT says: what can be refused alone is refused alone.
    #[default]
    Standard,
    /// As AWS IoT Core does: most breaches end the connection ("MQTT", "AWS IoT differences from
    /// MQTT specifications" in its developer guide).
    AwsIot,
}

/// Limits of connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What happens beyond them.
    pub profile: Profile,
    /// From accept to CONNECT, the TLS handshake included.
    pub connect_timeout: Duration,
    /// How long a client may leave its socket full.
    pub write_timeout: Duration,
    /// How long a WebSocket lasts.
    pub max_websocket_duration: Option<Duration>,
    /// A client id.
    pub max_client_id_bytes: usize,
    /// Whether a client may leave its id to the server.
    pub allow_empty_client_id: bool,
    /// Seconds; a shorter keep-alive is raised to it, 0 excepted.
    pub min_keep_alive: u16,
    /// Seconds; a longer keep-alive, or none, is cut to it.
    pub max_keep_alive: Option<u16>,
    /// A whole MQTT packet or HTTP body.
    pub max_packet_bytes: usize,
    /// A PUBLISH payload.
    pub max_payload_bytes: usize,
    /// Names and values of the user properties of one packet (MQTT 5).
    pub max_user_property_bytes: usize,
    /// Publishes of a client that wait for their acknowledgement; the socket is not read beyond.
    pub max_inflight: usize,
    /// Their bytes.
    pub max_inflight_bytes: usize,
    /// A topic or filter, without what [`Limits::topic_excess`] leaves out.
    pub max_topic_bytes: usize,
    /// Levels of a topic or filter: its slashes and one.
    pub max_topic_levels: usize,
    /// The highest QoS of a publish, a will or a subscription.
    pub max_qos: QoS,
    /// Whether messages can be retained.
    pub retain_available: bool,
    /// Filters of one SUBSCRIBE or UNSUBSCRIBE.
    pub max_filters_per_subscribe: usize,
    /// Whether a SUBSCRIBE may have an identifier (MQTT 5).
    pub subscription_identifiers: bool,
    /// The highest topic alias in each direction (MQTT 5); a connection holds its topics in memory.
    pub max_topic_alias: u16,
    /// PUBLISHes of a client in a second; the socket is not read beyond, at AWS IoT Core they are
    /// discarded.
    pub max_publish_rate: Option<u32>,
    /// PUBLISHes to a client in a second; others wait.
    pub max_delivery_rate: Option<u32>,
    /// Bytes in a second, each way; others wait.
    pub max_bytes_rate: Option<u64>,
    /// Seconds that a message may ask to live (MQTT 5).
    pub max_message_expiry: Option<u32>,
    /// Seconds that a persistent 3.1.1 session outlives its connection.
    pub session_expiry: u32,
    /// Seconds that a version 5 session may ask to outlive its connection; `u32::MAX` for ever.
    pub max_session_expiry: u32,
    /// Wills on reserved topics that clients may publish to are published, as today's guide has it;
    /// the guide of 2016 ignores them.
    pub reserved_wills: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            profile: Profile::Standard,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            max_websocket_duration: None,
            max_client_id_bytes: 65_535,
            allow_empty_client_id: true,
            min_keep_alive: 0,
            max_keep_alive: None,
            max_packet_bytes: 1 << 20,
            max_payload_bytes: 1 << 20,
            max_user_property_bytes: 64 << 10,
            max_inflight: 100,
            max_inflight_bytes: 1 << 20,
            max_topic_bytes: 65_535,
            max_topic_levels: 128,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            max_filters_per_subscribe: 1_000,
            subscription_identifiers: true,
            max_topic_alias: 32,
            max_publish_rate: None,
            max_delivery_rate: None,
            max_bytes_rate: None,
            max_message_expiry: None,
            session_expiry: 3_600,
            max_session_expiry: u32::MAX,
            reserved_wills: true,
        }
    }
}

impl Limits {
    pub(crate) fn is_aws(&self) -> bool {
        self.profile == Profile::AwsIot
    }

    /// Whether `topic` is the gateway's: nothing is retained there, and clients publish only what
    /// is documented. AWS IoT Core has all that begin with `$`; the standard leaves those that no
    /// server uses to whoever names them (3.1.1 and 5: 4.7.2).
    pub(crate) fn is_reserved(&self, topic: &Topic) -> bool {
        topic.is_reserved() && (self.is_aws() || reserved::is_own(topic.as_str()))
    }

    /// Whether clients may publish to `topic` at all; policies come after.
    pub(crate) fn may_publish(&self, topic: &Topic) -> bool {
        !self.is_reserved(topic) || reserved::client_may_publish(topic.as_str())
    }

    /// Seconds that a client gets which asks for `asked`; 0 for no limit in both.
    pub(crate) fn keep_alive(&self, asked: u16) -> u16 {
        let low = if asked == 0 {
            0
        } else {
            asked.max(self.min_keep_alive)
        };
        match self.max_keep_alive {
            Some(max) if low == 0 || low > max => max,
            _ => low,
        }
    }

    /// Seconds that a message lives which asks for `asked`. AWS IoT Core knows none that is over at
    /// once.
    pub(crate) fn message_expiry(&self, asked: Option<u32>) -> Option<u32> {
        let low = u32::from(self.is_aws());
        asked.map(|seconds| {
            let seconds = seconds.max(low);
            self.max_message_expiry
                .map_or(seconds, |max| seconds.min(max))
        })
    }

    /// What is too much about a payload of `bytes`; `None` when it is within the limit.
    pub(crate) fn payload_excess(&self, bytes: usize) -> Option<String> {
        (bytes > self.max_payload_bytes).then(|| {
            format!(
                "a payload of {bytes} bytes, more than broker.max_payload_bytes ({})",
                self.max_payload_bytes
            )
        })
    }

    /// What is too much about a topic; `None` when it is within the limits. The three levels that
    /// Basic Ingest puts before a topic do not count.
    pub(crate) fn topic_excess(&self, topic: &str) -> Option<String> {
        let topic = basic_ingest(topic).unwrap_or(topic);
        self.excess("a topic", topic)
    }

    /// The same of a filter, without the two levels that make it shared.
    pub(crate) fn filter_excess(&self, filter: &SharedFilter) -> Option<String> {
        let share = filter.share.as_ref().map_or(0, |name| name.len());
        if self.is_aws() && share > SHARE_NAME_BYTES {
            return Some(format!(
                "a share name of {share} bytes, more than {SHARE_NAME_BYTES}"
            ));
        }
        self.excess("a filter", filter.filter.as_str())
    }

    fn excess(&self, what: &str, text: &str) -> Option<String> {
        if text.len() > self.max_topic_bytes {
            return Some(format!(
                "{what} of {} bytes, more than broker.max_topic_bytes ({})",
                text.len(),
                self.max_topic_bytes
            ));
        }
        let slashes = text.bytes().filter(|byte| *byte == b'/').count();
        (slashes >= self.max_topic_levels).then(|| {
            format!(
                "{what} of {} levels, more than broker.max_topic_levels ({})",
                slashes + 1,
                self.max_topic_levels
            )
        })
    }
}

/// AWS IoT Core's limit of the name in `$share/NAME/...`.
const SHARE_NAME_BYTES: usize = 128;

/// What is behind `$aws/rules/NAME/`.
fn basic_ingest(topic: &str) -> Option<&str> {
    let (_rule, rest) = topic.strip_prefix("$aws/rules/")?.split_once('/')?;
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_alive_is_brought_into_its_limits() {
        let mut limits = Limits::default();
        for asked in [0, 1, 65_535] {
            assert_eq!(limits.keep_alive(asked), asked);
        }
        limits.min_keep_alive = 30;
        limits.max_keep_alive = Some(1_200);
        for (asked, given) in [
            (0, 1_200),
            (1, 30),
            (29, 30),
            (30, 30),
            (31, 31),
            (1_200, 1_200),
            (1_201, 1_200),
            (65_535, 1_200),
        ] {
            assert_eq!(limits.keep_alive(asked), given, "{asked}");
        }
        limits.max_keep_alive = None;
        assert_eq!(
            limits.keep_alive(0),
            0,
            "the least is no reason to have one"
        );
    }

    #[test]
    fn a_message_lives_no_longer_than_its_limit_and_at_aws_at_least_a_second() {
        let mut limits = Limits {
            max_message_expiry: Some(100),
            ..Limits::default()
        };
        assert_eq!(limits.message_expiry(None), None);
        assert_eq!(limits.message_expiry(Some(0)), Some(0));
        assert_eq!(limits.message_expiry(Some(100)), Some(100));
        assert_eq!(limits.message_expiry(Some(101)), Some(100));
        limits.profile = Profile::AwsIot;
        assert_eq!(limits.message_expiry(Some(0)), Some(1));
    }

    #[test]
    fn prefixes_that_say_how_a_topic_is_used_do_not_count() {
        let limits = Limits {
            max_topic_bytes: 10,
            max_topic_levels: 3,
            ..Limits::default()
        };
        assert_eq!(limits.topic_excess("a/b/c"), None);
        assert_eq!(limits.topic_excess("0123456789"), None);
        assert!(limits.topic_excess("a/b/c/d").is_some());
        assert!(limits.topic_excess("01234567890").is_some());
        assert_eq!(limits.topic_excess("$aws/rules/long-name/a/b/c"), None);
        assert!(
            limits
                .topic_excess("$aws/rules/long-name/a/b/c/d")
                .is_some()
        );
        let filter = |text: &str| SharedFilter::new(text).expect("a filter");
        assert_eq!(limits.filter_excess(&filter("$share/group/a/+/#")), None);
        assert!(limits.filter_excess(&filter("$share/g/a/b/c/#")).is_some());
        let mut limits = Limits::default();
        let name = "g".repeat(128);
        for profile in [Profile::Standard, Profile::AwsIot] {
            limits.profile = profile;
            let just = filter(&format!("$share/{name}/a"));
            assert_eq!(limits.filter_excess(&just), None);
            let long = filter(&format!("$share/{name}g/a"));
            let excess = limits.filter_excess(&long);
            assert_eq!(excess.is_some(), profile == Profile::AwsIot);
        }
    }
}
