//! Whose turn it is, and when.

use std::collections::BTreeSet;

use super::shadow::{Cloud, Due, Sub};
use super::{Action, MAX_FILTERS, MAX_IN_FLIGHT, Machine};
use crate::SyncKey;
use crate::sync::topics;

/// Shadows by when they are due.
pub(super) type List = BTreeSet<(u64, SyncKey)>;

/// Two lists that have their turns: neither do changes wait for a catch-up of all shadows nor the
/// catch-up for changes that never end.
#[derive(Default)]
struct Turns {
    news: List,
    rest: List,
    /// Who had the last turn.
    was_news: bool,
}

impl Turns {
    fn next(&self, now: u64) -> Option<(bool, &SyncKey)> {
        let due = |list: &'_ List| list.first().is_some_and(|(at, _)| *at <= now);
        let news = match (due(&self.news), due(&self.rest)) {
            (true, true) => !self.was_news,
            (news, rest) if news || rest => news,
            _ => return None,
        };
        let list = if news { &self.news } else { &self.rest };
        list.first().map(|(_, key)| (news, key))
    }

    fn first(&self) -> Option<u64> {
        let lists = [&self.news, &self.rest];
        lists.iter().filter_map(|l| Some(l.first()?.0)).min()
    }
}

/// Whose turn it is.
struct Next {
    key: SyncKey,
    seated: bool,
    news: bool,
}

/// All lists.
#[derive(Default)]
pub(super) struct Agenda {
    answers: List,
    seated: Turns,
    unseated: Turns,
}

impl Agenda {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn turns(&mut self, seated: bool) -> &mut Turns {
        match seated {
            true => &mut self.seated,
            false => &mut self.unseated,
        }
    }

    pub(super) fn list(&mut self, due: Due) -> &mut List {
        match due {
            Due::Answer => &mut self.answers,
            Due::Turn { news: true, seated } => &mut self.turns(seated).news,
            Due::Turn { seated, .. } => &mut self.turns(seated).rest,
        }
    }

    /// Whose answer is overdue.
    fn overdue(&mut self, now: u64) -> Option<SyncKey> {
        self.answers.first().filter(|(at, _)| *at <= now)?;
        self.answers.pop_first().map(|(_, key)| key)
    }

    /// Who is next; `seats`: those without a subscription, too, who are only waved to their seats.
    fn next(&self, now: u64, seats: bool) -> Option<Next> {
        let next = |seated: bool, turns: &Turns| {
            let (news, key) = turns.next(now)?;
            let key = key.clone();
            Some(Next { key, seated, news })
        };
        let unseated = seats.then(|| next(false, &self.unseated)).flatten();
        unseated.or_else(|| next(true, &self.seated))
    }

    /// When somebody is due; `seats` as above.
    fn first(&self, seats: bool) -> Option<u64> {
        let unseated = self.unseated.first().filter(|_| seats);
        [unseated, self.seated.first()].into_iter().flatten().min()
    }
}

impl Machine {
    /// Does what is due; gives the time of the next call, if nothing happens before.
    pub fn poll(&mut self, now: u64) -> Option<u64> {
        if !self.link {
            return None;
        }
        self.refill(now);
        self.time_out(now);
        // Who has had its turn gives way before it has another.
        self.seat(now);
        let next = self.look(now);
        self.seat(now);
        let answer = self.agenda.answers.first().map(|(at, _)| *at);
        let wild = self.wild.contains(&Sub::Asked).then_some(self.wild_at);
        [next, answer, wild].into_iter().flatten().min()
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
        while let Some(key) = self.agenda.overdue(now) {
            let Some(shadow) = self.shadows.get_mut(&key) else {
                continue;
            };
            shadow.at = None;
            if let Some(refusal) = shadow.unsigned.take() {
                // It can only have been for the request under way, which has no other answer.
                self.rejected(&key, *refusal, now);
                continue;
            }
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

    /// Begins what can be begun. Gives the time from which on more can be, if nothing happens before.
    fn look(&mut self, now: u64) -> Option<u64> {
        loop {
            let seats = self.waiting.len() < MAX_FILTERS;
            let Some(next) = self.agenda.next(now, seats) else {
                // Those who wait for a subscription wait for somebody's answer.
                return self.agenda.first(seats);
            };
            if self.in_flight >= MAX_IN_FLIGHT {
                return None;
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
            self.agenda.turns(next.seated).was_news = next.news;
            self.visit(&next.key, now);
        }
    }

    fn visit(&mut self, key: &SyncKey, now: u64) {
        let Some(shadow) = self.shadows.get_mut(key) else {
            return;
        };
        if !shadow.has_work() {
            // Nothing was heard of it for long.
            shadow.cloud = Cloud::Unknown;
            shadow.refused = false;
        }
        self.resting.remove(&(shadow.rests_since, key.clone()));
        if self.settings.wildcard || shadow.sub == Sub::Yes {
            return self.begin(key, now);
        }
        self.touch(key, |shadow| shadow.waits = true);
        self.waiting.push_back(key.clone());
    }
}
