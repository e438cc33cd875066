//! The receiver's side of QoS 1 and 2 (MQTT 3.1.1, 4.3, 4.6).

use std::collections::{HashSet, VecDeque};

use iotedge_model::QoS;

use crate::{Packet, PacketId};

/// An acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ack {
    /// QoS 1.
    PubAck(PacketId),
    /// QoS 2, the message is taken.
    PubRec(PacketId),
    /// QoS 2, the id is free again.
    PubComp(PacketId),
}

impl From<Ack> for Packet {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::PubAck(id) => Self::PubAck(id),
            Ack::PubRec(id) => Self::PubRec(id),
            Ack::PubComp(id) => Self::PubComp(id),
        }
    }
}

/// What a received packet means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// To be worked on; its acknowledgement goes when [`Inbound::ready`] is told the token.
    New(u64),
    /// A QoS 2 message that was taken before: not delivered again ([MQTT-4.3.3-2]). Its PUBREC is
    /// in the order by itself.
    Duplicate,
    /// The limit is reached; nothing was noted.
    Full,
}

#[derive(Debug)]
struct Slot {
    ack: Ack,
    ready: bool,
}

/// Keeps acknowledgements in the order of receipt ([MQTT-4.6.0-2], [MQTT-4.6.0-3]), though the
/// work behind them is done in any order, and knows the QoS 2 ids that are not released.
#[derive(Debug)]
pub struct Inbound {
    limit: usize,
    slots: VecDeque<Slot>,
    /// The token of the first slot.
    first: u64,
    unreleased: HashSet<PacketId>,
}

impl Inbound {
    /// Nothing received; at most `limit` acknowledgements outstanding.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            slots: VecDeque::new(),
            first: 0,
            unreleased: HashSet::new(),
        }
    }

    /// Puts back the QoS 2 ids that an earlier connection received and did not see released.
    pub fn resume(&mut self, unreleased: impl IntoIterator<Item = PacketId>) {
        self.unreleased.extend(unreleased);
    }

    /// Notes a PUBLISH of QoS 1 or 2. QoS 0 must not come here: it has neither id nor answer.
    pub fn received(&mut self, id: PacketId, qos: QoS) -> Received {
        if self.is_full() {
            return Received::Full;
        }
        if qos != QoS::ExactlyOnce {
            return Received::New(self.put(Ack::PubAck(id)));
        }
        if self.unreleased.insert(id) {
            return Received::New(self.put(Ack::PubRec(id)));
        }
        // While the first one's PUBREC has not gone, that one answers both.
        let waits = |slot: &Slot| slot.ack == Ack::PubRec(id) && !slot.ready;
        if !self.slots.iter().any(waits) {
            let token = self.put(Ack::PubRec(id));
            self.ready(token);
        }
        Received::Duplicate
    }

    /// Notes a PUBREL: the id is free for a new message. It is answered by PUBCOMP, known or not,
    /// when [`Inbound::ready`] is told the token: at once, or when the release is durable. `None`
    /// when the limit is reached.
    pub fn pubrel(&mut self, id: PacketId) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        self.unreleased.remove(&id);
        Some(self.put(Ack::PubComp(id)))
    }

    /// Says that the work behind `token` is done, and returns whether [`Inbound::next_ready`] has
    /// something now. A token that is not outstanding changes nothing.
    pub fn ready(&mut self, token: u64) -> bool {
        let slot = token
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.slots.get_mut(index));
        if let Some(slot) = slot {
            slot.ready = true;
        }
        self.slots.front().is_some_and(|slot| slot.ready)
    }

    /// The next acknowledgement to send: the oldest one, if it is ready. Call until `None`.
    pub fn next_ready(&mut self) -> Option<Ack> {
        let ack = self.slots.front().filter(|slot| slot.ready)?.ack;
        self.slots.pop_front();
        self.first = self.first.wrapping_add(1);
        Some(ack)
    }

    /// How many acknowledgements are outstanding.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the limit is reached: the socket is not read until it is not.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.limit
    }

    /// How many QoS 2 ids wait for PUBREL; at most 65,535. They do not count against the limit,
    /// since only reading on can release them.
    pub fn unreleased(&self) -> usize {
        self.unreleased.len()
    }

    fn put(&mut self, ack: Ack) -> u64 {
        let token = self.first.wrapping_add(self.slots.len() as u64);
        self.slots.push_back(Slot { ack, ready: false });
        token
    }
}

#[cfg(test)]
mod tests;
