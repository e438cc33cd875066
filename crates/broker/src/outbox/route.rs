//! A route's queue: everything has a row, and what is in flight is kept apart.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iotedge_model::{DropReason, Message, MessageId, Now, QoS, Topic};
use iotedge_ports::{
    AckSink, Delivery, DrainLimit, DrainState, Failure, Mailbox, OnFull, RouteRules, Wake,
};
use iotedge_store::{Depth, QueuedRow, TakerId};
use iotedge_telemetry::METRICS;

use super::age::Ages;
use super::ahead::Ahead;
use super::states::{OnItsWay, States};
use super::{Env, feed::Feed};

pub(crate) struct RouteBox {
    pub(crate) feed: Feed,
    pub(crate) taker: TakerId,
    pub(crate) upstream: Arc<str>,
    pub(crate) qos: QoS,
    max_bytes: u64,
    max_messages: u64,
    pub(crate) on_full: OnFull,
    /// How what the other side never takes is counted.
    buried: DropReason,
    pub(crate) rules: RouteRules,
    epoch: Mutex<u64>,
    state: Mutex<InFlight>,
    /// The last that was queued.
    newest: AtomicU64,
    /// Of what waits. Never locked for longer than a look.
    ages: Mutex<Ages>,
    /// Of a route that drops its oldest: what no read shows yet, with its bytes. The last lock.
    uncommitted: Mutex<VecDeque<(MessageId, u64)>>,
    /// Of topics with retained messages, where somebody asks for them. Locked for a look, or while
    /// rows of an earlier process are read.
    states: Option<Mutex<States>>,
}

/// What a route has given out. Its lock comes before that of the feed, and is held while rows are
/// read: nobody drops what is on its way out.
struct InFlight {
    /// Drained and not acknowledged.
    out: BTreeSet<MessageId>,
    /// Given out before a [`Mailbox::rewind`] of this process, and not again since.
    again: BTreeSet<MessageId>,
    ahead: Option<Ahead>,
}

/// Rows looked at together when room is made.
const ROOM_ROWS: usize = 64;
/// Their bytes.
const ROOM_BYTES: usize = 1 << 20;
/// How often one drain looks for fresh messages among those that stay behind their own topic, and in
/// order for messages among those that are in flight or over.
const LOOKS: usize = 8;
/// Messages remembered that were given out before. Of more the oldest pass for new.
const MOST_AGAIN: usize = 65_536;

/// A route's limits.
pub(crate) struct RouteLimits {
    pub(crate) max_bytes: u64,
    pub(crate) max_messages: u64,
    pub(crate) on_full: OnFull,
    pub(crate) buried: DropReason,
    pub(crate) rules: RouteRules,
}

