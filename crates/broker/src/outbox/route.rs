//! A route's queue: everything has a row, and what is in flight is kept apart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_ports::{Delivery, DrainLimit, DrainState, Mailbox, OnFull, Wake};
use iotedge_store::TakerId;
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
    epoch: Mutex<u64>,
    /// Drained and not acknowledged.
    out: Mutex<BTreeSet<MessageId>>,
}

/// A route's limits.
pub(crate) struct RouteLimits {
    pub(crate) max_bytes: u64,
    pub(crate) max_messages: u64,
    pub(crate) on_full: OnFull,
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
            epoch: Mutex::new(epoch),
            out: Mutex::new(BTreeSet::new()),
        }
    }

    fn out(&self) -> MutexGuard<'_, BTreeSet<MessageId>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more message of `cost` bytes would go over a limit.
    pub(crate) fn is_full(&self, cost: u64) -> bool {
        let depth = self.feed.env.store.depth(self.taker);
        depth.rows >= self.max_messages || depth.bytes.saturating_add(cost) > self.max_bytes
    }

    /// Makes room for `cost` bytes by dropping the oldest rows that are not in flight. `false`:
    /// there are none left and it is still full.
    pub(crate) fn make_room(&self, cost: u64) -> bool {
        let out = self.out();
        while self.is_full(cost) {
            let rows = match self.feed.env.store.oldest(self.taker, out.len() + 1) {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(%error, "the oldest row of a full route could not be found");
                    return false;
                }
            };
            let Some(id) = rows.into_iter().find(|id| !out.contains(id)) else {
                return false;
            };
            self.feed.lock().forget(id);
            METRICS.dropped(DropReason::QueueFull, 1);
            let store = &self.feed.env.store;
            store.discard(self.taker, &[id], DropReason::QueueFull);
        }
        true
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
        let from = out.len();
        let state = self.feed.take(epoch, limit, limit.messages, out);
        let mut in_flight = self.out();
        for delivery in out.iter().skip(from) {
            in_flight.insert(delivery.message.id);
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
}
