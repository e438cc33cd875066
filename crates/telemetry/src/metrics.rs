//! Counters of the whole process, under the guide's names (2016 guide, "AWS IoT Metrics").

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use iotedge_model::{DropReason, Protocol};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $prometheus:literal;)*) => {
        /// A counter that carries the `protocol` label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric { $($(#[$doc])* $name),* }
        impl Metric {
            const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$name, $text, $prometheus)),*];
            const COUNT: usize = [$($text),*].len();
        }
    };
}

metrics! {
    /// CONNECTs accepted.
    ConnectSuccess = "Connect.Success", "connect_success";
    /// CONNECTs refused for who asks or what its policies say.
    ConnectAuthError = "Connect.AuthError", "connect_auth_error";
    /// CONNECTs refused for what they say.
    ConnectClientError = "Connect.ClientError", "connect_client_error";
    /// CONNECTs refused for a reason of the gateway's.
    ConnectServerError = "Connect.ServerError", "connect_server_error";
    /// CONNECTs, or connections, that came too often.
    ConnectThrottle = "Connect.Throttle", "connect_throttle";
    /// PINGREQs answered.
    PingSuccess = "Ping.Success", "ping_success";
    /// Publishes accepted.
    PublishInSuccess = "PublishIn.Success", "publish_in_success";
    /// Publishes that policy denied.
    PublishInAuthError = "PublishIn.AuthError", "publish_in_auth_error";
    /// Publishes that are wrong.
    PublishInClientError = "PublishIn.ClientError", "publish_in_client_error";
    /// Publishes that the gateway could not take.
    PublishInServerError = "PublishIn.ServerError", "publish_in_server_error";
    /// Publishes that came too often.
    PublishInThrottle = "PublishIn.Throttle", "publish_in_throttle";
    /// Messages sent to clients.
    PublishOutSuccess = "PublishOut.Success", "publish_out_success";
    /// Messages that `iot:Receive` kept from a client.
    PublishOutAuthError = "PublishOut.AuthError", "publish_out_auth_error";
    /// Filters granted.
    SubscribeSuccess = "Subscribe.Success", "subscribe_success";
    /// Filters that policy denied.
    SubscribeAuthError = "Subscribe.AuthError", "subscribe_auth_error";
    /// Filters that are wrong.
    SubscribeClientError = "Subscribe.ClientError", "subscribe_client_error";
    /// Filters given up.
    UnsubscribeSuccess = "Unsubscribe.Success", "unsubscribe_success";
    /// Messages that reached a rule.
    TopicMatch = "TopicMatch", "topic_match";
    /// Rules executed.
    RulesExecuted = "RulesExecuted", "rules_executed";
    /// Rule actions done.
    RuleActionSuccess = "Success", "rule_action_success";
    /// Rule actions failed.
    RuleActionFailure = "Failure", "rule_action_failure";
    /// Shadows read.
    GetThingShadowAccepted = "GetThingShadow.Accepted", "get_thing_shadow_accepted";
    /// Shadows changed.
    UpdateThingShadowAccepted = "UpdateThingShadow.Accepted", "update_thing_shadow_accepted";
    /// Shadows deleted.
    DeleteThingShadowAccepted = "DeleteThingShadow.Accepted", "delete_thing_shadow_accepted";
    /// Shadow requests refused.
    ThingShadowRejected = "ThingShadow.Rejected", "thing_shadow_rejected";
}

/// What goes over connections, all protocols of MQTT together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Sockets accepted, HTTP included.
    Sockets,
    /// CONNECT packets.
    Connects,
    /// Packets of any kind.
    PacketsReceived,
    /// Packets of any kind but PUBLISH, which [`Metric::PublishOutSuccess`] counts.
    AnswersSent,
    /// Bytes of MQTT, without what TLS and WebSocket put around them.
    BytesReceived,
    /// The other way.
    BytesSent,
}

impl Traffic {
    const COUNT: usize = 6;
}

const PROTOCOLS: [Protocol; 4] = [
    Protocol::Mqtt,
    Protocol::WebSocket,
    Protocol::Http,
    Protocol::Internal,
];

