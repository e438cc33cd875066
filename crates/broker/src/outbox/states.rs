//! The retained messages on their way to a route's other side, by topic: until they are there, what
//! the other side has retained for such a topic is older than what it will have.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use iotedge_model::{MessageId, Topic};
use iotedge_store::{Store, TakerId};

/// Rows looked at at once of what an earlier process has left.
const LEARN_ROWS: usize = 2048;
/// Their bytes.
const LEARN_BYTES: usize = 1 << 20;
/// Topics remembered. With more of them all pass for topics on whose way something is.
const MOST: usize = 100_000;

#[derive(Clone, Copy)]
struct State {
    /// The newest message with RETAIN.
    id: MessageId,
    /// When it was acknowledged, by the monotonic clock in milliseconds.
    acknowledged: Option<u64>,
}

/// What is known of a topic.
pub(crate) enum OnItsWay {
    /// Nothing is.
    No,
    /// This message is, if its row is still there.
    If(MessageId),
    /// It was acknowledged on this connection, then.
    Acknowledged(u64),
    /// Too much is to know each.
    Perhaps,
}

#[derive(Default)]
pub(crate) struct States {
    /// By hashes of topics.
    known: HashMap<u64, State>,
    hasher: RandomState,
    /// How far the rows of an earlier process were looked at.
    learnt: Option<MessageId>,
    complete: bool,
    too_many: bool,
}

impl States {
    /// Looks at some more rows from before `first`, the first id of this process. `true`: at all.
    pub(crate) fn learn(&mut self, store: &Store, taker: TakerId, first: MessageId) -> bool {
        if self.complete {
            return true;
        }
        let rows = match store.read(taker, self.learnt, LEARN_ROWS, LEARN_BYTES) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "the retained messages of a route's queue could not be read");
                return false;
            }
        };
        let last = rows.last().map(|row| row.message.id);
        self.learnt = last.or(self.learnt);
        self.complete = last.is_none_or(|last| last >= first);
        for row in rows {
            if row.retain && row.message.id < first {
                self.queued(&row.message.topic, row.message.id);
            }
        }
        self.complete
    }

    /// A message with RETAIN waits.
    pub(crate) fn queued(&mut self, topic: &Topic, id: MessageId) {
        let hash = self.hasher.hash_one(topic.as_str());
        if self.known.len() >= MOST && !self.known.contains_key(&hash) {
            self.known.retain(|_, state| state.acknowledged.is_none());
            if self.known.len() >= MOST {
                self.known = HashMap::new();
                self.too_many = true;
            }
        }
        let state = State {
            id,
            acknowledged: None,
        };
        let known = self.known.entry(hash).or_insert(state);
        if known.id < id {
            *known = state;
        }
    }

    /// The other side has it.
    pub(crate) fn acknowledged(&mut self, topic: &Topic, id: MessageId, now: u64) {
        let hash = self.hasher.hash_one(topic.as_str());
        let known = self.known.get_mut(&hash);
        if let Some(state) = known.filter(|state| state.id == id) {
            state.acknowledged = Some(now);
        }
    }

    /// The connection is gone.
    pub(crate) fn rewind(&mut self) {
        self.known.retain(|_, state| state.acknowledged.is_none());
    }

    /// `empty`: nothing waits at all.
    pub(crate) fn look(&mut self, topic: &Topic, empty: bool) -> OnItsWay {
        self.too_many &= !empty;
        if self.too_many {
            return OnItsWay::Perhaps;
        }
        let hash = self.hasher.hash_one(topic.as_str());
        match self.known.get(&hash) {
            None => OnItsWay::No,
            Some(state) => match state.acknowledged {
                Some(at) => OnItsWay::Acknowledged(at),
                None => OnItsWay::If(state.id),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic(n: usize) -> Topic {
        Topic::new(&format!("t/{n}")).unwrap()
    }

    #[test]
    fn it_does_not_grow_and_what_it_does_not_know_may_be_on_its_way() {
        let mut states = States::default();
        for n in 0..MOST {
            states.queued(&topic(n), MessageId(n as u64));
        }
        states.acknowledged(&topic(0), MessageId(0), 5);
        states.queued(&topic(MOST), MessageId(MOST as u64));
        assert!(matches!(states.look(&topic(0), false), OnItsWay::No));
        assert!(matches!(states.look(&topic(1), false), OnItsWay::If(_)));
        states.queued(&topic(MOST + 1), MessageId(MOST as u64 + 1));
        assert!(matches!(states.look(&topic(2), false), OnItsWay::Perhaps));
        assert!(states.known.len() <= MOST);
        assert!(matches!(states.look(&topic(2), true), OnItsWay::No));
    }

    #[test]
    fn the_newest_of_a_topic_counts() {
        let mut states = States::default();
        let topic = topic(0);
        states.queued(&topic, MessageId(9));
        // Read later from what an earlier process has left.
        states.queued(&topic, MessageId(3));
        states.acknowledged(&topic, MessageId(3), 1);
        let on_its_way = states.look(&topic, false);
        assert!(matches!(on_its_way, OnItsWay::If(MessageId(9))));
        states.acknowledged(&topic, MessageId(9), 7);
        let on_its_way = states.look(&topic, false);
        assert!(matches!(on_its_way, OnItsWay::Acknowledged(7)));
        states.rewind();
        assert!(matches!(states.look(&topic, false), OnItsWay::No));
    }
}
