//! Retained messages (MQTT 3.1.1, 3.3.1.3): the last one of each topic.

mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use iotedge_model::{Message, Now, Topic, TopicFilter};

/// Messages that one look for expired ones takes out at most; the next look finds the rest.
const EXPIRED_AT_ONCE: usize = 10_000;

/// Sorted by topic, so that a filter with a literal beginning looks only where it can match.
#[derive(Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Topic, Kept>,
    bytes: usize,
    expiring: Expiring,
}

struct Kept {
    message: Arc<Message>,
    /// Its place in [`Expiring::running`]; `u64::MAX` for one that does not expire.
    until: u64,
}

/// When messages expire (decision 3): by the wall clock where it could be believed at both ends,
/// otherwise when the daemon has run for as long as they live.
#[derive(Default)]
struct Expiring {
    /// Milliseconds since 1970, of those accepted with a trusted clock.
    wall: BTreeSet<(u64, Topic)>,
    /// Monotonic milliseconds, of all.
    running: BTreeSet<(u64, Topic)>,
}

/// When it expires, where the clock could be believed at its acceptance.
fn wall_end(message: &Message) -> Option<u64> {
    let seconds = message.expiry.filter(|_| message.trusted)?;
    let life = u64::from(seconds) * 1000;
    Some(message.accepted_at.0.saturating_add(life))
}

impl Expiring {
    /// The monotonic end of a message's life; `u64::MAX` for one that does not expire.
    fn add(&mut self, message: &Message, now: &Now) -> u64 {
        let Some(seconds) = message.expiry else {
            return u64::MAX;
        };
        let mut left = u64::from(seconds) * 1000;
        if let Some(end) = wall_end(message) {
            self.wall.insert((end, message.topic.clone()));
            if now.trusted {
                left = left.min(end.saturating_sub(now.wall.0));
            }
        }
        let until = now.mono.saturating_add(left);
        self.running.insert((until, message.topic.clone()));
        until
    }

    fn remove(&mut self, kept: &Kept) {
        if kept.until == u64::MAX {
            return;
        }
        let message = &kept.message;
        self.running.remove(&(kept.until, message.topic.clone()));
        if let Some(end) = wall_end(message) {
            self.wall.remove(&(end, message.topic.clone()));
        }
    }

    /// The topic of a message whose time is over.
    fn over(&self, now: &Now) -> Option<Topic> {
        let first = |set: &BTreeSet<(u64, Topic)>, at: u64| {
            let (end, topic) = set.first()?;
            (*end <= at).then(|| topic.clone())
        };
        let wall = now.trusted.then(|| first(&self.wall, now.wall.0));
        wall.flatten().or_else(|| first(&self.running, now.mono))
    }
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of all.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all, and of the one that a message on `topic` would replace.
    pub(crate) fn bytes(&self, topic: &Topic) -> (usize, Option<usize>) {
        let old = self.by_topic.get(topic);
        (self.bytes, old.map(|kept| kept.message.cost()))
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<Arc<Message>> {
        self.by_topic.get(topic).map(|kept| kept.message.clone())
    }

    pub(crate) fn set(&mut self, message: Arc<Message>, now: &Now) {
        self.bytes += message.cost();
        let kept = Kept {
            message: message.clone(),
            until: u64::MAX,
        };
        if let Some(old) = self.by_topic.insert(message.topic.clone(), kept) {
            self.bytes -= old.message.cost();
            self.expiring.remove(&old);
        }
        let until = self.expiring.add(&message, now);
        if until < u64::MAX {
            if let Some(kept) = self.by_topic.get_mut(&message.topic) {
                kept.until = until;
            }
        }
    }

    pub(crate) fn clear(&mut self, topic: &Topic) -> Option<Arc<Message>> {
        let old = self.by_topic.remove(topic)?;
        self.bytes -= old.message.cost();
        self.expiring.remove(&old);
        Some(old.message)
    }

    /// Takes out what has expired.
    pub(crate) fn expire(&mut self, now: &Now) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        while gone.len() < EXPIRED_AT_ONCE {
            let Some(message) = self.expiring.over(now).and_then(|topic| self.clear(&topic)) else {
                break;
            };
            gone.push(message);
        }
        gone
    }

