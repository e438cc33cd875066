//! How long messages have waited while the daemon ran, for when the wall clock says nothing
//! (decision 3). One mark now and then instead of one a message.

use std::time::Duration;

use iotedge_model::{Message, MessageId, Now};

/// Milliseconds between marks at least.
const SPACING: u64 = 1000;
/// Marks of a time long ago may be further apart: one part in so many of how long ago it is. So 200
/// of them cover months, and nothing lives longer than it may by more than that part of its life.
const PART: u64 = 8;

/// All messages up to `id` were there at `mono`.
#[derive(Clone, Copy)]
struct Mark {
    mono: u64,
    id: MessageId,
}

/// When which messages were there at the latest.
pub(crate) struct Ages {
    marks: Vec<Mark>,
}

impl Ages {
    /// `newest`: the last message of an earlier process.
    pub(crate) fn new(now: &Now, newest: MessageId) -> Self {
        Self {
            marks: vec![Mark {
                mono: now.mono,
                id: newest,
            }],
        }
    }

    /// All messages up to `id` are there. To be called now and then, not only when one comes.
    pub(crate) fn seen(&mut self, id: MessageId, now: &Now) {
        let Some(last) = self.marks.last() else {
            return;
        };
        if id <= last.id || now.mono < last.mono.saturating_add(SPACING) {
            return;
        }
        self.marks.push(Mark { mono: now.mono, id });
        self.thin(now);
    }

    /// Lets go of marks between others that are near enough. The mark behind it then stands for its
    /// messages too: they are taken for younger than they are, by no more than the gap before it.
    fn thin(&mut self, now: &Now) {
        let mut kept: Vec<Mark> = Vec::with_capacity(self.marks.len());
        for (at, mark) in self.marks.iter().enumerate() {
            let goes = match (kept.last(), self.marks.get(at + 1)) {
                (Some(before), Some(next)) => {
                    let age = now.mono.saturating_sub(next.mono);
                    next.mono.saturating_sub(before.mono) <= age / PART
                }
                _ => false,
            };
            if !goes {
                kept.push(*mark);
            }
        }
        self.marks = kept;
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
        for id in 1..=1_000_000 {
            ages.seen(MessageId(id), &at(id * 100, false));
        }
        assert!(ages.marks.len() < 200, "{} marks", ages.marks.len());
        let end = 1_000_000 * 100;
        for seconds in [10, 300, 3_000, 70_000] {
            let life = Some(Duration::from_secs(seconds));
            let millis = seconds * 1000;
            for id in (1..=1_000_000u64).step_by(97) {
                let came = at(id * 100, false);
                let over = ages.is_over(&message(id, &came), life, &at(end, false));
                let age = end - came.mono;
                assert!(!over || age >= millis, "{id} ended after {age} ms");
                let latest = millis + millis / PART + 2 * SPACING;
                assert!(
                    over || age < latest,
                    "{id} lives after {age} ms of {millis}"
                );
            }
        }
    }

    #[test]
    fn the_last_message_ends_too_though_no_other_comes() {
        let mut ages = Ages::new(&at(0, false), MessageId(0));
        ages.seen(MessageId(1), &at(5_000, false));
        let came = at(5_500, false);
        ages.seen(MessageId(2), &came);
        // Nothing comes any more; somebody looks once a second.
        ages.seen(MessageId(2), &at(6_500, false));
        ages.seen(MessageId(2), &at(7_500, false));
        let last = message(2, &came);
        assert!(!ages.is_over(&last, TTL, &at(15_400, false)));
        assert!(ages.is_over(&last, TTL, &at(16_500, false)));
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
