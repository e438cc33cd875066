//! The sender's side of QoS 1 and 2 (MQTT 3.1.1, 4.3, 4.4, 4.6).

use std::collections::VecDeque;

use iotedge_model::QoS;

use crate::PacketId;

/// What a packet in flight waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// QoS 1: PUBACK.
    PubAck,
    /// QoS 2: PUBREC.
    PubRec,
    /// QoS 2, PUBREL is sent: PUBCOMP.
    PubComp,
    /// SUBSCRIBE or UNSUBSCRIBE: SUBACK or UNSUBACK.
    Answer,
}

/// One packet in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight<T> {
    /// Its packet id.
    pub packet_id: PacketId,
    /// What it waits for.
    pub phase: Phase,
    /// What was sent.
    pub item: T,
}

impl<T> InFlight<T> {
    /// QoS 2: PUBREC has come, PUBREL has gone.
    pub fn released(&self) -> bool {
        self.phase == Phase::PubComp
    }
}

/// What a PUBREC means.
#[derive(Debug, PartialEq, Eq)]
pub enum PubRec<'a, T> {
    /// The receiver has it: PUBREL goes out. The payload is not needed again ([MQTT-4.3.3-1]).
    Released(&'a mut T),
    /// A repeated PUBREC: PUBREL goes out again.
    Again,
    /// Nothing in flight with that id waits for it. PUBREL is sent all the same, or the receiver
    /// keeps the id for ever.
    Unknown,
}

/// The window of what was sent with a packet id and is not acknowledged, in the order of sending.
///
/// Acknowledgements of ids that are unknown or wait for something else change nothing.
#[derive(Debug)]
pub struct Outbound<T> {
    window: u16,
    entries: VecDeque<InFlight<T>>,
    next: PacketId,
    /// How many ids from `next` on are known to be free.
    fresh: u16,
}

impl<T> Outbound<T> {
    /// An empty window for at most `window` packets in flight; 0 lets nothing out.
    pub fn new(window: u16) -> Self {
        Self {
            window,
            entries: VecDeque::new(),
            next: PacketId::MIN,
            fresh: u16::MAX,
        }
    }

    /// How many may still be sent.
    pub fn free(&self) -> usize {
        usize::from(self.window).saturating_sub(self.entries.len())
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts a PUBLISH of QoS 1 or 2 in flight and gives its packet id. `None`, and the item is
    /// dropped, when the window is full or for QoS 0, which has no packet id: ask
    /// [`Outbound::free`] first.
    pub fn push(&mut self, qos: QoS, item: T) -> Option<PacketId> {
        let phase = match qos {
            QoS::AtMostOnce => return None,
            QoS::AtLeastOnce => Phase::PubAck,
            QoS::ExactlyOnce => Phase::PubRec,
        };
        self.put(phase, item)
    }

    /// Puts a SUBSCRIBE or UNSUBSCRIBE in flight; its id comes of the same space
    /// ([MQTT-2.3.1-2]). `None` when the window is full.
    pub fn push_request(&mut self, item: T) -> Option<PacketId> {
        self.put(Phase::Answer, item)
    }

    fn put(&mut self, phase: Phase, item: T) -> Option<PacketId> {
        if self.free() == 0 {
            return None;
        }
        let packet_id = self.take_id();
        self.entries.push_back(InFlight {
            packet_id,
            phase,
            item,
        });
        Some(packet_id)
    }

    /// Puts back what an earlier connection left in flight, in its order, with ids, QoS and
    /// whether PUBREC had come. They count even beyond the window. QoS 0 and ids that are in
    /// flight already are left out.
    pub fn resume(&mut self, items: impl IntoIterator<Item = (PacketId, QoS, bool, T)>) {
        for (packet_id, qos, released, item) in items {
            let phase = match (qos, released) {
                (QoS::AtMostOnce, _) => continue,
                (QoS::AtLeastOnce, _) => Phase::PubAck,
                (QoS::ExactlyOnce, false) => Phase::PubRec,
                (QoS::ExactlyOnce, true) => Phase::PubComp,
            };
            if self.position(packet_id).is_some() {
                continue;
            }
            self.entries.push_back(InFlight {
                packet_id,
                phase,
                item,
            });
            self.next = successor(packet_id);
        }
        self.fresh = 0;
    }

    /// PUBACK: gives what it acknowledges.
    pub fn puback(&mut self, id: PacketId) -> Option<T> {
        self.finish(id, Phase::PubAck)
    }

    /// PUBREC.
    pub fn pubrec(&mut self, id: PacketId) -> PubRec<'_, T> {
        let Some(entry) = self
            .position(id)
            .and_then(|position| self.entries.get_mut(position))
        else {
            return PubRec::Unknown;
        };
        match entry.phase {
            Phase::PubRec => {
                entry.phase = Phase::PubComp;
                PubRec::Released(&mut entry.item)
            }
            Phase::PubComp => PubRec::Again,
            Phase::PubAck | Phase::Answer => PubRec::Unknown,
        }
    }

