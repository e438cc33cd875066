//! What is asked next, of whom; without I/O.

mod answers;
mod shadow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use iotedge_model::reserved::ShadowOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::journal::Kind;
use super::{Settings, topics};
use crate::SyncKey;
use crate::core::ShadowError;
use crate::core::sync::{Base, Replica, Seen, Step, Synchronised};
use shadow::{Cloud, Due, Phase, Sending, Shadow, Sub};

/// Requests to the cloud that are not answered; AWS IoT takes ten for a connection.
pub const MAX_IN_FLIGHT: usize = 10;
/// Filters of one SUBSCRIBE; AWS IoT takes eight.
const MAX_FILTERS: usize = 8;
/// Shadows that are kept together over one upstream.
const MAX_SHADOWS: usize = 100_000;
/// The first pause after a failure, in milliseconds; each is twice the one before.
const FIRST_PAUSE: u64 = 1_000;
/// The longest.
const LONGEST_PAUSE: u64 = 5 * 60 * 1_000;
/// After a refusal that does not come of the document: policies, and the like.
const REFUSED_PAUSE: u64 = 60 * 1_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// To subscribe, on the upstream.
    Subscribe(Vec<String>),
    /// To unsubscribe there.
    Unsubscribe(Vec<String>),
    /// To send.
    Publish {
        /// Where.
        topic: String,
        /// What.
        payload: String,
    },
    /// [`crate::ShadowService::synchronise`]; the answer goes to [`Machine::merged`].
    Merge(SyncKey, Box<Seen>),
    /// [`crate::ShadowService::settle`]; a failure goes to [`Machine::unsettled`].
    Settle(SyncKey, Option<Box<Base>>),
    /// For the journal.
    Note(SyncKey, Kind),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Shadows that are kept together.
    pub shadows: usize,
    /// Of them, those for which nothing is left to do.
    pub in_step: usize,
    /// Of them, those that one side refuses; they wait for a change.
    pub refused: usize,
    /// Shadows that were left out because there are too many.
    pub left_out: u64,
    /// Requests sent, since start.
    pub requests: u64,
    /// Updates and deletions that the cloud accepted, since start.
    pub sent: u64,
    /// Times that the cloud's state was merged here, since start.
    pub merged: u64,
    /// Leaves that both sides had changed, since start.
    pub conflicts: u64,
    /// Documents that one side refused, since start.
    pub refusals: u64,
    /// Requests that were not answered, or that were answered with a passing failure, since start.
    pub failures: u64,
}

/// The synchronisation of one upstream's shadows. All times are milliseconds of a clock that never
/// goes back.
pub struct Machine {
    settings: Settings,
    /// The beginning of tokens: those of an earlier start are not taken for its own.
    session: String,
    tokens: u64,
    random: u64,
    shadows: BTreeMap<SyncKey, Shadow>,
    /// When shadows that wait for nobody are to be looked at.
    agenda: BTreeSet<(u64, SyncKey)>,
    /// When an answer is due.
    deadlines: BTreeSet<(u64, SyncKey)>,
    /// Subscribed shadows with nothing to do, by when they last had.
    resting: BTreeSet<(u64, SyncKey)>,
    /// Shadows that wait for a subscription.
    waiting: VecDeque<SyncKey>,
    /// Subscriptions of single shadows.
    subscriptions: usize,
    /// The subscriptions with wildcards.
    wild: [Sub; 2],
    /// When their answer is due, or when they are tried again.
    wild_at: u64,
    link: bool,
    in_flight: usize,
    /// Thousandths of requests that may leave.
    allowance: u64,
    allowed_at: u64,
    /// The cloud is not to be asked before.
    hold_until: u64,
    actions: Vec<Action>,
    status: Status,
}

impl Machine {
    /// `seed` makes tokens and pauses; another at each start. `now` is the time.
    pub fn new(settings: Settings, seed: u64, now: u64) -> Self {
        let exact: Vec<SyncKey> = settings.selections.iter().flat_map(|s| s.exact()).collect();
        let mut machine = Self {
            session: format!("iotedge-{seed:016x}-"),
            tokens: 0,
            random: seed | 1,
            shadows: BTreeMap::new(),
            agenda: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            resting: BTreeSet::new(),
            waiting: VecDeque::new(),
            subscriptions: 0,
            wild: [Sub::No; 2],
            wild_at: 0,
            link: false,
            in_flight: 0,
            allowance: u64::from(settings.rate) * 1000,
            allowed_at: now,
            hold_until: 0,
            actions: Vec::new(),
            status: Status::default(),
            settings,
        };
        for key in exact {
            machine.found(&key, false);
        }
        machine
    }