impl RouteBox {
    pub(crate) fn new(
        env: Arc<Env>,
        taker: TakerId,
        upstream: Arc<str>,
        qos: QoS,
        limits: RouteLimits,
        wake: Arc<dyn Wake>,
    ) -> Self {
        let feed = Feed::new(env, Some(taker), false);
        let epoch = feed.attach(wake);
        let env = &feed.env;
        let newest = MessageId(env.first_id.0.saturating_sub(1));
        let ages = Ages::new(&env.clock.now(), newest);
        let state = InFlight {
            out: BTreeSet::new(),
            again: BTreeSet::new(),
            ahead: limits.rules.fresh.map(Ahead::new),
        };
        Self {
            feed,
            taker,
            upstream,
            qos,
            max_bytes: limits.max_bytes,
            max_messages: limits.max_messages,
            on_full: limits.on_full,
            buried: limits.buried,
            states: limits.rules.tells_retained.then(Mutex::default),
            rules: limits.rules,
            epoch: Mutex::new(epoch),
            state: Mutex::new(state),
            newest: AtomicU64::new(newest.0),
            ages: Mutex::new(ages),
            uncommitted: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, InFlight> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message of `cost` bytes is about to be queued, under the broker's lock.
    pub(crate) fn queued(&self, id: MessageId, cost: u64) {
        self.newest.store(id.0, Ordering::Relaxed);
        if self.on_full == OnFull::DropOldest {
            let settled = self.feed.settled();
            let mut uncommitted = self.uncommitted();
            while uncommitted.front().is_some_and(|(id, _)| *id <= settled) {
                uncommitted.pop_front();
            }
            uncommitted.push_back((id, cost));
        }
        self.ages().seen(id, &self.feed.env.clock.now());
    }

    /// A message with RETAIN is about to be queued.
    pub(crate) fn queued_retained(&self, topic: &Topic, id: MessageId) {
        if let Some(mut states) = self.states() {
            states.queued(topic, id);
        }
    }

    fn states(&self) -> Option<MutexGuard<'_, States>> {
        let states = self.states.as_ref()?;
        Some(states.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a message that was queued is still there.
    fn has(&self, id: MessageId) -> bool {
        if self.state().out.contains(&id) || id > self.feed.settled() {
            return true;
        }
        let store = &self.feed.env.store;
        let before = id.0.checked_sub(1).map(MessageId);
        match store.read(self.taker, before, 1, 1) {
            Ok(rows) => rows.first().is_some_and(|row| row.message.id == id),
            Err(error) => {
                tracing::error!(%error, "a row of a route could not be looked for");
                true
            }
        }
    }

    fn uncommitted(&self) -> MutexGuard<'_, VecDeque<(MessageId, u64)>> {
        let uncommitted = self.uncommitted.lock();
        uncommitted.unwrap_or_else(PoisonError::into_inner)
    }

    fn ages(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, message: &Message, now: &Now) -> bool {
        let mortal = self.rules.ttl.is_some() || message.expiry.is_some();
        mortal && self.ages().is_over(message, self.rules.ttl, now)
    }

    /// Whether one more message of `cost` bytes would go over a limit.
    pub(crate) fn is_full(&self, cost: u64) -> bool {
        let depth = self.depth();
        depth.rows >= self.max_messages || depth.bytes.saturating_add(cost) > self.max_bytes
    }

    /// Whether `cost` bytes are more than it may hold, however empty it is.
    pub(crate) fn never_holds(&self, cost: u64) -> bool {
        cost > self.max_bytes
    }

    /// What waits, without what was dropped and is on its way out.
    fn depth(&self) -> Depth {
        self.feed.env.store.depth(self.taker)
    }

    /// Makes room for `cost` bytes by dropping the oldest rows that are not in flight, and no more
    /// of them than it takes. `false`: there is no such room.
    pub(crate) fn make_room(&self, cost: u64) -> bool {
        if self.never_holds(cost) {
            return false;
        }
        let depth = self.depth();
        let bytes = depth
            .bytes
            .saturating_add(cost)
            .saturating_sub(self.max_bytes);
        let rows = (depth.rows + 1).saturating_sub(self.max_messages);
        self.drop_oldest(bytes, rows, DropReason::QueueFull)
    }

    /// Gives `cost` bytes of the oldest rows up for a new one, where the store as a whole has no
    /// room. `false`: there are none that are not in flight.
    pub(crate) fn displace(&self, cost: u64) -> bool {
        self.drop_oldest(cost, 1, DropReason::StoreFull)
    }

    /// Drops the oldest rows that are not in flight, and no more of them than it takes.
    fn drop_oldest(&self, mut bytes: u64, mut rows: u64, reason: DropReason) -> bool {
        let store = &self.feed.env.store;
        let state = self.state();
        let out = &state.out;
        let mut after = None;
        let mut dropped = Vec::new();
        let mut freed = 0;
        while bytes > 0 || rows > 0 {
            let page = match store.read(self.taker, after, ROOM_ROWS, ROOM_BYTES) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the oldest rows of a full route could not be read");
                    break;
                }
            };
            let Some(last) = page.last() else { break };
            after = Some(last.message.id);
            for row in page {
                if (bytes > 0 || rows > 0) && !out.contains(&row.message.id) {
                    let cost = row.message.cost() as u64;
                    freed += cost;
                    bytes = bytes.saturating_sub(cost);
                    rows = rows.saturating_sub(1);
                    dropped.push(row.message.id);
                }
            }
        }
        // In a burst the oldest are on their way to the disk: they are never written then.
        self.uncommitted().retain(|(id, cost)| {
            let readable = after.is_some_and(|after| *id <= after);
            let goes = (bytes > 0 || rows > 0) && !readable && !out.contains(id);
            if goes {
                freed += cost;
                bytes = bytes.saturating_sub(*cost);
                rows = rows.saturating_sub(1);
                dropped.push(*id);
            }
            !goes && !readable
        });
        drop(state);
        self.give_up(&dropped, reason, freed);
        bytes == 0 && rows == 0
    }

