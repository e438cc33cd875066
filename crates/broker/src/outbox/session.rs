//! A session's queue: packet ids and the in-flight window.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use iotedge_model::{ClientId, DropReason, MessageId};
use iotedge_ports::{ClientHandle, Delivery, Pressure, ShareId, Wake};
use iotedge_store::TakerId;
use iotedge_telemetry::METRICS;

use super::attached::Attached;
use super::flight::{Flight, Flying};
use super::share::Membership;
use super::{Env, feed::Feed};
use crate::group::Group;
use crate::received::Received;

/// Where a session's rows are.
#[derive(Clone)]
pub(crate) struct Durable {
    pub(crate) taker: TakerId,
    pub(crate) client_id: ClientId,
}

/// Outlives connections.
///
/// Lock order: `flight`, then a group's, then the feed's or `told`.
pub(crate) struct SessionBox {
    pub(crate) feed: Feed,
    /// The QoS 2 messages that the client has published and not released.
    pub(crate) received: Received,
    pub(super) durable: Option<Durable>,
    flight: Mutex<Flight>,
    /// What the store has said since the last drain.
    told: Mutex<VecDeque<Told>>,
    /// For a session with shared subscriptions.
    pub(super) membership: OnceLock<Box<Membership>>,
}

/// News from the store.
pub(super) enum Told {
    /// A commit of packet ids.
    Marked(u64, bool),
    /// A receipt is durable: PUBREL may leave.
    Received(NonZeroU16),
}

impl SessionBox {
    /// `caught_up`: the session is new and has nothing in the store.
    pub(crate) fn new(
        env: Arc<Env>,
        durable: Option<Durable>,
        max_inflight: u16,
        caught_up: bool,
        received: Received,
    ) -> Self {
        Self {
            feed: Feed::new(env, durable.as_ref().map(|d| d.taker), caught_up),
            received,
            durable,
            flight: Mutex::new(Flight::new(max_inflight, caught_up)),
            told: Mutex::default(),
            membership: OnceLock::new(),
        }
    }

    /// Where its rows are, when it outlives its connection.
    pub(crate) fn durable(&self) -> Option<&Durable> {
        self.durable.as_ref()
    }

    pub(super) fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, VecDeque<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, news: Told) {
        self.told().push_back(news);
        self.feed.lock().rouse();
    }

    /// The store is done with the row of `id`.
    pub(crate) fn committed(&self, id: MessageId, kept: bool) {
        self.feed.committed(id, kept);
        if !kept {
            // It may have been drained already; its PUBLISH of QoS 2 has not left.
            self.flight().lost(id);
        }
    }

    /// The row of a shared subscription that this member has could not be committed.
    pub(crate) fn lost(&self, id: MessageId) {
        self.feed.lock().forget(id);
        self.flight().lost(id);
    }

    /// A connection comes: what is in flight is sent again, in order ([MQTT-4.4.0-1]).
    pub(crate) fn attach(
        self: &Arc<Self>,
        handle: &Arc<dyn ClientHandle>,
        receive_maximum: NonZeroU16,
    ) -> Attached {
        let mut flight = self.flight();
        flight.receive_maximum = receive_maximum.get();
        flight.restart();
        let epoch = self.feed.attach(handle.clone().into_wake());
        if let Some(membership) = self.membership.get() {
            membership.set_window(flight.free(self.feed.env.max_bytes));
            drop(flight);
            membership.arrive(handle);
        }
        Attached {
            epoch,
            session: self.clone(),
        }
    }

    /// The connection has ended. What came by shared subscriptions goes to their other members:
    /// QoS 1 that is not acknowledged, and QoS 2 that has not been sent.
    pub(crate) fn detach(&self) {
        if let Some(membership) = self.membership.get() {
            membership.depart();
        }
        let unsent = self.feed.detach();
        self.give_back(None, unsent);
        if self.membership.get().is_some() {
            let (sent, staged) = self.flight().take_shared(&self.feed.env);
            self.give_back(self.feed.taker, sent);
            self.give_back(None, staged);
        }
    }

    /// The session has ended: nobody else gets what it has been sent of QoS 2 (5: [MQTT-4.8.2-5]).
    pub(crate) fn end(&self) {
        self.detach();
        if self.membership.get().is_some() {
            let shared = self.flight().shared();
            for (share, id) in shared {
                if let Some(group) = self.feed.env.shares.get(share) {
                    METRICS.dropped(DropReason::SessionEnded, 1);
                    group.discard(id, DropReason::SessionEnded);
                }
            }
        }
    }

    fn give_back(&self, sent_to: Option<TakerId>, deliveries: Vec<Delivery>) {
        let mut by_group: Vec<(Arc<Group>, Vec<Delivery>)> = Vec::new();
        for delivery in deliveries {
            let known = by_group
                .iter_mut()
                .find(|(group, _)| Some(group.id) == delivery.share);
            if let Some((_, deliveries)) = known {
                deliveries.push(delivery);
            } else if let Some(group) = delivery.share.and_then(|id| self.feed.env.shares.get(id)) {
                by_group.push((group, vec![delivery]));
            }
        }
        for (group, deliveries) in by_group {
            group.take_back(sent_to, deliveries);
        }
    }

    /// This session, of that number, is a member of a shared subscription.
    pub(crate) fn join(&self, session: usize, group: &Arc<Group>) {
        let membership = self.membership.get_or_init(|| {
            let free = self.flight().free(self.feed.env.max_bytes);
            Box::new(Membership::new(session, free))
        });
        membership.add(group);
    }

    /// It is a member no more.
    pub(crate) fn leave(&self, group: &Group) {
        if let Some(membership) = self.membership.get() {
            membership.remove(group);
        }
    }

    /// Whether one more message would be sent without waiting for an acknowledgement.
    pub(crate) fn has_window(&self) -> bool {
        self.membership
            .get()
            .is_some_and(|m| self.feed.takes_kept(m.window()))
    }

    pub(super) fn note_window(&self, flight: &Flight) {
        if let Some(membership) = self.membership.get() {
            membership.set_window(flight.free(self.feed.env.max_bytes));
        }
    }

    /// The receiver has it: its row goes.
    pub(super) fn acknowledge(&self, flying: &Flying) {
        if !flying.durable {
            return;
        }
        let env = &self.feed.env;
        match (flying.share, self.feed.taker) {
            (Some(share), _) => {
                if let Some(group) = env.shares.get(share) {
                    group.acknowledge(flying.id);
                }
            }
            (None, Some(taker)) => env.store.acknowledge(taker, &[flying.id]),
            (None, None) => {}
        }
    }

    /// Counts a drop and gives the row up.
    pub(super) fn drop_one(&self, delivery: &Delivery, reason: DropReason) {
        let Some(share) = delivery.share else {
            return self.feed.drop_one(delivery, reason);
        };
        METRICS.dropped(reason, 1);
        if let (true, Some(group)) = (delivery.durable, self.feed.env.shares.get(share)) {
            group.discard(delivery.message.id, reason);
        }
    }

    /// Whose row a delivery is; `None` for one without, and where the group is no more.
    pub(super) fn queue_of(&self, share: Option<ShareId>) -> Option<TakerId> {
        match share {
            None => self.feed.taker,
            Some(share) => self.feed.env.shares.get(share)?.taker(),
        }
    }
}

impl Pressure for SessionBox {
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool {
        self.feed.relieved_or_wake(waiter)
    }

    fn give_up(&self) {
        self.feed.give_up();
    }
}