    /// What is to be done now, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let count = |is: fn(&Shadow) -> bool| self.shadows.values().filter(|s| is(s)).count();
        Status {
            shadows: self.shadows.len(),
            in_step: count(Shadow::is_in_step),
            refused: count(|shadow| shadow.refused),
            ..self.status
        }
    }

    /// A shadow is there; `news`: it has changed, and not by a merge. One that is not selected is
    /// none of ours.
    pub fn found(&mut self, key: &SyncKey, news: bool) {
        if self.shadows.contains_key(key) || self.add(key) {
            self.touch(key, |shadow| {
                shadow.local_news |= news;
                shadow.refused &= !news;
            });
        }
    }

    fn add(&mut self, key: &SyncKey) -> bool {
        if self.settings.find(key).is_none() {
            return false;
        }
        if self.shadows.len() >= MAX_SHADOWS {
            self.status.left_out += 1;
            return false;
        }
        self.shadows.insert(key.clone(), Shadow::default());
        true
    }

    /// A connection is there.
    pub fn link_up(&mut self) {
        self.forget_link();
        self.link = true;
        let keys: Vec<SyncKey> = self.shadows.keys().cloned().collect();
        for key in keys {
            // Refusals may have had reasons that are gone.
            self.touch(&key, |shadow| {
                shadow.refused = false;
                shadow.failures = 0;
                shadow.not_before = 0;
            });
        }
    }

    /// It is gone.
    pub fn link_down(&mut self) {
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.link = false;
        self.wild = [Sub::No; 2];
        self.wild_at = 0;
        self.subscriptions = 0;
        self.waiting.clear();
        self.resting.clear();
        self.agenda.clear();
        self.deadlines.clear();
        for shadow in self.shadows.values_mut() {
            if matches!(shadow.phase, Phase::Getting { .. } | Phase::Sending { .. }) {
                shadow.phase = Phase::Idle;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            shadow.sub = Sub::No;
            shadow.cloud = Cloud::Unknown;
            shadow.at = None;
            shadow.waits = false;
        }
    }

    /// The answer to [`Action::Subscribe`] for one filter.
    pub fn subscribed(&mut self, filter: &str, granted: bool, now: u64) {
        if let Some(at) = topics::WILDCARDS.iter().position(|f| *f == filter) {
            if let Some(wild) = self.wild.get_mut(at).filter(|wild| **wild == Sub::Asked) {
                *wild = if granted { Sub::Yes } else { Sub::No };
                if !granted {
                    self.wild_at = now + REFUSED_PAUSE;
                    self.status.failures += 1;
                }
            }
            return;
        }
        let Some(key) = topics::key_of_filter(filter) else {
            return;
        };
        match self.shadows.get_mut(&key) {
            Some(shadow) if shadow.sub == Sub::Asked => {}
            _ => return,
        }
        if !granted {
            self.status.failures += 1;
            self.subscriptions = self.subscriptions.saturating_sub(1);
            self.actions
                .push(Action::Note(key.clone(), Kind::SubscriptionRefused));
        }
        self.touch(&key, |shadow| {
            shadow.sub = if granted { Sub::Yes } else { Sub::No };
            if !granted {
                shadow.not_before = now + REFUSED_PAUSE;
            }
        });
    }

    /// The service's answer to [`Action::Merge`].
    pub fn merged(&mut self, key: &SyncKey, answer: Result<Synchronised, ShadowError>, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        let Phase::Merging { version } = shadow.phase else {
            return;
        };
        shadow.phase = Phase::Idle;
        self.in_flight = self.in_flight.saturating_sub(1);
        let done = match answer {
            Ok(done) => done,
            Err(error) => return self.not_merged(key, &error, now),
        };
        // What changed before the merge was decided is in it.
        shadow.local_news = false;
        // Otherwise the cloud has moved on, or its connection is gone: it is compared again.
        let current = shadow.cloud == Cloud::handed(version);
        self.status.merged += 1;
        if !done.conflicts.is_empty() {
            let count = u64::try_from(done.conflicts.len()).unwrap_or(u64::MAX);
            self.status.conflicts += count;
            let kind = Kind::Conflict(done.conflicts);
            self.actions.push(Action::Note(key.clone(), kind));
        }
        match done.cloud {
            Step::Keep => {
                self.allowance += 1000;
                self.in_step(key, version, now);
            }
            _ if !current => self.touch(key, |_| {}),
            Step::Update(state) => {
                let sending = Sending::Update {
                    expected: version,
                    local: done.local_version,
                    merged: Box::new(done.merged.unwrap_or_default()),
                };
                self.send(key, sending, &state, now);
            }
            Step::Delete => self.send(
                key,
                Sending::Delete { expected: version },
                &Value::Null,
                now,
            ),
        }
    }

    fn not_merged(&mut self, key: &SyncKey, error: &ShadowError, now: u64) {
        self.allowance += 1000;
        match error {
            // What it had then is not known here any more.
            ShadowError::VersionConflict => self.ask_again(key),
            ShadowError::TooManyRequests { .. } | ShadowError::Internal => self.failed(key, now),
            refused => {
                let kind = Kind::RefusedHere(refused.to_string());
                self.touch(key, |shadow| shadow.local_news = false);
                self.refused(key, kind, now);
            }
        }
    }

    /// [`Action::Settle`] could not be done.
    pub fn unsettled(&mut self, key: &SyncKey, now: u64) {
        if self
            .shadows
            .get(key)
            .is_some_and(|s| matches!(s.phase, Phase::Idle))
        {
            self.failed(key, now);
        }
    }

    /// Does what is due; gives the time of the next call, if nothing happens before.
    pub fn poll(&mut self, now: u64) -> Option<u64> {
        if !self.link {
            return None;
        }
        self.refill(now);
        self.time_out(now);
        // Who has had its turn gives way before it has another.
        self.seat(now);
        let blocked = self.look(now);
        self.seat(now);
        let mut next = self.deadlines.first().map(|(at, _)| *at);
        let mut also = |at: Option<u64>| next = [next, at].into_iter().flatten().min();
        also(blocked.or_else(|| self.agenda.first().map(|(at, _)| *at)));
        if self.wild.contains(&Sub::Asked) {
            also(Some(self.wild_at));
        }
        next
    }

    fn refill(&mut self, now: u64) {
        let rate = u64::from(self.settings.rate);
        let passed = now.saturating_sub(self.allowed_at);
        self.allowed_at = now;
        // A thousandth of a request is `1 / rate` milliseconds.
        let more = passed.saturating_mul(rate);
        self.allowance = self.allowance.saturating_add(more).min(rate * 1000);
    }

    fn time_out(&mut self, now: u64) {
        if self.wild.contains(&Sub::Asked) && now >= self.wild_at {
            self.wild = [Sub::No; 2];
            self.status.failures += 1;
        }
        while let Some((at, key)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            let Some(shadow) = self.shadows.get_mut(&key) else {
                continue;
            };
            shadow.at = None;
            // What is subscribed is not known: the silence may come of it.
            if shadow.sub != Sub::No {
                shadow.sub = Sub::No;
                self.subscriptions = self.subscriptions.saturating_sub(1);
                let filter = topics::filter(&key);
                self.actions.push(Action::Unsubscribe(vec![filter]));
            }
            if self.wild == [Sub::Yes; 2] {
                self.wild = [Sub::No; 2];
            }
            self.end_request(&key);
            self.failed(&key, now);
        }
    }

    /// Begins what can be begun. Gives the time from which on more can be, where something has to
    /// wait for it; `u64::MAX` where it waits for an answer.
    fn look(&mut self, now: u64) -> Option<u64> {
        while let Some((at, key)) = self.agenda.first().cloned() {
            if at > now {
                return None;
            }
            if self.in_flight >= MAX_IN_FLIGHT {
                return Some(u64::MAX);
            }
            if now < self.hold_until {
                return Some(self.hold_until);
            }
            if self.allowance < 1000 {
                let rate = u64::from(self.settings.rate);
                return Some(now + (1000 - self.allowance).div_ceil(rate));
            }
            if self.settings.wildcard && self.wild != [Sub::Yes; 2] {
                return Some(self.ask_for_all(now));
            }
            self.agenda.pop_first();
            self.visit(&key, now);
        }
        None
    }

    fn visit(&mut self, key: &SyncKey, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        shadow.at = None;
        if !shadow.has_work() {
            // Nothing was heard of it for long.
            shadow.cloud = Cloud::Unknown;
            shadow.refused = false;
        }
        self.resting.remove(&(shadow.rests_since, key.clone()));
        if self.settings.wildcard || shadow.sub == Sub::Yes {
            return self.begin(key, now);
        }
        shadow.waits = true;
        self.waiting.push_back(key.clone());
    }

    /// The subscriptions with wildcards; gives when to look again.
    fn ask_for_all(&mut self, now: u64) -> u64 {
        let asked = self.wild.contains(&Sub::Asked);
        if asked || now < self.wild_at {
            return self.wild_at;
        }
        self.wild_at = now + millis(self.settings.answer_timeout);
        self.wild = [Sub::Asked; 2];
        let filters = topics::WILDCARDS.map(str::to_owned).to_vec();
        self.actions.push(Action::Subscribe(filters));
        self.wild_at
    }

    /// Subscribes for those who wait, and unsubscribes for those who rest.
    fn seat(&mut self, now: u64) {
        let (mut ask, mut give_up) = (Vec::new(), Vec::new());
        while !self.waiting.is_empty() {
            if self.subscriptions >= self.settings.max_subscriptions {
                let Some((_, key)) = self.resting.pop_first() else {
                    break;
                };
                self.touch(&key, |shadow| shadow.sub = Sub::No);
                self.subscriptions -= 1;
                give_up.push(topics::filter(&key));
            }
            let Some(key) = self.waiting.pop_front() else {
                break;
            };
            self.subscriptions += 1;
            ask.push(topics::filter(&key));
            let deadline = now + millis(self.settings.answer_timeout);
            self.touch(&key, |shadow| {
                shadow.waits = false;
                shadow.sub = Sub::Asked;
                shadow.deadline = deadline;
            });
        }
        let chunks = |all: &[String]| {
            all.chunks(MAX_FILTERS)
                .map(<[_]>::to_vec)
                .collect::<Vec<_>>()
        };
        self.actions
            .extend(chunks(&give_up).into_iter().map(Action::Unsubscribe));
        self.actions
            .extend(chunks(&ask).into_iter().map(Action::Subscribe));
    }

    /// Asks the cloud, or the service where the cloud's side is known.
    fn begin(&mut self, key: &SyncKey, now: u64) {
        let token = self.next_token();
        let deadline = now + millis(self.settings.answer_timeout);
        let direction = self
            .settings
            .find(key)
            .map(|s| s.direction)
            .unwrap_or_default();
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        self.in_flight += 1;
        self.allowance = self.allowance.saturating_sub(1000);
        let (cloud, lost) = match std::mem::replace(&mut shadow.cloud, Cloud::Unknown) {
            Cloud::Unknown => {
                shadow.heard = 0;
                shadow.phase = Phase::Getting {
                    token: token.clone(),
                };
                shadow.deadline = deadline;
                self.publish(key, ShadowOperation::Get, topics::bare(&token));
                return self.touch(key, |_| {});
            }
            Cloud::Live(version) => (Err(version), false),
            Cloud::Gone => (Ok(Replica::Gone), false),
            Cloud::News(replica) => (Ok(*replica), false),
            Cloud::Lost(replica) => (Ok(*replica), true),
        };
        let version = match &cloud {
            _ if lost => None,
            Ok(replica) => replica.version(),
            Err(version) => Some(*version),
        };
        shadow.cloud = Cloud::handed(version);
        shadow.phase = Phase::Merging { version };
        let seen = Seen {
            peer: self.settings.peer.clone(),
            direction,
            cloud,
            lost,
        };
        self.actions
            .push(Action::Merge(key.clone(), Box::new(seen)));
        self.touch(key, |_| {});
    }

    /// Tells the cloud what a merge has made for it.
    fn send(&mut self, key: &SyncKey, sending: Sending, state: &Value, now: u64) {
        let token = self.next_token();
        let interval = self.settings.find(key).map(|s| millis(s.interval));
        let deadline = now + millis(self.settings.answer_timeout);
        let (operation, payload) = match &sending {
            Sending::Update { expected, .. } => {
                let request = topics::update(state, *expected, &token);
                (ShadowOperation::Update, request)
            }
            Sending::Delete { .. } => (ShadowOperation::Delete, topics::bare(&token)),
        };
        self.in_flight += 1;
        self.publish(key, operation, payload);
        self.touch(key, |shadow| {
            shadow.phase = Phase::Sending { token, sending };
            shadow.deadline = deadline;
            shadow.not_before = now + interval.unwrap_or_default();
        });
    }

    fn publish(&mut self, key: &SyncKey, operation: ShadowOperation, payload: String) {
        self.status.requests += 1;
        let topic = topics::request(key, operation);
        self.actions.push(Action::Publish { topic, payload });
    }

    fn next_token(&mut self) -> String {
        self.tokens += 1;
        format!("{}{}", self.session, self.tokens)
    }

    /// A request is answered, or will not be.
    fn end_request(&mut self, key: &SyncKey) {
        if let Some(shadow) = self.shadows.get_mut(key) {
            if matches!(shadow.phase, Phase::Getting { .. } | Phase::Sending { .. }) {
                shadow.phase = Phase::Idle;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
    }

    /// Both sides are equal, the cloud at this version.
    fn in_step(&mut self, key: &SyncKey, version: Option<u64>, now: u64) {
        let refresh = now + millis(self.settings.refresh);
        self.touch(key, |shadow| {
            let newer = match &shadow.cloud {
                Cloud::Live(_) | Cloud::Gone => false,
                Cloud::News(replica) => replica.version() > version,
                Cloud::Unknown | Cloud::Lost(_) => true,
            };
            if !newer {
                shadow.cloud = Cloud::handed(version);
            }
            shadow.failures = 0;
            shadow.refresh_at = refresh;
        });
        self.rest(key, now);
    }

    /// What the cloud has is not known.
    fn ask_again(&mut self, key: &SyncKey) {
        self.touch(key, |shadow| shadow.cloud = Cloud::Unknown);
    }

    /// A passing failure: later again.
    fn failed(&mut self, key: &SyncKey, now: u64) {
        self.status.failures += 1;
        let failures = self.shadows.get(key).map_or(0, |shadow| shadow.failures);
        let pause = self.pause(failures);
        self.touch(key, |shadow| {
            shadow.failures = shadow.failures.saturating_add(1);
            shadow.cloud = Cloud::Unknown;
            shadow.not_before = shadow.not_before.max(now + pause);
        });
        self.rest(key, now);
    }

    /// The document is refused: nothing is tried before one side changes.
    fn refused(&mut self, key: &SyncKey, kind: Kind, now: u64) {
        self.status.refusals += 1;
        self.actions.push(Action::Note(key.clone(), kind));
        let refresh = now + millis(self.settings.refresh);
        self.touch(key, |shadow| {
            shadow.refused = true;
            shadow.cloud = Cloud::Unknown;
            shadow.failures = 0;
            shadow.refresh_at = refresh;
        });
        self.rest(key, now);
    }

    /// Between half and all of what doubles with each failure.
    fn pause(&mut self, failures: u8) -> u64 {
        let most = (FIRST_PAUSE << failures.min(20)).min(LONGEST_PAUSE);
        // Xorshift: chance enough for this.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        most / 2 + self.random % (most / 2 + 1)
    }

    /// Has had its turn: others wait for its subscription, or may have it.
    fn rest(&mut self, key: &SyncKey, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        if self.settings.wildcard || shadow.sub != Sub::Yes || !matches!(shadow.phase, Phase::Idle)
        {
            return;
        }
        let has_work = shadow.has_work();
        if has_work && self.waiting.is_empty() {
            return;
        }
        self.resting.remove(&(shadow.rests_since, key.clone()));
        shadow.rests_since = now;
        self.resting.insert((now, key.clone()));
    }

    /// Changes a shadow and its place in what is to be looked at.
    fn touch(&mut self, key: &SyncKey, change: impl FnOnce(&mut Shadow)) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        change(shadow);
        let place = if self.link { shadow.place() } else { None };
        if place == shadow.at {
            return;
        }
        if let Some((due, at)) = std::mem::replace(&mut shadow.at, place) {
            self.list(due).remove(&(at, key.clone()));
        }
        if let Some((due, at)) = place {
            self.list(due).insert((at, key.clone()));
        }
    }

    fn list(&mut self, due: Due) -> &mut BTreeSet<(u64, SyncKey)> {
        match due {
            Due::Answer => &mut self.deadlines,
            Due::Look => &mut self.agenda,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