    /// PUBREC with an error, which ends the exchange (5: [MQTT-4.4.0-2]): gives what was refused.
    pub fn refused(&mut self, id: PacketId) -> Option<T> {
        self.finish(id, Phase::PubRec)
    }

    /// PUBCOMP: gives what is complete.
    pub fn pubcomp(&mut self, id: PacketId) -> Option<T> {
        self.finish(id, Phase::PubComp)
    }

    /// SUBACK or UNSUBACK: gives what it answers.
    pub fn answered(&mut self, id: PacketId) -> Option<T> {
        self.finish(id, Phase::Answer)
    }

    /// What is in flight with this id.
    pub fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let position = self.position(id)?;
        self.entries.get_mut(position).map(|entry| &mut entry.item)
    }

    /// Gives up waiting for `id`, whatever it waits for.
    pub fn forget(&mut self, id: PacketId) -> Option<T> {
        let position = self.position(id)?;
        self.entries.remove(position).map(|entry| entry.item)
    }

    /// All in flight, in the order of sending: the order in which they are sent again
    /// ([MQTT-4.6.0-1]).
    pub fn iter(&self) -> impl Iterator<Item = &InFlight<T>> {
        self.entries.iter()
    }

    /// The last that was put in flight.
    pub fn last(&self) -> Option<&InFlight<T>> {
        self.entries.back()
    }

    /// Takes all out, in the order of sending.
    pub fn drain(&mut self) -> impl Iterator<Item = InFlight<T>> + '_ {
        self.entries.drain(..)
    }

    fn finish(&mut self, id: PacketId, phase: Phase) -> Option<T> {
        let position = self.position(id)?;
        if self.entries.get(position)?.phase != phase {
            return None;
        }
        self.entries.remove(position).map(|entry| entry.item)
    }

    /// Acknowledgements come in the order of sending as a rule: found at once.
    fn position(&self, id: PacketId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.packet_id == id)
    }

    /// The next id that is not in flight. Fewer than 65,535 are: `put` has looked.
    fn take_id(&mut self) -> PacketId {
        while self.fresh == 0 {
            // The stretch of free ids up to the nearest one in flight; acknowledgements only make
            // it longer, so it is looked for again when it is used up, not for every packet.
            self.fresh = self
                .entries
                .iter()
                .map(|entry| distance(self.next, entry.packet_id))
                .min()
                .unwrap_or(u16::MAX);
            if self.fresh == 0 {
                self.next = successor(self.next);
            }
        }
        self.fresh -= 1;
        let id = self.next;
        self.next = successor(id);
        id
    }
}

fn successor(id: PacketId) -> PacketId {
    id.checked_add(1).unwrap_or(PacketId::MIN)
}

/// Steps from `from` to `to` in the circle of 65,535 ids.
fn distance(from: PacketId, to: PacketId) -> u16 {
    let (from, to) = (from.get(), to.get());
    if to >= from {
        to - from
    } else {
        u16::MAX - from + to
    }
}

#[cfg(test)]
mod tests;
