//! What must hold for the session machine whatever happens: used by the fuzz target and the corpus
//! replay. The bytes are a programme: the first says which world, the others are its steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iotedge_mqtt::{
    Inbound, Outbound, PacketId, Phase, PubRec, QoS, ReasonCode, Receipt, Received,
};

/// Runs a programme.
pub fn exercise(data: &[u8]) {
    let Some((&world, steps)) = data.split_first() else {
        return;
    };
    let size = u16::from(world >> 2) % 12 + 1;
    match world % 4 {
        0 | 1 => pair(size, steps),
        2 => sender(size, steps),
        _ => receiver(usize::from(size), steps),
    }
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap_or(PacketId::MIN)
}

// A sender and a receiver that keep to the standard, over connections that do not.

enum Forth {
    Publish(PacketId, QoS, usize),
    Release(PacketId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    Not,
    Complete,
    Refused,
}

struct Message {
    qos: QoS,
    delivered: usize,
    ended: Ended,
}

struct Pair {
    size: u16,
    sender: Outbound<usize>,
    receiver: Inbound,
    forth: VecDeque<Forth>,
    back: VecDeque<Receipt>,
    messages: Vec<Message>,
    /// What the receiver works on: token, id, message; no message for a PUBREL.
    work: Vec<(u64, PacketId, Option<usize>)>,
    /// Ids that outlive the receiver's connection: taken, and not released.
    kept: BTreeSet<PacketId>,
    /// What the receiver owes, in the order of receipt.
    owed: VecDeque<(char, PacketId)>,
}

fn pair(size: u16, steps: &[u8]) {
    let mut pair = Pair {
        size,
        sender: Outbound::new(size),
        receiver: Inbound::new(usize::from(size) + 1),
        forth: VecDeque::new(),
        back: VecDeque::new(),
        messages: Vec::new(),
        work: Vec::new(),
        kept: BTreeSet::new(),
        owed: VecDeque::new(),
    };
    for &step in steps {
        pair.step(step);
        pair.check();
    }
    pair.finish();
}

impl Pair {
    fn step(&mut self, step: u8) {
        let choice = usize::from(step >> 3);
        match step & 7 {
            0 | 1 => self.send(choice),
            2 | 3 => self.carry(),
            4 | 5 => self.work(choice),
            6 => self.answer(),
            _ if choice == 31 => self.lose(false),
            _ if choice == 30 => self.lose(true),
            _ => self.hear(),
        }
    }

