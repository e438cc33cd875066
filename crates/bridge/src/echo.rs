//! Our own messages that a 3.1.1 upstream sends back. Version 5 has the option "no local" for that
//! (MQTT 5, 3.8.3.1); a 3.1.1 server sends a message to its publisher too when that has subscribed
//! to its topic. So each one that goes out to such a topic is expected back once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How long one is waited for, in milliseconds.
const WAIT: u64 = 60_000;
/// How many are waited for at most; beyond it the oldest are not.
const MOST: usize = 4096;

/// Messages that are expected back.
#[derive(Default)]
pub(crate) struct Echoes {
    hasher: RandomState,
    counts: HashMap<u64, u32>,
    /// Monotonic milliseconds until which each is expected, oldest first.
    order: VecDeque<(u64, u64)>,
    /// Since when there is no connection.
    down: Option<u64>,
}

impl Echoes {
    fn hash(&self, topic: &str, payload: &[u8]) -> u64 {
        self.hasher.hash_one((topic, payload))
    }

    fn forget(&mut self, now: u64) {
        while let Some((until, hash)) = self.order.front().copied() {
            if until > now && self.order.len() <= MOST {
                return;
            }
            self.order.pop_front();
            self.take(hash);
        }
    }

    fn take(&mut self, hash: u64) -> bool {
        let Some(count) = self.counts.get_mut(&hash) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&hash);
        }
        true
    }

    /// The connection is gone: nothing comes back before there is another one.
    pub(crate) fn disconnected(&mut self, now: u64) {
        self.down.get_or_insert(now);
    }

    /// There is another one. A session that the upstream has kept brings what the last one did not,
    /// however long ago that was; a new one brings nothing.
    pub(crate) fn connected(&mut self, session_present: bool, now: u64) {
        let since = self.down.take().unwrap_or(now);
        if !session_present {
            self.counts.clear();
            self.order.clear();
            return;
        }
        let away = now.saturating_sub(since);
        for (until, _) in &mut self.order {
            *until = until.saturating_add(away);
        }
    }

    /// One goes out to a topic that we have subscribed to. `now`: monotonic milliseconds.
    pub(crate) fn sent(&mut self, topic: &str, payload: &[u8], now: u64) {
        let hash = self.hash(topic, payload);
        *self.counts.entry(hash).or_default() += 1;
        self.order.push_back((now.saturating_add(WAIT), hash));
        self.forget(now);
    }

    /// One goes out again after a lost connection. Nobody knows whether the upstream had it the first
    /// time, so it is expected once, and not once for each try: an echo too many is a message twice
    /// here, an echo that never comes would swallow the same message of somebody else.
    pub(crate) fn sent_again(&mut self, topic: &str, payload: &[u8], now: u64) {
        self.forget(now);
        if !self.counts.contains_key(&self.hash(topic, payload)) {
            self.sent(topic, payload, now);
        }
    }

    /// Whether one that has come is expected; it is not expected again.
    pub(crate) fn is_echo(&mut self, topic: &str, payload: &[u8], now: u64) -> bool {
        self.forget(now);
        let hash = self.hash(topic, payload);
        if !self.take(hash) {
            return false;
        }
        if let Some(at) = self.order.iter().position(|(_, h)| *h == hash) {
            self.order.remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_for_an_echo_once_and_not_for_ever() {
        let mut echoes = Echoes::default();
        echoes.sent("a", b"1", 0);
        echoes.sent("a", b"1", 10);
        assert!(!echoes.is_echo("a", b"2", 10));
        assert!(!echoes.is_echo("b", b"1", 10));
        assert!(echoes.is_echo("a", b"1", 10));
        assert!(echoes.is_echo("a", b"1", 10));
        assert!(!echoes.is_echo("a", b"1", 10), "somebody else's");
        echoes.sent("a", b"3", 20);
        assert!(!echoes.is_echo("a", b"3", 20 + WAIT));
        assert!(echoes.counts.is_empty() && echoes.order.is_empty());
    }

    #[test]
    fn what_goes_again_is_expected_once() {
        let mut echoes = Echoes::default();
        echoes.sent("a", b"1", 0);
        echoes.sent_again("a", b"1", 10);
        assert!(echoes.is_echo("a", b"1", 20));
        assert!(!echoes.is_echo("a", b"1", 20), "somebody else's");
        echoes.sent_again("a", b"1", 30);
        assert!(echoes.is_echo("a", b"1", 40), "sent before a restart");
        assert!(echoes.counts.is_empty() && echoes.order.is_empty());
    }

    #[test]
    fn what_a_kept_session_brings_after_an_outage_is_still_an_echo() {
        let mut echoes = Echoes::default();
        echoes.sent("a", b"1", 0);
        echoes.sent("a", b"2", 0);
        echoes.disconnected(1_000);
        echoes.disconnected(5_000);
        let day = 24 * 3_600_000;
        echoes.connected(true, day);
        assert!(echoes.is_echo("a", b"1", day + WAIT - 2_000));
        assert!(!echoes.is_echo("a", b"2", day + WAIT), "its time is over");
        echoes.sent("a", b"3", day);
        echoes.disconnected(day);
        echoes.connected(false, day + 1);
        assert!(!echoes.is_echo("a", b"3", day + 1), "somebody else's");
        assert!(echoes.counts.is_empty() && echoes.order.is_empty());
    }

    #[test]
    fn it_does_not_grow() {
        let mut echoes = Echoes::default();
        for n in 0..10_000u32 {
            echoes.sent("a", &n.to_le_bytes(), 0);
        }
        assert_eq!((echoes.counts.len(), echoes.order.len()), (MOST, MOST));
        assert!(!echoes.is_echo("a", &0u32.to_le_bytes(), 0));
        assert!(echoes.is_echo("a", &9_999u32.to_le_bytes(), 0));
    }
}
