//! The receiver's side of QoS 1 and 2 (MQTT 3.1.1 and MQTT 5, 4.3, 4.6).

use std::collections::{BTreeMap, VecDeque};

use iotedge_model::QoS;

use crate::{Ack, Packet, PacketId, ReasonCode};

/// An acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// QoS 1.
    PubAck(PacketId, ReasonCode),
    /// QoS 2, the message is taken; with an error it is not, and the id is free again.
    PubRec(PacketId, ReasonCode),
    /// QoS 2, the id is free again.
    PubComp(PacketId, ReasonCode),
}

impl From<Receipt> for Packet {
    fn from(receipt: Receipt) -> Self {
        match receipt {
            Receipt::PubAck(id, reason) => Self::PubAck(Ack::new(id, reason)),
            Receipt::PubRec(id, reason) => Self::PubRec(Ack::new(id, reason)),
            Receipt::PubComp(id, reason) => Self::PubComp(Ack::new(id, reason)),
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
    receipt: Receipt,
    ready: bool,
    /// It ends an exchange that [`Inbound::unanswered`] counts.
    counts: bool,
    /// What [`Inbound::hold`] was told.
    bytes: u32,
}

/// Keeps acknowledgements in the order of receipt ([MQTT-4.6.0-2], [MQTT-4.6.0-3]), though the
/// work behind them is done in any order, and knows the QoS 2 ids that are not released.
#[derive(Debug)]
pub struct Inbound {
    limit: usize,
    slots: VecDeque<Slot>,
    /// The token of the first slot.
    first: u64,
    /// QoS 2 ids between PUBLISH and PUBREL, and whether the PUBLISH came on this connection.
    unreleased: BTreeMap<PacketId, bool>,
    unanswered: usize,
    held: usize,
}

impl Inbound {
    /// Nothing received; at most `limit` acknowledgements outstanding.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            slots: VecDeque::new(),
            first: 0,
            unreleased: BTreeMap::new(),
            unanswered: 0,
            held: 0,
        }
    }

    /// Puts back the QoS 2 ids that an earlier connection received and did not see released.
    pub fn resume(&mut self, unreleased: impl IntoIterator<Item = PacketId>) {
        let ids = unreleased.into_iter().map(|id| (id, false));
        self.unreleased.extend(ids);
    }

    /// Notes a PUBLISH of QoS 1 or 2. QoS 0 must not come here: it has neither id nor answer.
    pub fn received(&mut self, id: PacketId, qos: QoS) -> Received {
        if self.is_full() {
            return Received::Full;
        }
        if qos != QoS::ExactlyOnce {
            self.unanswered += 1;
            return Received::New(self.put(Receipt::PubAck(id, ReasonCode::Success), true));
        }
        let known = self.unreleased.insert(id, true);
        if known != Some(true) {
            self.unanswered += 1;
        }
        if known.is_none() {
            return Received::New(self.put(Receipt::PubRec(id, ReasonCode::Success), true));
        }
        // While the first one's PUBREC has not gone, that one answers both.
        let waits =
            |slot: &Slot| !slot.ready && matches!(slot.receipt, Receipt::PubRec(of, _) if of == id);
        if !self.slots.iter().any(waits) {
            let token = self.put(Receipt::PubRec(id, ReasonCode::Success), true);
            self.ready(token);
        }
        Received::Duplicate
    }

    /// Notes a PUBREL: the id is free for a new message. It is answered by PUBCOMP, known or not,
    /// when [`Inbound::ready`] is told the token: at once, or when the release is durable. Version
    /// 5 tells the sender of an unknown one (packet identifier not found). `None` when the limit
    /// is reached.
    pub fn pubrel(&mut self, id: PacketId) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        let known = self.unreleased.remove(&id);
        let reason = if known.is_some() {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        Some(self.put(Receipt::PubComp(id, reason), known == Some(true)))
    }

    /// Says that the work behind `token` is done, and returns whether [`Inbound::next_ready`] has
    /// something now. A token that is not outstanding changes nothing.
    pub fn ready(&mut self, token: u64) -> bool {
        if let Some(slot) = self.slot(token) {
            slot.ready = true;
            let held = std::mem::take(&mut slot.bytes);
            self.let_go(held);
        }
        self.is_ready()
    }

    /// [`Inbound::ready`] with the reason code that version 5 says. An error in a PUBREC frees the
    /// id ([MQTT-4.3.3-9]).
    pub fn ready_with(&mut self, token: u64, result: ReasonCode) -> bool {
        let (mut refused, mut held) = (None, 0);
        if let Some(slot) = self.slot(token) {
            slot.ready = true;
            held = std::mem::take(&mut slot.bytes);
            match &mut slot.receipt {
                Receipt::PubRec(id, reason) => {
                    *reason = result;
                    refused = result.is_error().then_some(*id);
                }
                Receipt::PubAck(_, reason) | Receipt::PubComp(_, reason) => *reason = result,
            }
        }
        self.let_go(held);
        if let Some(id) = refused {
            self.unreleased.remove(&id);
        }
        self.is_ready()
    }

    /// Notes that the work behind `token` holds so many bytes of memory until it is done.
    pub fn hold(&mut self, token: u64, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = match self.slot(token) {
            Some(slot) => std::mem::replace(&mut slot.bytes, bytes),
            None => return,
        };
        self.let_go(before);
        self.held += bytes as usize;
    }

    /// Bytes of memory that work holds which is not done.
    pub fn held(&self) -> usize {
        self.held
    }

    fn let_go(&mut self, bytes: u32) {
        self.held = self.held.saturating_sub(bytes as usize);
    }

    fn slot(&mut self, token: u64) -> Option<&mut Slot> {
        let index = usize::try_from(token.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

    fn is_ready(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.ready)
    }

    /// The next acknowledgement to send: the oldest one, if it is ready. Call until `None`.
    pub fn next_ready(&mut self) -> Option<Receipt> {
        self.slots.front().filter(|slot| slot.ready)?;
        let Slot {
            receipt, counts, ..
        } = self.slots.pop_front()?;
        self.first = self.first.wrapping_add(1);
        let ends = match receipt {
            Receipt::PubAck(..) | Receipt::PubComp(..) => true,
            Receipt::PubRec(_, reason) => reason.is_error(),
        };
        if ends && counts {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        Some(receipt)
    }

    /// The token of the acknowledgement that [`Inbound::next_ready`] gives next.
    pub fn next_token(&self) -> u64 {
        self.first
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

    /// How many PUBLISHes of this connection wait for their last answer: PUBACK, PUBCOMP, or a
    /// PUBREC with an error. More than the receive maximum, and a peer of version 5 has broken its
    /// promise (5: 3.3.4, 4.9). Counted as the sender counts: one that comes again counts once, and
    /// those of [`Inbound::resume`] count when they come again.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// How many QoS 2 ids wait for PUBREL; at most 65,535. They do not count against the limit,
    /// since only reading on can release them.
    pub fn unreleased(&self) -> usize {
        self.unreleased.len()
    }

    fn put(&mut self, receipt: Receipt, counts: bool) -> u64 {
        let token = self.first.wrapping_add(self.slots.len() as u64);
        self.slots.push_back(Slot {
            receipt,
            ready: false,
            counts,
            bytes: 0,
        });
        token
    }
}

#[cfg(test)]
mod tests;
