//! What goes over the link, and how.

use std::sync::Arc;

use iotedge_model::{QoS, SharedFilter, Topic, TopicError, TopicFilter};
use iotedge_ports::{OnFull, RouteRules};

use crate::{ConfigError, Template};

/// Which way a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this gateway to the upstream.
    Out,
    /// From the upstream to this gateway.
    In,
}

impl Direction {
    /// `out` or `in`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// Where a message says that it is the same as an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotency {
    /// In the user property `idempotency-key` of MQTT 5.
    Property,
    /// In this member of a JSON object.
    Json(Arc<str>),
}

/// What goes over the link, as mosquitto's `topic` lines have it: `local_prefix` + `filter` names
/// topics here, `remote_prefix` + `filter` the same topics there.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name for ever: rows of an outbound queue survive under `upstream/name`.
    /// [`Route::default_name`] where the operator gave none.
    pub name: String,
    /// Which way.
    pub direction: Direction,
    /// The filter behind both prefixes.
    pub filter: String,
    /// Highest QoS, 0 or 1.
    pub qos: QoS,
    /// Beginning of topics here; may be empty.
    pub local_prefix: String,
    /// Beginning of topics there; may be empty.
    pub remote_prefix: String,
    /// What makes the topic on the other side, in place of its prefix.
    pub topic: Option<Template>,
    /// Out: what happens when the queue is full.
    pub on_full: OnFull,
    /// Out: byte limit of the queue.
    pub max_bytes: u64,
    /// Out: message limit of the queue.
    pub max_messages: u64,
    /// Out: 0 to 9. Each step doubles the route's part of a link that several routes want.
    pub priority: u8,
    /// Out: how messages wait. In: `raise_qos`, and `send_retained`: whether retained messages that
    /// a subscription brings are taken.
    pub rules: RouteRules,
    /// Whether a message's RETAIN flag is carried.
    pub keep_retain: bool,
    /// Out: payloads are compressed with gzip where that makes them smaller.
    pub compress: bool,
    /// In: payloads that such a route has compressed are decompressed.
    pub decompress: bool,
    /// Out: a key that is the same each time a message is sent.
    pub idempotency: Option<Idempotency>,
}

impl Route {
    /// One with a name made of direction and filter, everything else as it is where nothing is said.
    pub fn new(direction: Direction, filter: &str) -> Self {
        Self {
            name: Self::default_name(direction, filter),
            direction,
            filter: filter.into(),
            qos: QoS::AtLeastOnce,
            local_prefix: String::new(),
            remote_prefix: String::new(),
            topic: None,
            on_full: OnFull::Reject,
            max_bytes: 1 << 30,
            max_messages: 10_000_000,
            priority: 4,
            rules: RouteRules {
                send_retained: direction == Direction::In,
                ..RouteRules::default()
            },
            keep_retain: true,
            compress: false,
            decompress: false,
            idempotency: None,
        }
    }

    /// A name made of direction and filter.
    pub fn default_name(direction: Direction, filter: &str) -> String {
        format!("{}:{filter}", direction.as_str())
    }

    /// The filter of topics here.
    pub fn local_filter(&self) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(&format!("{}{}", self.local_prefix, self.filter))
    }

    /// The filter of topics there, as it stands in SUBSCRIBE: it may be a shared subscription.
    pub fn remote_filter(&self) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(&format!("{}{}", self.remote_prefix, self.filter))
    }

    /// Whether it is one member of a shared subscription upstream.
    pub(crate) fn is_shared(&self) -> bool {
        self.direction == Direction::In && self.filter.starts_with("$share/")
    }

    /// The filter that topics there have to match.
    pub(crate) fn remote_topics(&self) -> Result<TopicFilter, TopicError> {
        match self.is_shared() {
            true => TopicFilter::new(unshared(&self.filter)),
            false => self.remote_filter(),
        }
    }

    /// The topic on the other side of one that its filter matches. `client_id`: the publisher's.
    pub(crate) fn map(&self, topic: &str, client_id: &str) -> Result<Topic, TopicError> {
        if let Some(template) = &self.topic {
            return template.render(topic, client_id);
        }
        match self.direction {
            Direction::Out => crate::mapping::map(topic, &self.local_prefix, &self.remote_prefix),
            Direction::In => crate::mapping::map(topic, &self.remote_prefix, &self.local_prefix),
        }
    }

    /// Whether a message that came by `inbound` may be on a topic that this one carries out.
    pub(crate) fn sends_back(&self, inbound: &Self) -> bool {
        let ours = format!("{}{}", self.local_prefix, self.filter);
        let theirs = format!("{}{}", inbound.local_prefix, unshared(&inbound.filter));
        inbound.topic.is_some() || overlap(&ours, &theirs)
    }

    /// Whether it sets what is retained for `remote` upstream by what is retained for `topic` here.
    pub(crate) fn sets_state(&self, topic: &Topic, remote: &str) -> bool {
        self.direction == Direction::Out
            && self.keep_retain
            && self.local_filter().is_ok_and(|f| f.matches(topic.as_str()))
            && self
                .map(topic.as_str(), "")
                .is_ok_and(|t| t.as_str() == remote)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let error = |key| {
            move |reason| ConfigError::Filter {
                route: self.name.clone(),
                key,
                reason,
            }
        };
        TopicFilter::new(&self.filter).map_err(error("filter"))?;
        for (key, prefix) in [
            ("local_prefix", &self.local_prefix),
            ("remote_prefix", &self.remote_prefix),
        ] {
            if !prefix.is_empty() {
                Topic::check(prefix).map_err(error(key))?;
            }
        }
        self.local_filter().map_err(error("local_prefix"))?;
        self.remote_filter().map_err(error("remote_prefix"))?;
        self.check_shared()?;
        if self.qos == QoS::ExactlyOnce {
            return Err(ConfigError::Qos {
                route: self.name.clone(),
            });
        }
        self.check_rules()
    }

    /// A shared subscription comes in, and is written as a filter.
    fn check_shared(&self) -> Result<(), ConfigError> {
        let shared = |prefix: &str| format!("{prefix}{}", self.filter).starts_with("$share/");
        let bare = self.filter.starts_with("$share/");
        let rule = |key, reason| {
            Err(ConfigError::Rule {
                route: self.name.clone(),
                key,
                reason,
            })
        };
        if bare && self.direction == Direction::Out {
            return rule("filter", "a shared subscription only comes in");
        }
        if bare && !self.remote_prefix.is_empty() {
            return rule("remote_prefix", "a shared subscription has none");
        }
        if !bare && (shared(&self.remote_prefix) || shared(&self.local_prefix)) {
            let reason = "a shared subscription stands in filter: $share/NAME/FILTER";
            return rule("filter", reason);
        }
        SharedFilter::new(&self.filter)
            .map(drop)
            .map_err(|reason| ConfigError::Filter {
                route: self.name.clone(),
                key: "filter",
                reason,
            })
    }

    fn check_rules(&self) -> Result<(), ConfigError> {
        let rule = |key, reason| {
            Err(ConfigError::Rule {
                route: self.name.clone(),
                key,
                reason,
            })
        };
        if self.priority > 9 {
            return rule("priority", "0 to 9");
        }
        let fresh = self.rules.fresh;
        if fresh.is_some_and(|fresh| !(1..=99).contains(&fresh.share)) {
            return rule("fresh_share", "1 to 99 percent");
        }
        if self.rules.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return rule("ttl", "more than nothing");
        }
        if self.rules.raise_qos && self.qos == QoS::AtMostOnce {
            return rule("raise_qos", "needs qos = 1");
        }
        Ok(())
    }
}

