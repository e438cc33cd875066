//! Acknowledgements that overtook their append.
//!
//! A live taker may have a message, and answer it, before the thread that accepted it has handed
//! its row to the store. Such an answer is remembered until the row comes; one for a row that is
//! gone already (a second answer) is forgotten after a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Ending;
use crate::TakerId;

/// An answer is remembered for at least this long, at most for twice it.
const KEEP: Duration = Duration::from_secs(60);
/// Answers kept in one of the two periods.
const MOST: usize = 65_536;

type Answers = HashMap<(TakerId, u64), Ending>;

pub(crate) struct Early {
    now: Answers,
    before: Answers,
    since: Instant,
}

impl Default for Early {
    fn default() -> Self {
        Self {
            now: Answers::new(),
            before: Answers::new(),
            since: Instant::now(),
        }
    }
}

impl Early {
    /// There was no row to settle.
    pub(crate) fn remember(&mut self, taker: TakerId, id: u64, how: Ending) {
        if self.since.elapsed() > KEEP || self.now.len() >= MOST {
            self.before = std::mem::take(&mut self.now);
            self.since = Instant::now();
        }
        self.now.insert((taker, id), how);
    }

    /// A row comes: the answer that came before it.
    pub(crate) fn take(&mut self, taker: TakerId, id: u64) -> Option<Ending> {
        if self.now.is_empty() && self.before.is_empty() {
            return None;
        }
        let key = (taker, id);
        self.now.remove(&key).or_else(|| self.before.remove(&key))
    }
}
