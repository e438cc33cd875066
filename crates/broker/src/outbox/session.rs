//! A session's queue: packet ids and the in-flight window.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use iotedge_model::{ClientId, DropReason, MessageId, QoS};
use iotedge_mqtt::PubRec;
use iotedge_ports::{
    AckSink, Delivery, DrainLimit, DrainState, Failure, Outgoing, OutgoingPublish, Pressure,
    PubRecOutcome, SessionMailbox, ShareId, Wake,
};
use iotedge_store::{Done, TakerId};
use iotedge_telemetry::METRICS;

use super::flight::{Again, Flight, Flying, Wait, is_marked};
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
    durable: Option<Durable>,
    flight: Mutex<Flight>,
    /// What the store has said since the last drain.
    told: Mutex<VecDeque<Told>>,
    /// For a session with shared subscriptions.
    membership: OnceLock<Box<Membership>>,
}

/// Packet ids of one queue that are committed together.
struct Marks {
    queue: TakerId,
    number: u64,
    sent: Vec<(MessageId, NonZeroU16)>,
}

impl Marks {
    fn note(
        all: &mut Vec<Self>,
        queue: TakerId,
        flight: &mut Flight,
        id: MessageId,
        packet_id: NonZeroU16,
    ) -> u64 {
        if let Some(marks) = all.iter_mut().find(|marks| marks.queue == queue) {
            marks.sent.push((id, packet_id));
            return marks.number;
        }
        let number = flight.next_mark();
        all.push(Self {
            queue,
            number,
            sent: vec![(id, packet_id)],
        });
        number
    }
}

