//! What a queue holds, behind its lock.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use iotedge_model::MessageId;
use iotedge_ports::{Delivery, ShareId, Wake};

use super::super::plain::{Plain, Taken};
use super::{Env, PRESSED_PART};

/// Messages that a publisher is taken to bring when it goes on. Fewer than a busy one brings: where
/// much room is made at once, all go on.
const BROUGHT: usize = 8;

#[derive(Default)]
pub(crate) struct State {
    /// Grows with each attachment: a drain of an older one gets nothing.
    pub(crate) epoch: u64,
    pub(super) wake: Option<Arc<dyn Wake>>,
    /// The consumer knows that there is something.
    pub(super) woken: bool,
    /// QoS 0, with the order of arrival.
    pub(super) plain: Plain,
    /// QoS 1 and 2, and all of a route.
    pub(super) kept: VecDeque<(u64, Delivery)>,
    pub(super) arrivals: u64,
    pub(super) bytes: usize,
    /// Every row that is committed is behind the cursor, and new ones come to `kept`. Otherwise
    /// the consumer reads on from the cursor.
    pub(super) caught_up: bool,
    /// Rows behind this one come to `kept` while the consumer still reads up to it: under a steady
    /// stream some rows are always on their way to the disk, and it would never be done reading.
    /// None of them comes out before that.
    pub(super) joined: Option<MessageId>,
    pub(super) rows: Option<Box<Rows>>,
    /// A publisher has waited in vain: no other one does before there is room again.
    pub(super) given_up: bool,
}

/// What only a queue with rows in the store has, or one that publishers have waited for.
#[derive(Default)]
pub(super) struct Rows {
    /// Those of `kept` that come out when their row is committed, and not before.
    pub(super) held: VecDeque<MessageId>,
    /// The arrival of the first whose row the store does not have: nobody sees it, or its packet id
    /// could reach the store before the row, and be lost.
    pub(super) unhanded: Option<u64>,
    pub(super) cursor: Option<MessageId>,
    /// Rows handed to the store and not committed.
    pub(super) pending: u32,
    /// Those of them that are to be read before `joined` ends.
    pub(super) behind: u32,
    /// Rows handed to the store ever.
    pub(super) appended: u64,
    /// The last that the store is done with: it and all before it are on disk, or gone.
    pub(super) settled: Option<MessageId>,
    /// The last of them.
    pub(super) last: Option<MessageId>,
    /// The newest id that was ever taken out.
    pub(super) newest_out: Option<MessageId>,
    /// Ids that were dropped while the consumer reads the store: it may have read them already.
    pub(super) dropped: Option<BTreeSet<MessageId>>,
    /// Publishers that wait for room.
    pub(super) waiters: Vec<Arc<dyn Wake>>,
}

impl Rows {
    /// Takes out the next that is held, if it is `id` or before it.
    pub(super) fn next_held(&mut self, id: MessageId) -> Option<MessageId> {
        let next = self.held.front().copied().filter(|held| *held <= id);
        next.and_then(|_| self.held.pop_front())
    }
}

impl State {
    pub(super) fn rows(&mut self) -> &mut Rows {
        self.rows.get_or_insert_default()
    }

    /// Those that there are.
    pub(super) fn rows_mut(&mut self) -> Option<&mut Rows> {
        self.rows.as_deref_mut()
    }

    pub(super) fn is_full(&self, env: &Env) -> bool {
        let (messages, bytes) = self.room(env);
        messages == 0 || bytes == 0
    }

    /// Messages and bytes that it still takes.
    pub(super) fn room(&self, env: &Env) -> (usize, usize) {
        let messages = self.plain.len() + self.kept.len();
        (
            env.max_messages.saturating_sub(messages),
            env.max_bytes.saturating_sub(self.bytes),
        )
    }

    /// Whether publishers should wait, and none has waited in vain.
    pub(super) fn presses(&self, env: &Env) -> bool {
        !self.given_up && self.is_pressed(env)
    }

    /// Filled to a part that leaves room for what other publishers are about to add.
    pub(super) fn is_pressed(&self, env: &Env) -> bool {
        (self.plain.len() + self.kept.len()) * PRESSED_PART >= env.max_messages
            || self.bytes * PRESSED_PART >= env.max_bytes
    }

