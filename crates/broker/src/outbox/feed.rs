//! The queue of one taker.

mod state;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_model::{DropReason, Message, MessageId, QoS, SubscriptionIds};
use iotedge_ports::{Clock, Delivery, DrainLimit, DrainState, Pressure, RunPart, ShareId, Wake};
use iotedge_store::{RowState, Store, TakerId};
use iotedge_telemetry::METRICS;

use super::plain::Taken;
use crate::group::Shares;
use state::State;

/// What every queue uses.
pub(crate) struct Env {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_messages: usize,
    pub(crate) max_bytes: usize,
    /// The first id that this process gives: what is older may have been sent before.
    pub(crate) first_id: MessageId,
    pub(crate) shares: Shares,
    /// A queue could not be read; the next tick has all of them looked at again. Shared by all
    /// queues of the broker.
    pub(crate) unread: Arc<AtomicBool>,
}

/// What became of a delivery handed to a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// It waits.
    Queued,
    /// It waits, and its publisher should wait before it sends more.
    Pressed,
    /// There is no room in memory and it has no row: it is lost unless the taker is closed.
    Full,
    /// Nobody is attached and it has no row.
    Absent,
}

/// What became of deliveries handed to a queue together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// For so many there is no room in memory, and they have no row: they are lost unless the taker
    /// is closed.
    pub(crate) dropped: usize,
    /// Their publisher should wait before it sends more.
    pub(crate) pressed: bool,
}

/// Publishers wait when one part in so many of a queue is filled.
pub(crate) const PRESSED_PART: usize = 8;
/// Rows read from the store at once.
const READ_ROWS: usize = 128;
/// Their bytes.
const READ_BYTES: usize = 256 * 1024;

pub(crate) struct Feed {
    pub(crate) env: Arc<Env>,
    /// Where the taker's rows are; `None` for a session that ends with its connection.
    pub(crate) taker: Option<TakerId>,
    state: Mutex<State>,
}

