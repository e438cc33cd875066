//! The rows of a shared subscription: which are with a member, and how far the rest is read.

use std::collections::{HashMap, HashSet};

use iotedge_model::MessageId;
use iotedge_store::{QueuedRow, TakerId};

/// Rows read from the store at once.
const READ_ROWS: usize = 128;

/// One queue for all members. Like that of a session it is either caught up, and new rows go to a
/// member at once, or read on from a cursor, and new rows only go to the store.
pub(super) struct Queue {
    pub(super) taker: TakerId,
    pub(super) caught_up: bool,
    cursor: Option<MessageId>,
    /// Rows handed to the store and not committed.
    pending: usize,
    /// Rows handed to the store ever.
    appended: u64,
    /// Rows that are with a member: bounded by what members have in memory.
    out: HashSet<MessageId>,
    /// Rows that came back, and the session that may have seen them.
    seen_by: HashMap<MessageId, TakerId>,
    reading: bool,
    /// A member came while another one was served.
    missed: bool,
    /// Rows settled while somebody reads: the read may have found them.
    settled: HashSet<MessageId>,
    /// Where a row came back to while somebody reads.
    rewound: Option<MessageId>,
}

/// A read that is under way.
pub(super) struct Reading {
    pub(super) taker: TakerId,
    pub(super) after: Option<MessageId>,
    pub(super) rows: usize,
    idle: bool,
    appended: u64,
}

impl Queue {
    pub(super) fn new(taker: TakerId, caught_up: bool) -> Self {
        Self {
            taker,
            caught_up,
            cursor: None,
            pending: 0,
            appended: 0,
            out: HashSet::new(),
            seen_by: HashMap::new(),
            reading: false,
            missed: false,
            settled: HashSet::new(),
            rewound: None,
        }
    }

    /// Nothing is on its way to or from it.
    pub(super) fn is_idle(&self) -> bool {
        self.pending == 0 && self.out.is_empty() && !self.reading
    }

    pub(super) fn unclaimed(&self, waiting: usize) -> usize {
        waiting.saturating_sub(self.out.len())
    }

    /// A row is about to be handed to the store.
    pub(super) fn append(&mut self, id: MessageId, taken: bool) {
        self.pending += 1;
        self.appended += 1;
        if taken {
            self.cursor = Some(id);
            self.out.insert(id);
        } else {
            self.caught_up = false;
        }
    }

    pub(super) fn committed(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    pub(super) fn begin(&mut self, most: usize) -> Option<Reading> {
        if self.reading {
            self.missed = true;
            return None;
        }
        self.reading = true;
        Some(Reading {
            taker: self.taker,
            after: self.cursor,
            rows: most.min(READ_ROWS),
            idle: self.pending == 0,
            appended: self.appended,
        })
    }

    /// Those of the rows read that no member has or had. The cursor passes all of them.
    pub(super) fn fresh(&mut self, mut rows: Vec<QueuedRow>) -> Vec<QueuedRow> {
        if let Some(last) = rows.last() {
            self.cursor = Some(last.message.id);
        }
        rows.retain(|row| {
            let id = &row.message.id;
            !self.out.contains(id) && !self.settled.contains(id)
        });
        rows
    }

    /// The read is over. Whether there may be more, and whether another member came meanwhile that
    /// is to be told of it.
    pub(super) fn end(&mut self, reading: &Reading, found_nothing: bool) -> (bool, bool) {
        self.reading = false;
        self.settled.clear();
        let rewound = self.rewound.take();
        if let Some(id) = rewound {
            self.rewind(id);
        } else if found_nothing && reading.idle && self.appended == reading.appended {
            self.caught_up = true;
        }
        // With nothing found and rows on their way, the commit wakes.
        let more = !self.caught_up && (!found_nothing || self.pending == 0 || rewound.is_some());
        (more, std::mem::take(&mut self.missed) && more)
    }

    /// The read has failed: nothing is known of what there is.
    pub(super) fn fail(&mut self) {
        self.reading = false;
        self.missed = false;
        self.settled.clear();
        if let Some(id) = self.rewound.take() {
            self.rewind(id);
        }
    }

    /// A member gets a row; `true` when it may have seen it before.
    pub(super) fn claim(&mut self, id: MessageId, session: Option<TakerId>) -> bool {
        self.out.insert(id);
        let seen_by = self.seen_by.remove(&id);
        seen_by.is_some() && seen_by == session
    }

    /// A row is gone.
    pub(super) fn settled(&mut self, id: MessageId) {
        self.out.remove(&id);
        self.seen_by.remove(&id);
        if self.reading {
            self.settled.insert(id);
        }
    }

    /// A member did not get a row: it waits again.
    pub(super) fn give_back(&mut self, id: MessageId, sent_to: Option<TakerId>) {
        if !self.out.remove(&id) {
            return;
        }
        if let Some(session) = sent_to {
            self.seen_by.insert(id, session);
        }
        if self.reading {
            self.rewound = Some(self.rewound.map_or(id, |at| at.min(id)));
        } else {
            self.rewind(id);
        }
        self.caught_up = false;
    }

    fn rewind(&mut self, id: MessageId) {
        let before = id.0.checked_sub(1).map(MessageId);
        self.cursor = self.cursor.min(before);
        self.caught_up = false;
    }
}

#[cfg(test)]
mod tests {

