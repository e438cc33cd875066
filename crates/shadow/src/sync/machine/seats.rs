//! The subscriptions, of which there are fewer than shadows.

use super::shadow::{Phase, Sub};
use super::{Action, MAX_FILTERS, Machine, REFUSED_PAUSE, millis};
use crate::SyncKey;
use crate::sync::journal::Kind;
use crate::sync::topics;

impl Machine {
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

    /// The subscriptions with wildcards; gives when to look again.
    pub(super) fn ask_for_all(&mut self, now: u64) -> u64 {
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
    pub(super) fn seat(&mut self, now: u64) {
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

    /// Has had its turn: others wait for its subscription, or may have it.
    pub(super) fn rest(&mut self, key: &SyncKey, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        if self.settings.wildcard || shadow.sub != Sub::Yes || !matches!(shadow.phase, Phase::Idle)
        {
            return;
        }
        // Who goes on at once keeps its place, unless others wait for it.
        if shadow.has_work() && shadow.not_before <= now && self.waiting.is_empty() {
            return;
        }
        self.resting.remove(&(shadow.rests_since, key.clone()));
        shadow.rests_since = now;
        self.resting.insert((now, key.clone()));
    }
}
