//! Fresh messages of a route that pass what has waited.
//!
//! The queue is read in order as ever, and looked into a second time behind the newest message that
//! waited when the link came up (the border): the newest that the store can show, so that all topics
//! that wait before it are known when it has been read up to there. What is taken there is in flight like everything
//! else, so that the one who reads in order passes over it; when he comes to the border the lanes
//! are one again, and if messages wait still, there is a new border.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use iotedge_model::{MessageId, Topic};
use iotedge_ports::{FreshOrder, FreshRule};
use iotedge_store::{Store, TakerId};

use super::feed::Behind;

/// Rows whose topics are looked at during one drain.
const SCAN_ROWS: usize = 2048;
/// Their bytes.
const SCAN_BYTES: usize = 1 << 20;
/// Different topics among what has waited that are remembered. With more of them fresh messages
/// wait until those before them are through.
const MOST_TOPICS: usize = 100_000;

/// Where a route stands that lets fresh messages pass.
pub(crate) struct Ahead {
    rule: FreshRule,
    /// The newest message of those that waited.
    border: Option<MessageId>,
    /// How far behind the border the queue was looked into.
    cursor: MessageId,
    /// Percents that the fresh ones have saved up.
    credit: u64,
    topics: Topics,
}

/// The topics of what waits before the border.
#[derive(Default)]
struct Topics {
    /// Hashes: a collision keeps a message in its place, no more.
    hashes: HashSet<u64>,
    hasher: RandomState,
    scanned: Option<MessageId>,
    complete: bool,
    too_many: bool,
}

impl Topics {
    fn hash(&self, topic: &str) -> u64 {
        self.hasher.hash_one(topic)
    }

    /// Looks at some more rows. `true`: all were seen, and are remembered.
    fn scan(&mut self, store: &Store, taker: TakerId, border: MessageId) -> bool {
        if self.complete || self.too_many {
            return self.complete;
        }
        let rows = match store.read(taker, self.scanned, SCAN_ROWS, SCAN_BYTES) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "topics of a route's queue could not be read");
                return false;
            }
        };
        for row in &rows {
            if row.message.id <= border {
                self.hashes.insert(self.hash(row.message.topic.as_str()));
            }
        }
        let last = rows.last().map(|row| row.message.id);
        // Everything up to the border is settled: what cannot be read now never will be.
        self.complete = last.is_none_or(|last| last >= border);
        self.scanned = last.or(self.scanned);
        if self.hashes.len() > MOST_TOPICS {
            self.hashes = HashSet::new();
            self.complete = false;
            self.too_many = true;
            tracing::warn!(
                most = MOST_TOPICS,
                "too many topics wait for a route: fresh messages go behind them"
            );
        }
        self.complete
    }
}

impl Ahead {
    pub(crate) fn new(rule: FreshRule) -> Self {
        Self {
            rule,
            border: None,
            cursor: MessageId(0),
            credit: 0,
            topics: Topics::default(),
        }
    }

    /// All that is not acknowledged waits again.
    pub(crate) fn rewind(&mut self) {
        self.border = None;
    }

    /// How many fresh messages may be part of a drain of `messages`, and behind which id they are.
    /// `behind`: how far the queue was read in order, `None` to its end. `newest`: the last message
    /// that was queued.
    pub(crate) fn portion(
        &mut self,
        messages: usize,
        behind: Option<Behind>,
        newest: MessageId,
        (store, taker): (&Store, TakerId),
    ) -> Option<(usize, MessageId)> {
        let is_ahead = |behind: &Behind, id| behind.read.is_none_or(|read| read < id);
        let Some(behind) = behind.filter(|behind| is_ahead(behind, behind.settled)) else {
            // Nothing is known to wait.
            self.border = None;
            return None;
        };
        let border = match self.border {
            Some(border) if is_ahead(&behind, border) => border,
            _ => {
                // What is on its way to the disk is behind it: the store shows none of that yet.
                self.border = Some(behind.settled);
                self.cursor = behind.settled;
                self.topics = Topics::default();
                behind.settled
            }
        };
        if self.rule.order == FreshOrder::Topic && !self.topics.scan(store, taker, border) {
            return None;
        }
        if newest <= self.cursor {
            return None;
        }
        // What one drain leaves over is for the next; what nobody used is not saved for ever.
        let saved = self.credit + messages as u64 * u64::from(self.rule.share);
        self.credit = saved.min(100 * messages as u64);
        let portion = usize::try_from(self.credit / 100).unwrap_or(messages);
        (portion > 0).then_some((portion, self.cursor))
    }

    /// A row behind the border was looked at. Whether it may pass those that wait.
    pub(crate) fn passes(&mut self, id: MessageId, topic: &Topic) -> bool {
        self.cursor = id;
        let behind_its_own = self.rule.order == FreshOrder::Topic
            && self
                .topics
                .hashes
                .contains(&self.topics.hash(topic.as_str()));
        if !behind_its_own {
            self.credit = self.credit.saturating_sub(100);
        }
        !behind_its_own
    }
}
