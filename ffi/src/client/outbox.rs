//! Messages that are posted: nobody waits for them, and each one's end is told.
//!
//! 1. Posting never waits: not for the socket, not for another thread.
//! 2. Messages go out in the order in which they were posted.
//! 3. Each is told once: acknowledged, or why not. QoS 0 is done when the socket, or what waits for
//!    it, has the bytes.
//! 4. With reconnecting, what was not acknowledged with QoS 1 goes again on the next connection,
//!    before everything else. QoS 2 does not: the server may have it, and a new connection has no
//!    memory of it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_mqtt::{PacketId, QoS};

use super::operation::Operation;
use super::{Client, State, Wake, lock};
use crate::connection::Connection;
use crate::error::{Error, Result};

/// Is told how a message ended.
pub(crate) type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// A message to send.
pub(crate) struct Post {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) done: Option<Done>,
}

/// What every message costs besides its topic and payload.
const OVERHEAD: usize = 128;

impl Post {
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + OVERHEAD
    }
}

struct Item {
    number: u64,
    post: Post,
    /// It was sent on an earlier connection.
    again: bool,
}

#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Item>,
    in_flight: VecDeque<(PacketId, Item)>,
    ended: VecDeque<(Done, Result<()>)>,
    /// Of all that wait or are in flight.
    bytes: usize,
    next: u64,
}

impl Outbox {
    fn end(&mut self, mut item: Item, result: Result<()>) {
        self.bytes -= item.post.size();
        if let Some(done) = item.post.done.take() {
            self.ended.push_back((done, result));
        }
    }
}

impl Client {
    /// Takes a message to send, and gives its number. It is sent at once if nothing is in the way.
    pub(crate) fn post(&self, post: Post) -> Result<u64> {
        iotedge_model::Topic::check(&post.topic)?;
        // Fixed header, length of the topic, packet id.
        let size = post.topic.len() + post.payload.len() + 9;
        if size >= self.settings.tx_limit {
            let limit = self.settings.tx_limit;
            return Err(Error::TxBuffer { size, limit });
        }
        let may_send = self.is_connected() || (self.auto_reconnect() && self.will_return());
        if !may_send {
            return Err(Error::NotConnected);
        }
        let number = {
            let mut outbox = lock(&self.outbox);
            let bytes = outbox.bytes + post.size();
            if bytes > self.settings.max_queued_bytes {
                return Err(Error::QueueFull(self.settings.max_queued_bytes));
            }
            outbox.bytes = bytes;
            let number = outbox.next;
            outbox.next += 1;
            outbox.waiting.push_back(Item {
                number,
                post,
                again: false,
            });
            number
        };
        self.pump();
        if let Some(wake) = &self.wake {
            // The loop that waits looks what is left to do.
            wake.set();
        }
        Ok(number)
    }

    fn will_return(&self) -> bool {
        matches!(
            self.state(),
            State::PendingReconnect | State::Connecting | State::DisconnectedError
        )
    }

    /// Posts and waits until the message has ended, `timeout` at most. What is not sent by then is
    /// not sent at all.
    pub(crate) fn post_and_wait(&self, mut post: Post, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let ended = Arc::new((Mutex::new(None), Condvar::new()));
        let told = Arc::clone(&ended);
        post.done = Some(Box::new(move |result| {
            *lock(&told.0) = Some(result);
            told.1.notify_all();
        }));
        let number = self.post(post)?;
        loop {
            if let Some(result) = lock(&ended.0).take() {
                return result;
            }
            let now = Instant::now();
            if now >= deadline {
                self.withdraw(number);
                return Err(Error::Timeout);
            }
            let until = deadline.min(now + super::waiting::SLICE);
            let during = if self.is_calling_back() {
                State::PublishInProgress
            } else {
                State::YieldInProgress
            };
            match self.run_until_ended(until, during, &ended.0) {
                Ok(()) | Err(Error::AttemptingReconnect) => {}
                Err(Error::NotIdle) => {
                    // Another thread works for this one too.
                    let result = lock(&ended.0);
                    let wait = until.saturating_duration_since(now);
                    drop(
                        ended
                            .1
                            .wait_timeout_while(result, wait, |result| result.is_none())
                            .unwrap_or_else(PoisonError::into_inner),
                    );
                }
                Err(error) => return lock(&ended.0).take().unwrap_or(Err(error)),
            }
        }
    }