impl Feed {
    pub(crate) fn new(env: Arc<Env>, taker: Option<TakerId>, caught_up: bool) -> Self {
        Self {
            env,
            taker,
            state: Mutex::new(State {
                caught_up,
                ..State::default()
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant of a queue is broken half-way through its short sections.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consumer comes; the epoch that its drains must name.
    pub(crate) fn attach(&self, wake: Arc<dyn Wake>) -> u64 {
        let mut state = self.lock();
        state.epoch += 1;
        state.wake = Some(wake);
        state.woken = false;
        state.epoch
    }

    /// The consumer went: what has a row is read again later, the rest is gone. What came by
    /// shared subscriptions is given back.
    #[must_use = "others may get it"]
    pub(crate) fn detach(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.epoch += 1;
        state.wake = None;
        let shared = state.take_shared(|_| true);
        let rowless = state.kept.iter().filter(|(_, d)| !d.durable).count();
        let lost = state.plain.len() + rowless;
        if lost > 0 {
            METRICS.dropped(DropReason::SessionEnded, lost as u64);
        }
        state.plain.clear();
        state.forget_kept();
        state.relieve();
        shared
    }

    /// Takes out what came by one shared subscription and waits.
    pub(crate) fn take_share(&self, share: ShareId) -> Vec<Delivery> {
        self.lock().take_shared(|id| id == share)
    }

    /// Whether a consumer is attached that keeps up.
    pub(crate) fn takes_more(&self) -> bool {
        let state = self.lock();
        state.wake.is_some() && !state.is_pressed(&self.env)
    }

    /// Like [`Feed::takes_more`], with fewer than `window` waiting for an acknowledgement to come.
    pub(crate) fn takes_kept(&self, window: usize) -> bool {
        let state = self.lock();
        state.wake.is_some() && state.kept.len() < window && !state.is_pressed(&self.env)
    }

    /// Wakes the consumer, if there is one.
    pub(crate) fn rouse(&self) {
        self.lock().rouse();
    }

    /// A delivery whose row another taker has, for a consumer that takes more. To be followed by
    /// [`Feed::appended`].
    pub(crate) fn hand(&self, delivery: Delivery) {
        self.lock().put_unhanded(delivery);
    }

    /// A delivery without a row.
    pub(crate) fn push(&self, delivery: Delivery) -> Push {
        let mut state = self.lock();
        if state.wake.is_none() {
            return Push::Absent;
        }
        if state.is_full(&self.env) {
            return Push::Full;
        }
        state.enqueue(delivery);
        if state.presses(&self.env) {
            Push::Pressed
        } else {
            Push::Queued
        }
    }

    /// Deliveries of QoS 0, none of which has a row.
    pub(crate) fn push_run(&self, mut part: RunPart) -> Pushed {
        let mut state = self.lock();
        if state.wake.is_none() {
            return Pushed::default();
        }
        let (messages, bytes) = state.room(&self.env);
        let front = part.split(messages, bytes);
        if !front.is_empty() {
            state.put_plain(Taken::Run(front));
            state.rouse();
        }
        Pushed {
            dropped: part.len(),
            pressed: state.presses(&self.env),
        }
    }

    /// Deliveries of these messages without a row.
    pub(crate) fn push_all(
        &self,
        messages: &[Arc<Message>],
        qos: QoS,
        identifiers: &SubscriptionIds,
    ) -> Pushed {
        let mut state = self.lock();
        if state.wake.is_none() {
            return Pushed::default();
        }
        let mut dropped = messages.len();
        for message in messages {
            if state.is_full(&self.env) {
                break;
            }
            dropped -= 1;
            state.put(Delivery {
                qos,
                ..Delivery::live(message.clone(), identifiers.clone())
            });
        }
        state.rouse();
        Pushed {
            dropped,
            pressed: state.presses(&self.env),
        }
    }

    /// Like [`Feed::push`], with room for `extra` more: retained messages are in memory anyway.
    pub(crate) fn push_retained(&self, delivery: Delivery, extra: usize) -> Push {
        let mut state = self.lock();
        if state.wake.is_none() {
            return Push::Absent;
        }
        if state.plain.len() + state.kept.len() >= self.env.max_messages.saturating_add(extra) {
            return Push::Full;
        }
        state.enqueue(delivery);
        Push::Queued
    }

    /// A delivery whose row is about to be handed to the store, under the broker's lock. To be
    /// followed by [`Feed::appended`] when it has been, and by [`Feed::committed`]. With `hold` it
    /// does not come out before that.
    pub(crate) fn append(&self, delivery: Delivery, hold: bool) {
        let mut state = self.lock();
        let id = delivery.message.id;
        state.expect(id);
        let live = state.caught_up || state.joined.is_some();
        if live && state.wake.is_some() && !state.is_full(&self.env) {
            let caught_up = state.caught_up;
            let rows = state.rows();
            if caught_up {
                rows.cursor = Some(id);
            }
            if hold {
                rows.held.push_back(id);
            }
            state.put_unhanded(delivery);
        } else {
            state.part();
            state.caught_up = false;
        }
    }

    /// A row that the consumer has to read is about to be handed to the store, under the broker's
    /// lock. To be followed by [`Feed::committed`].
    pub(crate) fn append_unread(&self, id: MessageId) {
        let mut state = self.lock();
        state.expect(id);
        state.part();
        state.caught_up = false;
    }

    /// The store has the row: the consumer may see it, and its acknowledgement comes after it.
    pub(crate) fn appended(&self) {
        let mut state = self.lock();
        if let Some(rows) = state.rows_mut() {
            rows.unhanded = None;
        }
        if !state.kept.is_empty() && !state.is_held() {
            state.rouse();
        }
    }

    /// The store is done with the row of `id`; rows end in the order of their ids. One that could
    /// not be committed was refused to its publisher, and is not to come out any more.
    pub(crate) fn committed(&self, id: MessageId, kept: bool) {
        let mut state = self.lock();
        let joined = state.joined;
        let rows = state.rows();
        rows.pending = rows.pending.saturating_sub(1);
        rows.settled = rows.settled.max(Some(id));
        if joined.is_some_and(|joined| id <= joined) {
            rows.behind = rows.behind.saturating_sub(1);
        }
        if !kept {
            state.forget(id);
        }
        let was_held = state.is_held();
        while let Some(held) = state.rows().next_held(id) {
            state.arrive(held);
        }
        if !state.caught_up || (was_held && !state.is_held()) {
            state.rouse();
        }
    }

    /// The consumer takes nothing now; the next arrival wakes.
    pub(crate) fn rest(&self, epoch: u64) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.woken = false;
        }
    }

    /// Where a consumer that reads the store stands; `None` for one that has everything that is
    /// committed.
    pub(crate) fn behind(&self) -> Option<Behind> {
        let mut state = self.lock();
        if state.caught_up || state.joined.is_some() {
            return None;
        }
        let read = state.rows().cursor;
        drop(state);
        let settled = self.settled();
        Some(Behind { read, settled })
    }

    /// The last row that the store is done with: it and all before it can be read, or are gone.
    pub(crate) fn settled(&self) -> MessageId {
        let settled = self.lock().rows().settled;
        settled.unwrap_or(MessageId(self.env.first_id.0.saturating_sub(1)))
    }

    /// Takes up to `limit`, at most `kept` of them with an acknowledgement to come. `None` when the
    /// epoch is over.
    pub(crate) fn take(
        &self,
        epoch: u64,
        limit: DrainLimit,
        kept: usize,
        out: &mut Vec<Taken>,
    ) -> Option<DrainState> {
        let mut taking = Taking {
            left: limit.messages,
            kept,
            bytes: limit.bytes,
        };
        loop {
            let (after, idle, appended, joined) = {
                let mut state = self.lock();
                if state.epoch != epoch {
                    return None;
                }
                self.take_live(&mut state, &mut taking, out);
                if !state.is_pressed(&self.env) {
                    state.relieve_some(&self.env);
                }
                if taking.is_full() {
                    return Some(DrainState::More);
                }
                if state.caught_up || taking.kept == 0 || state.is_held() {
                    // With a full window the next acknowledgement drains again, and what is held
                    // its commit; until then an arrival of QoS 0 has to wake.
                    state.woken = false;
                    return Some(DrainState::Empty);
                }
                let rows = state.rows();
                rows.dropped = Some(BTreeSet::new());
                let (cursor, appended) = (rows.cursor, rows.appended);
                let idle = match state.joined {
                    None => state.rows().pending == 0,
                    Some(_) => state.rows().behind == 0,
                };
                (cursor, idle, appended, state.joined)
            };
            let rows = self.read(after, &taking);
            let mut state = self.lock();
            if state.epoch != epoch {
                return None;
            }
            let Ok(rows) = rows else {
                state.rows().dropped = None;
                // The tick wakes.
                state.woken = false;
                self.env.unread.store(true, Ordering::Relaxed);
                return Some(DrainState::Empty);
            };
            // It may have been left while the store was read.
            let joined = joined.filter(|_| state.joined == joined);
            let mut rows = rows;
            rows.retain(|row| joined.is_none_or(|joined| row.message.id <= joined));
            if rows.is_empty() {
                let rows = state.rows();
                rows.dropped = None;
                let (pending, new) = (rows.pending, rows.appended != appended);
                if idle && (joined.is_some() || (!new && state.joined.is_none())) {
                    state.catch_up();
                } else if pending > 0 {
                    if state.joined.is_none() {
                        state.join();
                    }
                    // The commit wakes.
                    state.woken = false;
                    return Some(DrainState::Empty);
                }
            }
            self.take_rows(&mut state, rows, &mut taking, out);
        }
    }

    fn read(
        &self,
        after: Option<MessageId>,
        taking: &Taking,
    ) -> Result<Vec<iotedge_store::QueuedRow>, ()> {
        let Some(taker) = self.taker else {
            return Ok(Vec::new());
        };
        let rows = taking.kept.min(taking.left).min(READ_ROWS);
        self.env
            .store
            .read(taker, after, rows, taking.bytes.min(READ_BYTES))
            .map_err(|error| {
                tracing::error!(
                    event = iotedge_telemetry::event::STORE,
                    %error,
                    "a queue could not be read; its messages stay where they are"
                );
            })
    }

    fn take_rows(
        &self,
        state: &mut State,
        rows: Vec<iotedge_store::QueuedRow>,
        taking: &mut Taking,
        out: &mut Vec<Taken>,
    ) {
        let dropped = state.rows().dropped.take().unwrap_or_default();
        for row in rows {
            let id = row.message.id;
            state.rows().cursor = Some(id);
            // What is in flight is with the session already.
            if dropped.contains(&id) || row.state != RowState::Queued {
                continue;
            }
            let newest_out = state.rows().newest_out;
            let sent = id < self.env.first_id || newest_out.is_some_and(|out| id <= out);
            let delivery = Delivery {
                qos: row.qos,
                retain: row.retain,
                // A QoS 2 row that was sent says so itself.
                dup: sent && row.qos < QoS::ExactlyOnce,
                durable: true,
                share: None,
                identifiers: row.identifiers,
                message: Arc::new(row.message),
            };
            self.hand_out(state, delivery, taking, out);
        }
    }

    fn take_live(&self, state: &mut State, taking: &mut Taking, out: &mut Vec<Taken>) {
        while !taking.is_full() {
            let plain = state.plain.first();
            let kept = if taking.kept > 0 && !state.is_held() && !state.is_joining() {
                state.first_handed()
            } else {
                None
            };
            let is_plain = match (plain, kept) {
                (None, None) => return,
                (Some(p), Some(k)) => p < k,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            let next = if is_plain {
                state.plain.pop(taking.left, taking.bytes)
            } else {
                let kept = state.kept.pop_front();
                kept.map(|(_, delivery)| Taken::One(delivery))
            };
            let Some(next) = next else {
                return;
            };
            let cost = next.cost();
            state.bytes = state.bytes.saturating_sub(cost);
            match next {
                Taken::One(delivery) => self.hand_out(state, delivery, taking, out),
                Taken::Run(part) => {
                    taking.left = taking.left.saturating_sub(part.len());
                    taking.bytes = taking.bytes.saturating_sub(cost);
                    out.push(Taken::Run(part));
                }
            }
        }
    }

    fn hand_out(
        &self,
        state: &mut State,
        delivery: Delivery,
        taking: &mut Taking,
        out: &mut Vec<Taken>,
    ) {
        let message = &delivery.message;
        // What is shared is not this taker's to drop: its session looks at it.
        let own = delivery.share.is_none();
        if own && message.expiry.is_some() && message.is_expired(&self.env.clock.now()) {
            self.drop_one(&delivery, DropReason::Expired);
            return;
        }
        taking.left = taking.left.saturating_sub(1);
        taking.bytes = taking.bytes.saturating_sub(message.cost());
        if delivery.durable || u8::from(delivery.qos) > 0 {
            taking.kept = taking.kept.saturating_sub(1);
            if own && self.taker.is_some() {
                let rows = state.rows();
                rows.newest_out = rows.newest_out.max(Some(message.id));
            }
        }
        out.push(Taken::One(delivery));
    }

    /// Counts a drop and gives the row up.
    pub(crate) fn drop_one(&self, delivery: &Delivery, reason: DropReason) {
        METRICS.dropped(reason, 1);
        if let (true, Some(taker)) = (delivery.durable, self.taker) {
            self.env
                .store
                .discard(taker, &[delivery.message.id], reason);
        }
    }

    /// Whether publishers should wait for it.
    pub(crate) fn is_pressed(&self) -> bool {
        let state = self.lock();
        state.wake.is_some() && state.presses(&self.env)
    }

    /// Messages in memory.
    pub(crate) fn in_memory(&self) -> usize {
        let state = self.lock();
        state.plain.len() + state.kept.len()
    }
}

impl Pressure for Feed {
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool {
        let mut state = self.lock();
        if state.given_up || state.wake.is_none() || !state.is_pressed(&self.env) {
            return true;
        }
        let waiters = &mut state.rows().waiters;
        if !waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            waiters.push(waiter.clone());
        }
        false
    }

    fn give_up(&self) {
        let mut state = self.lock();
        if state.is_pressed(&self.env) {
            state.relieve();
            state.given_up = true;
        }
    }
}

/// How far a queue was read in the store, and how far it can be.
#[derive(Clone, Copy)]
pub(crate) struct Behind {
    /// The last row that was read.
    pub(crate) read: Option<MessageId>,
    /// All rows up to this one can be read, or are gone for good. Of those behind it the store may
    /// show none yet.
    pub(crate) settled: MessageId,
}

struct Taking {
    left: usize,
    kept: usize,
    bytes: usize,
}

impl Taking {
    fn is_full(&self) -> bool {
        self.left == 0 || self.bytes == 0
    }
}

#[cfg(test)]
mod tests;
