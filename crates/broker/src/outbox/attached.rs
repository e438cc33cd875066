//! What the connection of a session does with it.

use std::cell::Cell;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_mqtt::PubRec;
use iotedge_ports::{
    AckSink, Delivery, DrainLimit, DrainState, Failure, Outlet, PubRecOutcome, Sending,
    SessionMailbox,
};
use iotedge_store::{Done, TakerId};
use iotedge_telemetry::METRICS;

use super::flight::{Again, Flight, Flying, Wait, is_marked};
use super::plain::Taken;
use super::session::{SessionBox, Told};
use super::share::Membership;

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

thread_local! {
    /// Room for what one drain takes, so that no session needs its own.
    static TAKEN: Cell<Vec<Taken>> = const { Cell::new(Vec::new()) };
}

/// The session as one connection sees it.
pub(crate) struct Attached {
    pub(super) epoch: u64,
    pub(super) session: Arc<SessionBox>,
}

impl Attached {
    fn is_over(&self) -> bool {
        self.session.feed.lock().epoch != self.epoch
    }

    fn publish(
        &self,
        packet_id: Option<NonZeroU16>,
        delivery: &Delivery,
        out: &mut dyn Outlet,
    ) -> Result<(), DropReason> {
        let message = &delivery.message;
        let now = || self.session.feed.env.clock.now();
        out.publish(Sending {
            packet_id,
            expiry: message
                .expiry
                .and_then(|_| message.remaining_expiry(&now())),
            delivery,
        })
    }

    /// Sends what has its packet id, if it needs one. What will not be sent is dropped, and its
    /// packet id is free again: `false`.
    fn send(
        &self,
        flight: &mut Flight,
        packet_id: Option<NonZeroU16>,
        delivery: &Delivery,
        out: &mut dyn Outlet,
    ) -> bool {
        let Err(reason) = self.publish(packet_id, delivery, out) else {
            return true;
        };
        if let Some(id) = packet_id {
            let flying = flight.window.forget(id);
            flight.finish(flying);
        }
        self.session.drop_one(delivery, reason);
        false
    }

