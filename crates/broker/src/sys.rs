//! The broker's own counters on `$SYS/broker/…`, under the names that mosquitto gave them.
//!
//! Every so often the values that have changed are published, with RETAIN and QoS 0. They are
//! retained apart from all other messages, in memory alone: a new subscriber gets them, the disk
//! never sees them, and no limit of retained messages counts them. Switched off, nothing is counted
//! for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{Message, Now, Principal, Protocol, QoS, Source, Topic};
use iotedge_ports::Publication;
use iotedge_store::Depth;
use iotedge_telemetry::{METRICS, Metric, Traffic};

use crate::Shared;

/// What all of them are below.
const PREFIX: &str = "$SYS/";
/// The room that the counters come from.
const SERVICE: &str = "sys";
/// The minutes that a load is the mean of.
const MINUTES: [u8; 3] = [1, 5, 15];
/// What there is a load of, below `load/`.
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

/// Whether a message is one of the gateway's own on `$SYS`: a counter, or the state of an upstream.
pub(crate) fn is_counter(message: &Message) -> bool {
    matches!(&message.source, Source::Service { .. }) && message.topic.as_str().starts_with(PREFIX)
}

/// What the broker knows of itself at one moment.
struct Gauges {
    connected: usize,
    /// Sessions without a connection.
    disconnected: usize,
    /// The most connections at once.
    maximum: usize,
    /// Sessions whose time was over.
    expired: u64,
    subscriptions: usize,
    shared_subscriptions: usize,
    retained: usize,
    retained_bytes: usize,
    /// Rows in the store.
    waiting: Depth,
    /// What the store has written since the start, and for how many messages.
    written: (u64, u64),
}

/// What only grows, in the order of [`LOADS`].
type Counters = [u64; LOADS.len()];

fn counters() -> Counters {
    let over_mqtt = |metric| {
        METRICS.count_of(metric, Protocol::Mqtt) + METRICS.count_of(metric, Protocol::WebSocket)
    };
    let received = [
        Metric::PublishInSuccess,
        Metric::PublishInAuthError,
        Metric::PublishInClientError,
        Metric::PublishInServerError,
    ];
    [
        METRICS.traffic(Traffic::PacketsReceived),
        METRICS.packets_sent(),
        received.into_iter().map(over_mqtt).sum(),
        over_mqtt(Metric::PublishOutSuccess),
        METRICS.drops().into_iter().map(|(_, n)| n).sum(),
        METRICS.traffic(Traffic::BytesReceived),
        METRICS.traffic(Traffic::BytesSent),
        METRICS.traffic(Traffic::Sockets),
        METRICS.traffic(Traffic::Connects),
    ]
}

/// What is published, and what was.
pub(crate) struct Sys {
    interval: Duration,
    state: Mutex<State>,
    principal: Arc<Principal>,
    name: Arc<str>,
}

#[derive(Default)]
struct State {
    /// Monotonic milliseconds of the first and of the last round.
    rounds: Option<(u64, u64)>,
    counters: Counters,
    /// For each counter, how much it grew in a minute, as a mean of the last [`MINUTES`].
    loads: [[f64; MINUTES.len()]; LOADS.len()],
    /// What was published last, by topic.
    said: HashMap<String, String>,
}

impl State {
    /// Whether it is time; then it is the next round.
    fn begin(&mut self, now: &Now, interval: Duration) -> bool {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let Some((first, last)) = self.rounds else {
            self.rounds = Some((now.mono, now.mono));
            self.counters = counters();
            return true;
        };
        let passed = now.mono.saturating_sub(last);
        if passed < interval {
            return false;
        }
        self.rounds = Some((first, now.mono));
        self.load(counters(), passed);
        true
    }

    /// Exponential means, as of the load of a Unix system.
    fn load(&mut self, counters: Counters, passed: u64) {
        let minutes = passed as f64 / 60_000.0;
        let before = std::mem::replace(&mut self.counters, counters);
        let grown = counters.iter().zip(before).map(|(n, old)| n - old);
        for (means, grown) in self.loads.iter_mut().zip(grown) {
            let rate = grown as f64 / minutes;
            for (mean, over) in means.iter_mut().zip(MINUTES) {
                let fade = (-minutes / f64::from(over)).exp();
                *mean = rate + fade * (*mean - rate);
            }
        }
    }