    /// Rows that are not in flight go; `bytes` of all.
    fn give_up(&self, ids: &[MessageId], reason: DropReason, bytes: u64) {
        if ids.is_empty() {
            return;
        }
        let mut feed = self.feed.lock();
        ids.iter().for_each(|id| feed.forget(*id));
        drop(feed);
        METRICS.dropped(reason, ids.len() as u64);
        let store = &self.feed.env.store;
        store.discard_sized(self.taker, ids, reason, bytes);
    }

    /// Drops the oldest rows that have outlived the route's time, whether the link is up or not. To be
    /// called about once a second, so that the newest age too.
    pub(crate) fn expire(&self) {
        let store = &self.feed.env.store;
        let now = self.feed.env.clock.now();
        // For messages with an expiry of their own as well.
        let newest = MessageId(self.newest.load(Ordering::Relaxed));
        self.ages().seen(newest, &now);
        if self.rules.ttl.is_none() || self.depth().rows == 0 {
            return;
        }
        let state = self.state();
        let (mut after, mut rows) = (None, 1);
        loop {
            let page = match store.read(self.taker, after, rows, ROOM_BYTES) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the oldest rows of a route could not be read");
                    return;
                }
            };
            rows = ROOM_ROWS;
            let is_over = |row: &QueuedRow| self.is_over(&row.message, &now);
            let found = page.len();
            let over: Vec<_> = page.into_iter().take_while(is_over).collect();
            let Some(last) = over.last() else { return };
            after = Some(last.message.id);
            let ended = found > over.len();
            let gone = |row: &&QueuedRow| !state.out.contains(&row.message.id);
            let bytes = over
                .iter()
                .filter(gone)
                .map(|row| row.message.cost() as u64);
            let bytes = bytes.sum();
            let ids: Vec<_> = over.iter().filter(gone).map(|row| row.message.id).collect();
            self.give_up(&ids, DropReason::Expired, bytes);
            if ended {
                return;
            }
        }
    }

    /// Takes fresh messages from behind those that wait.
    fn take_ahead(
        &self,
        state: &mut InFlight,
        limit: DrainLimit,
        now: &Now,
        out: &mut Vec<Delivery>,
    ) {
        let Some(ahead) = &mut state.ahead else {
            return;
        };
        let store = &self.feed.env.store;
        let from = (store, self.taker);
        let behind = self.feed.behind();
        let newest = MessageId(self.newest.load(Ordering::Relaxed));
        let Some((mut left, mut after)) = ahead.portion(limit.messages, behind, newest, from)
        else {
            return;
        };
        let mut bytes = limit.bytes;
        for _ in 0..LOOKS {
            if left == 0 || bytes == 0 {
                return;
            }
            let rows = match store.read(self.taker, Some(after), left, bytes) {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(%error, "the newest rows of a route could not be read");
                    return;
                }
            };
            let Some(last) = rows.last() else { return };
            after = last.message.id;
            for row in rows {
                let message = &row.message;
                let passes = ahead.passes(message.id, &message.topic);
                if !passes || state.out.contains(&message.id) {
                    continue;
                }
                if self.is_over(message, now) {
                    METRICS.dropped(DropReason::Expired, 1);
                    store.discard(self.taker, &[message.id], DropReason::Expired);
                    continue;
                }
                left -= 1;
                bytes = bytes.saturating_sub(message.cost());
                state.out.insert(message.id);
                out.push(Delivery {
                    qos: row.qos,
                    retain: row.retain,
                    dup: state.again.remove(&message.id),
                    durable: true,
                    share: None,
                    identifiers: row.identifiers,
                    message: Arc::new(row.message),
                });
            }
        }
    }

    /// Takes ids out of flight.
    fn done(&self, deliveries: &[Delivery]) -> Vec<MessageId> {
        let out = &mut self.state().out;
        let ids = deliveries.iter().map(|delivery| delivery.message.id);
        ids.filter(|id| out.remove(id)).collect()
    }

    /// Whether a message that came out in its turn is to be sent.
    fn is_due(&self, state: &InFlight, message: &Message, now: &Now) -> bool {
        if state.out.contains(&message.id) {
            return false;
        }
        if self.is_over(message, now) {
            METRICS.dropped(DropReason::Expired, 1);
            let store = &self.feed.env.store;
            store.discard(self.taker, &[message.id], DropReason::Expired);
            return false;
        }
        true
    }
}

