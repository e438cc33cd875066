//! The client library's event loop as a [`Connection`](super::Connection): its future is made once
//! and kept, because one that is dropped halfway takes requests with it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::{Ended, Event, Layer};

/// An event loop of the library, of one version.
pub(super) trait EventLoop: Send + 'static {
    /// The next event, `None` for one that nobody needs.
    fn poll(&mut self) -> impl Future<Output = Result<Option<Event>, Ended>> + Send;

    /// What the last poll read besides; outer `None`: no more.
    fn more(&mut self) -> Option<Result<Option<Event>, Ended>>;

    /// Sends PINGREQ with the next poll.
    fn ping(&mut self);
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    /// A PINGREQ is asked for.
    ping: bool,
    /// Requests handed over and not on the wire yet. While there are any, a poll may be writing.
    under_way: usize,
}

impl Inbox {
    fn push(&mut self, event: Option<Event>) {
        let Some(event) = event else {
            return;
        };
        if matches!(
            event,
            Event::Published(_) | Event::AckSent | Event::SubscribeSent | Event::Left
        ) {
            self.under_way = self.under_way.saturating_sub(1);
        }
        self.events.push_back(event);
    }
}

/// The event loop's future and what it has told.
pub(super) struct Driver {
    inbox: Arc<Mutex<Inbox>>,
    future: Pin<Box<dyn Future<Output = Ended> + Send>>,
    ended: Option<Ended>,
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    // Both sides run in the same task.
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn drive(mut events: impl EventLoop, inbox: Arc<Mutex<Inbox>>) -> Ended {
    loop {
        let polled = {
            let mut poll = pin!(events.poll());
            poll_fn(|cx| {
                if let Poll::Ready(polled) = poll.as_mut().poll(cx) {
                    return Poll::Ready(Some(polled));
                }
                let inbox = lock(&inbox);
                match inbox.ping && inbox.under_way == 0 {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
            })
            .await
        };
        let Some(polled) = polled else {
            lock(&inbox).ping = false;
            events.ping();
            continue;
        };
        let ended = {
            let mut inbox = lock(&inbox);
            let mut ended = None;
            let mut next = Some(polled);
            // Behind an error there may be what was read before it.
            while let Some(event) = next {
                match event {
                    Ok(event) => inbox.push(event),
                    Err(error) => ended = ended.or(Some(error)),
                }
                next = events.more();
            }
            ended
        };
        if let Some(ended) = ended {
            return ended;
        }
        // Nothing more is read before this is taken.
        poll_fn(|_| match lock(&inbox).events.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Driver {
    pub(super) fn new(events: impl EventLoop) -> Self {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        Self {
            future: Box::pin(drive(events, inbox.clone())),
            inbox,
            ended: None,
        }
    }

    /// A request was handed over to the library, unless it did not take it.
    pub(super) fn handed_over(
        &self,
        packet: &str,
        outcome: Result<(), impl Display>,
    ) -> Result<(), Ended> {
        outcome.map_err(|error| {
            let text = format!("the client library takes no {packet}: {error}");
            Ended::lost(Layer::Mqtt, text)
        })?;
        lock(&self.inbox).under_way += 1;
        Ok(())
    }

    pub(super) fn ping(&self) {
        lock(&self.inbox).ping = true;
    }

    pub(super) fn buffered(&mut self) -> Option<Event> {
        lock(&self.inbox).events.pop_front()
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        loop {
            if let Some(event) = self.buffered() {
                return Poll::Ready(Ok(event));
            }
            if let Some(ended) = &self.ended {
                return Poll::Ready(Err(ended.clone()));
            }
            // The library's code reads what the other side wrote: a panic of it ends the
            // connection, not the link.
            let future = self.future.as_mut();
            let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll(cx)));
            match polled {
                Ok(Poll::Ready(ended)) => self.ended = Some(ended),
                Ok(Poll::Pending) if lock(&self.inbox).events.is_empty() => return Poll::Pending,
                Ok(Poll::Pending) => {}
                Err(_) => {
                    let text = "the client library failed on what the upstream sent";
                    self.ended = Some(Ended::lost(Layer::Mqtt, text));
                }
            }
        }
    }
}
