//! The subscriptions of inbound routes: what is asked for, asked for again, and given up.
//!
//! A server sends retained messages for each SUBSCRIBE (MQTT 3.1.1, 3.8.4), so what stands is not asked
//! for again on the same connection. The session upstream outlives a configuration, so what was subscribed
//! is kept, and what no route wants any more is given up by UNSUBSCRIBE.

use std::collections::{BTreeSet, VecDeque};

use iotedge_model::TopicFilter;
use iotedge_ports::LinkState;
use iotedge_store::Expect;
use tokio::time::Instant;

use super::{Asked, End, Task};
use crate::Route;
use crate::trial::FILTERS;
use crate::uplink::{Connection, Filter, reason};

/// How far the subscriptions of a connection are. Numbers are places in `Task::incoming`.
#[derive(Default)]
pub(super) struct Subscribing {
    /// What is to be asked for.
    rest: VecDeque<usize>,
    /// What the SUBSCRIBE has that waits for its SUBACK.
    asked: Vec<usize>,
    /// The next filters may go.
    due: bool,
    /// What the upstream refuses, in an operator's words.
    refused: Vec<(usize, String)>,
    /// The kept list has more than what the session will have.
    unsettled: bool,
}

/// A shared subscription's topics match less than what SUBSCRIBE has.
fn subscribed_as(route: &Route, topics: &TopicFilter) -> String {
    match route.is_shared() {
        true => route.filter.clone(),
        false => topics.to_string(),
    }
}

impl Task {
    /// Gives up what no route wants and begins with the first filters; [`Task::subscribe_next`] goes on
    /// behind each SUBACK.
    pub(super) fn subscribe(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.subscribe = Subscribing {
            rest: (0..self.incoming.len()).collect(),
            due: true,
            ..Subscribing::default()
        };
        self.unsubscribe(connection)?;
        self.subscribe_next(connection)
    }

    pub(super) fn subscribe_next(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        if !self.subscribe.due || !self.knows_its_states() {
            return Ok(());
        }
        self.subscribe.due = false;
        let count = self.subscribe.rest.len().min(FILTERS);
        let asked: Vec<usize> = self.subscribe.rest.drain(..count).collect();
        let incoming = asked.iter().filter_map(|at| self.incoming.get(*at));
        let filters: Vec<_> = incoming
            .filter_map(|(at, topics)| {
                let route = self.shared.config.routes.get(*at)?;
                Some(Filter {
                    filter: subscribed_as(route, topics),
                    qos: route.qos,
                    // A protocol error with a shared one (MQTT 5, 3.8.3.1).
                    no_local: !route.is_shared(),
                    retain_as_published: true,
                    retained: route.rules.send_retained,
                })
            })
            .collect();
        if filters.is_empty() {
            return Ok(());
        }
        self.subscribe.asked = asked;
        connection
            .subscribe(filters)
            .map_err(|ended| self.failed(ended))?;
        self.subscribing = Some(Instant::now());
        self.asked = Asked::Routes;
        Ok(())
    }

    /// Asks again for what was refused, when it is time.
    pub(super) fn resubscribe(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        let now = self.now();
        let due = self.shared.link().wait(now).is_some_and(|w| w.is_zero());
        // One SUBSCRIBE at a time: its SUBACK is then the next one.
        let asked = self.subscribing.is_some() || self.subscribe.due;
        if !due || asked || self.shared.link().state() != LinkState::Misconfigured {
            return Ok(());
        }
        // Until the answer comes nothing is due.
        let dice = self.dice();
        let reason = self.shared.link().reason().to_owned();
        self.shared.link().subscription_refused(&reason, now, dice);
        let refused = std::mem::take(&mut self.subscribe.refused);
        self.subscribe.rest = refused.into_iter().map(|(at, _)| at).collect();
        self.subscribe.due = true;
        self.subscribe_next(connection)
    }

