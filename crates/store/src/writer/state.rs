//! What waits for a writer, and when it has to look at it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{ENOUGH, Job, LAZY_ENOUGH, Operation};
use crate::StoreError;

/// How long after an answer to the message in front the writer looks whether it can be spared: with
/// several that wait, others of them are answered in the meantime.
const LOOK: Duration = Duration::from_millis(2);
/// What a look costs for each job that waits, roughly: many are looked at less often, by ten times that.
const LOOK_EACH: Duration = Duration::from_micros(4);
/// So few are looked at at once.
const FEW: usize = 4;
pub(super) struct State<Op: Operation> {
    pub(super) waiting: Vec<Job<Op>>,
    /// Where in `waiting` one of each key is.
    keyed: HashMap<Op::Key, usize>,
    pub(super) bytes: u64,
    pub(super) lazy_bytes: u64,
    pub(super) urgent_since: Option<Instant>,
    pub(super) lazy_since: Option<Instant>,
    /// Where in `waiting` the first sparable job is.
    front: Option<usize>,
    /// And the last.
    back: Option<usize>,
    /// When to look whether it can be spared.
    pub(super) look_at: Option<Instant>,
    /// A batch failed on a full disk: nothing is due before this.
    pub(super) not_before: Option<Instant>,
    pub(super) closing: bool,
    pub(super) ended: Option<StoreError>,
}

impl<Op: Operation> Default for State<Op> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            keyed: HashMap::new(),
            bytes: 0,
            lazy_bytes: 0,
            urgent_since: None,
            lazy_since: None,
            front: None,
            back: None,
            look_at: None,
            not_before: None,
            closing: false,
            ended: None,
        }
    }
}

impl<Op: Operation> State<Op> {
    /// Adds a job to those that wait; the bytes that this takes.
    pub(super) fn add(&mut self, job: Job<Op>) -> u64 {
        let cost = job.cost;
        if let (Some(key), None) = (job.op.key(), &job.done) {
            let at = *self.keyed.entry(key).or_insert(self.waiting.len());
            if let Some(first) = self.waiting.get_mut(at) {
                first.op.absorb(job.op);
                return 0;
            }
        }
        if job.op.is_sparable() {
            self.front.get_or_insert(self.waiting.len());
            self.back = Some(self.waiting.len());
        }
        self.waiting.push(job);
        cost
    }

    /// The job that came last may have answered the one in front, or be in front itself and have
    /// been answered before; `true` when a look is due earlier than it was.
    fn plan_look(&mut self, now: Instant) -> bool {
        let (Some(at), Some(last)) = (self.front, self.waiting.last()) else {
            return false;
        };
        let Some(front) = self.waiting.get(at) else {
            return false;
        };
        let answered = if at + 1 == self.waiting.len() {
            let before = self.waiting.iter().take(at);
            before.rev().any(|job| job.op.spares(&front.op))
        } else {
            last.op.spares(&front.op)
        };
        // Answers come in order, most of the time: behind that for the last message none is waited for.
        let back = self.back.and_then(|at| self.waiting.get(at));
        let is_last = back.is_some_and(|back| last.op.spares(&back.op));
        if is_last && (answered || self.look_at.is_some()) {
            self.look_at = Some(now);
            return true;
        }
        if !answered || self.look_at.is_some() {
            return false;
        }
        let pause = match self.waiting.len() {
            ..=FEW => Duration::ZERO,
            many => LOOK.max(LOOK_EACH * u32::try_from(many).unwrap_or(u32::MAX)),
        };
        self.look_at = Some(now + pause);
        true
    }

    /// Takes a job in; `true` when the thread has to look whether something is due. `looks`: whether
    /// the engine spares what was answered before its time.
    pub(super) fn receive(&mut self, job: Job<Op>, looks: bool) -> bool {
        let since = if job.urgent {
            &mut self.urgent_since
        } else {
            &mut self.lazy_since
        };
        let first = since.is_none();
        if first {
            *since = Some(job.at);
        }
        let (before, lazy_before, urgent) = (self.bytes, self.lazy_bytes, job.urgent);
        let at = job.at;
        let cost = self.add(job);
        self.bytes += cost;
        if !urgent {
            self.lazy_bytes += cost;
        }
        let enough = before < ENOUGH && self.bytes >= ENOUGH;
        let lazy_enough = lazy_before < LAZY_ENOUGH && self.lazy_bytes >= LAZY_ENOUGH;
        let look = looks && self.plan_look(at);
        first || enough || lazy_enough || look
    }

    /// Puts jobs in front again, behind which others have come.
    pub(super) fn put_back(&mut self, jobs: Vec<Job<Op>>, looks: bool) {
        let arrived = self.take();
        (self.bytes, self.lazy_bytes) = (0, 0);
        let known = jobs.len();
        for (at, job) in jobs.into_iter().chain(arrived).enumerate() {
            let came = job.at;
            let since = if job.urgent {
                &mut self.urgent_since
            } else {
                &mut self.lazy_since
            };
            *since = Some(since.map_or(job.at, |since| since.min(job.at)));
            let urgent = job.urgent;
            let cost = self.add(job);
            self.bytes += cost;
            if !urgent {
                self.lazy_bytes += cost;
            }
            // What was put back has been looked at.
            if looks && at >= known {
                self.plan_look(came);
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<Job<Op>> {
        self.keyed.clear();
        (self.front, self.back, self.look_at) = (None, None, None);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests;
