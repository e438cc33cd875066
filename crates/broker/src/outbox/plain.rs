//! The part of a queue that nobody acknowledges: QoS 0, with the order of arrival.

use std::collections::VecDeque;

use iotedge_ports::{Delivery, RunPart};

/// What comes out of a queue.
#[derive(Debug)]
pub(crate) enum Taken {
    One(Delivery),
    Run(RunPart),
}

impl Taken {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Run(part) => part.len(),
        }
    }

    /// One by one.
    pub(super) fn each(self, mut take: impl FnMut(Delivery)) {
        match self {
            Self::One(delivery) => take(delivery),
            Self::Run(part) => part.deliveries().for_each(take),
        }
    }

    pub(super) fn cost(&self) -> usize {
        match self {
            Self::One(delivery) => delivery.message.cost(),
            Self::Run(part) => part.cost(),
        }
    }
}

#[derive(Default)]
pub(super) struct Plain {
    queue: VecDeque<(u64, Taken)>,
    /// Messages.
    len: usize,
}

impl Plain {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What they cost to keep.
    pub(super) fn cost(&self) -> usize {
        self.queue.iter().map(|(_, item)| item.cost()).sum()
    }

    /// The arrival of the first.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.front().map(|(arrival, _)| *arrival)
    }

    pub(super) fn push(&mut self, arrival: u64, item: Taken) {
        self.len += item.len();
        self.queue.push_back((arrival, item));
    }

    /// The first, and of a run at most `most`, and no more behind the one that goes over `bytes`.
    pub(super) fn pop(&mut self, most: usize, bytes: usize) -> Option<Taken> {
        if let Some((_, Taken::Run(part))) = self.queue.front_mut() {
            if part.len() > most || part.cost() > bytes {
                let front = part.split(most, bytes);
                if part.is_empty() {
                    self.queue.pop_front();
                }
                self.len -= front.len();
                return Some(Taken::Run(front));
            }
        }
        let (_, item) = self.queue.pop_front()?;
        self.len -= item.len();
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iotedge_model::{Message, MessageId, QoS, SubscriptionIds, Topic};
    use iotedge_ports::Run;
    use proptest::prelude::*;

    use super::*;

    fn message(id: u64) -> Arc<Message> {
        let topic = Topic::new("t").expect("a topic");
        let mut message =
            Message::internal("x", topic, vec![0; id as usize % 7].into(), QoS::AtMostOnce);
        message.id = MessageId(id);
        Arc::new(message)
    }

    fn ids(taken: &Taken) -> Vec<u64> {
        match taken {
            Taken::One(delivery) => vec![delivery.message.id.0],
            Taken::Run(part) => part.messages().iter().map(|m| m.id.0).collect(),
        }
    }

    proptest! {
        /// Whatever is pushed and however it is cut: all comes out once and in order, and the
        /// books are right.
        #[test]
        fn all_comes_out_in_order(
            runs in prop::collection::vec(1..9u64, 1..20),
            cuts in prop::collection::vec((1..12usize, 1..1000usize), 0..60),
        ) {
            let mut plain = Plain::default();
            let mut next = 0;
            for (arrival, len) in runs.into_iter().enumerate() {
                let messages: Vec<_> = (next..next + len).map(message).collect();
                next += len;
                let item = match len {
                    1 => Taken::One(Delivery::live(message(next - 1), SubscriptionIds::NONE)),
                    _ => Taken::Run(RunPart::whole(Arc::new(Run::new(messages)), SubscriptionIds::NONE)),
                };
                plain.push(arrival as u64, item);
            }
            let mut found = Vec::new();
            let cuts = cuts.into_iter().chain(std::iter::repeat((4, usize::MAX)));
            let mut cost = plain.cost();
            for (most, bytes) in cuts {
                let Some(item) = plain.pop(most, bytes) else {
                    break;
                };
                prop_assert!(item.len() >= 1 && item.len() <= most);
                cost -= item.cost();
                found.extend(ids(&item));
                prop_assert_eq!((plain.len(), plain.cost()), (next as usize - found.len(), cost));
            }
            prop_assert_eq!(found, (0..next).collect::<Vec<_>>());
            prop_assert!(plain.first().is_none());
        }
    }
}
