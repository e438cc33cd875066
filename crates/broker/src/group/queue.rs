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
