//! The answers of one thing, in the order of its requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Protocol, TraceId};
use iotedge_ports::Failure;
use iotedge_telemetry::Metric;
use serde_json::Value;

use super::Answer;
use super::queue::Reply;
use crate::core::sync::Synchronised;

/// What is told when an answer's turn has come.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    /// Topics below the prefix and payloads, in order.
    pub(super) messages: Vec<(&'static str, Bytes)>,
    /// For the publisher's acknowledgement.
    pub(super) durable: Result<(), Failure>,
    pub(super) metric: Option<Metric>,
    /// For who synchronises.
    pub(super) synchronised: Option<Box<Synchronised>>,
}

impl Outcome {
    /// The client token that goes back with the answer.
    pub(super) fn client_token(&self) -> Option<String> {
        match &self.answer {
            Ok(document) => {
                let document: Value = serde_json::from_slice(document).ok()?;
                document.get("clientToken")?.as_str().map(str::to_owned)
            }
            Err(rejection) => rejection.client_token.clone(),
        }
    }
}

pub(super) struct Slot {
    pub(super) thing: Arc<str>,
    pub(super) prefix: String,
    pub(super) operation: ShadowOperation,
    pub(super) trace: TraceId,
    pub(super) hops: u8,
    pub(super) protocol: Protocol,
    pub(super) reply: Reply,
    pub(super) counted: bool,
    pub(super) outcome: Outcome,
    /// Whether what it rests on is committed.
    pub(super) ready: bool,
}

impl Slot {
    /// The key of the shadow, if this has changed it and comes of no synchronisation.
    pub(super) fn changed(&self) -> Option<String> {
        use Metric::{DeleteThingShadowAccepted, UpdateThingShadowAccepted};
        let asked = matches!(self.reply, Reply::Message(_) | Reply::Direct(_));
        let changed = matches!(
            self.outcome.metric,
            Some(UpdateThingShadowAccepted | DeleteThingShadowAccepted)
        );
        if !asked || !changed {
            return None;
        }
        Some(match self.prefix.split_once("/shadow/name/") {
            Some((_, name)) => format!("{}/{name}", self.thing),
            None => self.thing.to_string(),
        })
    }
}

#[derive(Default)]
pub(super) struct Lane {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
}

impl Lane {
    /// The number that the next slot will have.
    pub(super) fn next_number(&self) -> u64 {
        self.first + u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
    }

    pub(super) fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

    /// The first slot, if it may be answered.
    pub(super) fn pop_ready(&mut self) -> Option<Slot> {
        if !self.slots.front()?.ready {
            return None;
        }
        self.first += 1;
        self.slots.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
