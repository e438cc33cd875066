//! Topic names and filters (MQTT 3.1.1, section 4.7).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest topic or filter in bytes that the protocol can carry (MQTT 3.1.1, 4.7.3).
const MAX_BYTES: usize = 65_535;

/// Why a text is no topic or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1].
    #[error("a topic must have at least one character")]
    Empty,
    /// [MQTT-4.7.3-3].
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// [MQTT-4.7.3-2].
    #[error("a topic must not contain the character U+0000")]
    Nul,
    /// [MQTT-3.3.2-2].
    #[error("a topic name must not contain the wildcards '+' and '#'")]
    WildcardInName,
    /// [MQTT-4.7.1-2].
    #[error("'#' must be the last level of a filter and stand alone in it")]
    MisplacedHash,
    /// [MQTT-4.7.1-3].
    #[error("'+' must stand alone in its level")]
    MisplacedPlus,
    /// `$share/{name}/{filter}` with a name or filter that is missing or wrong (MQTT 5, 4.8.2).
    #[error("a shared subscription is $share/NAME/FILTER, the name without '/', '+' and '#'")]
    Shared,
}

fn check_common(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(TopicError::Nul);
    }
    Ok(())
}

/// The name a message is published to: no wildcards, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Whether both are the same text in memory: a look at two pointers, and no more than a hint. Equal
    /// topics may lie in two places.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Checks `text` and keeps a copy.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        Self::check(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// Checks without keeping.
    pub fn check(text: &str) -> Result<(), TopicError> {
        check_common(text)?;
        if text.bytes().any(|b| b == b'+' || b == b'#') {
            return Err(TopicError::WildcardInName);
        }
        Ok(())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, in order.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether the topic begins with `$`, so that no filter beginning with a wildcard matches it
    /// ([MQTT-4.7.2-1]).
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// What a client subscribes to; may hold `+` and `#`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `text` and keeps a copy. A shared subscription is a [`SharedFilter`].
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_common(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
                return Err(TopicError::MisplacedHash);
            }
            if level.contains('+') && level.len() > 1 {
                return Err(TopicError::MisplacedPlus);
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, in order.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether a message on `topic` is meant.
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }

    /// Whether the filter has a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|b| b == b'+' || b == b'#')
    }
}

/// A filter as it stands in SUBSCRIBE: plain, or `$share/NAME/FILTER` (MQTT 5, 4.8.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedFilter {
    /// The share name, where there is one.
    pub share: Option<Arc<str>>,
    /// The filter behind it.
    pub filter: TopicFilter,
}

impl SharedFilter {
    /// Takes a shared filter apart.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        let Some(rest) = text.strip_prefix("$share/") else {
            return Ok(Self {
                share: None,
                filter: TopicFilter::new(text)?,
            });
        };
        let (name, filter) = rest.split_once('/').ok_or(TopicError::Shared)?;
        if name.is_empty() || name.contains(['+', '#']) {
            return Err(TopicError::Shared);
        }
        let filter = TopicFilter::new(filter)?;
        Ok(Self {
            share: Some(Arc::from(name)),
            filter,
        })
    }
}

/// Whether `topic` is matched by `filter` (MQTT 3.1.1, 4.7). Both are taken as checked.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(t) if level == "+" || level == t => {}
            Some(_) | None => return false,
        }
    }
    // `a/#` also means `a` itself: that case returned above only when a level was left for '#',
    // and for topic `a` the '#' arm is reached before `next` is asked.
    topic_levels.next().is_none()
}

macro_rules! text_type {
    ($name:ident, $what:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
        impl std::str::FromStr for $name {
            type Err = TopicError;
            fn from_str(s: &str) -> Result<Self, TopicError> {
                Self::new(s)
            }
        }
    };
}
text_type!(Topic, "topic");
text_type!(TopicFilter, "filter");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_section_4_7_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/ranking",
                true,
            ),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("+", "finance", true),
            ("+", "/finance", false),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("ACCOUNTS", "Accounts", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} ~ {topic}");
        }
    }

    #[test]
    fn bad_filters_are_refused_with_their_reason() {
        assert_eq!(
            TopicFilter::new("sport/tennis#"),
            Err(TopicError::MisplacedHash)
        );
        assert_eq!(
            TopicFilter::new("sport/#/ranking"),
            Err(TopicError::MisplacedHash)
        );
        assert_eq!(TopicFilter::new("sport+"), Err(TopicError::MisplacedPlus));
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::new("a\0b"), Err(TopicError::Nul));
        assert_eq!(Topic::new("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(Topic::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(SharedFilter::new("$share/a+/b"), Err(TopicError::Shared));
        assert_eq!(SharedFilter::new("$share/a"), Err(TopicError::Shared));
        assert!(SharedFilter::new("$share/g/a/#").is_ok());
    }
}
