//! A session's queue: packet ids and the in-flight window.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use iotedge_model::{DropReason, QoS};
use iotedge_mqtt::{Outbound, Phase};
use iotedge_ports::{Delivery, DrainLimit, DrainState, Outgoing, Pressure, SessionMailbox, Wake};
use iotedge_store::TakerId;
use iotedge_telemetry::METRICS;

use super::share::Membership;
use super::{Env, feed::Feed};
use crate::group::Group;

/// Outlives connections.
pub(crate) struct SessionBox {
    pub(crate) feed: Feed,
    flight: Mutex<Flight>,
    /// For a session with shared subscriptions.
    membership: OnceLock<Box<Membership>>,
}

struct Flight {
    window: Outbound<Delivery>,
    /// What the window holds in memory.
    bytes: usize,
    /// To be sent again before anything else.
    resend: VecDeque<Delivered>,
    /// How many the attached connection takes at once.
    receive_maximum: u16,
}

/// A delivery with its packet id.
type Delivered = (NonZeroU16, Delivery);

impl Flight {
    /// How many more may be in flight: none while what is there holds too much memory.
    fn free(&self, max_bytes: usize) -> usize {
        if self.bytes >= max_bytes {
            0
        } else {
            self.window.free().min(self.client_free())
        }
    }

    /// How many more the connection takes: what is to be sent again has not been sent on it.
    fn client_free(&self) -> usize {
        let sent = self.window.len().saturating_sub(self.resend.len());
        usize::from(self.receive_maximum).saturating_sub(sent)
    }

    /// Takes out what other members of shared subscriptions may get instead. What a group that is
    /// no more has begun to send is brought to its end.
    fn take_shared(&mut self, env: &Env) -> Vec<Delivery> {
        let others: Vec<NonZeroU16> = self
            .window
            .iter()
            .filter(|sent| {
                let share = sent.item.share;
                sent.phase == Phase::PubAck && share.is_some_and(|id| env.shares.get(id).is_some())
            })
            .map(|sent| sent.packet_id)
            .collect();
        let mut taken = Vec::with_capacity(others.len());
        for packet_id in others {
            let delivery = self.window.forget(packet_id);
            taken.extend(self.settle(delivery));
        }
        taken
    }

    fn settle(&mut self, delivery: Option<Delivery>) -> Option<Delivery> {
        if let Some(delivery) = &delivery {
            self.bytes = self.bytes.saturating_sub(delivery.message.cost());
        }
        delivery
    }
}