/// A filter without `$share/NAME/` (MQTT 5, 4.8.2): topics match what is behind it.
fn unshared(filter: &str) -> &str {
    let behind = filter.strip_prefix("$share/");
    let behind = behind.and_then(|rest| rest.split_once('/'));
    behind.map_or(filter, |(_, filter)| filter)
}

/// Inbound routes must not overlap: only one of them could have a message.
pub(crate) fn check_overlap(routes: &[Route]) -> Result<(), ConfigError> {
    let inbound = || routes.iter().filter(|r| r.direction == Direction::In);
    for (at, route) in inbound().enumerate() {
        let filter = format!("{}{}", route.remote_prefix, unshared(&route.filter));
        for other in inbound().skip(at + 1) {
            let of_other = format!("{}{}", other.remote_prefix, unshared(&other.filter));
            if overlap(&filter, &of_other) {
                return Err(ConfigError::Overlap {
                    route: route.name.clone(),
                    other: other.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether a topic exists that both filters match (MQTT 3.1.1, 4.7).
fn overlap(a: &str, b: &str) -> bool {
    if a.starts_with('$') != b.starts_with('$') {
        // A wildcard does not begin a reserved topic (4.7.2).
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(name: &str, remote_prefix: &str, filter: &str) -> Route {
        Route {
            name: name.into(),
            remote_prefix: remote_prefix.into(),
            ..Route::new(Direction::In, filter)
        }
    }

    #[test]
    fn inbound_routes_that_share_a_topic_are_refused() {
        let check = |a: (&str, &str), b: (&str, &str)| {
            check_overlap(&[inbound("a", a.0, a.1), inbound("b", b.0, b.1)])
        };
        for (a, b) in [
            (("", "#"), ("", "x/y")),
            (("x/", "+"), ("", "x/y")),
            (("x/", "#"), ("", "x")),
            (("", "+/y"), ("", "x/+")),
            (("", "x/#"), ("x/", "y/z")),
            (("", "$share/g/x/#"), ("", "x/y")),
        ] {
            let refused = ConfigError::Overlap {
                route: "a".into(),
                other: "b".into(),
            };
            assert_eq!(check(a, b), Err(refused), "{a:?} {b:?}");
        }
        for (a, b) in [
            (("", "x/y"), ("", "x/z")),
            (("", "x/+"), ("", "x")),
            (("a/", "#"), ("b/", "#")),
            (("", "#"), ("", "$SYS/x")),
        ] {
            assert_eq!(check(a, b), Ok(()), "{a:?} {b:?}");
        }
    }

    #[test]
    fn rules_that_can_not_be_are_refused() {
        let check = |change: fn(&mut Route)| {
            let mut route = Route::new(Direction::Out, "a");
            change(&mut route);
            route.check()
        };
        assert_eq!(check(|_| {}), Ok(()));
        let rules: [fn(&mut Route); 3] = [
            |r| r.priority = 10,
            |r| r.rules.ttl = Some(std::time::Duration::ZERO),
            |r| {
                r.rules.raise_qos = true;
                r.qos = QoS::AtMostOnce;
            },
        ];
        for rule in rules {
            assert!(matches!(check(rule), Err(ConfigError::Rule { .. })));
        }
    }
}
