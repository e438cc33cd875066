//! The topics that begin with `$`: which of them clients may publish and subscribe to.
//!
//! 2016 guide, "Reserved Topics", and today's list of the same name: what is not documented for a
//! client's operation is refused, whatever policies say. Services that are not here (Device
//! Defender, file delivery, …) have their topics too: a bridge may carry them to where they are.

use crate::{ShadowName, ThingName, matches};

/// What a client asks of a shadow by publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShadowOperation {
    /// `…/shadow/get`
    Get,
    /// `…/shadow/update`
    Update,
    /// `…/shadow/delete`
    Delete,
}

impl ShadowOperation {
    /// The word in the topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A shadow request's topic, taken apart. Names are as sent: they may be invalid, which the shadow
/// service answers with a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowRequest<'a> {
    /// The thing, unchecked.
    pub thing: &'a str,
    /// The shadow's name, unchecked; `None` for the classic shadow.
    pub shadow: Option<&'a str>,
    /// What is asked.
    pub operation: ShadowOperation,
}

impl<'a> ShadowRequest<'a> {
    /// `$aws/things/{thing}/shadow[/name/{shadow}]/{get|update|delete}`, or `None`.
    pub fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix("$aws/things/")?;
        let (thing, rest) = rest.split_once('/')?;
        let rest = rest.strip_prefix("shadow/")?;
        let (shadow, word) = match rest.strip_prefix("name/") {
            Some(named) => {
                let (name, word) = named.split_once('/')?;
                (Some(name), word)
            }
            None => (None, rest),
        };
        let operation = match word {
            "get" => ShadowOperation::Get,
            "update" => ShadowOperation::Update,
            "delete" => ShadowOperation::Delete,
            _ => return None,
        };
        Some(Self {
            thing,
            shadow,
            operation,
        })
    }
}

/// The requests of today's list and those of the Alexa Voice Service, shadows apart. `+` is any level, `#` any number of them.
const PUBLISH: &[&str] = &[
    "$aws/rules/+/#",
    "$aws/things/+/jobs/get",
    "$aws/things/+/jobs/start-next",
    "$aws/things/+/jobs/+/get",
    "$aws/things/+/jobs/+/update",
    "$aws/certificates/create/json",
    "$aws/certificates/create/cbor",
    "$aws/certificates/create-from-csr/json",
    "$aws/certificates/create-from-csr/cbor",
    "$aws/provisioning-templates/+/provision/json",
    "$aws/provisioning-templates/+/provision/cbor",
    "$aws/things/+/defender/metrics/json",
    "$aws/things/+/defender/metrics/cbor",
    "$aws/things/+/streams/+/get/json",
    "$aws/things/+/streams/+/get/cbor",
    "$aws/things/+/streams/+/describe/json",
    "$aws/things/+/streams/+/describe/cbor",
    "$aws/commands/things/+/executions/+/response/+",
    "$aws/commands/clients/+/executions/+/response/+",
    "$aws/device_location/+/get_position_estimate",
    "$aws/alexa/ais/v1/+/#",
];

/// What today's list has for subscribing. The requests of shadows are among it, those of other
/// services are not.
const SUBSCRIBE: &[&str] = &[
    "$aws/events/#",
    "$aws/things/+/shadow/+",
    "$aws/things/+/shadow/+/accepted",
    "$aws/things/+/shadow/+/rejected",
    "$aws/things/+/shadow/update/delta",
    "$aws/things/+/shadow/update/documents",
    "$aws/things/+/shadow/name/+/+",
    "$aws/things/+/shadow/name/+/+/accepted",
    "$aws/things/+/shadow/name/+/+/rejected",
    "$aws/things/+/shadow/name/+/update/delta",
    "$aws/things/+/shadow/name/+/update/documents",
    "$aws/things/+/jobs/notify",
    "$aws/things/+/jobs/notify-next",
    "$aws/things/+/jobs/get/accepted",
    "$aws/things/+/jobs/get/rejected",
    "$aws/things/+/jobs/start-next/accepted",
    "$aws/things/+/jobs/start-next/rejected",
    "$aws/things/+/jobs/+/get/accepted",
    "$aws/things/+/jobs/+/get/rejected",
    "$aws/things/+/jobs/+/update/accepted",
    "$aws/things/+/jobs/+/update/rejected",
    "$aws/certificates/create/+/accepted",
    "$aws/certificates/create/+/rejected",
    "$aws/certificates/create-from-csr/+/accepted",
    "$aws/certificates/create-from-csr/+/rejected",
    "$aws/provisioning-templates/+/provision/+/accepted",
    "$aws/provisioning-templates/+/provision/+/rejected",
    "$aws/things/+/defender/metrics/+/accepted",
    "$aws/things/+/defender/metrics/+/rejected",
    "$aws/things/+/streams/+/data/+",
    "$aws/things/+/streams/+/description/+",
    "$aws/things/+/streams/+/rejected/+",
    "$aws/things/+/tunnels/notify",
    "$aws/commands/things/+/executions/+/request/+",
    "$aws/commands/clients/+/executions/+/request/+",
    "$aws/commands/things/+/executions/+/response/accepted/+",
    "$aws/commands/clients/+/executions/+/response/accepted/+",
    "$aws/commands/things/+/executions/+/response/rejected/+",
    "$aws/commands/clients/+/executions/+/response/rejected/+",
    "$aws/device_location/+/get_position_estimate/accepted",
    "$aws/device_location/+/get_position_estimate/rejected",
    "$aws/sitewise/asset-models/+/assets/+/properties/+",
    "$aws/iotwireless/events/#",
    "$aws/alexa/ais/v1/+/#",
];

