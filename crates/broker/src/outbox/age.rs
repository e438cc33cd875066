//! How long messages have waited while the daemon ran, for when the wall clock says nothing
//! (decision 3). One mark now and then instead of one a message.

use std::collections::VecDeque;
use std::time::Duration;

use iotedge_model::{Message, MessageId, Now};

/// Marks kept at most: when there are more, every second one goes, and ages get coarser.
const MOST: usize = 256;
/// Milliseconds between marks at first.
const SPACING: u64 = 1000;

/// All messages up to `id` were there at `mono`.
#[derive(Clone, Copy)]
struct Mark {
    mono: u64,
    id: MessageId,
}

/// When which messages were there at the latest.
pub(crate) struct Ages {
    marks: VecDeque<Mark>,
    spacing: u64,
}

impl Ages {
    /// `newest`: the last message of an earlier process.
    pub(crate) fn new(now: &Now, newest: MessageId) -> Self {
        Self {
            marks: VecDeque::from([Mark {
                mono: now.mono,
                id: newest,
            }]),
            spacing: SPACING,
        }
    }

    /// A message is queued; ids grow.
    pub(crate) fn queued(&mut self, id: MessageId, now: &Now) {
        let due = |last: &Mark| now.mono >= last.mono.saturating_add(self.spacing);
        if !self.marks.back().is_none_or(due) {
            return;
        }
        self.marks.push_back(Mark { mono: now.mono, id });
        if self.marks.len() > MOST {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    /// How long the daemon has certainly run since this message came, in milliseconds.
    fn ran(&self, id: MessageId, now: &Now) -> u64 {
        let at = self.marks.partition_point(|mark| mark.id < id);
        let mark = self.marks.get(at);
        mark.map_or(0, |mark| now.mono.saturating_sub(mark.mono))
    }

    /// Whether a message has outlived its own expiry or `ttl`.
    pub(crate) fn is_over(&self, message: &Message, ttl: Option<Duration>, now: &Now) -> bool {
        let ttl = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let expiry = message.expiry.map(|seconds| u64::from(seconds) * 1000);
        let Some(life) = [ttl, expiry].into_iter().flatten().min() else {
            return false;
        };
        let end = message.accepted_at.0.saturating_add(life);
        let by_wall = message.trusted && now.trusted && now.wall.0 >= end;
        by_wall || self.ran(message.id, now) >= life
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use iotedge_model::{QoS, Topic, UnixMillis};

    use super::*;

    fn at(mono: u64, trusted: bool) -> Now {
        Now {
            mono,
            wall: UnixMillis(1_000_000 + mono),
            trusted,
        }
    }

    fn message(id: u64, now: &Now) -> Message {
        let topic = Topic::new("t").expect("a topic");
        let mut message = Message::internal("t", topic, Bytes::new(), QoS::AtLeastOnce);
        message.id = MessageId(id);
        message.accepted_at = now.wall;
        message.trusted = now.trusted;
        message
    }

    const TTL: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn a_trusted_clock_counts_the_time_that_the_daemon_was_down() {
        let ages = Ages::new(&at(0, true), MessageId(9));
        let mut old = message(5, &at(0, true));
        old.accepted_at = UnixMillis(1_000_000 - 10_000);
        assert!(ages.is_over(&old, TTL, &at(0, true)));
        assert!(!ages.is_over(&old, TTL, &at(0, false)), "1970 ends nothing");
        old.trusted = false;
        assert!(!ages.is_over(&old, TTL, &at(0, true)));
        assert!(!ages.is_over(&old, TTL, &at(9_999, true)));
        assert!(
            ages.is_over(&old, TTL, &at(10_000, false)),
            "it ran as long"
        );
    }

    #[test]
    fn without_a_clock_a_message_lives_no_shorter_than_it_may_and_not_much_longer() {
        let mut ages = Ages::new(&at(0, false), MessageId(0));
        for id in 1..=100_000 {
            ages.queued(MessageId(id), &at(id * 100, false));
        }
        assert!(ages.marks.len() <= MOST);
        let end = 100_000 * 100;
        let life = Some(Duration::from_secs(3_000));
        for id in (1..=100_000u64).step_by(97) {
            let came = at(id * 100, false);
            let over = ages.is_over(&message(id, &came), life, &at(end, false));
            let age = end - came.mono;
            assert!(!over || age >= 3_000_000, "{id} ended after {age} ms");
            assert!(over || age < 3_000_000 + 2 * ages.spacing, "{id} lives");
        }
    }

    #[test]
    fn the_shorter_of_both_lives_counts() {
        let ages = Ages::new(&at(0, true), MessageId(0));
        let now = at(0, true);
        let mut short = message(1, &now);
        assert!(!ages.is_over(&short, None, &at(1 << 40, true)));
        short.expiry = Some(3);
        assert!(!ages.is_over(&short, TTL, &at(2_999, true)));
        assert!(ages.is_over(&short, TTL, &at(3_000, true)));
    }
}