    fn send(&mut self, choice: usize) {
        let qos = if choice % 3 == 0 {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        let n = self.messages.len();
        let room = self.sender.free() > 0;
        let Some(id) = self.sender.push(qos, n) else {
            assert!(!room, "there was room");
            return;
        };
        assert!(room);
        self.messages.push(Message {
            qos,
            delivered: 0,
            ended: Ended::Not,
        });
        self.forth.push_back(Forth::Publish(id, qos, n));
    }

    /// One packet reaches the receiver.
    fn carry(&mut self) {
        if self.receiver.is_full() {
            return;
        }
        match self.forth.pop_front() {
            None => {}
            Some(Forth::Publish(id, qos, n)) => match self.receiver.received(id, qos) {
                Received::New(token) => {
                    let letter = if qos == QoS::ExactlyOnce { 'r' } else { 'a' };
                    self.owed.push_back((letter, id));
                    self.work.push((token, id, Some(n)));
                }
                Received::Duplicate => {
                    assert_eq!(qos, QoS::ExactlyOnce);
                    if !self.owed.contains(&('r', id)) {
                        self.owed.push_back(('r', id));
                    }
                }
                Received::Full => panic!("it had room"),
            },
            Some(Forth::Release(id)) => {
                let token = self.receiver.pubrel(id).expect("it has room");
                self.owed.push_back(('c', id));
                self.work.push((token, id, None));
            }
        }
    }

    /// The receiver is done with one thing, in any order.
    fn work(&mut self, choice: usize) {
        if self.work.is_empty() {
            return;
        }
        let (token, id, message) = self.work.swap_remove(choice % self.work.len());
        let Some(message) = message.and_then(|n| self.messages.get_mut(n)) else {
            self.kept.remove(&id);
            self.receiver.ready(token);
            return;
        };
        if choice >= 28 {
            self.receiver.ready_with(token, ReasonCode::QuotaExceeded);
            return;
        }
        message.delivered += 1;
        if message.qos == QoS::ExactlyOnce {
            assert_eq!(message.delivered, 1, "exactly once");
            self.kept.insert(id);
        }
        self.receiver.ready(token);
    }

    /// The receiver sends what is ready: in the order of receipt.
    fn answer(&mut self) {
        while let Some(receipt) = self.receiver.next_ready() {
            let said = match receipt {
                Receipt::PubAck(id, _) => ('a', id),
                Receipt::PubRec(id, _) => ('r', id),
                Receipt::PubComp(id, _) => ('c', id),
            };
            assert_eq!(self.owed.pop_front(), Some(said));
            self.back.push_back(receipt);
        }
    }

    /// One answer reaches the sender.
    fn hear(&mut self) {
        let (n, ended) = match self.back.pop_front() {
            None => return,
            Some(Receipt::PubAck(id, _)) => (self.sender.puback(id), Ended::Complete),
            Some(Receipt::PubComp(id, _)) => (self.sender.pubcomp(id), Ended::Complete),
            Some(Receipt::PubRec(id, reason)) if reason.is_error() => {
                (self.sender.refused(id), Ended::Refused)
            }
            Some(Receipt::PubRec(id, _)) => {
                match self.sender.pubrec(id) {
                    PubRec::Released(_) | PubRec::Again => {
                        self.forth.push_back(Forth::Release(id));
                    }
                    PubRec::Unknown => panic!("the receiver answers what was sent"),
                }
                return;
            }
        };
        if let Some(message) = n.and_then(|n| self.messages.get_mut(n)) {
            assert_eq!(message.ended, Ended::Not);
            message.ended = ended;
        }
    }

    /// A new connection; the sender's process may be a new one too.
    fn lose(&mut self, restart: bool) {
        self.forth.clear();
        self.back.clear();
        self.work.clear();
        self.owed.clear();
        self.receiver = Inbound::new(usize::from(self.size) + 1);
        self.receiver.resume(self.kept.iter().copied());
        if restart {
            let before = std::mem::replace(&mut self.sender, Outbound::new(self.size));
            let flights = before.iter().map(|sent| {
                let qos = match sent.phase {
                    Phase::PubAck => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                };
                (sent.packet_id, qos, sent.released(), sent.item)
            });
            self.sender.resume(flights);
            assert!(before.iter().eq(self.sender.iter()));
        }
        for sent in self.sender.iter() {
            self.forth.push_back(match sent.phase {
                Phase::PubAck => Forth::Publish(sent.packet_id, QoS::AtLeastOnce, sent.item),
                Phase::PubComp => Forth::Release(sent.packet_id),
                _ => Forth::Publish(sent.packet_id, QoS::ExactlyOnce, sent.item),
            });
        }
    }

    fn check(&self) {
        let ids: BTreeSet<PacketId> = self.sender.iter().map(|sent| sent.packet_id).collect();
        assert_eq!(ids.len(), self.sender.len(), "an id twice in flight");
        assert!(self.sender.len() <= usize::from(self.size), "the window");
        assert!(self.receiver.unanswered() <= usize::from(self.size));
        assert!(self.receiver.len() <= usize::from(self.size) + 1);
    }

    /// With no more accidents all comes to its end.
    fn finish(mut self) {
        for _ in 0..8 * (self.messages.len() + 2) {
            while !self.forth.is_empty() && !self.receiver.is_full() {
                self.carry();
            }
            while !self.work.is_empty() {
                self.work(0);
            }
            self.answer();
            while !self.back.is_empty() {
                self.hear();
            }
            self.check();
        }
        assert!(self.sender.is_empty() && self.receiver.is_empty());
        assert_eq!(self.receiver.unreleased(), 0);
        assert_eq!(self.receiver.unanswered(), 0);
        assert!(self.kept.is_empty());
        for message in &self.messages {
            match (message.qos, message.ended) {
                (QoS::ExactlyOnce, Ended::Complete) => assert_eq!(message.delivered, 1),
                (QoS::ExactlyOnce, Ended::Refused) => assert_eq!(message.delivered, 0),
                (_, ended) => assert_eq!(ended, Ended::Complete),
            }
        }
    }
}

// A sender whose peer says anything, beside a list that does the same.

fn sender(size: u16, steps: &[u8]) {
    let mut window: Outbound<usize> = Outbound::new(size);
    let mut list: Vec<(PacketId, Phase, usize)> = Vec::new();
    for (n, step) in steps.chunks_exact(2).enumerate() {
        let (step, choice) = (step[0], step[1]);
        // Mostly an id in flight, else one of both ends of the circle.
        let known = list.get(usize::from(choice) % (list.len() + 1));
        let raw = u16::from(choice % 16).wrapping_sub(8);
        let id = known.map_or_else(|| id(raw), |entry| entry.0);
        let ends = |list: &mut Vec<(PacketId, Phase, usize)>, phase: Option<Phase>| {
            let fits = |e: &(PacketId, Phase, usize)| e.0 == id && phase.is_none_or(|p| p == e.1);
            let at = list.iter().position(fits)?;
            Some(list.remove(at).2)
        };
        match step % 11 {
            0..=2 => {
                let (got, phase) = match step % 11 {
                    0 => (window.push(QoS::AtLeastOnce, n), Phase::PubAck),
                    1 => (window.push(QoS::ExactlyOnce, n), Phase::PubRec),
                    _ => (window.push_request(n), Phase::Answer),
                };
                assert_eq!(got.is_some(), list.len() < usize::from(size));
                list.extend(got.map(|id| (id, phase, n)));
            }
            3 => assert_eq!(window.push(QoS::AtMostOnce, n), None),
            4 => assert_eq!(window.puback(id), ends(&mut list, Some(Phase::PubAck))),
            5 => assert_eq!(window.refused(id), ends(&mut list, Some(Phase::PubRec))),
            6 => assert_eq!(window.pubcomp(id), ends(&mut list, Some(Phase::PubComp))),
            7 => assert_eq!(window.answered(id), ends(&mut list, Some(Phase::Answer))),
            8 => assert_eq!(window.forget(id), ends(&mut list, None)),
            9 => {
                let entry = list.iter_mut().find(|entry| entry.0 == id);
                match (window.pubrec(id), entry) {
                    (PubRec::Released(item), Some((_, phase @ Phase::PubRec, n))) => {
                        assert_eq!(item, n);
                        *phase = Phase::PubComp;
                    }
                    (PubRec::Again, Some((_, Phase::PubComp, _))) => {}
                    (PubRec::Unknown, None | Some((_, Phase::PubAck | Phase::Answer, _))) => {}
                    (said, entry) => panic!("{said:?} of {entry:?}"),
                }
            }
            _ => {
                let (qos, phase) = match choice % 3 {
                    0 => (QoS::AtLeastOnce, Phase::PubAck),
                    1 => (QoS::ExactlyOnce, Phase::PubRec),
                    _ => (QoS::ExactlyOnce, Phase::PubComp),
                };
                window.resume([(id, qos, phase == Phase::PubComp, n)]);
                if !list.iter().any(|entry| entry.0 == id) {
                    list.push((id, phase, n));
                }
            }
        }
        let flights = window
            .iter()
            .map(|sent| (sent.packet_id, sent.phase, sent.item));
        assert!(flights.eq(list.iter().copied()));
        let ids: BTreeSet<PacketId> = list.iter().map(|entry| entry.0).collect();
        assert_eq!(ids.len(), list.len(), "an id twice in flight");
        assert_eq!(window.free(), usize::from(size).saturating_sub(list.len()));
        assert_eq!(
            window.get_mut(id).copied(),
            list.iter().find(|e| e.0 == id).map(|e| e.2)
        );
    }
}

// A receiver whose peer says anything.

fn receiver(size: usize, steps: &[u8]) {
    let mut inbound = Inbound::new(size);
    let mut unreleased: BTreeMap<PacketId, bool> = BTreeMap::new();
    let mut tokens: Vec<(u64, char, PacketId)> = Vec::new();
    let mut owed: VecDeque<(char, PacketId)> = VecDeque::new();
    let mut received = 0;
    for step in steps.chunks_exact(2) {
        let (step, choice) = (step[0], step[1]);
        let id = id(u16::from(choice % 8).wrapping_sub(4));
        let full = inbound.is_full();
        assert_eq!(full, inbound.len() >= size);
        match step % 7 {
            0 | 1 => {
                let two = step % 7 == 1;
                let qos = if two {
                    QoS::ExactlyOnce
                } else {
                    QoS::AtLeastOnce
                };
                match inbound.received(id, qos) {
                    Received::Full => assert!(full),
                    Received::New(token) => {
                        assert!(!full);
                        assert!(!two || !unreleased.contains_key(&id), "taken before");
                        received += 1;
                        let letter = if two { 'r' } else { 'a' };
                        owed.push_back((letter, id));
                        tokens.push((token, letter, id));
                        if two {
                            unreleased.insert(id, true);
                        }
                    }
                    Received::Duplicate => {
                        assert!(!full && two);
                        let counted = unreleased.insert(id, true);
                        received += usize::from(counted == Some(false));
                        assert!(counted.is_some(), "taken before");
                        // While the first one's PUBREC is not ready, that one answers both.
                        if !tokens.iter().any(|(_, l, of)| (*l, *of) == ('r', id)) {
                            owed.push_back(('r', id));
                        }
                    }
                }
            }
            2 => match inbound.pubrel(id) {
                None => assert!(full),
                Some(token) => {
                    assert!(!full);
                    unreleased.remove(&id);
                    owed.push_back(('c', id));
                    tokens.push((token, 'c', id));
                }
            },
            3 | 4 if !tokens.is_empty() => {
                let at = usize::from(choice) % tokens.len();
                let (token, letter, id) = tokens.remove(at);
                if step % 7 == 4 {
                    inbound.ready_with(token, ReasonCode::QuotaExceeded);
                    if letter == 'r' {
                        unreleased.remove(&id);
                    }
                } else {
                    inbound.ready(token);
                }
                // A token that is over changes nothing.
                let (len, ready) = (inbound.len(), inbound.ready(u64::MAX - 1));
                assert_eq!((inbound.len(), inbound.ready(token)), (len, ready));
            }
            5 => {
                inbound.resume([id]);
                unreleased.insert(id, false);
            }
            _ => {
                while let Some(receipt) = inbound.next_ready() {
                    let said = match receipt {
                        Receipt::PubAck(id, _) => ('a', id),
                        Receipt::PubRec(id, _) => ('r', id),
                        Receipt::PubComp(id, _) => ('c', id),
                    };
                    assert_eq!(owed.pop_front(), Some(said));
                }
            }
        }
        assert_eq!(inbound.unreleased(), unreleased.len());
        assert!(inbound.unanswered() <= received);
        assert!(inbound.len() <= size);
        assert_eq!(inbound.len(), owed.len());
    }
}