/// The first levels that are the gateway's own. AWS IoT Core keeps every other that begins with `$`
/// for itself, too.
const OWN: &[&str] = &["$aws", "$SYS", "$share"];

/// Whether `topic` begins with a level that is the gateway's own, whatever it behaves like.
pub fn is_own(topic: &str) -> bool {
    let first = topic.split('/').next();
    first.is_some_and(|level| OWN.contains(&level))
}

/// Whether clients may publish to `topic` at all; policies come after. Of topics that begin with
/// `$`, only the requests that AWS IoT documents: everything else there is for the gateway to say.
pub fn client_may_publish(topic: &str) -> bool {
    !topic.starts_with('$')
        || ShadowRequest::parse(topic).is_some()
        || PUBLISH.iter().any(|known| matches(known, topic))
}

/// Whether clients may subscribe to `filter` (the one behind `$share/NAME/`) at all; policies come
/// after. In `$aws/` it must be able to match something that is documented for subscribing;
/// anywhere else there is nothing to refuse.
pub fn client_may_subscribe(filter: &str) -> bool {
    filter.split('/').next() != Some("$aws") || SUBSCRIBE.iter().any(|known| overlap(known, filter))
}

/// Whether the topic is for one rule alone (today's guide, "Basic Ingest"): it passes the broker
/// by, and no client gets it, whatever it has subscribed to.
pub fn is_basic_ingest(topic: &str) -> bool {
    topic.starts_with("$aws/rules/")
}

/// Whether the topic is one of the broker's own counters, whose retained messages are in memory
/// alone.
pub fn is_sys(topic: &str) -> bool {
    topic.starts_with("$SYS/")
}

