//! `[broker]`: a profile, and every limit by itself.
//!
//! The profile gives each limit its default; a key that is there wins.

use std::ops::RangeInclusive;
use std::time::Duration;

use iotedge_model::QoS;

use super::section::Section;
use super::units;

/// One PUBLISH cannot be larger than MQTT's remaining length (MQTT 3.1.1, 2.2.3).
const MAX_PACKET: u64 = 268_435_455;
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whose limits and deviations the broker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// The whole of MQTT 3.1.1 and 5.
    #[default]
    Standard,
    /// AWS IoT Core's: what works here works there.
    AwsIot,
}

/// `[broker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Where the defaults come from, and how a breach is answered.
    pub profile: Profile,
    /// Clients at once.
    pub max_connections: usize,
    /// Connections that one client id may open in a second.
    pub max_connects_per_client: Option<u32>,
    /// How long a WebSocket lasts.
    pub max_websocket_duration: Option<Duration>,
    /// From accept to CONNECT, TLS included.
    pub connect_timeout: Duration,
    /// How long a client may leave its socket full.
    pub write_timeout: Duration,
    /// A client id.
    pub max_client_id_bytes: usize,
    /// Seconds; a shorter keep-alive is raised to it.
    pub min_keep_alive: u16,
    /// Seconds; a longer keep-alive, or none, is cut to it.
    pub max_keep_alive: Option<u16>,
    /// A PUBLISH payload, bytes.
    pub max_payload_bytes: usize,
    /// Names and values of the user properties of one packet.
    pub max_user_property_bytes: usize,
    /// A whole packet, bytes.
    pub max_packet_bytes: usize,
    /// Unacknowledged publishes of a client, each way.
    pub max_inflight: u16,
    /// Bytes of unacknowledged publishes from a client.
    pub max_inflight_bytes: usize,
    /// A topic or filter.
    pub max_topic_bytes: usize,
    /// Levels of a topic or filter.
    pub max_topic_levels: usize,
    /// The highest QoS.
    pub max_qos: QoS,
    /// The highest topic alias, each way.
    pub max_topic_alias: u16,
    /// Publishes of a client in a second.
    pub max_publish_rate: Option<u32>,
    /// Publishes to a client in a second.
    pub max_delivery_rate: Option<u32>,
    /// Bytes in a second, each way.
    pub max_bytes_rate: Option<u64>,
    /// Seconds that a message may ask to live.
    pub max_message_expiry: Option<u32>,
    /// Whether messages can be retained.
    pub retain_available: bool,
    /// Retained messages.
    pub retained_max: usize,
    /// Their bytes.
    pub retained_max_bytes: usize,
    /// Filters of one SUBSCRIBE or UNSUBSCRIBE.
    pub max_filters_per_subscribe: usize,
    /// Subscriptions of a session.
    pub max_subscriptions: usize,
    /// Whether a SUBSCRIBE may have an identifier.
    pub subscription_identifiers: bool,
    /// How long a persistent 3.1.1 session outlives its connection, seconds.
    pub session_expiry: u32,
    /// How long a version 5 session may ask to outlive its connection, seconds; `u32::MAX` for ever.
    pub max_session_expiry: u32,
    /// Sessions that outlive their connection.
    pub max_sessions: usize,
    /// Messages that wait for one session in the store.
    pub max_queued_messages: u64,
    /// Their bytes.
    pub max_queued_bytes: u64,
    /// Deliveries that wait for one taker in memory.
    pub max_outbox_messages: usize,
    /// Their bytes.
    pub max_outbox_bytes: usize,
    /// How often rules may republish what came of a rule.
    pub max_hops: u8,
    /// How often the broker's counters are published; zero for never.
    pub sys_interval: Duration,
    /// Whether what clients do is published on `$aws/events/…`.
    pub lifecycle_events: bool,
    /// Wills on reserved topics are published.
    pub reserved_wills: bool,
}

impl BrokerConfig {
    /// The profile's own limits.
    pub fn of(profile: Profile) -> Self {
        match profile {
            Profile::Standard => Self::standard(),
            Profile::AwsIot => Self::aws_iot(),
        }
    }