    /// Those behind a topic, in the order of their topics.
    pub(crate) fn after(&self, topic: Option<&Topic>, most: usize, now: &Now) -> Vec<Arc<Message>> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_topic
            .range::<Topic, _>((from, Bound::Unbounded))
            .map(|(_, kept)| &kept.message)
            .filter(|message| !message.is_expired(now))
            .take(most)
            .cloned()
            .collect()
    }

    /// All that `filter` matches, in the order of their topics.
    pub(crate) fn matching(&self, filter: &TopicFilter) -> Vec<Arc<Message>> {
        let text = filter.as_str();
        if !filter.has_wildcard() {
            return match Topic::new(text) {
                Ok(topic) => self.get(&topic).into_iter().collect(),
                Err(_) => Vec::new(),
            };
        }
        let literal = text.split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a` itself, which sorts before `a/`.
        let start = literal.strip_suffix('/').unwrap_or(literal);
        let Ok(from) = Topic::new(if start.is_empty() { "\u{1}" } else { start }) else {
            return Vec::new();
        };
        self.by_topic
            .range(from..)
            .take_while(|(topic, _)| topic.as_str().starts_with(start))
            .filter(|(topic, _)| filter.matches(topic.as_str()))
            .map(|(_, kept)| kept.message.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use iotedge_model::{QoS, UnixMillis};

    use super::*;

    fn at(millis: u64, trusted: bool) -> Now {
        Now {
            mono: millis,
            wall: UnixMillis(1_700_000_000_000 + millis),
            trusted,
        }
    }

    /// Accepted at 0, by a clock that could be believed or not.
    fn mortal(topic: &str, seconds: u32, trusted: bool) -> Arc<Message> {
        let topic = Topic::new(topic).unwrap();
        let mut message = Message::internal("t", topic, Bytes::new(), QoS::AtMostOnce);
        message.accepted_at = at(0, trusted).wall;
        message.trusted = trusted;
        message.expiry = Some(seconds);
        Arc::new(message)
    }

    fn topics(gone: &[Arc<Message>]) -> Vec<&str> {
        gone.iter().map(|message| message.topic.as_str()).collect()
    }

    #[test]
    fn what_has_expired_is_taken_out_and_leaves_nothing_behind() {
        let mut retained = Retained::default();
        for (topic, seconds) in [("b", 20), ("a", 10), ("c", 30)] {
            retained.set(mortal(topic, seconds, true), &at(0, true));
        }
        // Another message, with a life of its own.
        retained.set(mortal("c", 5, true), &at(0, true));
        retained.set(mortal("b", 40, true), &at(0, true));
        assert!(retained.expire(&at(4_999, true)).is_empty());
        assert_eq!(topics(&retained.expire(&at(10_000, true))), ["c", "a"]);
        assert!(retained.expire(&at(39_999, true)).is_empty());
        assert_eq!(topics(&retained.expire(&at(40_000, true))), ["b"]);
        assert_eq!((retained.len(), retained.bytes), (0, 0));
        assert!(retained.expiring.wall.is_empty() && retained.expiring.running.is_empty());
    }

    #[test]
    fn without_a_trusted_clock_the_time_that_the_daemon_runs_counts() {
        let mut retained = Retained::default();
        // Loaded a day later by a process whose clock nobody can believe.
        let mut loaded = at(86_400_000, false);
        loaded.mono = 0;
        retained.set(mortal("kept", 10, true), &loaded);
        retained.set(mortal("unknown", 10, false), &loaded);
        assert!(retained.expire(&loaded).is_empty());
        loaded.mono = 9_999;
        assert!(retained.expire(&loaded).is_empty());
        // The clock is set: what was accepted by a good one is over.
        let set = Now {
            trusted: true,
            ..loaded
        };
        assert_eq!(topics(&retained.expire(&set)), ["kept"]);
        loaded.mono = 10_000;
        assert_eq!(topics(&retained.expire(&loaded)), ["unknown"]);
    }

    #[test]
    fn a_filter_finds_what_it_matches_and_no_more() {
        let mut retained = Retained::default();
        let topics = ["$SYS/x", "/a", "a", "a/b", "a/b/c", "ab", "b"];
        for topic in topics {
            let topic = Topic::new(topic).unwrap();
            let message = Message::internal("t", topic, Bytes::new(), QoS::AtMostOnce);
            retained.set(Arc::new(message), &at(0, true));
        }
        for filter in [
            "#", "a/#", "a/+", "a", "+/b", "/#", "$SYS/#", "+", "b/#", "c", "a/b/#",
        ] {
            let filter = TopicFilter::new(filter).unwrap();
            let found: Vec<String> = retained
                .matching(&filter)
                .iter()
                .map(|m| m.topic.to_string())
                .collect();
            let expected: Vec<String> = topics
                .iter()
                .filter(|t| filter.matches(t))
                .map(|t| t.to_string())
                .collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}
