//! Topics on their way over the link: one prefix goes, the other comes.

use iotedge_model::{Topic, TopicError};

/// The topic on the other side.
///
/// `prefix/#` also matches `prefix` itself (MQTT 3.1.1, 4.7.1.2): then both prefixes lose their
/// last slash.
pub(crate) fn map(topic: &str, from: &str, to: &str) -> Result<Topic, TopicError> {
    if let Some(rest) = topic.strip_prefix(from) {
        return Topic::new(&format!("{to}{rest}"));
    }
    if from.strip_suffix('/') == Some(topic) {
        return Topic::new(to.strip_suffix('/').unwrap_or(to));
    }
    // Not of this route: the broker and the upstream deliver by the same filter.
    Err(TopicError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced() {
        let ok = |topic, from, to| map(topic, from, to).map(|t| t.to_string());
        assert_eq!(ok("a/b", "", ""), Ok("a/b".into()));
        assert_eq!(ok("a/b", "a/", "site/1/"), Ok("site/1/b".into()));
        assert_eq!(ok("a", "a/", "site/1/"), Ok("site/1".into()));
        assert_eq!(ok("a", "a/", ""), Err(TopicError::Empty));
        assert_eq!(ok("x", "a/", "b/"), Err(TopicError::Empty));
        assert!(ok(&"x".repeat(65_535), "", "y").is_err());
    }
}