    /// What the store has said.
    fn hear(&self, flight: &mut Flight, out: &mut dyn Outlet) {
        loop {
            let Some(news) = self.session.told().pop_front() else {
                return;
            };
            match news {
                Told::Marked(mark, kept) => flight.marked(mark, kept),
                Told::Received(id) => {
                    if flight.released(id) {
                        out.release(id);
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
                env.unread.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// What was sent on an earlier connection, as far as this one takes it. `false`: not all of it.
    fn send_again(
        &self,
        flight: &mut Flight,
        limit: &mut DrainLimit,
        out: &mut dyn Outlet,
    ) -> bool {
        while limit.messages > 0 && limit.bytes > 0 && flight.may_send() {
            let Some(again) = flight.pop_resend() else {
                break;
            };
            limit.messages -= 1;
            match again {
                Again::Publish(id, delivery) => {
                    limit.bytes = limit.bytes.saturating_sub(delivery.message.cost());
                    self.send(flight, Some(id), &delivery, out);
                }
                Again::Release(id) => out.release(id),
            }
        }
        !flight.has_resend() || !flight.may_send()
    }

    /// Sends new deliveries on their way: at once, or when the store has their packet ids. `false`:
    /// of some the packet id is free again.
    fn launch(&self, flight: &mut Flight, taken: &mut Vec<Taken>, out: &mut dyn Outlet) -> bool {
        let mut marks: Vec<Marks> = Vec::new();
        let mut all = true;
        for taken in taken.drain(..) {
            match taken {
                Taken::One(delivery) => all &= self.launch_one(flight, delivery, &mut marks, out),
                Taken::Run(part) if flight.is_staging() => {
                    for delivery in part.deliveries() {
                        flight.stage(None, delivery, None);
                    }
                }
                Taken::Run(part) => out.run(&part, &mut |reason| METRICS.dropped(reason, 1)),
            }
        }
        for marks in marks {
            self.mark(marks);
        }
        all
    }

    /// `false`: it had a packet id, which is free again.
    fn launch_one(
        &self,
        flight: &mut Flight,
        delivery: Delivery,
        marks: &mut Vec<Marks>,
        out: &mut dyn Outlet,
    ) -> bool {
        if delivery.share.is_some() && self.is_expired(&delivery) {
            self.session.drop_one(&delivery, DropReason::Expired);
            return true;
        }
        let queue = if is_marked(&delivery) {
            self.session.queue_of(delivery.share)
        } else {
            None
        };
        let staged = queue.is_some() || flight.is_staging();
        if delivery.qos == QoS::AtMostOnce {
            if staged {
                flight.stage(None, delivery, None);
            } else {
                self.send(flight, None, &delivery, out);
            }
            return true;
        }
        let waiting = staged.then(|| delivery.clone());
        let Some(packet_id) = flight.launch(delivery) else {
            // The window had room when it was asked; a row is found again at a restart.
            tracing::error!("the in-flight window had no packet id left");
            return true;
        };
        if let Some(delivery) = waiting {
            let id = delivery.message.id;
            let mark = queue.map(|queue| Marks::note(marks, queue, flight, id, packet_id));
            flight.stage(Some(packet_id), delivery, mark);
            return true;
        }
        let sent = match flight.launched() {
            Some(delivery) => self.publish(Some(packet_id), delivery, out),
            None => Ok(()),
        };
        if let Err(reason) = sent {
            let flying = flight.window.forget(packet_id);
            let delivery = flight.finish(flying).and_then(Flying::into_delivery);
            if let Some(delivery) = delivery {
                self.session.drop_one(&delivery, reason);
            }
        }
        sent.is_ok()
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
        taken: &mut Vec<Taken>,
    ) -> DrainState {
        let is_kept = |taken: &&Taken| matches!(taken, Taken::One(d) if d.qos > QoS::AtMostOnce);
        let free = free.saturating_sub(taken.iter().filter(is_kept).count());
        if free == 0 {
            // The next acknowledgement drains again.
            return DrainState::Empty;
        }
        let before: usize = taken.iter().map(Taken::len).sum();
        let most = free.min(limit.messages.saturating_sub(before));
        let mut pulled = Vec::new();
        let more = membership.pull(most, limit.bytes, &mut pulled);
        let count = pulled.len();
        taken.extend(pulled.into_iter().map(Taken::One));
        if more && count < free {
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
    fn drain(&self, limit: DrainLimit, out: &mut dyn Outlet) -> DrainState {
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
        let mut all = true;
        while limit.messages > 0 && limit.bytes > 0 {
            let Some(staged) = flight.unstaged() else {
                break;
            };
            limit.messages -= 1;
            limit.bytes = limit.bytes.saturating_sub(staged.delivery.message.cost());
            all &= self.send(&mut flight, staged.packet_id, &staged.delivery, out);
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
            let mut taken = TAKEN.take();
            let free = flight.free(max_bytes);
            let took = session.feed.take(self.epoch, limit, free, &mut taken);
            state = match (took, session.membership.get()) {
                (Some(DrainState::Empty), Some(membership)) => {
                    Self::pull(membership, limit, free, &mut taken)
                }
                (took, _) => took.unwrap_or(DrainState::Empty),
            };
            all &= self.launch(&mut flight, &mut taken, out);
            TAKEN.set(taken);
        } else {
            // Its commit wakes.
            session.feed.rest(self.epoch);
        }
        session.note_window(&flight);
        // What was told before the feed came to rest has not woken anyone, and what was dropped has
        // made room in the window.
        if session.told().is_empty() && all {
            state
        } else {
            DrainState::More
        }
    }

    fn puback(&self, packet_ids: &[NonZeroU16]) -> usize {
        if self.is_over() {
            return 0;
        }
        let (mut known, mut rows, mut shared) = (0, Vec::new(), Vec::new());
        let mut flight = self.session.flight();
        for id in packet_ids {
            // The client cannot know an id that is staged.
            if flight.is_staged(*id) {
                continue;
            }
            flight.answered(*id);
            let flying = flight.window.puback(*id);
            let Some(flying) = flight.finish(flying) else {
                continue;
            };
            known += 1;
            match flying.share {
                _ if !flying.durable => {}
                Some(_) => shared.push(flying),
                None => rows.push(flying.id),
            }
        }
        self.session.note_window(&flight);
        drop(flight);
        if let (Some(taker), false) = (self.session.feed.taker, rows.is_empty()) {
            self.session.feed.env.store.acknowledge(taker, &rows);
        }
        shared
            .iter()
            .for_each(|flying| self.session.acknowledge(flying));
        known
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
}
