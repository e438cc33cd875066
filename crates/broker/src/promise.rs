//! What a CONNACK waits for.

use std::sync::Arc;

use iotedge_ports::{AckSink, Completion};
use iotedge_store::Done;

use crate::client::finish;

/// Commits without which a CONNACK would promise what a crash takes back.
pub(crate) struct Promise {
    ack: (Arc<dyn AckSink>, u64),
    waits: Option<Completion>,
}

impl Promise {
    /// Nothing to wait for yet. The sink is told only where [`Promise::part`] was asked.
    pub(crate) fn new(ack: (Arc<dyn AckSink>, u64)) -> Self {
        Self { ack, waits: None }
    }

    /// One more commit.
    pub(crate) fn part(&mut self) -> Option<Done> {
        let completion = self
            .waits
            .get_or_insert_with(|| Completion::new(self.ack.0.clone(), self.ack.1));
        Some(finish(completion.part()))
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_kept(&self) -> bool {
        self.waits.is_none()
    }
}
