use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use iotedge_model::{Message, SubscriptionIds};

use crate::Delivery;

/// Messages of one read that go the same way to all who get them: on one topic, with QoS 0 and
/// without RETAIN, small, and none of them expires. What is written of them is built once.
#[derive(Debug)]
pub struct Run {
    messages: Box<[Arc<Message>]>,
    cost: usize,
    frames: [OnceLock<Option<Frames>>; 2],
}

/// The packets of a run, one behind the other.
#[derive(Debug)]
pub struct Frames {
    /// All of them.
    pub bytes: Bytes,
    /// Where each ends.
    pub ends: Box<[usize]>,
    /// Bytes of the largest.
    pub largest: usize,
}

impl Frames {
    /// The packets of the messages from `from` up to `to`.
    pub fn part(&self, from: usize, to: usize) -> Bytes {
        let at = |n: usize| {
            let before = n.checked_sub(1).and_then(|last| self.ends.get(last));
            before.copied().unwrap_or(0)
        };
        self.bytes.slice(at(from)..at(to).max(at(from)))
    }
}

impl Run {
    /// Of messages as [`Run`] says.
    pub fn new(messages: Vec<Arc<Message>>) -> Self {
        Self {
            cost: messages.iter().map(|message| message.cost()).sum(),
            messages: messages.into(),
            frames: [const { OnceLock::new() }; 2],
        }
    }

    /// What it is made of, in order.
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    /// What all of it costs to keep ([`Message::cost`]).
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// The packets, in version 5 or in 3.1.1; `build` makes them the first time. `None` where they
    /// cannot be written.
    pub fn frames(&self, v5: bool, build: impl FnOnce(&Self) -> Option<Frames>) -> Option<&Frames> {
        let [v311, five] = &self.frames;
        let slot = if v5 { five } else { v311 };
        slot.get_or_init(|| build(self)).as_ref()
    }
}

/// A stretch of a run, on its way to one taker.
#[derive(Debug, Clone)]
pub struct RunPart {
    /// The run.
    pub run: Arc<Run>,
    /// Its first message.
    pub from: u32,
    /// Behind its last.
    pub to: u32,
    /// The identifiers of all subscriptions that matched.
    pub identifiers: SubscriptionIds,
}

impl RunPart {
    /// All of a run.
    pub fn whole(run: Arc<Run>, identifiers: SubscriptionIds) -> Self {
        let to = u32::try_from(run.messages.len()).unwrap_or(u32::MAX);
        Self {
            run,
            from: 0,
            to,
            identifiers,
        }
    }

    /// Its messages.
    pub fn messages(&self) -> &[Arc<Message>] {
        let range = self.from as usize..self.to as usize;
        self.run.messages.get(range).unwrap_or_default()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.messages().len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.messages().is_empty()
    }

    /// What they cost to keep.
    pub fn cost(&self) -> usize {
        if self.len() == self.run.messages.len() {
            return self.run.cost;
        }
        self.messages().iter().map(|message| message.cost()).sum()
    }

    /// Takes the first off: at most `most` of them, and no more behind the one that goes over
    /// `bytes`.
    pub fn split(&mut self, most: usize, bytes: usize) -> Self {
        let count = if self.len() <= most && self.cost() <= bytes {
            self.len()
        } else {
            let mut left = bytes;
            let costs = self.messages().iter().take(most);
            costs
                .take_while(|message| {
                    let fits = left > 0;
                    left = left.saturating_sub(message.cost());
                    fits
                })
                .count()
        };
        let middle = self
            .from
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let front = Self {
            to: middle,
            ..self.clone()
        };
        self.from = middle;
        front
    }

    /// One by one.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery> + '_ {
        let messages = self.messages().iter();
        messages.map(|message| Delivery::live(message.clone(), self.identifiers.clone()))
    }
}

#[cfg(test)]
mod tests {
    use iotedge_model::{QoS, Topic};

    use super::*;

    fn part(payloads: &[usize]) -> RunPart {
        let messages = payloads.iter().map(|&len| {
            let topic = Topic::new("t").expect("a topic");
            Arc::new(Message::internal(
                "x",
                topic,
                vec![0; len].into(),
                QoS::AtMostOnce,
            ))
        });
        RunPart::whole(
            Arc::new(Run::new(messages.collect())),
            SubscriptionIds::NONE,
        )
    }

    #[test]
    fn a_part_is_cut_by_number_and_by_bytes() {
        let flat = part(&[0]).cost();
        let mut left = part(&[10, 0, 5, 1]);
        assert_eq!(left.cost(), 4 * flat + 16);
        let front = left.split(1, usize::MAX);
        assert_eq!((front.len(), front.cost()), (1, flat + 10));
        let front = left.split(9, flat + 1);
        assert_eq!(
            front.len(),
            2,
            "the one that goes over the bytes is the last"
        );
        assert_eq!((left.len(), left.cost()), (1, flat + 1));
        assert_eq!(left.split(9, 0).len(), 0);
        assert_eq!(left.split(9, 1).len(), 1);
        assert!(left.is_empty());
    }

    #[test]
    fn frames_are_built_once_and_cut_at_their_ends() {
        let run = part(&[1, 2, 3]).run;
        let build = |_: &Run| {
            Some(Frames {
                bytes: Bytes::from_static(b"abbccc"),
                ends: [1, 3, 6].into(),
                largest: 3,
            })
        };
        assert!(run.frames(true, |_| None).is_none());
        let frames = run.frames(false, build).expect("built");
        assert_eq!(frames.part(1, 3), "bbccc");
        assert_eq!(frames.part(0, 1), "a");
        assert!(frames.part(3, 3).is_empty());
        assert!(run.frames(false, |_| None).is_some(), "built once");
    }
}