    fn run_until_ended(
        &self,
        until: Instant,
        during: State,
        ended: &Mutex<Option<Result<()>>>,
    ) -> Result<()> {
        loop {
            // As long as nothing comes this waits: each packet ends the wait.
            self.turn(until, during)?;
            if lock(ended).is_some() || Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Takes back what was not sent.
    fn withdraw(&self, number: u64) {
        let mut outbox = lock(&self.outbox);
        let found = outbox.waiting.iter().position(|item| item.number == number);
        if let Some(mut item) = found.and_then(|index| outbox.waiting.remove(index)) {
            outbox.bytes -= item.post.size();
            item.post.done = None;
        }
    }

    /// Sends what there is to send, unless another thread has the connection: that one looks
    /// itself.
    pub(super) fn pump(&self) {
        if let Ok(mut connection) = self.connection.try_lock() {
            if let Some(connection) = connection.as_mut() {
                self.pump_into(connection);
            }
        }
    }

    pub(super) fn pump_into(&self, connection: &mut Connection) {
        let mut outbox = lock(&self.outbox);
        while let Some(item) = outbox.waiting.pop_front() {
            match connection.post(&item.post, item.again) {
                Ok(Some(id)) => outbox.in_flight.push_back((id, item)),
                Ok(None) => outbox.end(item, Ok(())),
                // Later, or on another connection: whoever listens sees that this one is broken.
                Err(error) if error.is_loss() || matches!(error, Error::NotIdle) => {
                    outbox.waiting.push_front(item);
                    return;
                }
                Err(error) => outbox.end(item, Err(error)),
            }
        }
    }

    /// Notes what the server has acknowledged.
    pub(super) fn collect(&self, connection: &mut Connection) {
        let mut outbox = lock(&self.outbox);
        let mut index = 0;
        while let Some((id, _)) = outbox.in_flight.get(index) {
            if !connection.take_posted(*id) {
                index += 1;
                continue;
            }
            if let Some((_, item)) = outbox.in_flight.remove(index) {
                outbox.end(item, Ok(()));
            }
        }
        drop(outbox);
        self.pump_into(connection);
    }

    /// Tells those that have ended, within an operation.
    pub(super) fn tell_posted(&self, operation: &Operation<'_>) -> Result<()> {
        if lock(&self.outbox).ended.is_empty() {
            return Ok(());
        }
        self.call_back(operation, || self.tell_all_posted())
    }

    fn tell_all_posted(&self) {
        loop {
            let ended = lock(&self.outbox).ended.pop_front();
            match ended {
                Some((done, result)) => done(result),
                None => return,
            }
        }
    }

    /// The connection is lost: what can go again does.
    pub(super) fn requeue_posted(&self, reason: &Error) {
        let goes_on = self.auto_reconnect();
        {
            let mut outbox = lock(&self.outbox);
            while let Some((_, mut item)) = outbox.in_flight.pop_back() {
                if goes_on && item.post.qos == QoS::AtLeastOnce {
                    item.again = true;
                    outbox.waiting.push_front(item);
                } else {
                    outbox.end(item, Err(Error::Lost(reason.to_string())));
                }
            }
        }
        if goes_on {
            self.tell_all_posted();
        } else {
            self.give_up_posted(reason);
        }
    }

    /// There will be no connection for what was posted.
    pub(super) fn give_up_posted(&self, reason: &Error) {
        {
            let mut outbox = lock(&self.outbox);
            let in_flight = std::mem::take(&mut outbox.in_flight);
            let waiting = std::mem::take(&mut outbox.waiting);
            let items = in_flight.into_iter().map(|(_, item)| item).chain(waiting);
            for item in items {
                outbox.end(item, Err(Error::Lost(reason.to_string())));
            }
        }
        self.tell_all_posted();
    }

    /// How many posted messages have not ended.
    pub(crate) fn posted(&self) -> usize {
        let outbox = lock(&self.outbox);
        outbox.waiting.len() + outbox.in_flight.len()
    }

    /// Watches a new connection for the program's own loop.
    pub(super) fn watch(&self, connection: &Connection) {
        if let Some(wake) = &self.wake {
            let (socket, _) = connection.interest();
            if let Err(error) = wake.watch(socket) {
                crate::log::error(&format!("the descriptor cannot watch the socket: {error}"));
            }
        }
    }

    /// The caller goes back to its own loop: says when it is to come again.
    pub(super) fn rest(&self) {
        let Some(wake) = &self.wake else {
            return;
        };
        // Another thread that has the connection rests later.
        let Ok(connection) = self.connection.try_lock() else {
            return;
        };
        let due = connection.as_ref().and_then(Connection::due);
        let due = due.or_else(|| self.next_attempt());
        wake.arm(connection.as_ref().map(Connection::interest), due);
        let unread = connection.as_ref().is_some_and(Connection::has_unread);
        if unread || !lock(&self.outbox).ended.is_empty() {
            wake.set();
        }
    }

    /// The descriptor for the program's own loop.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        self.wake.as_ref().map(Wake::number)
    }
}