/// News from the store.
enum Told {
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

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, VecDeque<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: Told) {
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
        wake: Arc<dyn Wake>,
        receive_maximum: NonZeroU16,
    ) -> Attached {
        let mut flight = self.flight();
        flight.receive_maximum = receive_maximum.get();
        flight.restart();
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

    fn note_window(&self, flight: &Flight) {
        if let Some(membership) = self.membership.get() {
            membership.set_window(flight.free(self.feed.env.max_bytes));
        }
    }

    /// The receiver has it: its row goes.
    fn acknowledge(&self, flying: &Flying) {
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
    fn drop_one(&self, delivery: &Delivery, reason: DropReason) {
        let Some(share) = delivery.share else {
            return self.feed.drop_one(delivery, reason);
        };
        METRICS.dropped(reason, 1);
        if let (true, Some(group)) = (delivery.durable, self.feed.env.shares.get(share)) {
            group.discard(delivery.message.id, reason);
        }
    }

    /// Whose row a delivery is; `None` for one without, and where the group is no more.
    fn queue_of(&self, share: Option<ShareId>) -> Option<TakerId> {
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
        Outgoing::Publish(OutgoingPublish {
            packet_id,
            expiry: message
                .expiry
                .and_then(|_| message.remaining_expiry(&now())),
            delivery,
        })
    }

    /// What the store has said.
    fn hear(&self, flight: &mut Flight, out: &mut Vec<Outgoing>) {
        loop {
            let Some(news) = self.session.told().pop_front() else {
                return;
            };
            match news {
                Told::Marked(mark, kept) => flight.marked(mark, kept),
                Told::Received(id) => {
                    if flight.released(id) {
                        out.push(Outgoing::Release(id));
                    }
                }
            }
        }
    }

    /// What the last process had in flight. `false` when it could not be read.
    fn recover(&self, flight: &mut Flight) -> bool {
        let env = &self.session.feed.env;
        let rows = match self.session.feed.taker {
            Some(taker) => env.store.in_flight(taker).and_then(|rows| {
                let claimed = env.store.claimed(taker)?;
                let shared = claimed.into_iter().map(|(queue, row)| {
                    let group = env.shares.of_queue(queue);
                    (row, group.map(|group| group.id))
                });
                let own = rows.into_iter().map(|row| (row, None));
                Ok(own.chain(shared).collect())
            }),
            None => Ok(Vec::new()),
        };
        match rows {
            Ok(rows) => {
                flight.recover(rows);
                true
            }
            Err(error) => {
                tracing::error!(
                    event = iotedge_telemetry::event::STORE,
                    %error,
                    "what a session had in flight could not be read; it waits"
                );
                false
            }
        }
    }

    /// What was sent on an earlier connection, as far as this one takes it. `false`: not all of it.
    fn send_again(
        &self,
        flight: &mut Flight,
        limit: &mut DrainLimit,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        while limit.messages > 0 && limit.bytes > 0 && flight.may_send() {
            let Some(again) = flight.resend.pop_front() else {
                break;
            };
            limit.messages -= 1;
            out.push(match again {
                Again::Publish(id, delivery) => {
                    limit.bytes = limit.bytes.saturating_sub(delivery.message.cost());
                    self.outgoing(Some(id), delivery)
                }
                Again::Release(id) => Outgoing::Release(id),
            });
        }
        flight.resend.is_empty() || !flight.may_send()
    }

    /// Sends new deliveries on their way: at once, or when the store has their packet ids.
    fn launch(&self, flight: &mut Flight, taken: Vec<Delivery>, out: &mut Vec<Outgoing>) {
        let mut marks: Vec<Marks> = Vec::new();
        for delivery in taken {
            if delivery.share.is_some() && self.is_expired(&delivery) {
                self.session.drop_one(&delivery, DropReason::Expired);
                continue;
            }
            let packet_id = match delivery.qos {
                QoS::AtMostOnce => None,
                _ => match flight.launch(&delivery) {
                    Some(id) => Some(id),
                    None => {
                        // The window had room when it was asked; a row is found again at a restart.
                        tracing::error!("the in-flight window had no packet id left");
                        continue;
                    }
                },
            };
            let queue = if is_marked(&delivery) {
                self.session.queue_of(delivery.share)
            } else {
                None
            };
            let mut mark = None;
            if let (Some(queue), Some(id)) = (queue, packet_id) {
                let number = Marks::note(&mut marks, queue, flight, delivery.message.id, id);
                mark = Some(number);
            }
            if mark.is_some() || flight.is_staging() {
                flight.stage(packet_id, delivery, mark);
            } else {
                out.push(self.outgoing(packet_id, delivery));
            }
        }
        for marks in marks {
            self.mark(marks);
        }
    }

    /// Under the lock of the flight: marks reach the store in their order.
    fn mark(&self, marks: Marks) {
        let session = self.session.clone();
        let number = marks.number;
        let done: Done = Box::new(move |outcome| {
            session.tell(Told::Marked(number, outcome.is_ok()));
        });
        let own = self.session.feed.taker;
        let claimant = own.filter(|own| *own != marks.queue);
        let store = &self.session.feed.env.store;
        store.mark_sent(marks.queue, claimant, &marks.sent, Some(done));
    }

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

    /// The client has the message for good: its row goes.
    fn settle(&self, flying: Option<Flying>) -> bool {
        let Some(flying) = flying else {
            return false;
        };
        self.session.acknowledge(&flying);
        true
    }

    /// Takes an exchange out of the window.
    fn end(
        &self,
        packet_id: NonZeroU16,
        take: impl FnOnce(&mut Flight) -> Option<Flying>,
    ) -> Option<Flying> {
        if self.is_over() {
            return None;
        }
        let mut flight = self.session.flight();
        if flight.is_staged(packet_id) {
            // The client cannot know this id.
            return None;
        }
        flight.answered(packet_id);
        let flying = take(&mut flight);
        let flying = flight.finish(flying);
        self.session.note_window(&flight);
        flying
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
        if !flight.recovered && !self.recover(&mut flight) {
            session.feed.rest(self.epoch);
            return DrainState::Empty;
        }
        self.hear(&mut flight, out);
        if !self.send_again(&mut flight, &mut limit, out) {
            return DrainState::More;
        }
        while limit.messages > 0 && limit.bytes > 0 {
            let Some(staged) = flight.unstaged() else {
                break;
            };
            limit.messages -= 1;
            limit.bytes = limit.bytes.saturating_sub(staged.delivery.message.cost());
            out.push(self.outgoing(staged.packet_id, staged.delivery));
        }
        if limit.messages == 0 || limit.bytes == 0 {
            return DrainState::More;
        }
        let max_bytes = session.feed.env.max_bytes;
        if flight.is_staging() {
            limit.messages = limit.messages.min(flight.stage_free(max_bytes));
        }
        let mut state = DrainState::Empty;
        if limit.messages > 0 {
            let mut taken = Vec::new();
            let free = flight.free(max_bytes);
            let took = session.feed.take(self.epoch, limit, free, &mut taken);
            state = match (took, session.membership.get()) {
                (Some(DrainState::Empty), Some(membership)) => {
                    Self::pull(membership, limit, free, &mut taken)
                }
                (took, _) => took.unwrap_or(DrainState::Empty),
            };
            self.launch(&mut flight, taken, out);
        } else {
            // Its commit wakes.
            session.feed.rest(self.epoch);
        }
        session.note_window(&flight);
        // What was told before the feed came to rest has not woken anyone.
        if session.told().is_empty() {
            state
        } else {
            DrainState::More
        }
    }

    fn puback(&self, packet_id: NonZeroU16) -> bool {
        let flying = self.end(packet_id, |flight| flight.window.puback(packet_id));
        self.settle(flying)
    }

    fn pubrec(&self, packet_id: NonZeroU16) -> PubRecOutcome {
        if self.is_over() {
            // The new connection sends it.
            return PubRecOutcome::Pending;
        }
        let mut flight = self.session.flight();
        if flight.is_staged(packet_id) {
            return PubRecOutcome::Unknown;
        }
        let id = match flight.window.pubrec(packet_id) {
            PubRec::Unknown => return PubRecOutcome::Unknown,
            PubRec::Again => {
                let waits = flight.window.get_mut(packet_id).map(|flying| flying.wait);
                return match waits {
                    Some(Wait::Receipt) => PubRecOutcome::Pending,
                    _ => PubRecOutcome::Release,
                };
            }
            PubRec::Released(flying) => (flying.id, flying.share, flying.durable),
        };
        flight.answered(packet_id);
        flight.received(packet_id);
        let (id, share, durable) = id;
        let queue = self.session.queue_of(share).filter(|_| durable);
        // A session that ends with its connection has nothing to come back to.
        let (Some(queue), Some(_)) = (queue, &self.session.durable) else {
            return PubRecOutcome::Release;
        };
        if let Some(flying) = flight.window.get_mut(packet_id) {
            flying.wait = Wait::Receipt;
        }
        let session = self.session.clone();
        let done: Done = Box::new(move |outcome| {
            if outcome.is_ok() {
                session.tell(Told::Received(packet_id));
            }
        });
        // Under the lock: PUBRELs leave in the order of their PUBRECs ([MQTT-4.6.0-4]).
        let store = &self.session.feed.env.store;
        store.mark_received(queue, id, Some(done));
        PubRecOutcome::Pending
    }

    fn pubrec_refused(&self, packet_id: NonZeroU16) -> bool {
        let flying = self.end(packet_id, |flight| flight.window.refused(packet_id));
        self.settle(flying)
    }

    fn pubcomp(&self, packet_id: NonZeroU16) -> bool {
        let flying = self.end(packet_id, |flight| flight.window.pubcomp(packet_id));
        self.settle(flying)
    }

    fn release(&self, packet_id: NonZeroU16, ack: Option<(Arc<dyn AckSink>, u64)>) -> bool {
        let Some(durable) = &self.session.durable else {
            return false;
        };
        if self.is_over() {
            // Its connection hears of nothing any more.
            return true;
        }
        self.session.received.release(packet_id);
        let waits = ack.is_some();
        let done = ack.map(|(sink, token)| -> Done {
            Box::new(move |outcome| sink.acked(token, outcome.map_err(|_| Failure::Store)))
        });
        let store = &self.session.feed.env.store;
        // Though nothing is known of it: its release may be on the way to the store.
        store.release_inbound(&durable.client_id, packet_id, done);
        waits
    }

    fn discard(&self, outgoing: &OutgoingPublish, reason: DropReason) {
        match outgoing.packet_id {
            Some(id) => {
                let forget = |flight: &mut Flight| flight.window.forget(id);
                if self.end(id, forget).is_some() {
                    self.session.drop_one(&outgoing.delivery, reason);
                }
            }
            None => METRICS.dropped(reason, 1),
        }
    }
}
