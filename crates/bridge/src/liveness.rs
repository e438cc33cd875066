//! Whether the other side still answers. TCP up is not up: a connection whose other end is gone
//! without a word looks like an idle one until something is asked on it.
//!
//! Pure: it is handed every time, and says what to do.

use std::time::Duration;

use tokio::time::Instant;

/// How long an answer may take on a link that has nothing else to carry, at most and at least.
const LONGEST: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Ask with a PINGREQ: an answer that is late may be late for another reason.
    Ping,
    /// It is told that the link may be dead: silent for this long.
    Degraded(Duration),
    /// It is dead: silent for this long.
    Lost(Duration),
}

/// Bytes that come. A large packet on a slow line is a sign of life long before it is whole, and
/// acknowledgements stand behind it.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: u64,
    /// When part of a packet was seen to have come.
    part: Option<Instant>,
}

impl Received {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, part: None }
    }

    /// A packet is whole, with so many bytes in all.
    pub(crate) fn packet(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// So many have come. `true`: more of a packet that is not whole yet.
    pub(crate) fn look(&mut self, bytes: u64, now: Instant) -> bool {
        let more = bytes > self.bytes;
        if more {
            (self.bytes, self.part) = (bytes, Some(now));
        }
        more
    }

    /// Since when an answer is waited for without anything that would hold it up.
    pub(crate) fn unhindered(&self, since: Instant) -> Instant {
        self.part.map_or(since, |part| part.max(since))
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    answer: Duration,
    heard: Instant,
    /// A PINGREQ waits for its PINGRESP.
    pinged: Option<Instant>,
    degraded: bool,
}

impl Liveness {
    pub(crate) fn new(keep_alive: u16, now: Instant) -> Self {
        let part = Duration::from_secs(u64::from(keep_alive) / 6);
        Self {
            answer: part.clamp(SHORTEST, LONGEST),
            heard: now,
            pinged: None,
            degraded: false,
        }
    }

    /// Something came. `true`: the link is no longer degraded.
    pub(crate) fn heard(&mut self, now: Instant) -> bool {
        self.heard = now;
        std::mem::take(&mut self.degraded)
    }

    /// A PINGREQ is asked for or on its way.
    pub(crate) fn pinged(&mut self, now: Instant) {
        self.pinged.get_or_insert(now);
    }

    /// A round trip is wanted: whether a PINGREQ has to be sent for it.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        let none = self.pinged.is_none();
        self.pinged(now);
        none
    }

    /// PINGRESP.
    pub(crate) fn answered(&mut self) {
        self.pinged = None;
    }

    /// Since when the other side owes an answer and is silent. `waiting`: the oldest packet
    /// without its acknowledgement.
    fn silent_since(&self, waiting: Option<Instant>) -> Option<Instant> {
        let asked = [waiting, self.pinged].into_iter().flatten().min()?;
        Some(asked.max(self.heard))
    }

    /// `slack`: what is under way needs this long by itself.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        waiting: Option<Instant>,
        slack: Duration,
    ) -> Verdict {
        let Some(since) = self.silent_since(waiting) else {
            return Verdict::Fine;
        };
        let (silence, answer) = (now.saturating_duration_since(since), self.answer + slack);
        if silence >= answer * 2 {
            return Verdict::Lost(silence);
        }
        if silence >= answer / 2 && self.pinged.is_none() {
            self.pinged = Some(now);
            return Verdict::Ping;
        }
        if silence >= answer && !self.degraded {
            self.degraded = true;
            return Verdict::Degraded(silence);
        }
        Verdict::Fine
    }

    /// When [`Liveness::check`] has something to say, unless something comes before.
    pub(crate) fn next(&self, waiting: Option<Instant>, slack: Duration) -> Option<Instant> {
        let (since, answer) = (self.silent_since(waiting)?, self.answer + slack);
        Some(match (self.pinged, self.degraded) {
            (None, _) => since + answer / 2,
            (Some(_), false) => since + answer,
            (Some(_), true) => since + answer * 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: Duration = Duration::ZERO;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn silence_is_asked_told_and_ended_in_turn() {
        let start = Instant::now();
        let mut liveness = Liveness::new(60, start);
        assert_eq!(liveness.next(None, NO), None, "nobody owes anything");
        let sent = Some(start + seconds(100));
        let mut told = Vec::new();
        for _ in 0..3 {
            let at = liveness.next(sent, NO).unwrap();
            told.push((at - start, liveness.check(at, sent, NO)));
        }
        assert_eq!(
            told,
            [
                (seconds(105), Verdict::Ping),
                (seconds(110), Verdict::Degraded(seconds(10))),
                (seconds(120), Verdict::Lost(seconds(20))),
            ]
        );
    }

    #[test]
    fn an_idle_link_that_died_is_lost_well_before_one_and_a_half_keep_alives() {
        for keep_alive in [60, 300, 1200] {
            let start = Instant::now();
            let mut liveness = Liveness::new(keep_alive, start);
            let ping = start + seconds(u64::from(keep_alive));
            liveness.pinged(ping);
            let lost = ping + seconds(20);
            assert_eq!(
                liveness.check(lost, None, NO),
                Verdict::Lost(seconds(20)),
                "{keep_alive}"
            );
            assert!((lost - start) * 3 < seconds(u64::from(keep_alive)) * 3 * 3 / 2);
        }
    }

    #[test]
    fn any_word_of_the_other_side_counts() {
        let start = Instant::now();
        let mut liveness = Liveness::new(60, start);
        let sent = Some(start);
        assert_eq!(liveness.check(start + seconds(5), sent, NO), Verdict::Ping);
        let late = start + seconds(10);
        assert_eq!(
            liveness.check(late, sent, NO),
            Verdict::Degraded(seconds(10))
        );
        assert_eq!(liveness.check(late, sent, NO), Verdict::Fine, "told once");
        assert!(liveness.heard(start + seconds(15)), "it recovers");
        assert!(!liveness.heard(start + seconds(16)));
        assert_eq!(liveness.check(start + seconds(20), sent, NO), Verdict::Fine);
        liveness.answered();
        assert_eq!(liveness.next(None, NO), None);
    }

    #[test]
    fn part_of_a_packet_is_a_sign_of_life_and_holds_answers_up() {
        let start = Instant::now();
        let mut received = Received::new(100);
        assert!(!received.look(100, start));
        assert_eq!(received.unhindered(start), start);
        let part = start + seconds(15);
        assert!(received.look(200, part));
        assert!(!received.look(200, part + seconds(1)), "told once");
        assert_eq!(received.unhindered(start), part);
        assert_eq!(received.unhindered(part + seconds(5)), part + seconds(5));
        received.packet(300);
        assert!(!received.look(300, part + seconds(9)), "it was whole");
        assert_eq!(received.unhindered(start), part);
    }

    #[test]
    fn what_is_under_way_has_its_time() {
        let start = Instant::now();
        let mut liveness = Liveness::new(60, start);
        let slack = seconds(90);
        let at = start + seconds(49);
        assert_eq!(liveness.check(at, Some(start), slack), Verdict::Fine);
        assert_eq!(liveness.next(Some(start), slack), Some(start + seconds(50)));
    }
}
