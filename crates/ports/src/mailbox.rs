use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{DropReason, Message, QoS, SubscriptionIds, Topic};

use crate::{AckSink, RunPart};

/// A shared subscription's number, given by the broker; never given twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShareId(pub NonZeroU32);

/// A message on its way to one taker.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What. Shared between all takers.
    pub message: Arc<Message>,
    /// The lower of publisher's and subscription's QoS.
    pub qos: QoS,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// It may have been sent before.
    pub dup: bool,
    /// A row in the store waits for [`Mailbox::acknowledge`] (or [`Mailbox::discard`]).
    pub durable: bool,
    /// The shared subscription that a QoS ≥ 1 delivery came by: another of its members may get it
    /// instead, and its row is the subscription's.
    pub share: Option<ShareId>,
    /// The identifiers of all subscriptions that matched.
    pub identifiers: SubscriptionIds,
}

impl Delivery {
    /// One of QoS 0 without RETAIN, that comes as soon as it is published.
    pub fn live(message: Arc<Message>, identifiers: SubscriptionIds) -> Self {
        Self {
            message,
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            durable: false,
            share: None,
            identifiers,
        }
    }
}

/// How much one drain takes.
#[derive(Debug, Clone, Copy)]
pub struct DrainLimit {
    /// Deliveries.
    pub messages: usize,
    /// Bytes of all, roughly: the delivery that goes over it is the last.
    pub bytes: usize,
}

/// What is left after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainState {
    /// Nothing; the next arrival wakes.
    Empty,
    /// More; drain again when there is room.
    More,
}

/// A PUBLISH for a client.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// The packet id, given by the session.
    pub packet_id: Option<NonZeroU16>,
    /// What.
    pub delivery: &'a Delivery,
    /// Seconds that the message still lives (MQTT 5, [MQTT-3.3.2-6]): what it came with, less the
    /// time that it waited where the clock can say so. `None` for one that does not expire.
    pub expiry: Option<u32>,
}

/// Takes what goes to a client, in order. Called under the session's locks: must not block, and
/// must not call the mailbox.
pub trait Outlet {
    /// A PUBLISH. One that will not be sent is dropped with the reason that is given back, and its
    /// packet id is free again.
    fn publish(&mut self, publish: Sending<'_>) -> Result<(), DropReason>;

    /// Deliveries of QoS 0 that are written alike for all who get them. Of those that will not be
    /// sent each gives its reason to `dropped`.
    fn run(&mut self, part: &RunPart, dropped: &mut dyn FnMut(DropReason)) {
        for delivery in part.deliveries() {
            let sending = Sending {
                packet_id: None,
                delivery: &delivery,
                expiry: None,
            };
            if let Err(reason) = self.publish(sending) {
                dropped(reason);
            }
        }
    }

    /// The PUBREL of this packet id, as often as it comes out.
    fn release(&mut self, packet_id: NonZeroU16);
}

/// What went to a client.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A PUBLISH.
    Publish(OutgoingPublish),
    /// The PUBREL of this packet id, as often as it comes out.
    Release(NonZeroU16),
}

/// [`Sending`], kept.
#[derive(Debug, Clone)]
pub struct OutgoingPublish {
    /// The packet id.
    pub packet_id: Option<NonZeroU16>,
    /// What.
    pub delivery: Delivery,
    /// Seconds that the message still lives.
    pub expiry: Option<u32>,
}

/// For those who look at each for itself.
impl Outlet for Vec<Outgoing> {
    fn publish(&mut self, publish: Sending<'_>) -> Result<(), DropReason> {
        self.push(Outgoing::Publish(OutgoingPublish {
            packet_id: publish.packet_id,
            delivery: publish.delivery.clone(),
            expiry: publish.expiry,
        }));
        Ok(())
    }

    fn release(&mut self, packet_id: NonZeroU16) {
        self.push(Outgoing::Release(packet_id));
    }
}

/// What a PUBREC means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubRecOutcome {
    /// PUBREL goes out now.
    Release,
    /// PUBREL comes out of [`SessionMailbox::drain`] when the receipt is durable.
    Pending,
    /// Nothing in flight with that packet id waits for it: PUBREL says so, or the client keeps the
    /// id for ever.
    Unknown,
}

/// Where a session's messages come out for the connection it is attached to, and where the packet
/// ids of its own QoS 2 messages are free again. The session keeps packet ids and what is in
/// flight; a connection that was taken over finds it empty.
pub trait SessionMailbox: Send + Sync {
    /// Gives what goes to the client to `out`, no more of QoS 1 and 2 than the window allows. May
    /// read the store (milliseconds at most).
    fn drain(&self, limit: DrainLimit, out: &mut dyn Outlet) -> DrainState;

    /// PUBACKs, in the order in which they came. How many of them name a packet id that is in
    /// flight; the standard lets the others pass.
    fn puback(&self, packet_ids: &[NonZeroU16]) -> usize;

    /// PUBREC that takes the message.
    fn pubrec(&self, packet_id: NonZeroU16) -> PubRecOutcome;

    /// PUBREC with an error, which ends the exchange (5: [MQTT-4.4.0-2]). `false`: no such packet
    /// id waits for it.
    fn pubrec_refused(&self, packet_id: NonZeroU16) -> bool;

    /// PUBCOMP. `false`: no such packet id waits for it.
    fn pubcomp(&self, packet_id: NonZeroU16) -> bool;

    /// PUBREL from the client, or a PUBREC with an error to it: the packet id may name another
    /// message from now on. `true`: the sink is told when that is durable; `false`: the session
    /// ends with its connection, and there is nothing to wait for.
    fn release(&self, packet_id: NonZeroU16, ack: Option<(Arc<dyn AckSink>, u64)>) -> bool;
}

/// Where a route's messages come out, in order. One consumer.
pub trait Mailbox: Send + Sync {
    /// Moves deliveries to `out`. May read the store (milliseconds at most).
    fn drain(&self, limit: DrainLimit, out: &mut Vec<Delivery>) -> DrainState;

    /// The receiver has these: rows go.
    fn acknowledge(&self, deliveries: &[Delivery]);

    /// These will not be delivered: rows go, drops are counted with the reason.
    fn discard(&self, deliveries: &[Delivery], reason: DropReason);

    /// The other side will never take these: rows are kept aside as dead letters with the reason,
    /// counted as `upstream-refused` (an outbox's as `action-failed`).
    fn bury(&self, deliveries: &[Delivery], reason: &str);

    /// Starts again at the oldest row that is not acknowledged. What was drained and
    /// not acknowledged comes out again, in order, marked `dup`. What an earlier process has drained
    /// is not marked: nobody knows how far it came.
    fn rewind(&self);

    /// Looks at some more of what an earlier process has left, so that
    /// [`Mailbox::retained_on_its_way`] can tell. `true`: nothing more is to be looked at.
    fn learn_retained(&self) -> bool {
        true
    }

    /// Whether a message with RETAIN to this topic waits or is in flight, or was acknowledged since
    /// the last [`Mailbox::rewind`], no longer than `lately` ago: what the receiver had retained for
    /// the topic before is older. Only where [`RouteRules::tells_retained`](crate::RouteRules) asks
    /// for it. May read the store.
    fn retained_on_its_way(&self, topic: &Topic, lately: Duration) -> bool {
        let _ = (topic, lately);
        false
    }

    /// The sink is told when what was acknowledged, discarded and buried before is on disk: after
    /// that none of it can come out again.
    fn settled(&self, ack: (Arc<dyn AckSink>, u64));
}
