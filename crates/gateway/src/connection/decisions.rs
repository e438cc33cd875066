//! Policy decisions of one connection, remembered while no policy changes.
//!
//! 1. A decision is remembered with its whole topic, never by a digest of it.
//! 2. Each connection may remember a few; a client of many topics takes more from what all
//!    connections share, in steps, and gives all back when it falls silent, when policies change
//!    and when it ends.
//! 3. When there is no more to be had, what is remembered stays until as many others have been asked
//!    for: topics in turn would otherwise push each other out before any comes again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotedge_model::{Action, Topic};
use iotedge_ports::Authorizer;

use super::Peer;
use super::auth::Asker;

/// Topics that every connection may remember for each action.
const FEW: usize = 128;
/// Topics that one connection may remember for each action, as long as there is room for all.
const MANY: usize = 4096;
/// Longer ones are asked each time: AWS IoT's limit, which real topics keep.
const REMEMBERED_BYTES: usize = 256;

/// How many topics connections may remember beyond what each of them always may. With the map's own
/// room a topic takes about 100 bytes, 300 at most.
struct Room(AtomicUsize);

static ROOM: Room = Room::of(65_536);

impl Room {
    const fn of(topics: usize) -> Self {
        Self(AtomicUsize::new(topics))
    }

    fn take(&self, topics: usize) -> bool {
        let less = |left: usize| left.checked_sub(topics);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, less).is_ok()
    }

    fn give_back(&self, topics: usize) {
        self.0.fetch_add(topics, Ordering::Relaxed);
    }
}

/// What was decided for the topics of one connection.
pub(crate) struct Decisions {
    generation: u64,
    /// Nothing while there are no messages.
    known: Option<Box<Known>>,
}

struct Known {
    publish: Decided,
    receive: Decided,
    /// Nothing was asked since the client last said that it has nothing to say.
    silent: bool,
}

/// What was decided about one action.
struct Decided {
    topics: HashMap<Topic, bool>,
    /// The last one, for runs of messages on one topic.
    last: Option<(Topic, bool)>,
    /// Where more comes from.
    room: &'static Room,
    /// How many may be remembered.
    most: usize,
    /// How many could not be, since.
    strange: usize,
}

impl Decisions {
    pub(crate) fn new(authorizer: &dyn Authorizer, peer: &Peer) -> Self {
        Self {
            generation: generation(authorizer, peer),
            known: None,
        }
    }

    /// Forgets what was decided under other policies; once for each batch is enough.
    pub(crate) fn refresh(&mut self, authorizer: &dyn Authorizer, peer: &Peer) {
        let generation = generation(authorizer, peer);
        if generation != self.generation {
            self.generation = generation;
            self.known = None;
        }
    }

    /// The client has nothing to say but that it is there. What it has asked for before the last time
    /// is forgotten.
    pub(crate) fn rest(&mut self) {
        match &mut self.known {
            Some(known) if !known.silent => known.silent = true,
            _ => self.known = None,
        }
    }

    pub(crate) fn may_publish(&mut self, asker: Asker<'_>, topic: &Topic) -> bool {
        let ask = || asker.ask(Action::Publish, topic.as_str());
        self.known().publish.decide(topic, ask)
    }

    pub(crate) fn may_receive(&mut self, asker: Asker<'_>, topic: &Topic) -> bool {
        let ask = || asker.ask(Action::Receive, topic.as_str());
        self.known().receive.decide(topic, ask)
    }

    fn known(&mut self) -> &mut Known {
        let known = self.known.get_or_insert_with(|| {
            Box::new(Known {
                publish: Decided::new(&ROOM),
                receive: Decided::new(&ROOM),
                silent: false,
            })
        });
        known.silent = false;
        known
    }
}

/// Grows when the policies or what was granted change.
fn generation(authorizer: &dyn Authorizer, peer: &Peer) -> u64 {
    let granted = peer.grant.as_ref().map_or(0, |slot| slot.generation());
    authorizer.generation().wrapping_add(granted)
}

impl Decided {
    fn new(room: &'static Room) -> Self {
        Self {
            topics: HashMap::new(),
            last: None,
            room,
            most: FEW,
            strange: 0,
        }
    }