/// Whether a row of the list and a filter have topics in common. The list's `#` is one level or
/// more, a filter's may be none ([MQTT-4.7.1-2]).
fn overlap(known: &str, filter: &str) -> bool {
    let (mut known, mut filter) = (known.split('/'), filter.split('/'));
    loop {
        match (known.next(), filter.next()) {
            (Some("#"), Some(_)) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

/// `$aws/things/{thing}/shadow[/name/{shadow}]`, the beginning of every topic of a shadow.
pub fn shadow_prefix(thing: &ThingName, shadow: Option<&ShadowName>) -> String {
    match shadow {
        None => format!("$aws/things/{thing}/shadow"),
        Some(name) => format!("$aws/things/{thing}/shadow/name/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_level_says_whose_a_topic_is() {
        for own in ["$aws", "$aws/x", "$SYS/broker/uptime", "$share/a/b"] {
            assert!(is_own(own), "{own}");
        }
        for other in ["$", "$awsome/x", "$x/$aws", "a/b", "x/$SYS"] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn only_documented_reserved_topics_take_a_publish() {
        assert!(client_may_publish("a/b"));
        assert!(client_may_publish("$aws/things/x/shadow/update"));
        assert!(client_may_publish("$aws/things/x/shadow/name/n/get"));
        assert!(!client_may_publish("$aws/things/x/shadow/update/accepted"));
        assert!(!client_may_publish("$SYS/broker/uptime"));
        assert!(!client_may_publish("$aws/things/x/shadow/name/n/other"));
        assert!(!client_may_publish("$share/a/b"));
    }

    /// One topic of each row of today's list: may it be published, may it be subscribed to.
    #[test]
    fn clients_may_do_what_the_list_of_reserved_topics_says() {
        for (topic, publish, subscribe) in [
            ("$aws/things/t/shadow/get", true, true),
            ("$aws/things/t/shadow/name/n/update", true, true),
            ("$aws/things/t/shadow/get/accepted", false, true),
            ("$aws/things/t/shadow/update/delta", false, true),
            ("$aws/things/t/shadow/update/documents", false, true),
            ("$aws/things/t/shadow/name/n/delete/rejected", false, true),
            ("$aws/things/t/shadow/update/other", false, false),
            ("$aws/things/t/jobs/get", true, false),
            ("$aws/things/t/jobs/start-next", true, false),
            ("$aws/things/t/jobs/7/get", true, false),
            ("$aws/things/t/jobs/7/update", true, false),
            ("$aws/things/t/jobs/7/update/accepted", false, true),
            ("$aws/things/t/jobs/start-next/rejected", false, true),
            ("$aws/things/t/jobs/notify", false, true),
            ("$aws/things/t/jobs/notify-next", false, true),
            ("$aws/events/presence/connected/c", false, true),
            ("$aws/events/presence/connected/a/b", false, true),
            ("$aws/events/job/7/completed", false, true),
            ("$aws/certificates/create/json", true, false),
            ("$aws/certificates/create-from-csr/cbor", true, false),
            ("$aws/certificates/create/json/accepted", false, true),
            ("$aws/certificates/create/xml", false, false),
            ("$aws/provisioning-templates/t/provision/json", true, false),
            (
                "$aws/provisioning-templates/t/provision/json/rejected",
                false,
                true,
            ),
            ("$aws/rules/one", true, false),
            ("$aws/rules/one/a/b", true, false),
            ("$aws/rules", false, false),
            ("$aws/alexa/ais/v1/t/microphone", true, true),
            ("$aws/alexa/other", false, false),
            ("$aws/things/t/defender/metrics/json", true, false),
            ("$aws/things/t/defender/metrics/json/accepted", false, true),
            ("$aws/things/t/streams/s/get/cbor", true, false),
            ("$aws/things/t/streams/s/data/cbor", false, true),
            ("$aws/things/t/tunnels/notify", false, true),
            ("$aws", false, false),
            ("$aws/", false, false),
            ("$aws/other", false, false),
            ("$SYS/broker/uptime", false, true),
            ("$other", false, true),
            ("a/b", true, true),
        ] {
            assert_eq!(client_may_publish(topic), publish, "publish {topic}");
            assert_eq!(client_may_subscribe(topic), subscribe, "subscribe {topic}");
        }
    }

    /// Whatever levels of a documented topic are replaced by wildcards, and wherever it is cut.
    #[test]
    fn every_filter_that_matches_something_documented_is_taken() {
        for known in SUBSCRIBE {
            let topic = known.replace('+', "x").replace('#', "y/z");
            let levels: Vec<&str> = topic.split('/').collect();
            for wild in 0_u32..1 << (levels.len() - 1) {
                let written: Vec<&str> = levels
                    .iter()
                    .enumerate()
                    .map(|(n, level)| match n {
                        0 => level,
                        n if wild & 1 << (n - 1) != 0 => "+",
                        _ => level,
                    })
                    .collect();
                for cut in 1..=levels.len() {
                    let filter = written[..cut].join("/") + "/#";
                    assert!(matches(&filter, &topic), "{filter} {topic}");
                    assert!(client_may_subscribe(&filter), "{filter}");
                }
                assert!(client_may_subscribe(&written.join("/")), "{topic}");
            }
        }
    }

    #[test]
    fn a_filter_is_refused_when_nothing_documented_can_match_it() {
        for filter in [
            "$aws/#",
            "$aws/+/#",
            "$aws/things/#",
            "$aws/things/+/shadow/#",
        ] {
            assert!(client_may_subscribe(filter), "{filter}");
        }
        for filter in ["$aws/events/+/connected/#", "+/a", "#", "$SYS/#"] {
            assert!(client_may_subscribe(filter), "{filter}");
        }
        for filter in [
            "$aws/rules/#",
            "$aws/rules/+/+",
            "$aws/+",
            "$aws/things/+/jobs/start-next",
        ] {
            assert!(!client_may_subscribe(filter), "{filter}");
        }
    }
}
