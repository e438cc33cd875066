//! What the connection of a session does with it.

use std::num::NonZeroU16;
use std::sync::Arc;

use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_mqtt::PubRec;
use iotedge_ports::{
    AckSink, Delivery, DrainLimit, DrainState, Failure, Outgoing, OutgoingPublish, PubRecOutcome,
    SessionMailbox,
};
use iotedge_store::{Done, TakerId};
use iotedge_telemetry::METRICS;

use super::flight::{Again, Flight, Flying, Wait, is_marked};
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

/// The session as one connection sees it.
pub(crate) struct Attached {
    pub(super) epoch: u64,
    pub(super) session: Arc<SessionBox>,
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
