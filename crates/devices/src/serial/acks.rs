//! Answers of the broker on their way to the port's task.

use std::sync::{Mutex, MutexGuard};

use iotedge_ports::{AckSink, Failure};
use tokio::sync::Notify;

/// Collects answers from any thread. Holds no more than were asked for.
#[derive(Default)]
pub(super) struct Acks {
    answers: Mutex<Vec<(u64, Result<(), Failure>)>>,
    arrived: Notify,
}

impl Acks {
    fn answers(&self) -> MutexGuard<'_, Vec<(u64, Result<(), Failure>)>> {
        // A push is whole or not there.
        self.answers.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// All that came since the last call.
    pub(super) fn take(&self) -> Vec<(u64, Result<(), Failure>)> {
        std::mem::take(&mut *self.answers())
    }

    /// Ends when something came since the last time it ended.
    pub(super) async fn wait(&self) {
        self.arrived.notified().await;
    }
}

impl AckSink for Acks {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        self.answers().push((token, outcome));
        self.arrived.notify_one();
    }
}