    use bytes::Bytes;
    use iotedge_model::{Message, QoS, SubscriptionIds, Topic};
    use iotedge_store::RowState;

    use super::*;

    const TAKER: TakerId = TakerId(1);
    const MANY: usize = 10;

    /// A queue with rows in the store and nobody to take them.
    fn behind() -> Queue {
        Queue::new(TAKER, false)
    }

    fn rows(ids: &[u64]) -> Vec<QueuedRow> {
        let row = |id: &u64| {
            let topic = Topic::new("t").unwrap();
            let mut message = Message::internal("t", topic, Bytes::new(), QoS::AtLeastOnce);
            message.id = MessageId(*id);
            QueuedRow {
                message,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: SubscriptionIds::NONE,
                state: RowState::Queued,
                packet_id: None,
                claimant: None,
            }
        };
        ids.iter().map(row).collect()
    }

    /// What is new of these rows.
    fn fresh(queue: &mut Queue, ids: &[u64]) -> Vec<u64> {
        let rows = queue.fresh(rows(ids));
        rows.iter().map(|row| row.message.id.0).collect()
    }

    /// Reads these rows and gives all of them to a member.
    fn take(queue: &mut Queue, ids: &[u64]) {
        let reading = queue.begin(MANY).unwrap();
        for id in fresh(queue, ids) {
            queue.claim(MessageId(id), None);
        }
        queue.end(&reading, ids.is_empty());
    }

    #[test]
    fn a_row_that_is_settled_while_it_is_read_is_not_given_out() {
        let mut queue = behind();
        take(&mut queue, &[1, 2]);
        queue.give_back(MessageId(1), None);
        let reading = queue.begin(MANY).unwrap();
        // Read before it went.
        queue.settled(MessageId(2));
        assert_eq!(fresh(&mut queue, &[1, 2, 3]), [1, 3]);
        queue.end(&reading, false);
    }

    #[test]
    fn a_read_that_fails_says_nothing_of_what_there_is() {
        let mut queue = behind();
        queue.begin(MANY).unwrap();
        queue.fail();
        assert!(!queue.caught_up);
        assert_eq!(queue.begin(MANY).unwrap().after, None);
    }

    #[test]
    fn a_row_that_comes_back_while_others_are_read_is_read_again() {
        let mut queue = behind();
        take(&mut queue, &[1, 2, 3]);
        let reading = queue.begin(MANY).unwrap();
        assert_eq!(reading.after, Some(MessageId(3)));
        queue.give_back(MessageId(3), None);
        queue.give_back(MessageId(2), None);
        assert_eq!(fresh(&mut queue, &[4]), [4]);
        assert_eq!(queue.end(&reading, false), (true, false));
        assert_eq!(queue.begin(MANY).unwrap().after, Some(MessageId(1)));
    }

    #[test]
    fn it_has_caught_up_when_nothing_is_there_and_nothing_on_its_way() {
        let mut queue = behind();
        queue.append(MessageId(1), false);
        let reading = queue.begin(MANY).unwrap();
        assert_eq!(
            queue.end(&reading, true),
            (false, false),
            "the commit wakes"
        );
        assert!(!queue.caught_up);
        queue.committed();
        // Another one is handed in and committed behind the reader's back.
        let reading = queue.begin(MANY).unwrap();
        queue.append(MessageId(2), false);
        queue.committed();
        assert_eq!(queue.end(&reading, true), (true, false));
        take(&mut queue, &[1, 2]);
        take(&mut queue, &[]);
        assert!(queue.caught_up);
    }

    #[test]
    fn a_row_that_comes_back_while_nothing_is_found_is_looked_for() {
        let mut queue = behind();
        take(&mut queue, &[1]);
        let reading = queue.begin(MANY).unwrap();
        queue.give_back(MessageId(1), None);
        assert_eq!(queue.end(&reading, true), (true, false));
        assert!(!queue.caught_up);
    }

    #[test]
    fn a_member_that_came_in_vain_is_told_when_there_is_more() {
        let mut queue = behind();
        let reading = queue.begin(MANY).unwrap();
        assert!(queue.begin(MANY).is_none());
        assert_eq!(queue.end(&reading, false), (true, true));
        let reading = queue.begin(MANY).unwrap();
        assert_eq!(queue.end(&reading, false), (true, false), "told once");
    }

    #[test]
    fn a_row_that_came_back_was_seen_by_the_session_that_had_it() {
        let mut queue = behind();
        let (one, other) = (TakerId(7), TakerId(8));
        take(&mut queue, &[1, 2, 3]);
        for id in [1, 2] {
            queue.give_back(MessageId(id), Some(one));
        }
        queue.give_back(MessageId(3), None);
        assert!(queue.claim(MessageId(1), Some(one)));
        assert!(!queue.claim(MessageId(2), Some(other)));
        assert!(!queue.claim(MessageId(3), None));
        queue.give_back(MessageId(1), None);
        assert!(
            !queue.claim(MessageId(1), Some(one)),
            "it was not sent again"
        );
    }
}
