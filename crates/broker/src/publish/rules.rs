//! What rules make of a message: evaluated once, when it is accepted.

use iotedge_model::{DropReason, Message, Now};
use iotedge_telemetry::{METRICS, event};

use crate::Shared;

/// Messages that rules may make of one.
const MAX_DERIVED: usize = 1_000;

impl Shared {
    /// All that rules make of a message, and of what they made of it.
    pub(super) fn evaluate_rules(&self, message: &Message, now: &Now) -> Vec<Message> {
        let Some(rules) = self.rules.get() else {
            return Vec::new();
        };
        let mut derived = Vec::new();
        rules.evaluate(message, now, &mut derived);
        derived.retain(|m| !self.is_loop(m));
        let mut next = 0;
        while next < derived.len() && derived.len() <= MAX_DERIVED {
            let mut made = Vec::new();
            if let Some(parent) = derived.get_mut(next) {
                parent.accepted_at = now.wall;
                parent.trusted = now.trusted;
                rules.evaluate(parent, now, &mut made);
            }
            made.retain(|m| !self.is_loop(m));
            derived.append(&mut made);
            next += 1;
        }
        if derived.len() > MAX_DERIVED {
            let over = derived.len() - MAX_DERIVED;
            METRICS.dropped(DropReason::Loop, over as u64);
            tracing::warn!(
                event = event::MESSAGE_DROPPED,
                topic = %message.topic,
                trace_id = %message.trace,
                "rules make more than {MAX_DERIVED} messages of one: {over} are dropped"
            );
            derived.truncate(MAX_DERIVED);
        }
        derived
    }

    fn is_loop(&self, message: &Message) -> bool {
        if message.hops <= self.limits.max_hops {
            return false;
        }
        METRICS.dropped(DropReason::Loop, 1);
        tracing::warn!(
            event = event::MESSAGE_DROPPED,
            topic = %message.topic,
            trace_id = %message.trace,
            source = %message.source.to_column(),
            "rules republish in a loop: dropped after {} republications",
            self.limits.max_hops
        );
        true
    }
}