impl Mailbox for RouteBox {
    fn drain(&self, limit: DrainLimit, out: &mut Vec<Delivery>) -> DrainState {
        let epoch = *self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.feed.env.clock.now();
        let mut state = self.state();
        let before = out.len();
        self.take_ahead(&mut state, limit, &now, out);
        let mut limit = limit;
        for delivery in out.iter().skip(before) {
            limit.messages = limit.messages.saturating_sub(1);
            limit.bytes = limit.bytes.saturating_sub(delivery.message.cost());
        }
        if limit.messages == 0 || limit.bytes == 0 {
            return DrainState::More;
        }
        let before = out.len();
        let mut left = None;
        for _ in 0..LOOKS {
            let mut taken = Vec::new();
            left = self.feed.take(epoch, limit, limit.messages, &mut taken);
            for taken in taken {
                taken.each(|mut delivery| {
                    if self.is_due(&state, &delivery.message, &now) {
                        let id = delivery.message.id;
                        delivery.dup = state.again.remove(&id);
                        state.out.insert(id);
                        out.push(delivery);
                    }
                });
            }
            if out.len() > before || left != Some(DrainState::More) {
                break;
            }
        }
        left.unwrap_or(DrainState::Empty)
    }

    fn acknowledge(&self, deliveries: &[Delivery]) {
        let ids = self.done(deliveries);
        if !ids.is_empty() {
            self.feed.env.store.acknowledge(self.taker, &ids);
        }
        if let Some(mut states) = self.states() {
            let now = self.feed.env.clock.now().mono;
            for delivery in deliveries.iter().filter(|delivery| delivery.retain) {
                let message = &delivery.message;
                states.acknowledged(&message.topic, message.id, now);
            }
        }
    }

    fn discard(&self, deliveries: &[Delivery], reason: DropReason) {
        let ids = self.done(deliveries);
        if !ids.is_empty() {
            METRICS.dropped(reason, ids.len() as u64);
            self.feed.env.store.discard(self.taker, &ids, reason);
        }
    }

    fn bury(&self, deliveries: &[Delivery], reason: &str) {
        let ids = self.done(deliveries);
        if !ids.is_empty() {
            METRICS.dropped(self.buried, ids.len() as u64);
            self.feed.env.store.bury(self.taker, &ids, reason, None);
        }
    }

    fn rewind(&self) {
        let mut state = self.state();
        let mut feed = self.feed.lock();
        feed.forget_kept();
        if let Some(first) = state.out.first() {
            feed.rewind_at_most_to(*first);
        }
        let out = std::mem::take(&mut state.out);
        state.again.extend(out);
        while state.again.len() > MOST_AGAIN {
            state.again.pop_first();
        }
        if let Some(ahead) = &mut state.ahead {
            ahead.rewind();
        }
        feed.rouse();
        drop((feed, state));
        if let Some(mut states) = self.states() {
            states.rewind();
        }
    }

    fn learn_retained(&self) -> bool {
        let env = &self.feed.env;
        let learn =
            |mut states: MutexGuard<'_, States>| states.learn(&env.store, self.taker, env.first_id);
        self.states().is_none_or(learn)
    }

    fn retained_on_its_way(&self, topic: &Topic, lately: Duration) -> bool {
        let empty = self.depth().rows == 0;
        let found = self.states().map(|mut states| states.look(topic, empty));
        match found {
            None | Some(OnItsWay::No) => false,
            Some(OnItsWay::Perhaps) => true,
            Some(OnItsWay::If(id)) => self.has(id),
            Some(OnItsWay::Acknowledged(at)) => {
                let ago = self.feed.env.clock.now().mono.saturating_sub(at);
                u128::from(ago) < lately.as_millis()
            }
        }
    }

    fn settled(&self, (sink, token): (Arc<dyn AckSink>, u64)) {
        self.feed.env.store.flush(Box::new(move |outcome| {
            sink.acked(token, outcome.map_err(|_| Failure::Store));
        }));
    }
}