    fn decide(&mut self, topic: &Topic, ask: impl FnOnce() -> bool) -> bool {
        if let Some((last, allowed)) = &self.last {
            if last.is_same(topic) {
                return *allowed;
            }
        }
        let known = self.topics.get(topic).copied();
        let allowed = known.unwrap_or_else(ask);
        if known.is_none() {
            self.remember(topic, allowed);
        }
        self.last = Some((topic.clone(), allowed));
        allowed
    }

    fn remember(&mut self, topic: &Topic, allowed: bool) {
        if topic.as_str().len() > REMEMBERED_BYTES {
            return;
        }
        if self.topics.len() >= self.most && !self.grow() {
            self.strange += 1;
            if self.strange < self.most {
                return;
            }
            self.strange = 0;
            self.topics.clear();
        }
        self.topics.insert(topic.clone(), allowed);
    }

    /// Twice as many, if there is room.
    fn grow(&mut self) -> bool {
        let more = self.most;
        if more + self.most > MANY || !self.room.take(more) {
            return false;
        }
        self.most += more;
        true
    }
}

impl Drop for Decided {
    fn drop(&mut self) {
        self.room.give_back(self.most - FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(topics: usize) -> &'static Room {
        Box::leak(Box::new(Room::of(topics)))
    }

    fn left(room: &Room) -> usize {
        room.0.load(Ordering::Relaxed)
    }

    /// Publishes on so many topics in turn; says how many questions that were.
    fn turn(decided: &mut Decided, topics: usize) -> usize {
        let mut asked = 0;
        for n in 0..topics {
            let topic = Topic::new(&format!("t/{n}")).unwrap();
            let even = decided.decide(&topic, || {
                asked += 1;
                n % 2 == 0
            });
            assert_eq!(even, n % 2 == 0, "{topic:?}");
        }
        asked
    }

    #[test]
    fn a_client_of_a_thousand_topics_is_asked_about_each_once() {
        let room = room(10_000);
        let mut decided = Decided::new(room);
        assert_eq!(turn(&mut decided, 1000), 1000);
        assert_eq!(turn(&mut decided, 1000), 0);
        assert_eq!(left(room), 10_000 - (1024 - FEW));
        drop(decided);
        assert_eq!(left(room), 10_000);
    }

    #[test]
    fn one_client_takes_no_more_than_its_share() {
        let room = room(10_000);
        let mut decided = Decided::new(room);
        turn(&mut decided, 3 * MANY);
        assert!(decided.topics.len() <= MANY);
        assert!(left(room) >= 10_000 - MANY);
    }

    #[test]
    fn without_room_a_part_of_the_topics_is_remembered_and_others_have_their_turn() {
        let mut decided = Decided::new(room(0));
        assert_eq!(turn(&mut decided, 160), 160);
        // In turn, and more than may be remembered: most are found all the same.
        let asked: usize = (0..4).map(|_| turn(&mut decided, 160)).sum();
        assert!(asked < 4 * 160 / 2, "{asked} of {}", 4 * 160);
        assert!(decided.topics.len() <= FEW);
        // Other topics than before are remembered in the end.
        for _ in 0..4 {
            for n in 0..100 {
                let topic = Topic::new(&format!("other/{n}")).unwrap();
                decided.decide(&topic, || true);
            }
        }
        let topic = Topic::new("other/50").unwrap();
        assert!(decided.decide(&topic, || false), "it is asked about again");
    }

    #[test]
    fn long_topics_are_not_kept() {
        let mut decided = Decided::new(room(0));
        let topic = Topic::new(&"x".repeat(REMEMBERED_BYTES + 1)).unwrap();
        assert!(decided.decide(&topic, || true));
        assert!(decided.topics.is_empty());
    }

    #[test]
    fn what_was_asked_is_forgotten_in_silence() {
        let mut decisions = Decisions {
            generation: 0,
            known: None,
        };
        turn(&mut decisions.known().publish, 500);
        decisions.rest();
        assert!(decisions.known.is_some(), "it may be between two messages");
        decisions.known();
        decisions.rest();
        assert!(decisions.known.is_some(), "there was one");
        decisions.rest();
        assert!(decisions.known.is_none());
    }
}
