//! Messages that an upstream answers by closing the connection.
//!
//! A 3.1.1 server has no other way to refuse a PUBLISH, and a bad network ends connections in the same
//! way. What holds:
//!
//! 1. A message over which connections were lost in a row, as the oldest in flight, is **examined**: it
//!    goes alone, on a fresh connection, behind a round trip of PINGREQ and PINGRESP.
//! 2. After two connections lost over it alone those behind it go on without it. What is of its topic
//!    stays behind it, so that each topic keeps its order.
//! 3. Further losses count only where **others went through** since the one before, on one connection,
//!    with more bytes than it has, over a time longer than it had: a network that ends each connection
//!    after so many bytes or seconds convicts nobody. The pauses between them grow, and the first
//!    connection behind a pause is the others' for a while: the link's own pause may be the longer one.
//! 4. Silence convicts nobody, nor does an end that comes before it was on the wire.
//! 5. Convicted, it is a dead letter. The next one of its topic has the benefit of one doubt only.
//!
//! Pure: it is handed the time.

use std::time::Duration;

use iotedge_model::MessageId;

use super::end::Fault;
use crate::Backoff;

/// Connections lost in a row over the same oldest message before it is examined.
const BLAMED: u32 = 3;
/// Connections lost over it alone before others pass it.
const HOLDS: u32 = 2;
/// And before it is given up.
const GUILTY: u32 = 4;
/// How often others have to go through in between, on one connection.
const OTHERS: u32 = 2;
/// And how many bytes more than it has: a PINGREQ and what may differ in CONNECT.
const MORE: usize = 64;
/// How long a topic stays known of which a message was given up, in milliseconds.
const FORGET: u64 = 60 * 60 * 1000;
/// Topics under suspicion at once.
const MOST: usize = 64;

/// A message: its route's place in the task, and its id.
pub(crate) type Key = (usize, MessageId);

/// A message as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) key: Key,
    /// The topic here.
    pub(crate) topic: String,
}

#[derive(Debug)]
struct Case {
    route: usize,
    topic: String,
    /// `None`: the next of this topic that comes by.
    id: Option<MessageId>,
    /// Counted losses.
    losses: u32,
    /// All losses, for the pause.
    tries: u32,
    /// Monotonic milliseconds before which it is not tried.
    not_before: u64,
    /// Its bytes on the wire, and how long its connection lived, in milliseconds.
    bytes: usize,
    lived: u64,
    /// Others went through since the last loss.
    others: bool,
    /// Others had a connection of their own since the last loss.
    let_by: bool,
    /// What the last loss was.
    reason: String,
}

impl Case {
    fn is(&self, key: Key) -> bool {
        (self.route, self.id) == (key.0, Some(key.1))
    }
}

/// PINGREQ and PINGRESP of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RoundTrip {
    #[default]
    Not,
    Asked,
    Done,
}

/// The connection there is.
#[derive(Debug, Default)]
struct Round {
    /// Monotonic milliseconds.
    began: u64,
    trip: RoundTrip,
    /// A PUBLISH went.
    used: bool,
    alone: Option<Key>,
    /// Others that went through.
    others: u32,
    bytes: usize,
}

