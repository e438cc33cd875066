//! The topics that begin with `$`: which of them a client may publish to.
//!
//! 2016 guide, "Topics", and today's list of reserved topics: what is not documented for
//! publishing is refused.

use crate::{ShadowName, ThingName};

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

/// Whether clients may publish to `topic` at all; policies come after.
pub fn client_may_publish(topic: &str) -> bool {
    !topic.starts_with('$') || ShadowRequest::parse(topic).is_some()
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
    fn only_documented_reserved_topics_take_a_publish() {
        assert!(client_may_publish("a/b"));
        assert!(client_may_publish("$aws/things/x/shadow/update"));
        assert!(client_may_publish("$aws/things/x/shadow/name/n/get"));
        assert!(!client_may_publish("$aws/things/x/shadow/update/accepted"));
        assert!(!client_may_publish("$SYS/broker/uptime"));
        assert!(!client_may_publish("$aws/things/x/shadow/name/n/other"));
        assert!(!client_may_publish("$share/a/b"));
    }
}