impl SessionBox {
    pub(crate) fn new(
        env: Arc<Env>,
        taker: Option<TakerId>,
        max_inflight: u16,
        caught_up: bool,
    ) -> Self {
        Self {
            feed: Feed::new(env, taker, caught_up),
            flight: Mutex::new(Flight {
                window: Outbound::new(max_inflight),
                bytes: 0,
                resend: VecDeque::new(),
                receive_maximum: u16::MAX,
            }),
            membership: OnceLock::new(),
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection comes: what is in flight is sent again, in order ([MQTT-4.4.0-1]).
    pub(crate) fn attach(
        self: &Arc<Self>,
        wake: Arc<dyn Wake>,
        receive_maximum: NonZeroU16,
    ) -> Attached {
        let mut flight = self.flight();
        flight.receive_maximum = receive_maximum.get();
        flight.resend = flight
            .window
            .iter()
            .map(|sent| {
                let delivery = Delivery {
                    dup: true,
                    ..sent.item.clone()
                };
                (sent.packet_id, delivery)
            })
            .collect();
        let epoch = self.feed.attach(wake);
        if let Some(membership) = self.membership.get() {
            membership.set_window(flight.free(self.feed.env.max_bytes));
            drop(flight);
            membership.arrive();
        }
        Attached {
            epoch,
            session: self.clone(),
        }
    }

    /// The connection has ended. What came by shared subscriptions and is not acknowledged goes
    /// to their other members.
    pub(crate) fn detach(&self) {
        if let Some(membership) = self.membership.get() {
            membership.depart();
        }
        let unsent = self.feed.detach();
        self.give_back(None, unsent);
        if self.membership.get().is_some() {
            let sent = self.flight().take_shared(&self.feed.env);
            self.give_back(self.feed.taker, sent);
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

    fn note_window(&self, flight: &Flight) {
        if let Some(membership) = self.membership.get() {
            membership.set_window(flight.free(self.feed.env.max_bytes));
        }
    }

    /// The receiver has it: its row goes.
    fn acknowledge(&self, delivery: &Delivery) {
        if !delivery.durable {
            return;
        }
        let env = &self.feed.env;
        match (delivery.share, self.feed.taker) {
            (Some(share), _) => {
                if let Some(group) = env.shares.get(share) {
                    group.acknowledge(delivery.message.id);
                }
            }
            (None, Some(taker)) => env.store.acknowledge(taker, &[delivery.message.id]),
            (None, None) => {}
        }
    }

    /// Counts a drop and gives the row up.
    fn drop_one(&self, delivery: &Delivery, reason: DropReason) {
        let Some(share) = delivery.share else {
            return self.feed.drop_one(delivery, reason);
        };
        METRICS.dropped(reason, 1);
        if let (true, Some(group)) = (delivery.durable, self.feed.env.shares.get(share)) {
            group.discard(delivery.message.id, reason);
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

/// The session as one connection sees it.
pub(crate) struct Attached {
    epoch: u64,
    session: Arc<SessionBox>,
}

impl Attached {
    fn is_over(&self) -> bool {
        self.session.feed.lock().epoch != self.epoch
    }

    fn outgoing(&self, packet_id: Option<NonZeroU16>, delivery: Delivery) -> Outgoing {
        let message = &delivery.message;
        let now = || self.session.feed.env.clock.now();
        Outgoing {
            packet_id,
            expiry: message
                .expiry
                .and_then(|_| message.remaining_expiry(&now())),
            delivery,
        }
    }
}

impl Attached {
    /// What waits for the session's shared subscriptions, behind its own.
    fn pull(
        membership: &Membership,
        limit: DrainLimit,
        free: usize,
        taken: &mut Vec<Delivery>,
    ) -> DrainState {
        let kept = taken.iter().filter(|d| d.qos > QoS::AtMostOnce).count();
        let free = free.saturating_sub(kept);
        if free == 0 {
            // The next acknowledgement drains again.
            return DrainState::Empty;
        }
        let before = taken.len();
        let most = free.min(limit.messages.saturating_sub(before));
        let more = membership.pull(most, limit.bytes, taken);
        if more && taken.len() - before < free {
            DrainState::More
        } else {
            DrainState::Empty
        }
    }

    fn is_expired(&self, delivery: &Delivery) -> bool {
        let message = &delivery.message;
        message.expiry.is_some() && message.is_expired(&self.session.feed.env.clock.now())
    }
}

impl SessionMailbox for Attached {
    fn drain(&self, limit: DrainLimit, out: &mut Vec<Outgoing>) -> DrainState {
        let session = &self.session;
        let mut limit = limit;
        let mut flight = session.flight();
        if self.is_over() {
            return DrainState::Empty;
        }
        while limit.messages > 0 && limit.bytes > 0 && flight.client_free() > 0 {
            let Some((id, delivery)) = flight.resend.pop_front() else {
                break;
            };
            limit.bytes = limit.bytes.saturating_sub(delivery.message.cost());
            out.push(self.outgoing(Some(id), delivery));
            limit.messages -= 1;
        }
        if !flight.resend.is_empty() && flight.client_free() > 0 {
            return DrainState::More;
        }
        let mut taken = Vec::new();
        let free = flight.free(session.feed.env.max_bytes);
        let state = session.feed.take(self.epoch, limit, free, &mut taken);
        let state = match (state, session.membership.get()) {
            (Some(DrainState::Empty), Some(membership)) => {
                Self::pull(membership, limit, free, &mut taken)
            }
            (state, _) => state.unwrap_or(DrainState::Empty),
        };
        for delivery in taken {
            if delivery.share.is_some() && self.is_expired(&delivery) {
                session.drop_one(&delivery, DropReason::Expired);
                continue;
            }
            let packet_id = match delivery.qos {
                QoS::AtMostOnce => None,
                qos => match flight.window.push(qos, delivery.clone()) {
                    Some(id) => {
                        flight.bytes += delivery.message.cost();
                        Some(id)
                    }
                    None => {
                        // The window had room when it was asked; a row is found again at a restart.
                        tracing::error!("the in-flight window had no packet id left");
                        continue;
                    }
                },
            };
            out.push(self.outgoing(packet_id, delivery));
        }
        session.note_window(&flight);
        state
    }

    fn puback(&self, packet_id: NonZeroU16) -> bool {
        if self.is_over() {
            return false;
        }
        let delivery = {
            let mut flight = self.session.flight();
            if !flight.resend.is_empty() {
                flight.resend.retain(|(id, _)| *id != packet_id);
            }
            let delivery = flight.window.puback(packet_id);
            let delivery = flight.settle(delivery);
            self.session.note_window(&flight);
            delivery
        };
        let Some(delivery) = delivery else {
            return false;
        };
        self.session.acknowledge(&delivery);
        true
    }

    fn discard(&self, outgoing: &Outgoing, reason: DropReason) {
        match outgoing.packet_id {
            Some(id) if !self.is_over() => {
                let delivery = {
                    let mut flight = self.session.flight();
                    let delivery = flight.window.forget(id);
                    let delivery = flight.settle(delivery);
                    self.session.note_window(&flight);
                    delivery
                };
                if let Some(delivery) = delivery {
                    self.session.drop_one(&delivery, reason);
                }
            }
            Some(_) => {}
            None => METRICS.dropped(reason, 1),
        }
    }
}
