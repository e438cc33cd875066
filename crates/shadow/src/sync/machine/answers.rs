//! What the cloud says.

use iotedge_model::reserved::ShadowOperation as Op;

use super::shadow::{Cloud, Phase, Refusal, Sending};
use super::{Action, Machine, REFUSED_PAUSE};
use crate::SyncKey;
use crate::core::sync::{Base, Replica};
use crate::sync::journal::Kind;
use crate::sync::topics::{self, Document, Word};

impl Machine {
    /// A message from the cloud.
    pub fn received(&mut self, topic: &str, payload: &[u8], now: u64) {
        let Some((key, operation, word)) = topics::parse(topic) else {
            return;
        };
        if !self.link {
            return;
        }
        if !self.shadows.contains_key(&key) {
            // With wildcards shadows are heard of that nobody here has; what is said of one that is
            // new is asked for.
            if self.settings.wildcard && word != Word::Rejected {
                self.found(&key, false);
            }
            return;
        }
        let Some(document) = Document::parse(payload) else {
            tracing::warn!(topic, "a shadow message of the upstream is no JSON object");
            return;
        };
        match (operation, word, self.is_own(&key, operation, &document)) {
            (Op::Get, Word::Accepted, true) => self.got(&key, document.replica(), now),
            (Op::Get | Op::Delete, Word::Rejected, true) if document.code() == Some(404) => {
                match operation {
                    Op::Get => self.got(&key, Some(Replica::Gone), now),
                    _ => self.deleted(&key, None, now),
                }
            }
            (_, Word::Rejected, true) => self.rejected(&key, Refusal::of(&document), now),
            (_, Word::Rejected, false) => self.unsigned(&key, operation, &document),
            (Op::Update, Word::Accepted, true) => self.accepted(&key, document.version(), now),
            (Op::Update, Word::Documents, true) => self.created(&key, &document, now),
            (Op::Delete, Word::Accepted, true) => self.deleted(&key, document.version(), now),
            (Op::Update, Word::Documents, false) => self.news(&key, &document),
            (Op::Delete, Word::Accepted, false) => self.gone(&key),
            _ => {}
        }
    }

    /// The upstream does not take the request that is under way, as if the cloud had answered it
    /// with this code.
    pub fn refuse(&mut self, topic: &str, code: u64, message: String, now: u64) {
        let Some((key, operation)) = topics::request_of(topic) else {
            return;
        };
        let asked = self.shadows.get(&key).and_then(|s| s.phase.asked());
        if asked.is_some_and(|(asked, _)| asked == operation) {
            self.rejected(&key, Refusal { code, message }, now);
        }
    }

    /// Whether it answers the request that is under way.
    fn is_own(&self, key: &SyncKey, operation: Op, document: &Document) -> bool {
        let asked = self
            .shadows
            .get(key)
            .and_then(|shadow| shadow.phase.asked());
        asked.is_some_and(|(asked, token)| asked == operation && document.token() == Some(token))
    }