    /// SUBACK of the filters that were asked for last.
    pub(super) fn subscribed(&mut self, codes: &[u8]) {
        self.subscribing = None;
        let mut codes = codes.iter();
        if let Asked::Peer(filters) = std::mem::replace(&mut self.asked, Asked::Routes) {
            for filter in filters {
                let code = codes.next().copied().unwrap_or(0x80);
                self.shared.peering.subscribed(&filter, code < 0x80);
            }
            return;
        }
        for at in std::mem::take(&mut self.subscribe.asked) {
            let code = codes.next().copied().unwrap_or(0x80);
            let refused = self.filter_of(at).filter(|_| code >= 0x80);
            if let Some(filter) = refused {
                let told = match code {
                    0x80 => filter,
                    _ => format!("{filter} ({})", reason::text(code)),
                };
                self.subscribe.refused.push((at, told));
            }
        }
        if !self.subscribe.rest.is_empty() {
            self.subscribe.due = true;
            return;
        }
        // A server does things in order: UNSUBSCRIBE is done, too.
        self.settle_filters();
        self.tell_subscribed();
    }

    fn tell_subscribed(&mut self) {
        let refused = self.subscribe.refused.iter().map(|(_, told)| &**told);
        let refused: Vec<&str> = refused.collect();
        let reason = match refused.is_empty() {
            true => None,
            false => Some(format!(
                "the upstream refuses the subscription to {}",
                refused.join(", ")
            )),
        };
        let (now, dice) = (self.now(), self.dice());
        let entered = match reason {
            Some(reason) => {
                self.shared.link().subscription_refused(&reason, now, dice);
                true
            }
            None => self.shared.link().subscribed(now),
        };
        if entered {
            self.log();
        }
    }

    /// UNSUBSCRIBE for what the session upstream has of an earlier configuration.
    fn unsubscribe(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        let wanted = self.wanted_filters();
        let mut earlier = self.kept_filters();
        if earlier == wanted {
            return Ok(());
        }
        if !self.accepted.session_present {
            earlier.clear();
        }
        for filter in earlier.difference(&wanted) {
            tracing::info!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = self.shared.config.name,
                filter,
                "no route wants this subscription any more"
            );
            connection
                .unsubscribe(filter.clone())
                .map_err(|ended| self.failed(ended))?;
        }
        // Both, until the server has done it: this connection may end before.
        self.subscribe.unsettled = true;
        self.keep_filters(&earlier.union(&wanted).cloned().collect());
        Ok(())
    }

    /// The server has answered what came behind UNSUBSCRIBE.
    pub(super) fn settle_filters(&mut self) {
        if std::mem::take(&mut self.subscribe.unsettled) {
            self.keep_filters(&self.wanted_filters());
        }
    }

    /// [`Task::settle_filters`] by a PINGRESP, where no SUBACK is to come.
    pub(super) fn settle_by_pong(&mut self) {
        if self.incoming.is_empty() {
            self.settle_filters();
        }
    }

    fn wanted_filters(&self) -> BTreeSet<String> {
        let places = 0..self.incoming.len();
        places.filter_map(|at| self.filter_of(at)).collect()
    }

    /// As it stands in SUBSCRIBE.
    fn filter_of(&self, at: usize) -> Option<String> {
        let (route, topics) = self.incoming.get(at)?;
        let route = self.shared.config.routes.get(*route)?;
        Some(subscribed_as(route, topics))
    }

    fn filters_key(&self) -> String {
        // An upstream's name has no slash.
        format!("{}/subscribed", self.shared.config.name)
    }

    fn kept_filters(&self) -> BTreeSet<String> {
        let kept = self.kept.as_ref().map(|kept| kept.get(&self.filters_key()));
        match kept {
            None | Some(Ok(None)) => BTreeSet::new(),
            Some(Ok(Some(document))) => serde_json::from_slice(&document.body).unwrap_or_default(),
            Some(Err(error)) => {
                self.not_kept(&error);
                BTreeSet::new()
            }
        }
    }

    fn keep_filters(&self, filters: &BTreeSet<String>) {
        let (Some(kept), Ok(body)) = (&self.kept, serde_json::to_vec(filters)) else {
            return;
        };
        if let Err(error) = kept.put(&self.filters_key(), body, Expect::Any, None) {
            self.not_kept(&error);
        }
    }

    fn not_kept(&self, error: &dyn std::fmt::Display) {
        tracing::warn!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            %error,
            "the list of subscriptions upstream is not kept: old ones may stay there"
        );
    }
}