    /// Nobody waits any more.
    pub(super) fn relieve(&mut self) {
        self.given_up = false;
        let waiters = self.rows.iter_mut().flat_map(|rows| rows.waiters.drain(..));
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Lets publishers go on, the first to come first, and no more of them than there seems to be
    /// room for: if all came at once, most would only have to wait again.
    pub(super) fn relieve_some(&mut self, env: &Env) {
        let waiting = self.plain.len() + self.kept.len();
        let room = (env.max_messages / PRESSED_PART).saturating_sub(waiting);
        self.given_up = false;
        let Some(rows) = &mut self.rows else {
            return;
        };
        let count = if waiting == 0 {
            usize::MAX
        } else {
            1 + room / BROUGHT
        };
        for waiter in rows.waiters.drain(..count.min(rows.waiters.len())) {
            waiter.wake();
        }
    }

    pub(super) fn enqueue(&mut self, delivery: Delivery) {
        self.put(delivery);
        self.rouse();
    }

    pub(super) fn put(&mut self, delivery: Delivery) {
        if delivery.durable || u8::from(delivery.qos) > 0 {
            self.bytes += delivery.message.cost();
            self.kept.push_back((self.arrivals, delivery));
            self.arrivals += 1;
        } else {
            self.put_plain(Taken::One(delivery));
        }
    }

    pub(super) fn put_plain(&mut self, item: Taken) {
        self.bytes += item.cost();
        self.plain.push(self.arrivals, item);
        self.arrivals += 1;
    }

    pub(super) fn put_unhanded(&mut self, delivery: Delivery) {
        let arrival = self.arrivals;
        self.rows().unhanded.get_or_insert(arrival);
        self.put(delivery);
    }

    /// The arrival of the first of `kept`, if the store has its row.
    pub(super) fn first_handed(&self) -> Option<u64> {
        let first = self.kept.front().map(|(n, _)| *n)?;
        let unhanded = self.rows.as_ref().and_then(|rows| rows.unhanded);
        unhanded.is_none_or(|n| first < n).then_some(first)
    }

    pub(crate) fn rouse(&mut self) {
        if !self.woken {
            if let Some(wake) = &self.wake {
                self.woken = true;
                wake.wake();
            }
        }
    }

    /// What was held takes its place behind the QoS 0 deliveries that came while it was.
    pub(super) fn arrive(&mut self, id: MessageId) {
        if let Some((arrival, _)) = self.kept.iter_mut().find(|(_, d)| d.message.id == id) {
            *arrival = self.arrivals;
            self.arrivals += 1;
        }
    }

    /// A row is about to be handed to the store.
    pub(super) fn expect(&mut self, id: MessageId) {
        let rows = self.rows();
        rows.pending += 1;
        rows.appended += 1;
        rows.last = Some(id);
    }

    /// Everything that is committed was read, and some rows are not yet: what comes from now on is
    /// kept.
    pub(super) fn join(&mut self) {
        let rows = self.rows();
        rows.behind = rows.pending;
        self.joined = self.rows().last;
    }

    /// What was to be read before the kept rows was read.
    pub(super) fn catch_up(&mut self) {
        self.caught_up = true;
        if self.joined.take().is_some() {
            let rows = self.rows();
            rows.cursor = rows.last;
        }
    }

    /// Lets go of the rows that were kept while older ones were read: all of them will be.
    pub(super) fn part(&mut self) {
        let Some(joined) = self.joined.take() else {
            return;
        };
        let mut gone = 0;
        self.kept.retain(|(_, delivery)| {
            let is_row = delivery.durable && delivery.share.is_none();
            let goes = is_row && delivery.message.id > joined;
            if goes {
                gone += delivery.message.cost();
            }
            !goes
        });
        self.bytes = self.bytes.saturating_sub(gone);
        self.rows().held.retain(|held| *held <= joined);
    }

    /// The next of `kept` waits for rows that are read before it.
    pub(super) fn is_joining(&self) -> bool {
        let first = self.kept.front().map(|(_, delivery)| delivery);
        self.joined.is_some() && first.is_some_and(|d| d.durable && d.share.is_none())
    }

    /// The next of `kept` waits for its commit.
    pub(super) fn is_held(&self) -> bool {
        if self.joined.is_some() {
            return false;
        }
        let held = self.rows.as_ref().and_then(|rows| rows.held.front());
        match (held, self.kept.front()) {
            (Some(held), Some((_, next))) => *held == next.message.id,
            _ => false,
        }
    }

    /// Lets go of what has a row; it is read again from the store.
    pub(crate) fn forget_kept(&mut self) {
        let first = self.kept.iter().find(|(_, d)| d.share.is_none());
        // Where they were kept while older ones were read, the cursor is before those.
        if let (Some((_, first)), None) = (first, self.joined.take()) {
            let first = first.message.id;
            self.rewind_to(first);
        }
        self.kept.clear();
        if let Some(rows) = self.rows_mut() {
            rows.held.clear();
        }
        self.bytes = self.plain.cost();
    }

    pub(super) fn take_shared(&mut self, of: impl Fn(ShareId) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        self.kept.retain(|(_, delivery)| {
            let found = delivery.share.is_some_and(&of);
            if found {
                self.bytes = self.bytes.saturating_sub(delivery.message.cost());
                taken.push(delivery.clone());
            }
            !found
        });
        taken
    }

    /// Reads again from `id` on.
    pub(crate) fn rewind_to(&mut self, id: MessageId) {
        self.rows().cursor = before(id);
        self.caught_up = false;
        self.joined = None;
    }

    /// Reads again from `id` on, if it has read as far.
    pub(crate) fn rewind_at_most_to(&mut self, id: MessageId) {
        let cursor = self.rows().cursor;
        if self.caught_up || cursor.is_some_and(|cursor| id <= cursor) {
            self.rewind_to(id);
        }
    }

    /// A row that was given up is not to come out any more; the store hides it from reads from now
    /// on.
    pub(crate) fn forget(&mut self, id: MessageId) {
        if let Some(rows) = self.rows_mut() {
            if let Some(dropped) = &mut rows.dropped {
                dropped.insert(id);
            }
            rows.held.retain(|held| *held != id);
        }
        if let Some(at) = self.kept.iter().position(|(_, d)| d.message.id == id) {
            if let Some((_, delivery)) = self.kept.remove(at) {
                self.bytes = self.bytes.saturating_sub(delivery.message.cost());
            }
        }
    }
}

fn before(id: MessageId) -> Option<MessageId> {
    id.0.checked_sub(1).map(MessageId)
}