    /// All topics below `$SYS/broker/` with their values.
    fn values(&self, gauges: &Gauges) -> Vec<(String, String)> {
        let uptime = self.rounds.map_or(0, |(first, last)| (last - first) / 1000);
        let [
            packets_in,
            packets_out,
            publish_in,
            publish_out,
            dropped,
            bytes_in,
            bytes_out,
            ..,
        ] = self.counters;
        let kept = gauges.retained as u64 + gauges.waiting.rows;
        let kept_bytes = gauges.retained_bytes as u64 + gauges.waiting.bytes;
        let (written, messages) = gauges.written;
        let plain: [(&str, u64); 20] = [
            ("clients/connected", gauges.connected as u64),
            ("clients/disconnected", gauges.disconnected as u64),
            (
                "clients/total",
                (gauges.connected + gauges.disconnected) as u64,
            ),
            ("clients/maximum", gauges.maximum as u64),
            ("clients/expired", gauges.expired),
            ("messages/received", packets_in),
            ("messages/sent", packets_out),
            ("publish/messages/received", publish_in),
            ("publish/messages/sent", publish_out),
            ("publish/messages/dropped", dropped),
            ("bytes/received", bytes_in),
            ("bytes/sent", bytes_out),
            ("retained messages/count", gauges.retained as u64),
            ("store/messages/count", kept),
            ("store/messages/bytes", kept_bytes),
            ("store/written/bytes", written),
            ("store/written/messages", messages),
            (
                "store/written/bytes per message",
                written.checked_div(messages).unwrap_or(0),
            ),
            ("subscriptions/count", gauges.subscriptions as u64),
            (
                "shared_subscriptions/count",
                gauges.shared_subscriptions as u64,
            ),
        ];
        let mut values = vec![
            (
                "version".to_owned(),
                concat!("iotedge ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("uptime".to_owned(), format!("{uptime} seconds")),
        ];
        let plain = plain
            .iter()
            .map(|(name, n)| ((*name).to_owned(), n.to_string()));
        values.extend(plain);
        for (name, means) in LOADS.iter().zip(&self.loads) {
            let means = means.iter().zip(MINUTES);
            values.extend(means.map(|(mean, over)| {
                let topic = format!("load/{name}/{over}min");
                (topic, format!("{mean:.2}"))
            }));
        }
        values
    }

    /// Those that have changed since they were published last.
    fn news(&mut self, gauges: &Gauges) -> Vec<(String, String)> {
        let mut values = self.values(gauges);
        values.retain(|(topic, value)| self.said.get(topic) != Some(value));
        for (topic, value) in &values {
            self.said.insert(topic.clone(), value.clone());
        }
        values
    }
}

impl Sys {
    /// `None` for no interval.
    pub(crate) fn new(interval: Duration) -> Option<Self> {
        (interval > Duration::ZERO).then(|| Self {
            interval,
            state: Mutex::new(State::default()),
            principal: Arc::new(Principal::service(SERVICE)),
            name: Arc::from(SERVICE),
        })
    }

    fn message(&self, topic: &str, value: String) -> Option<Message> {
        let topic = Topic::new(&format!("$SYS/broker/{topic}")).ok()?;
        let source = Source::Service {
            name: self.name.clone(),
        };
        let (principal, value) = (self.principal.clone(), Bytes::from(value));
        Some(Message {
            retain: true,
            ..Message::from_inside(principal, source, topic, value, QoS::AtMostOnce)
        })
    }
}

impl Shared {
    /// Publishes the counters, when it is time.
    pub(crate) fn publish_counters(&self) {
        let Some(sys) = &self.sys else {
            return;
        };
        let now = self.clock.now();
        // A round that broke off leaves values that the next one replaces.
        let mut state = sys.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.begin(&now, sys.interval) {
            return;
        }
        let gauges = self.gauges();
        let mut batch: Vec<Publication> = state
            .news(&gauges)
            .into_iter()
            .filter_map(|(topic, value)| sys.message(&topic, value))
            .map(|message| Publication::new(message, None))
            .collect();
        drop(state);
        self.publish(&mut batch);
    }

    fn gauges(&self) -> Gauges {
        let waiting = self.store.waiting();
        let written = (self.store.written_bytes(), self.store.stored_messages());
        let core = self.lock();
        let filters = || core.sessions.iter().flat_map(|s| s.subscriptions.keys());
        let connected = core.by_connection.len();
        Gauges {
            connected,
            disconnected: core.sessions.len().saturating_sub(connected),
            maximum: core.most_connected,
            expired: core.expired,
            subscriptions: filters().count(),
            shared_subscriptions: filters().filter(|f| f.starts_with("$share/")).count(),
            retained: core.retained.len(),
            retained_bytes: core.retained.total_bytes(),
            waiting,
            written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::default()
    }

    #[test]
    fn a_steady_rate_is_what_each_load_comes_to() {
        let mut state = state();
        let mut counters = [0; LOADS.len()];
        for _ in 0..1_000 {
            counters[0] += 50;
            state.load(counters, 10_000);
        }
        for mean in state.loads[0] {
            assert!((mean - 300.0).abs() < 0.01, "300 a minute: {mean}");
        }
        assert_eq!(state.loads[1], [0.0; MINUTES.len()]);
    }

    #[test]
    fn a_burst_fades_in_a_minute_and_not_in_a_quarter_of_an_hour() {
        let mut state = state();
        let mut counters = [0; LOADS.len()];
        counters[0] = 600;
        state.load(counters, 10_000);
        for _ in 0..6 {
            state.load(counters, 10_000);
        }
        let [one, _, fifteen] = state.loads[0];
        assert!(one > 190.0 && one < 210.0, "{one}");
        assert!(fifteen > 35.0 && fifteen < 40.0, "{fifteen}");
    }
}
