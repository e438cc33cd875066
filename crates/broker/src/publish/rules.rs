//! What rules make of a message: evaluated once, when it is accepted.

use iotedge_model::{DropReason, Message, Now, Topic};
use iotedge_ports::{RuleEngine, RuleOutput};
use iotedge_telemetry::{METRICS, event};

use crate::Shared;

/// Messages that rules may make of one.
const MAX_DERIVED: usize = 1_000;

fn len(output: &RuleOutput) -> usize {
    output.published.len() + output.handed.len()
}

/// The rules of one batch.
pub(super) struct Evaluation<'a> {
    shared: &'a Shared,
    now: &'a Now,
    /// The last topic, and whether any rule wants it: for runs of messages on one topic.
    last: Option<(Topic, bool)>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(shared: &'a Shared, now: &'a Now) -> Self {
        Self {
            shared,
            now,
            last: None,
        }
    }

    /// All that rules make of a message, and of what they made of it.
    pub(super) fn of(&mut self, message: &Message) -> RuleOutput {
        let Some(rules) = self.shared.rules.get() else {
            return RuleOutput::default();
        };
        let wanted = match &self.last {
            Some((topic, wanted)) if topic.is_same(&message.topic) => *wanted,
            _ => {
                let wanted = rules.concern(message.topic.as_str());
                self.last = Some((message.topic.clone(), wanted));
                wanted
            }
        };
        if wanted {
            self.shared.evaluate_rules(&**rules, message, self.now)
        } else {
            RuleOutput::default()
        }
    }
}

impl Shared {
    fn evaluate_rules(&self, rules: &dyn RuleEngine, message: &Message, now: &Now) -> RuleOutput {
        let mut output = RuleOutput::default();
        rules.evaluate(message, now, &mut output);
        if output.published.is_empty() && output.handed.is_empty() {
            return output;
        }
        output.published.retain(|m| !self.is_loop(m));
        let mut next = 0;
        while next < output.published.len() && len(&output) <= MAX_DERIVED {
            let mut made = RuleOutput::default();
            if let Some(parent) = output.published.get_mut(next) {
                parent.accepted_at = now.wall;
                parent.trusted = now.trusted;
                rules.evaluate(parent, now, &mut made);
            }
            made.published.retain(|m| !self.is_loop(m));
            output.published.append(&mut made.published);
            output.handed.append(&mut made.handed);
            next += 1;
        }
        if len(&output) > MAX_DERIVED {
            let over = len(&output) - MAX_DERIVED;
            METRICS.dropped(DropReason::Loop, over as u64);
            tracing::warn!(
                event = event::MESSAGE_DROPPED,
                topic = %message.topic,
                trace_id = %message.trace,
                "rules make more than {MAX_DERIVED} messages of one: {over} are dropped"
            );
            output.published.truncate(MAX_DERIVED);
            let left = MAX_DERIVED - output.published.len();
            output.handed.truncate(left);
        }
        for (_, handed) in &mut output.handed {
            handed.accepted_at = now.wall;
            handed.trusted = now.trusted;
        }
        output
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