    fn standard() -> Self {
        Self {
            profile: Profile::Standard,
            max_connections: 10_000,
            max_connects_per_client: None,
            max_websocket_duration: None,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            max_client_id_bytes: 65_535,
            min_keep_alive: 0,
            max_keep_alive: None,
            max_payload_bytes: 1 << 20,
            max_packet_bytes: (1 << 20) + (128 << 10),
            max_user_property_bytes: 64 << 10,
            max_inflight: 100,
            max_inflight_bytes: 4 << 20,
            max_topic_bytes: 65_535,
            max_topic_levels: 128,
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: 32,
            max_publish_rate: None,
            max_delivery_rate: None,
            max_bytes_rate: None,
            max_message_expiry: None,
            retain_available: true,
            retained_max: 100_000,
            retained_max_bytes: 64 << 20,
            max_filters_per_subscribe: 1_000,
            max_subscriptions: 1_000,
            subscription_identifiers: true,
            session_expiry: 3_600,
            max_session_expiry: u32::MAX,
            max_sessions: 100_000,
            max_queued_messages: 1_000_000,
            max_queued_bytes: 256 << 20,
            max_outbox_messages: 16_384,
            max_outbox_bytes: 4 << 20,
            max_hops: 10,
            sys_interval: Duration::from_secs(10),
            lifecycle_events: true,
            reserved_wills: true,
        }
    }

    /// "AWS IoT Core message broker and protocol limits and quotas" in the AWS General Reference.
    fn aws_iot() -> Self {
        Self {
            profile: Profile::AwsIot,
            max_connects_per_client: Some(1),
            max_websocket_duration: Some(DAY),
            max_client_id_bytes: 128,
            min_keep_alive: 30,
            max_keep_alive: Some(1_200),
            max_payload_bytes: 128 << 10,
            // "Maximum MQTT5 packet size": 146 KB.
            max_packet_bytes: 146 << 10,
            max_user_property_bytes: 8 << 10,
            max_inflight: 100,
            max_topic_bytes: 256,
            // Seven slashes; the guide of 2016 allowed eight.
            max_topic_levels: 8,
            max_qos: QoS::AtLeastOnce,
            max_topic_alias: 8,
            max_publish_rate: Some(100),
            max_delivery_rate: Some(100),
            max_bytes_rate: Some(512 << 10),
            max_message_expiry: Some(604_800),
            max_filters_per_subscribe: 8,
            max_subscriptions: 50,
            subscription_identifiers: false,
            session_expiry: 3_600,
            max_session_expiry: 3_600,
            ..Self::standard()
        }
    }

    /// Bytes of the largest packet around the largest payload.
    fn around_payload(&self) -> usize {
        self.max_packet_bytes.saturating_sub(self.max_payload_bytes)
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::of(Profile::default())
    }
}

pub(super) fn read(section: Section<'_>) -> BrokerConfig {
    let profiles = [
        ("standard", Profile::Standard),
        ("aws-iot", Profile::AwsIot),
    ];
    let profile = section.choice("profile", &profiles).unwrap_or_default();
    let mut broker = BrokerConfig::of(profile);
    connections(&section, &mut broker);
    messages(&section, &mut broker);
    rates(&section, &mut broker);
    subscriptions(&section, &mut broker);
    sessions(&section, &mut broker);
    fit_packets(&section, &mut broker);
    fit_keep_alive(&section, &broker);
    section.finish();
    broker
}

