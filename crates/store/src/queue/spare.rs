//! What is gone before its commit was due: never written, only counted.
//!
//! A message that all its takers have acknowledged is safe with them; its publisher may hear so.
//! When a commit comes due, the writer looks first whether the oldest messages are such ones. Those
//! that still wait for an answer, and have not waited for as long as they may, go on waiting.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::mirror::Tallies;
use super::{Op, Settled};
use crate::writer::Job;
use crate::{Append, TakerId};

/// Counters that are in memory only.
#[derive(Default)]
pub(crate) struct Owed {
    pub(crate) tallies: Tallies,
    /// The highest id that was never written.
    pub(crate) highest: u64,
    pub(crate) since: Option<Instant>,
}

impl Owed {
    fn add(&mut self, tallies: &Tallies, highest: u64) {
        for (taker, tally) in tallies {
            self.tallies.entry(*taker).or_default().add(tally, 1);
        }
        self.highest = self.highest.max(highest);
        self.since.get_or_insert_with(Instant::now);
    }

    /// They are in the file.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Answers that wait for their commit, by taker and message.
type Answers = HashMap<(TakerId, u64), Settled>;

/// The answers of a batch, if it is of messages, answers and counters alone: anything else has its
/// place among them.
fn answers(batch: &[Job<Op>]) -> Option<Answers> {
    let mut answers = Answers::new();
    for job in batch {
        match &job.op {
            Op::Append(entries) if !entries.is_empty() => {}
            Op::CountDrop { .. } => {}
            Op::Settle {
                taker, ids, how, ..
            } => answers.extend(ids.iter().map(|id| ((*taker, id.0), *how))),
            _ => return None,
        }
    }
    (!answers.is_empty()).then_some(answers)
}

/// What an append comes to, if nothing of it has to be written.
fn counted(entries: &[Append], known: &HashSet<TakerId>, answers: &Answers) -> Option<Tallies> {
    let mut tallies = Tallies::new();
    for entry in entries {
        if entry.retained.is_some() || entry.inbound.is_some() {
            return None;
        }
        for row in &entry.takers {
            if known.contains(&row.taker) {
                let how = answers.get(&(row.taker, entry.message.id.0))?;
                let tally = tallies.entry(row.taker).or_default();
                tally.accepted += 1;
                how.count(tally);
            }
        }
    }
    Some(tallies)
}

/// Takes out of `batch` the messages at its front that need not be written, and their answers.
/// The first gives the jobs, in order; the second what they come to.
pub(super) fn spare(
    batch: &mut Vec<Job<Op>>,
    known: &HashSet<TakerId>,
    owed: &mut Owed,
) -> (Vec<Job<Op>>, Tallies) {
    let mut all = Tallies::new();
    let Some(mut answers) = answers(batch) else {
        return (Vec::new(), all);
    };
    let mut highest = 0;
    // By the place of the append: what is taken of the answers.
    let mut taken: HashMap<(TakerId, u64), i64> = HashMap::new();
    let mut spared = 0;
    for job in batch.iter() {
        let Op::Append(entries) = &job.op else {
            continue;
        };
        let Some(tallies) = counted(entries, known, &answers) else {
            break;
        };
        spared += 1;
        for (taker, tally) in &tallies {
            all.entry(*taker).or_default().add(tally, 1);
        }
        for entry in entries {
            highest = highest.max(entry.message.id.0);
            for row in &entry.takers {
                let key = (row.taker, entry.message.id.0);
                if answers.remove(&key).is_some() {
                    taken.insert(key, super::batch::cost(&entry.message));
                }
            }
        }
    }
    if spared == 0 {
        return (Vec::new(), all);
    }
    owed.add(&all, highest);
    let mut done = Vec::with_capacity(batch.len());
    let mut left = Vec::new();
    for mut job in batch.drain(..) {
        match &mut job.op {
            Op::Append(_) if spared > 0 => {
                spared -= 1;
                done.push(job);
            }
            Op::Settle {
                taker,
                ids,
                how,
                bytes,
            } => {
                let (mut gone, mut gone_bytes) = (Vec::new(), 0);
                ids.retain(|id| match taken.remove(&(*taker, id.0)) {
                    Some(cost) => {
                        gone.push(*id);
                        gone_bytes += cost;
                        false
                    }
                    None => true,
                });
                if ids.is_empty() {
                    *ids = gone;
                    done.push(job);
                    continue;
                }
                if !gone.is_empty() {
                    let gone_bytes = gone_bytes.min(*bytes);
                    *bytes -= gone_bytes;
                    let op = Op::Settle {
                        taker: *taker,
                        ids: gone,
                        how: *how,
                        bytes: gone_bytes,
                    };
                    let (cost, urgent, at) = (0, job.urgent, job.at);
                    let done_job = Job {
                        op,
                        done: None,
                        cost,
                        urgent,
                        at,
                    };
                    done.push(done_job);
                }
                left.push(job);
            }
            _ => left.push(job),
        }
    }
    *batch = left;
    (done, all)
}
