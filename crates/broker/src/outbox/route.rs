//! A route's queue: everything has a row, and what is in flight is kept apart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_ports::{AckSink, Delivery, DrainLimit, DrainState, Failure, Mailbox, OnFull, Wake};
use iotedge_store::{Depth, TakerId};
use iotedge_telemetry::METRICS;

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
    epoch: Mutex<u64>,
    /// Drained and not acknowledged.
    out: Mutex<BTreeSet<MessageId>>,
}

/// Rows looked at together when room is made.
const ROOM_ROWS: usize = 64;
/// Their bytes.
const ROOM_BYTES: usize = 1 << 20;

/// A route's limits.
pub(crate) struct RouteLimits {
    pub(crate) max_bytes: u64,
    pub(crate) max_messages: u64,
    pub(crate) on_full: OnFull,
    pub(crate) buried: DropReason,
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
        Self {
            feed,
            taker,
            upstream,
            qos,
            max_bytes: limits.max_bytes,
            max_messages: limits.max_messages,
            on_full: limits.on_full,
            buried: limits.buried,
            epoch: Mutex::new(epoch),
            out: Mutex::new(BTreeSet::new()),
        }
    }

    fn out(&self) -> MutexGuard<'_, BTreeSet<MessageId>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more message of `cost` bytes would go over a limit.
    pub(crate) fn is_full(&self, cost: u64) -> bool {
        let depth = self.depth();
        depth.rows >= self.max_messages || depth.bytes.saturating_add(cost) > self.max_bytes
    }

    /// What waits, without what was dropped and is on its way out.
    fn depth(&self) -> Depth {
        self.feed.env.store.depth(self.taker)
    }

    /// Makes room for `cost` bytes by dropping the oldest rows that are not in flight, and no more
    /// of them than it takes. `false`: there is no such room.
    pub(crate) fn make_room(&self, cost: u64) -> bool {
        if cost > self.max_bytes {
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
        let out = self.out();
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
        drop(out);
        if !dropped.is_empty() {
            let mut state = self.feed.lock();
            dropped.iter().for_each(|id| state.forget(*id));
            drop(state);
            METRICS.dropped(reason, dropped.len() as u64);
            store.discard_sized(self.taker, &dropped, reason, freed);
        }
        bytes == 0 && rows == 0
    }

    /// Takes ids out of flight.
    fn done(&self, deliveries: &[Delivery]) -> Vec<MessageId> {
        let mut out = self.out();
        let ids = deliveries.iter().map(|delivery| delivery.message.id);
        ids.filter(|id| out.remove(id)).collect()
    }
}

impl Mailbox for RouteBox {
    fn drain(&self, limit: DrainLimit, out: &mut Vec<Delivery>) -> DrainState {
        let epoch = *self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let state = self.feed.take(epoch, limit, limit.messages, &mut taken);
        let mut in_flight = self.out();
        for taken in taken {
            taken.each(|delivery| {
                in_flight.insert(delivery.message.id);
                out.push(delivery);
            });
        }
        state.unwrap_or(DrainState::Empty)
    }

    fn acknowledge(&self, deliveries: &[Delivery]) {
        let ids = self.done(deliveries);
        if !ids.is_empty() {
            self.feed.env.store.acknowledge(self.taker, &ids);
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
        let mut out = self.out();
        let mut state = self.feed.lock();
        state.forget_kept();
        if let Some(first) = out.first() {
            state.rewind_to(*first);
        }
        out.clear();
        state.rouse();
    }

    fn settled(&self, (sink, token): (Arc<dyn AckSink>, u64)) {
        self.feed.env.store.flush(Box::new(move |outcome| {
            sink.acked(token, outcome.map_err(|_| Failure::Store));
        }));
    }
}