fn connections(section: &Section<'_>, broker: &mut BrokerConfig) {
    count(section, "max_connections", &mut broker.max_connections);
    let found = limit(section, "max_connects_per_client", |key| {
        section.number(key, 1..=1_000)
    });
    if let Some(most) = found {
        broker.max_connects_per_client = most.and_then(|n| u32::try_from(n).ok());
    }
    let found = limit(section, "max_websocket_duration", |key| {
        section.duration(key, Duration::from_secs(1)..=YEAR)
    });
    if let Some(most) = found {
        broker.max_websocket_duration = most;
    }
    let times = Duration::from_millis(100)..=Duration::from_secs(600);
    if let Some(duration) = section.duration("connect_timeout", times) {
        broker.connect_timeout = duration;
    }
    let times = Duration::from_secs(1)..=Duration::from_secs(3600);
    if let Some(duration) = section.duration("write_timeout", times) {
        broker.write_timeout = duration;
    }
    let to = &mut broker.max_client_id_bytes;
    size(section, "max_client_id_bytes", 1..=65_535, to);
    let times = Duration::ZERO..=Duration::from_secs(65_535);
    if let Some(seconds) = seconds(section, "min_keep_alive", times) {
        broker.min_keep_alive = u16::try_from(seconds).unwrap_or(u16::MAX);
    }
    let times = Duration::from_secs(1)..=Duration::from_secs(65_535);
    let found = limit(section, "max_keep_alive", |key| {
        seconds(section, key, times)
    });
    if let Some(most) = found {
        broker.max_keep_alive = most.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    }
    if let Some(n) = section.number("max_topic_alias", 0..=65_535) {
        broker.max_topic_alias = u16::try_from(n).unwrap_or(u16::MAX);
    }
}

fn messages(section: &Section<'_>, broker: &mut BrokerConfig) {
    let to = &mut broker.max_payload_bytes;
    size(section, "max_payload_bytes", 0..=MAX_PACKET, to);
    let to = &mut broker.max_packet_bytes;
    size(section, "max_packet_bytes", 128..=MAX_PACKET, to);
    let to = &mut broker.max_user_property_bytes;
    size(section, "max_user_property_bytes", 0..=MAX_PACKET, to);
    if let Some(n) = section.number("max_inflight", 1..=65_535) {
        broker.max_inflight = u16::try_from(n).unwrap_or(u16::MAX);
    }
    let to = &mut broker.max_inflight_bytes;
    size(section, "max_inflight_bytes", 1024..=MAX_PACKET, to);
    let to = &mut broker.max_topic_bytes;
    size(section, "max_topic_bytes", 1..=65_535, to);
    count(section, "max_topic_levels", &mut broker.max_topic_levels);
    let found = section.number("max_qos", 0..=2);
    if let Some(qos) = found.and_then(|n| QoS::try_from(u8::try_from(n).ok()?).ok()) {
        broker.max_qos = qos;
    }
    let times = Duration::from_secs(1)..=YEAR * 100;
    let found = limit(section, "max_message_expiry", |key| {
        seconds(section, key, times)
    });
    if let Some(most) = found {
        broker.max_message_expiry = most;
    }
    if let Some(flag) = section.flag("retain_available") {
        broker.retain_available = flag;
    }
    count(section, "retained_max", &mut broker.retained_max);
    let to = &mut broker.retained_max_bytes;
    size(section, "retained_max_bytes", 1024..=1 << 40, to);
    let times = Duration::ZERO..=Duration::from_secs(3600);
    if let Some(interval) = section.duration("sys_interval", times) {
        broker.sys_interval = interval;
    }
    if let Some(flag) = section.flag("lifecycle_events") {
        broker.lifecycle_events = flag;
    }
    let wills = [("publish", true), ("ignore", false)];
    if let Some(published) = section.choice("reserved_wills", &wills) {
        broker.reserved_wills = published;
    }
    if let Some(n) = section.number("max_hops", 0..=100) {
        broker.max_hops = u8::try_from(n).unwrap_or(u8::MAX);
    }
}

fn rates(section: &Section<'_>, broker: &mut BrokerConfig) {
    let each = [
        ("max_publish_rate", &mut broker.max_publish_rate),
        ("max_delivery_rate", &mut broker.max_delivery_rate),
    ];
    for (key, to) in each {
        let found = limit(section, key, |key| section.number(key, 1..=1_000_000));
        if let Some(most) = found {
            *to = most.and_then(|n| u32::try_from(n).ok());
        }
    }
    let found = limit(section, "max_bytes_rate", |key| {
        section.size(key, 1024..=1 << 40)
    });
    if let Some(most) = found {
        broker.max_bytes_rate = most;
    }
}

