//! What is asked of the cloud and of the service, and what becomes of it.

use iotedge_model::reserved::ShadowOperation;
use serde_json::Value;

use super::shadow::{Cloud, Phase, Sending};
use super::{Action, FIRST_PAUSE, LONGEST_PAUSE, Machine, millis};
use crate::SyncKey;
use crate::core::ShadowError;
use crate::core::sync::{Direction, Replica, Seen, Step, Synchronised};
use crate::sync::journal::Kind;
use crate::sync::topics;

impl Machine {
    /// Asks the cloud, or the service where the cloud's side is known.
    pub(super) fn begin(&mut self, key: &SyncKey, now: u64) {
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
        let one_way = self
            .settings
            .find(key)
            .is_some_and(|s| s.direction != Direction::Both);
        if let Some(shadow) = self.shadows.get_mut(key) {
            // Somebody insists, maybe another gateway that copies the same shadow: each waits longer.
            shadow.quarrels = match one_way && !done.conflicts.is_empty() {
                true => shadow.quarrels.saturating_add(1),
                false => 0,
            };
        }
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

    /// Tells the cloud what a merge has made for it.
    fn send(&mut self, key: &SyncKey, sending: Sending, state: &Value, now: u64) {
        let token = self.next_token();
        let interval = self.settings.find(key).map(|s| millis(s.interval));
        let quarrels = self.shadows.get(key).map_or(0, |shadow| shadow.quarrels);
        let quarrel = match quarrels.checked_sub(1) {
            Some(before) => self.pause(before),
            None => 0,
        };
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
            shadow.not_before = now + interval.unwrap_or_default().max(quarrel);
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
    pub(super) fn end_request(&mut self, key: &SyncKey) {
        if let Some(shadow) = self.shadows.get_mut(key) {
            if matches!(shadow.phase, Phase::Getting { .. } | Phase::Sending { .. }) {
                shadow.phase = Phase::Idle;
                shadow.unsigned = None;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
    }

    /// Both sides are equal, the cloud at this version.
    pub(super) fn in_step(&mut self, key: &SyncKey, version: Option<u64>, now: u64) {
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
    pub(super) fn ask_again(&mut self, key: &SyncKey) {
        self.touch(key, |shadow| shadow.cloud = Cloud::Unknown);
    }

    /// A passing failure: later again.
    pub(super) fn failed(&mut self, key: &SyncKey, now: u64) {
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
    pub(super) fn refused(&mut self, key: &SyncKey, kind: Kind, now: u64) {
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
    pub(super) fn pause(&mut self, failures: u8) -> u64 {
        let most = (FIRST_PAUSE << failures.min(20)).min(LONGEST_PAUSE);
        // Xorshift: chance enough for this.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        most / 2 + self.random % (most / 2 + 1)
    }
}
