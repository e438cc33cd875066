//! What is asked next, of whom; without I/O.

mod agenda;
mod answers;
mod requests;
mod seats;
mod shadow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::journal::Kind;
use crate::SyncKey;
use crate::core::sync::{Base, Seen};
use agenda::Agenda;
use shadow::{Cloud, Phase, Shadow, Sub};

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
    agenda: Agenda,
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
            agenda: Agenda::default(),
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

    /// Requests to the cloud and merges that are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
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
        for shadow in self.shadows.values_mut() {
            if matches!(shadow.phase, Phase::Getting { .. } | Phase::Sending { .. }) {
                shadow.phase = Phase::Idle;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            shadow.sub = Sub::No;
            shadow.cloud = Cloud::Unknown;
            shadow.unsigned = None;
            shadow.at = None;
            shadow.waits = false;
        }
    }

    /// Changes a shadow and its place in what is to be looked at.
    fn touch(&mut self, key: &SyncKey, change: impl FnOnce(&mut Shadow)) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        change(shadow);
        let wildcard = self.settings.wildcard;
        let mut place = self.link.then(|| shadow.place(wildcard)).flatten();
        if let Some((due, at)) = &mut place {
            let earliest = *at;
            // Behind those who are due already, and that is where it stays.
            *at = earliest.max(self.allowed_at);
            match shadow.at {
                Some((is, since)) if is == *due && (earliest..=*at).contains(&since) => return,
                _ => {}
            }
        }
        if let Some((due, at)) = std::mem::replace(&mut shadow.at, place) {
            self.agenda.list(due).remove(&(at, key.clone()));
        }
        if let Some((due, at)) = place {
            self.agenda.list(due).insert((at, key.clone()));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