fn subscriptions(section: &Section<'_>, broker: &mut BrokerConfig) {
    let to = &mut broker.max_filters_per_subscribe;
    count(section, "max_filters_per_subscribe", to);
    count(section, "max_subscriptions", &mut broker.max_subscriptions);
    if let Some(flag) = section.flag("subscription_identifiers") {
        broker.subscription_identifiers = flag;
    }
}

fn sessions(section: &Section<'_>, broker: &mut BrokerConfig) {
    let times = Duration::ZERO..=YEAR * 100;
    if let Some(seconds) = seconds(section, "session_expiry", times.clone()) {
        broker.session_expiry = seconds;
    }
    let found = limit(section, "max_session_expiry", |key| {
        seconds(section, key, times)
    });
    if let Some(most) = found {
        broker.max_session_expiry = most.unwrap_or(u32::MAX);
    }
    count(section, "max_sessions", &mut broker.max_sessions);
    if let Some(n) = section.number("max_queued_messages", 1..=1 << 40) {
        broker.max_queued_messages = n;
    }
    if let Some(n) = section.size("max_queued_bytes", 1024..=1 << 50) {
        broker.max_queued_bytes = n;
    }
    count(
        section,
        "max_outbox_messages",
        &mut broker.max_outbox_messages,
    );
    let to = &mut broker.max_outbox_bytes;
    size(section, "max_outbox_bytes", 1024..=1 << 40, to);
}

fn size(section: &Section<'_>, key: &'static str, range: RangeInclusive<u64>, to: &mut usize) {
    let found = section.size(key, range);
    if let Some(bytes) = found.and_then(|n| usize::try_from(n).ok()) {
        *to = bytes;
    }
}

fn count(section: &Section<'_>, key: &'static str, to: &mut usize) {
    let found = section.number(key, 1..=100_000_000);
    if let Some(n) = found.and_then(|n| usize::try_from(n).ok()) {
        *to = n;
    }
}

/// Whole seconds.
fn seconds(
    section: &Section<'_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
) -> Option<u32> {
    let duration = section.duration(key, range)?;
    if duration.subsec_millis() > 0 {
        section.wrong(key, "must be whole seconds");
    }
    u32::try_from(duration.as_secs()).ok()
}

/// A limit that need not be: `Some(None)` for `"unlimited"`.
fn limit<T>(
    section: &Section<'_>,
    key: &'static str,
    read: impl FnOnce(&'static str) -> Option<T>,
) -> Option<Option<T>> {
    if section.is_unlimited(key) {
        Some(None)
    } else {
        read(key).map(Some)
    }
}

/// A packet holds a payload and its topic: where only one limit is given, the other follows; where
/// both are, they must agree.
fn fit_packets(section: &Section<'_>, broker: &mut BrokerConfig) {
    match (
        section.has("max_payload_bytes"),
        section.has("max_packet_bytes"),
    ) {
        (true, true) if broker.max_payload_bytes > broker.max_packet_bytes => {
            let reason = format!(
                "is more than max_packet_bytes ({}), which holds the payload",
                units::size_text(broker.max_packet_bytes as u64)
            );
            section.wrong("max_payload_bytes", reason);
        }
        (true, false) => {
            let around = BrokerConfig::of(broker.profile).around_payload();
            let room = broker.max_payload_bytes.saturating_add(around);
            broker.max_packet_bytes = room.min(MAX_PACKET as usize);
        }
        (false, true) => {
            broker.max_payload_bytes = broker.max_payload_bytes.min(broker.max_packet_bytes);
        }
        _ => {}
    }
}

fn fit_keep_alive(section: &Section<'_>, broker: &BrokerConfig) {
    let Some(most) = broker
        .max_keep_alive
        .filter(|most| *most < broker.min_keep_alive)
    else {
        return;
    };
    let key = if section.has("min_keep_alive") {
        "min_keep_alive"
    } else {
        "max_keep_alive"
    };
    let reason = format!(
        "the least keep-alive is {} s, the longest {most} s",
        broker.min_keep_alive
    );
    section.wrong(key, reason);
}