/// Buckets of [`Commits`]: up to 1, 2, 4 ... 16,384, and more.
const COMMIT_BUCKETS: usize = 16;

/// How much commits wrote.
struct Commits {
    buckets: [AtomicU64; COMMIT_BUCKETS],
    sum: AtomicU64,
}

impl Commits {
    const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; COMMIT_BUCKETS],
            sum: AtomicU64::new(0),
        }
    }

    fn add(&self, n: u64) {
        let bucket = n.next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.buckets.get(bucket.min(COMMIT_BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(n, Ordering::Relaxed);
    }

    fn render(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}");
        let _ = writeln!(out, "# TYPE {name} histogram");
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if at + 1 < COMMIT_BUCKETS {
                let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {count}", 1u64 << at);
            }
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let sum = self.sum.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// All counters.
pub struct Metrics {
    messages: Commits,
    documents: Commits,
    cells: [[AtomicU64; PROTOCOLS.len()]; Metric::COUNT],
    drops: [AtomicU64; DropReason::ALL.len()],
    traffic: [AtomicU64; Traffic::COUNT],
}

/// The process's counters.
pub static METRICS: Metrics = Metrics::new();

/// A value that is asked for when metrics are read.
pub struct Gauge {
    /// Name without the prefix.
    pub name: &'static str,
    /// Label and value, where there is one.
    pub label: Option<(&'static str, String)>,
    /// The number.
    pub value: u64,
}

impl Metrics {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            cells: [const { [const { AtomicU64::new(0) }; PROTOCOLS.len()] }; Metric::COUNT],
            drops: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
            traffic: [const { AtomicU64::new(0) }; Traffic::COUNT],
            messages: Commits::new(),
            documents: Commits::new(),
        }
    }

    /// One commit of the store's queue wrote `n` messages.
    pub fn committed(&self, n: u64) {
        self.messages.add(n);
    }

    /// One commit of the store's documents wrote `n` of them.
    pub fn committed_documents(&self, n: u64) {
        self.documents.add(n);
    }

    /// One more.
    pub fn count(&self, metric: Metric, protocol: Protocol) {
        self.add(metric, protocol, 1);
    }

    /// `n` more.
    pub fn add(&self, metric: Metric, protocol: Protocol, n: u64) {
        self.cells[metric as usize][protocol as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// `n` messages dropped.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// `n` more of what goes over connections.
    pub fn passed(&self, traffic: Traffic, n: u64) {
        self.traffic[traffic as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// What has gone over connections since the start.
    pub fn traffic(&self, traffic: Traffic) -> u64 {
        self.traffic[traffic as usize].load(Ordering::Relaxed)
    }

    /// Packets of any kind sent since the start.
    pub fn packets_sent(&self) -> u64 {
        self.traffic(Traffic::AnswersSent) + self.total(Metric::PublishOutSuccess)
    }

    /// A counter of one protocol.
    pub fn count_of(&self, metric: Metric, protocol: Protocol) -> u64 {
        self.cells[metric as usize][protocol as usize].load(Ordering::Relaxed)
    }

    /// A counter's sum over protocols.
    pub fn total(&self, metric: Metric) -> u64 {
        self.cells[metric as usize]
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum()
    }

    /// Drops since start, by reason; zeros left out.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&r| (r, self.drops[r as usize].load(Ordering::Relaxed)))
            .filter(|&(_, n)| n > 0)
            .collect()
    }

    /// Prometheus text format 0.0.4.
    pub fn render(&self, gauges: &[Gauge]) -> String {
        let mut out = String::with_capacity(4096);
        // Writing to a String cannot fail.
        for &(metric, name, prometheus) in Metric::ALL {
            let _ = writeln!(out, "# HELP iotedge_{prometheus}_total {name}");
            let _ = writeln!(out, "# TYPE iotedge_{prometheus}_total counter");
            for protocol in PROTOCOLS {
                let value = self.cells[metric as usize][protocol as usize].load(Ordering::Relaxed);
                let label = protocol.as_str();
                let _ = writeln!(
                    out,
                    "iotedge_{prometheus}_total{{protocol=\"{label}\"}} {value}"
                );
            }
        }
        let _ = writeln!(
            out,
            "# HELP iotedge_dropped_total Messages dropped, by reason"
        );
        let _ = writeln!(out, "# TYPE iotedge_dropped_total counter");
        for &reason in DropReason::ALL {
            let value = self.drops[reason as usize].load(Ordering::Relaxed);
            let _ = writeln!(out, "iotedge_dropped_total{{reason=\"{reason}\"}} {value}");
        }
        self.render_commits(&mut out);
        self.render_traffic(&mut out);
        let mut last = "";
        for gauge in gauges {
            if gauge.name != last {
                let _ = writeln!(out, "# TYPE iotedge_{} gauge", gauge.name);
                last = gauge.name;
            }
            match &gauge.label {
                None => {
                    let _ = writeln!(out, "iotedge_{} {}", gauge.name, gauge.value);
                }
                Some((label, text)) => {
                    let text = text
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    let _ = writeln!(
                        out,
                        "iotedge_{}{{{label}=\"{text}\"}} {}",
                        gauge.name, gauge.value
                    );
                }
            }
        }
        out
    }

    fn render_commits(&self, out: &mut String) {
        let name = "iotedge_store_commit_messages";
        self.messages.render(name, "Messages in one commit", out);
        let name = "iotedge_store_commit_documents";
        self.documents
            .render(name, "Documents in one commit, shadows among them", out);
    }
}

impl Metrics {
    fn render_traffic(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "sockets",
                "Sockets accepted",
                self.traffic(Traffic::Sockets),
            ),
            (
                "connects",
                "CONNECT packets",
                self.traffic(Traffic::Connects),
            ),
            (
                "packets_received",
                "MQTT packets received",
                self.traffic(Traffic::PacketsReceived),
            ),
            ("packets_sent", "MQTT packets sent", self.packets_sent()),
            (
                "bytes_received",
                "Bytes of MQTT received",
                self.traffic(Traffic::BytesReceived),
            ),
            (
                "bytes_sent",
                "Bytes of MQTT sent",
                self.traffic(Traffic::BytesSent),
            ),
        ] {
            let _ = writeln!(out, "# HELP iotedge_{name}_total {help}");
            let _ = writeln!(out, "# TYPE iotedge_{name}_total counter");
            let _ = writeln!(out, "iotedge_{name}_total {value}");
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_rendered_with_their_labels() {
        let metrics = Metrics::new();
        metrics.count(Metric::ConnectSuccess, Protocol::Http);
        metrics.dropped(DropReason::Policy, 3);
        metrics.passed(Traffic::AnswersSent, 2);
        metrics.count(Metric::PublishOutSuccess, Protocol::Mqtt);
        metrics.committed(100);
        metrics.committed(1_000_000);
        metrics.committed_documents(3);
        let gauge = Gauge {
            name: "queued",
            label: Some(("route", "a\"b".into())),
            value: 9,
        };
        let text = metrics.render(&[gauge]);
        assert!(text.contains("iotedge_connect_success_total{protocol=\"HTTP\"} 1\n"));
        assert!(text.contains("iotedge_connect_success_total{protocol=\"MQTT\"} 0\n"));
        assert!(text.contains("iotedge_packets_sent_total 3\n"));
        assert!(text.contains("iotedge_dropped_total{reason=\"policy\"} 3\n"));
        assert!(text.contains("commit_messages_bucket{le=\"64\"} 0\n"));
        assert!(text.contains("commit_messages_bucket{le=\"128\"} 1\n"));
        assert!(text.contains("commit_messages_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("commit_messages_sum 1000100\n"));
        assert!(text.contains("commit_documents_bucket{le=\"2\"} 0\n"));
        assert!(text.contains("commit_documents_bucket{le=\"4\"} 1\n"));
        assert!(text.contains("iotedge_queued{route=\"a\\\"b\"} 9\n"));
    }
}
