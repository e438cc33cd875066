//! What others hold of a connection: to wake it, to close it, to tell it of commits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use iotedge_ports::{AckSink, ClientHandle, CloseReason, Failure, Wake};
use tokio::task::coop;

#[derive(Default)]
pub(crate) struct Handle(Mutex<Inbox>);

#[derive(Default)]
struct Inbox {
    acked: Vec<(u64, Result<(), Failure>)>,
    close: Option<CloseReason>,
    /// Something has come since the connection last asked.
    notified: bool,
    /// The connection's task, while it waits.
    waker: Option<Waker>,
}

impl Handle {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when something has come since the last time that it was.
    pub(crate) fn poll_notified(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What comes without end must not keep other connections from their turn.
        let turn = ready!(coop::poll_proceed(cx));
        let mut inbox = self.inbox();
        if inbox.notified {
            inbox.notified = false;
            turn.made_progress();
            return Poll::Ready(());
        }
        match &mut inbox.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes what has come.
    pub(crate) fn take(&self, acked: &mut Vec<(u64, Result<(), Failure>)>) -> Option<CloseReason> {
        let mut inbox = self.inbox();
        acked.append(&mut inbox.acked);
        inbox.close
    }

    /// Notes something and wakes the connection, once for all that comes before it looks.
    fn notify(&self, note: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.inbox();
        note(&mut inbox);
        let waker = if inbox.notified {
            None
        } else {
            inbox.notified = true;
            inbox.waker.take()
        };
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Handle {
    fn wake(&self) {
        self.notify(|_| {});
    }
}

impl ClientHandle for Handle {
    fn close(&self, reason: CloseReason) {
        self.notify(|inbox| {
            inbox.close.get_or_insert(reason);
        });
    }

    fn into_wake(self: Arc<Self>) -> Arc<dyn Wake> {
        self
    }
}

impl AckSink for Handle {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        self.notify(|inbox| inbox.acked.push((token, outcome)));
    }
}