/// All that is suspected of ending connections.
#[derive(Debug)]
pub(crate) struct Suspects {
    /// The oldest message when connections were lost in a row, and how many.
    blamed: Option<(Key, u32)>,
    cases: Vec<Case>,
    round: Round,
    base: u64,
    longest: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Suspects {
    pub(crate) fn new(backoff: &Backoff) -> Self {
        Self {
            blamed: None,
            cases: Vec::new(),
            round: Round::default(),
            base: millis(backoff.base).max(1),
            longest: millis(backoff.max).saturating_mul(10).max(1),
        }
    }

    /// A connection begins.
    pub(crate) fn connected(&mut self, now: u64) {
        let forgotten =
            |case: &Case| case.id.is_none() && case.not_before.saturating_add(FORGET) < now;
        self.cases.retain(|case| !forgotten(case));
        for case in &mut self.cases {
            if case.losses >= HOLDS && !case.others && !case.let_by {
                let longer = case
                    .lived
                    .saturating_mul(2)
                    .max(self.base)
                    .min(self.longest);
                case.not_before = case.not_before.max(now.saturating_add(longer));
                case.let_by = true;
            }
        }
        self.round = Round {
            began: now,
            ..Round::default()
        };
    }

    /// Some PUBLISH is handed over.
    pub(crate) fn sends(&mut self) {
        self.round.used = true;
    }

    /// PINGRESP.
    pub(crate) fn round_trip(&mut self) {
        if self.round.trip == RoundTrip::Asked {
            self.round.trip = RoundTrip::Done;
        }
    }

    /// The pause behind so many losses.
    fn pause(&self, tries: u32) -> u64 {
        let factor = 4u64.saturating_pow(tries.saturating_sub(1));
        self.base.saturating_mul(factor).min(self.longest)
    }

    /// The other side or the network ended a connection. `oldest`: in flight then, with its bytes;
    /// `None`: nothing was on the wire.
    pub(crate) fn lost(&mut self, oldest: Option<(Face, usize)>, fault: &Fault, now: u64) {
        let Some((face, bytes)) = oldest else {
            return;
        };
        if self.round.alone == Some(face.key) {
            self.lost_alone(face.key, bytes, fault, now);
            return;
        }
        let count = match self.blamed {
            Some((key, count)) if key == face.key => count + 1,
            _ => 1,
        };
        self.blamed = Some((face.key, count));
        if count >= BLAMED && self.open(&face, now) {
            self.blamed = None;
        }
    }

    fn open(&mut self, face: &Face, now: u64) -> bool {
        if self.cases.len() >= MOST {
            // One that waits for nobody any more makes room.
            let Some(at) = self.cases.iter().position(|case| case.id.is_none()) else {
                return false;
            };
            self.cases.remove(at);
        }
        self.cases.push(Case {
            route: face.key.0,
            topic: face.topic.clone(),
            id: Some(face.key.1),
            losses: 0,
            tries: 0,
            not_before: now,
            bytes: 0,
            lived: 0,
            others: false,
            let_by: false,
            reason: String::new(),
        });
        true
    }

    fn lost_alone(&mut self, key: Key, bytes: usize, fault: &Fault, now: u64) {
        let lived = now.saturating_sub(self.round.began);
        let pause = |tries| self.pause(tries);
        let Some(at) = self.cases.iter().position(|case| case.is(key)) else {
            return;
        };
        let tries = self.cases.get(at).map_or(1, |case| case.tries + 1);
        let pause = pause(tries);
        let Some(case) = self.cases.get_mut(at) else {
            return;
        };
        case.tries = tries;
        if fault.names_the_message {
            // No network says so.
            case.losses += HOLDS;
        } else if case.losses < HOLDS || case.others {
            case.losses += 1;
        }
        case.bytes = bytes;
        case.lived = case.lived.max(lived);
        case.others = false;
        case.let_by = false;
        case.reason.clone_from(&fault.text);
        // Nobody has passed it yet: its next try is the next connection.
        case.not_before = match case.losses < HOLDS {
            true => now,
            false => now.saturating_add(pause),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether a message has to wait: it is suspected, or of the topic of one that is.
    pub(crate) fn keeps(&mut self, face: &Face) -> bool {
        let same = |case: &&mut Case| case.route == face.key.0 && case.topic == face.topic;
        let Some(case) = self.cases.iter_mut().find(same) else {
            return false;
        };
        case.id.get_or_insert(face.key.1);
        true
    }

    /// Why a message is given up, if it is.
    pub(crate) fn verdict(&self, key: Key) -> Option<String> {
        let case = self.cases.iter().find(|case| case.is(key))?;
        (case.losses >= GUILTY).then(|| {
            format!(
                "the connection is lost each time it is sent, and not with others: {}",
                case.reason
            )
        })
    }

    /// The one to be examined now.
    pub(crate) fn due(&self, now: u64) -> Option<Key> {
        let waits = self.cases.iter().filter(|case| case.not_before <= now);
        let case = waits
            .filter(|c| c.id.is_some())
            .min_by_key(|c| c.not_before)?;
        Some((case.route, case.id?))
    }

    /// Until the next one is.
    pub(crate) fn next_due(&self, now: u64) -> Option<Duration> {
        let waits = self.cases.iter().filter(|case| case.id.is_some());
        let next = waits.map(|case| case.not_before).min()?;
        Some(Duration::from_millis(next.saturating_sub(now)))
    }

    /// One is on the wire alone.
    pub(crate) fn is_examining(&self) -> bool {
        self.round.alone.is_some()
    }

    /// Whether nothing else may be sent.
    pub(crate) fn wants_alone(&self, now: u64) -> bool {
        self.is_examining() || self.due(now).is_some()
    }

    /// Nothing was published on this connection.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.round.used
    }

    /// Whether a round trip was made on it; `None`: it has to be asked for, and is from now on.
    pub(crate) fn trip(&mut self) -> Option<bool> {
        match self.round.trip {
            RoundTrip::Not => {
                self.round.trip = RoundTrip::Asked;
                None
            }
            RoundTrip::Asked => Some(false),
            RoundTrip::Done => Some(true),
        }
    }

    /// It goes alone now.
    pub(crate) fn examine(&mut self, key: Key) {
        self.round.alone = Some(key);
    }

    /// It can not be tried now.
    pub(crate) fn postpone(&mut self, key: Key, now: u64) {
        let pause = self.pause(3);
        if let Some(case) = self.cases.iter_mut().find(|case| case.is(key)) {
            case.not_before = now.saturating_add(pause);
        }
    }

    /// The upstream has this one, of so many bytes. `true`: it was a suspect.
    pub(crate) fn delivered(&mut self, key: Key, bytes: usize, now: u64) -> bool {
        if self.blamed.is_some_and(|(blamed, _)| blamed == key) {
            self.blamed = None;
        }
        if self.close(key).is_some() {
            return true;
        }
        self.round.others += 1;
        self.round.bytes += bytes;
        let round = &self.round;
        let lives = now.saturating_sub(round.began);
        for case in &mut self.cases {
            case.others |= round.others >= OTHERS
                && round.bytes >= case.bytes.saturating_add(MORE)
                && lives >= case.lived;
        }
        false
    }

    /// Whether it is suspected and not given up.
    pub(crate) fn is_open(&self, key: Key) -> bool {
        self.cases.iter().any(|case| case.is(key))
    }

    /// It is innocent, or gone: its topic, if it was a suspect.
    pub(crate) fn close(&mut self, key: Key) -> Option<String> {
        if self.round.alone == Some(key) {
            self.round.alone = None;
        }
        let at = self.cases.iter().position(|case| case.is(key))?;
        Some(self.cases.swap_remove(at).topic)
    }

    /// It was given up: the next of its topic is examined next, after a pause, once.
    pub(crate) fn gave_up(&mut self, key: Key, now: u64) {
        let pause = self.pause(2);
        if let Some(case) = self.cases.iter_mut().find(|case| case.is(key)) {
            case.id = None;
            case.losses = GUILTY - 1;
            case.others = false;
            case.let_by = false;
            case.not_before = now.saturating_add(pause);
        }
    }
}

#[cfg(test)]
mod tests;
