//! What each rule and each of its actions has done, in Prometheus text.

use iotedge_store::TakerKind;

use super::Rooms;
use super::lines::Lines;

/// All of it; nothing where there are no rules.
pub(super) fn render(rooms: &Rooms) -> String {
    let mut matched = Lines::new(
        "rule_matched_total",
        "counter",
        "Messages on a topic of the rule",
    );
    let mut executed = Lines::new(
        "rule_executed_total",
        "counter",
        "Messages that WHERE let through",
    );
    let mut sql = Lines::new(
        "rule_sql_failed_total",
        "counter",
        "Messages whose statement failed",
    );
    let mut succeeded = Lines::new(
        "rule_action_success_total",
        "counter",
        "Actions carried out",
    );
    let mut failed = Lines::new(
        "rule_action_failure_total",
        "counter",
        "Actions failed for good",
    );
    let mut retried = Lines::new("rule_action_retry_total", "counter", "Actions tried again");
    let seconds = "rule_action_latency_seconds";
    let mut latency = Lines::new(
        seconds,
        "summary",
        "From the message's acceptance to the action",
    );
    let rules = rooms.engine.rules();
    for rule in &rules {
        let name = &**rule.name();
        let counts = rule.counts();
        let of = [("rule", name)];
        matched.line("rule_matched_total", &of, counts.topic_matched);
        executed.line("rule_executed_total", &of, counts.executed);
        sql.line("rule_sql_failed_total", &of, counts.failed_sql);
        for (action, kind, counts) in rule.action_counts() {
            let of = [("rule", name), ("action", &*action), ("kind", kind)];
            succeeded.line("rule_action_success_total", &of, counts.succeeded);
            retried.line("rule_action_retry_total", &of, counts.retried);
            for (reason, n) in counts.failed {
                let [rule, action, kind] = of;
                let of = [rule, action, kind, ("reason", reason.as_str())];
                failed.line("rule_action_failure_total", &of, n);
            }
            let sum = format!("{seconds}_sum");
            latency.line(&sum, &of, counts.latency.as_secs_f64());
            latency.line(&format!("{seconds}_count"), &of, counts.succeeded);
        }
    }
    let mut messages = Lines::new(
        "rule_outbox_messages",
        "gauge",
        "Messages that wait in an outbox",
    );
    let mut bytes = Lines::new("rule_outbox_bytes", "gauge", "Their bytes");
    let takers = rooms.store.takers();
    let outboxes = takers.iter().filter(|t| t.kind == TakerKind::Outbox);
    for taker in outboxes.clone() {
        let of = [("outbox", &*taker.name)];
        messages.line("rule_outbox_messages", &of, taker.account.queued);
        bytes.line("rule_outbox_bytes", &of, taker.account.queued_bytes);
    }
    let mut text = String::new();
    if !rules.is_empty() {
        for lines in [matched, executed, sql, succeeded, failed, retried, latency] {
            text.push_str(&lines.text);
        }
    }
    if outboxes.count() > 0 {
        text.push_str(&messages.text);
        text.push_str(&bytes.text);
    }
    text
}
