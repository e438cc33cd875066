//! Tells of what routes lose: the first time at once, then at most once a minute for each route and
//! reason, with how many there were. Pure: it is handed the accounts and the time.

use std::collections::HashMap;
use std::sync::Arc;

use iotedge_model::DropReason;
use iotedge_ports::UpstreamStatus;

/// Milliseconds between two words about one route and reason.
const PAUSE: u64 = 60_000;

/// Which drops are as they should be: our own messages that come back.
const USUAL: DropReason = DropReason::Loop;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    upstream: Arc<str>,
    route: Arc<str>,
    reason: String,
}

#[derive(Default)]
struct Told {
    count: u64,
    /// Monotonic milliseconds of the last word.
    at: Option<u64>,
}

/// What has been told.
pub(crate) struct Losses {
    told: HashMap<Key, Told>,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) upstream: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) reason: String,
    /// Since the last word.
    pub(crate) messages: u64,
}

fn all(upstreams: &[UpstreamStatus]) -> impl Iterator<Item = (Key, u64)> {
    upstreams.iter().flat_map(|upstream| {
        upstream.routes.iter().flat_map(move |route| {
            let dropped = route.dropped.iter();
            dropped
                .filter(|(reason, _)| *reason != USUAL.as_str())
                .map(move |(reason, count)| {
                    let key = Key {
                        upstream: upstream.name.clone(),
                        route: route.name.clone(),
                        reason: reason.clone(),
                    };
                    (key, *count)
                })
        })
    })
}

impl Losses {
    /// What was lost before is no news.
    pub(crate) fn new(upstreams: &[UpstreamStatus]) -> Self {
        let told = all(upstreams).map(|(key, count)| (key, Told { count, at: None }));
        Self {
            told: told.collect(),
        }
    }

    /// `now`: monotonic milliseconds.
    pub(crate) fn look(&mut self, upstreams: &[UpstreamStatus], now: u64) -> Vec<Loss> {
        let mut news = Vec::new();
        for (key, count) in all(upstreams) {
            let known = self.told.get(&key);
            let (before, at) = known.map_or((0, None), |told| (told.count, told.at));
            if count <= before || at.is_some_and(|at| now.saturating_sub(at) < PAUSE) {
                continue;
            }
            news.push(Loss {
                upstream: key.upstream.clone(),
                route: key.route.clone(),
                reason: key.reason.clone(),
                messages: count - before,
            });
            let at = Some(now);
            self.told.insert(key, Told { count, at });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use iotedge_model::UnixMillis;
    use iotedge_ports::{LinkState, RouteStatus};

    use super::*;

    fn dropped(counts: &[(&str, u64)]) -> [UpstreamStatus; 1] {
        [UpstreamStatus {
            name: Arc::from("cloud"),
            url: String::new(),
            state: LinkState::Connected,
            reason: String::new(),
            since: UnixMillis(0),
            next_retry: None,
            connects: 0,
            bytes_sent: 0,
            bytes_received: 0,
            daily_bytes: None,
            day_bytes: None,
            paused: None,
            routes: vec![RouteStatus {
                name: Arc::from("out"),
                direction: "out",
                filter: "#".into(),
                accepted: 0,
                delivered: 0,
                queued: 0,
                queued_bytes: 0,
                dropped: counts.iter().map(|(r, n)| ((*r).to_owned(), *n)).collect(),
                resent: 0,
            }],
        }]
    }

    #[test]
    fn losses_are_told_at_once_and_then_once_a_minute_with_their_number() {
        let mut losses = Losses::new(&dropped(&[("expired", 7)]));
        let mut look = |counts: &[(&str, u64)], now| {
            let news = losses.look(&dropped(counts), now);
            news.into_iter()
                .map(|l| (l.reason, l.messages))
                .collect::<Vec<_>>()
        };
        let none = Vec::new();
        assert_eq!(
            look(&[("expired", 7), ("loop", 3)], 1000),
            none,
            "of before"
        );
        let first = [("expired", 8), ("queue-full", 2)];
        assert_eq!(
            look(&first, 2000),
            [("expired".into(), 1), ("queue-full".into(), 2)]
        );
        assert_eq!(look(&[("expired", 9), ("queue-full", 2)], 3000), none);
        assert_eq!(
            look(&[("expired", 50), ("queue-full", 2)], 62_000),
            [("expired".into(), 42)]
        );
        assert_eq!(look(&[("expired", 50), ("queue-full", 2)], 200_000), none);
        assert_eq!(
            look(&[("expired", 51), ("queue-full", 2)], 200_001),
            [("expired".into(), 1)]
        );
    }
}