    /// A refusal without a token: AWS IoT gives none back where it could not read the request, and
    /// so do refusals of others' requests without one. Which it was shows when no answer comes.
    fn unsigned(&mut self, key: &SyncKey, operation: Op, document: &Document) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        let asked = shadow.phase.asked().map(|(asked, _)| asked);
        if asked == Some(operation) && document.token().is_none() {
            shadow.unsigned = Some(Box::new(Refusal::of(document)));
        }
    }

    fn got(&mut self, key: &SyncKey, replica: Option<Replica>, now: u64) {
        self.end_request(key);
        let Some(replica) = replica else {
            // Nothing that could be merged.
            return self.failed(key, now);
        };
        self.touch(key, |shadow| {
            let known = replica.version().unwrap_or_default();
            shadow.cloud = match shadow.heard > known {
                // It has changed since that was written.
                true => Cloud::Unknown,
                false => Cloud::News(Box::new(replica)),
            };
            shadow.heard = 0;
        });
    }

    /// The update that was compared with what the cloud had.
    fn accepted(&mut self, key: &SyncKey, version: Option<u64>, now: u64) {
        let Some(shadow) = self.shadows.get(key) else {
            return;
        };
        let Phase::Sending {
            sending:
                Sending::Update {
                    expected: Some(_),
                    local,
                    merged,
                },
            ..
        } = &shadow.phase
        else {
            // What was to make a shadow may have met one: `documents` says.
            return;
        };
        let (local, merged) = (*local, merged.clone());
        self.end_request(key);
        let Some(cloud) = version else {
            return self.failed(key, now);
        };
        self.status.sent += 1;
        let (desired, reported) = *merged;
        let base = Base {
            local,
            cloud,
            desired,
            reported,
        };
        self.actions
            .push(Action::Settle(key.clone(), Some(Box::new(base))));
        self.in_step(key, Some(cloud), now);
    }

    /// `update/documents` of the update that is under way.
    fn created(&mut self, key: &SyncKey, document: &Document, now: u64) {
        let Some(current) = document.current() else {
            return;
        };
        let version = current.version();
        let made = match self.shadows.get(key).map(|shadow| &shadow.phase) {
            Some(Phase::Sending {
                sending: Sending::Update { expected, .. },
                ..
            }) => expected.is_none(),
            _ => return,
        };
        if !made {
            // Its `accepted` was lost.
            return self.accepted(key, version, now);
        }
        // What it has become is compared once more, which notes it: somebody else may have made the
        // shadow at the same time.
        self.status.sent += 1;
        self.end_request(key);
        self.touch(key, |shadow| shadow.cloud = Cloud::News(Box::new(current)));
    }

    fn deleted(&mut self, key: &SyncKey, version: Option<u64>, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        let expected = match &shadow.phase {
            Phase::Sending {
                sending: Sending::Delete { expected },
                ..
            } => *expected,
            _ => None,
        };
        let heard = match std::mem::replace(&mut shadow.cloud, Cloud::Gone) {
            Cloud::News(replica) => Some(replica),
            _ => None,
        };
        self.end_request(key);
        self.status.sent += 1;
        // AWS IoT deletes whatever there is: a change that was not known goes with the rest.
        if version > expected {
            if let Some(lost) = heard.filter(|replica| replica.version() == version) {
                return self.touch(key, |shadow| shadow.cloud = Cloud::Lost(lost));
            }
            let version = version.unwrap_or_default();
            self.actions
                .push(Action::Note(key.clone(), Kind::DeletedUnseen(version)));
        }
        self.actions.push(Action::Settle(key.clone(), None));
        self.in_step(key, None, now);
    }

    /// The request that is under way is refused.
    pub(super) fn rejected(&mut self, key: &SyncKey, refusal: Refusal, now: u64) {
        let Refusal { code, message } = refusal;
        let getting = self
            .shadows
            .get(key)
            .is_some_and(|shadow| matches!(shadow.phase, Phase::Getting { .. }));
        self.end_request(key);
        match code {
            // Somebody was faster.
            404 | 409 => {
                let again = self.shadows.get(key).map_or(0, |shadow| shadow.failures);
                match again {
                    0 | 1 => {
                        self.ask_again(key);
                        self.touch(key, |shadow| shadow.failures += 1);
                    }
                    _ => self.failed(key, now),
                }
            }
            429 => {
                let failures = self.shadows.get(key).map_or(0, |shadow| shadow.failures);
                self.hold_until = self.hold_until.max(now + self.pause(failures));
                self.failed(key, now);
            }
            500..=599 => self.failed(key, now),
            _ => {
                let kind = Kind::RefusedByCloud(code, message);
                if !getting && !matches!(code, 401 | 403) {
                    return self.refused(key, kind, now);
                }
                // Not for what it says: somebody may allow it.
                self.status.refusals += 1;
                self.actions.push(Action::Note(key.clone(), kind));
                self.touch(key, |shadow| {
                    shadow.cloud = Cloud::Unknown;
                    shadow.not_before = now + REFUSED_PAUSE;
                });
                self.rest(key, now);
            }
        }
    }

    /// Somebody else has changed it.
    fn news(&mut self, key: &SyncKey, document: &Document) {
        let Some(current) = document.current() else {
            return;
        };
        let told = current.version();
        let first = document.is_first();
        self.touch(key, |shadow| {
            let known = match &shadow.cloud {
                Cloud::Unknown => {
                    shadow.heard = shadow.heard.max(told.unwrap_or_default());
                    return;
                }
                // It may be told late, of what is gone.
                Cloud::Gone | Cloud::Lost(_) => {
                    shadow.cloud = Cloud::Unknown;
                    return;
                }
                Cloud::Live(version) => Some(*version),
                Cloud::News(replica) => replica.version(),
            };
            if told > known {
                shadow.refused = false;
                shadow.cloud = Cloud::News(Box::new(current));
            } else if told < known && first {
                // Versions have begun again.
                shadow.cloud = Cloud::Unknown;
            }
        });
    }

    /// Somebody else has deleted it.
    fn gone(&mut self, key: &SyncKey) {
        self.touch(key, |shadow| {
            shadow.refused = false;
            shadow.heard = u64::MAX;
            shadow.cloud = Cloud::Unknown;
        });
    }
}

impl Refusal {
    fn of(document: &Document) -> Self {
        Self {
            code: document.code().unwrap_or_default(),
            message: document.message().to_owned(),
        }
    }
}
