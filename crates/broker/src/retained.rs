//! Retained messages (MQTT 3.1.1, 3.3.1.3): the last one of each topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use iotedge_model::{Message, Topic, TopicFilter};

/// Sorted by topic, so that a filter with a literal beginning looks only where it can match.
#[derive(Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Topic, Arc<Message>>,
    bytes: usize,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of all, and of the one that a message on `topic` would replace.
    pub(crate) fn bytes(&self, topic: &Topic) -> (usize, Option<usize>) {
        (self.bytes, self.by_topic.get(topic).map(|m| m.cost()))
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<Arc<Message>> {
        self.by_topic.get(topic).cloned()
    }

    pub(crate) fn set(&mut self, message: Arc<Message>) {
        self.bytes += message.cost();
        let old = self.by_topic.insert(message.topic.clone(), message);
        self.bytes -= old.map_or(0, |m| m.cost());
    }

    pub(crate) fn clear(&mut self, topic: &Topic) {
        let old = self.by_topic.remove(topic);
        self.bytes -= old.map_or(0, |m| m.cost());
    }

    /// All that `filter` matches, in the order of their topics.
    pub(crate) fn matching(&self, filter: &TopicFilter) -> Vec<Arc<Message>> {
        let text = filter.as_str();
        if !filter.has_wildcard() {
            return match Topic::new(text) {
                Ok(topic) => self.get(&topic).into_iter().collect(),
                Err(_) => Vec::new(),
            };
        }
        let literal = text.split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a` itself, which sorts before `a/`.
        let start = literal.strip_suffix('/').unwrap_or(literal);
        let Ok(from) = Topic::new(if start.is_empty() { "\u{1}" } else { start }) else {
            return Vec::new();
        };
        self.by_topic
            .range(from..)
            .take_while(|(topic, _)| topic.as_str().starts_with(start))
            .filter(|(topic, _)| filter.matches(topic.as_str()))
            .map(|(_, message)| message.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use iotedge_model::QoS;

    use super::*;

    #[test]
    fn a_filter_finds_what_it_matches_and_no_more() {
        let mut retained = Retained::default();
        let topics = ["$SYS/x", "/a", "a", "a/b", "a/b/c", "ab", "b"];
        for topic in topics {
            let topic = Topic::new(topic).unwrap();
            retained.set(Arc::new(Message::internal(
                "t",
                topic,
                Bytes::new(),
                QoS::AtMostOnce,
            )));
        }
        for filter in [
            "#", "a/#", "a/+", "a", "+/b", "/#", "$SYS/#", "+", "b/#", "c", "a/b/#",
        ] {
            let filter = TopicFilter::new(filter).unwrap();
            let found: Vec<String> = retained
                .matching(&filter)
                .iter()
                .map(|m| m.topic.to_string())
                .collect();
            let expected: Vec<String> = topics
                .iter()
                .filter(|t| filter.matches(t))
                .map(|t| t.to_string())
                .collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}
