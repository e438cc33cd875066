//! What others hold of a connection: to wake it, to close it, to tell it of commits.

use std::sync::{Mutex, PoisonError};

use iotedge_ports::{AckSink, ClientHandle, CloseReason, Failure, Wake};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Handle {
    notify: Notify,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    acked: Vec<(u64, Result<(), Failure>)>,
    close: Option<CloseReason>,
}

impl Handle {
    /// Until something has come since the last call.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Takes what has come.
    pub(crate) fn take(&self, acked: &mut Vec<(u64, Result<(), Failure>)>) -> Option<CloseReason> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        acked.append(&mut inbox.acked);
        inbox.close
    }
}

impl Wake for Handle {
    fn wake(&self) {
        self.notify.notify_one();
    }
}

impl ClientHandle for Handle {
    fn close(&self, reason: CloseReason) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.close.get_or_insert(reason);
        drop(inbox);
        self.notify.notify_one();
    }
}

impl AckSink for Handle {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.acked.push((token, outcome));
        drop(inbox);
        self.notify.notify_one();
    }
}
