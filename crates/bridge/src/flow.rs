//! How many bytes may wait for PUBACK, so that on a slow line what matters more waits for little.
//! What is under way stands before it in TCP and cannot be passed. Pure: it is handed the times.

use std::time::Duration;

/// Bytes under way at most.
const MOST: usize = 1 << 20;
/// At least: a line that is slower than this in a second has to be waited for.
const LEAST: usize = 8 * 1024;
/// What a connection begins with.
const FIRST: usize = 64 * 1024;
/// How much longer than the shortest an answer may take before less is sent.
const LONG: Duration = Duration::from_secs(1);
/// And within which more may be.
const SHORT: Duration = Duration::from_millis(500);

/// The limit of one connection.
#[derive(Debug)]
pub(crate) struct Flow {
    limit: usize,
    /// The shortest time from the wire to a PUBACK.
    shortest: Option<Duration>,
    /// Bytes to be answered before the limit is lowered again: what was sent under the old one.
    old: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            limit: FIRST,
            shortest: None,
            old: 0,
        }
    }
}

impl Flow {
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A PUBACK for so many bytes, so long after they were written; `left`: bytes that still wait.
    pub(crate) fn answered(&mut self, bytes: usize, waited: Duration, left: usize) {
        let shortest = self.shortest.map_or(waited, |s| s.min(waited));
        self.shortest = Some(shortest);
        self.old = self.old.saturating_sub(bytes);
        let queued = waited.saturating_sub(shortest);
        if queued > LONG {
            if self.old == 0 {
                // What was under way took so long: as much less as brings that below.
                let part = LONG.as_secs_f64() / queued.as_secs_f64();
                let limit = self.limit as f64 * part.clamp(0.25, 0.9);
                self.limit = (limit as usize).max(LEAST);
                self.old = left;
            }
        } else if queued < SHORT && left + bytes * 2 >= self.limit / 2 {
            self.limit = self.limit.saturating_add(bytes).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Sends all that may go over a line for some seconds, in messages of 500 bytes; how many were
    /// answered, and the longest that one waited in the second half, in milliseconds.
    fn run(rate: u64, round_trip: u64, seconds: u64) -> (u64, u64) {
        const SIZE: usize = 500;
        let mut flow = Flow::default();
        let (mut under_way, mut now, mut free) = (VecDeque::new(), 0, 0);
        let (mut answered, mut longest) = (0, 0);
        while now < seconds * 1_000_000 {
            while (under_way.len() + 1) * SIZE <= flow.limit() {
                free = now.max(free) + SIZE as u64 * 1_000_000 / rate;
                under_way.push_back((now, free + round_trip * 1000));
            }
            let (sent, due) = under_way.pop_front().unwrap();
            now = due;
            let waited = Duration::from_micros(now - sent);
            flow.answered(SIZE, waited, under_way.len() * SIZE);
            answered += 1;
            if now > seconds * 500_000 {
                longest = longest.max((now - sent) / 1000);
            }
        }
        (answered * SIZE as u64 / seconds, longest)
    }

    #[test]
    fn a_slow_line_is_kept_busy_and_holds_nothing_up_for_long() {
        for (rate, round_trip) in [(10_000, 50), (50_000, 600), (200_000, 20)] {
            let (pace, longest) = run(rate, round_trip, 120);
            assert!(pace * 10 >= rate * 9, "{rate}: {pace}");
            assert!(longest <= round_trip + 1800, "{rate}: {longest} ms");
        }
    }

    #[test]
    fn a_fast_line_is_not_held_back() {
        let (pace, _) = run(50_000_000, 20, 20);
        assert!(pace >= 40_000_000, "{pace}");
        let (pace, _) = run(5_000_000, 200, 20);
        assert!(pace >= 4_000_000, "{pace}");
    }
}
