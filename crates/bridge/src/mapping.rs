//! Topics on their way over the link: one prefix goes and the other comes, or a template makes the
//! new one.

use iotedge_model::{Topic, TopicError};
use thiserror::Error;

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

/// A topic with holes, filled from the topic on the side that a message comes from: what rules call
/// substitution templates, with the functions that a topic needs.
///
/// | in a template | becomes |
/// |---|---|
/// | `${topic()}` | the whole topic |
/// | `${topic(2)}` | its second level |
/// | `${topic(2..)}` | its levels from the second on |
/// | `${clientid()}` | the client id of the publisher |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Whole,
    Level(usize),
    From(usize),
    ClientId,
}

/// Why a text is no template of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("\"${{\" has no \"}}\"")]
    Open,
    /// A hole that nothing is known for.
    #[error(
        "\"${{{0}}}\" is none of ${{topic()}}, ${{topic(N)}}, ${{topic(N..)}} and ${{clientid()}} \
         (levels begin at 1)"
    )]
    Unknown(String),
    /// It makes no topic.
    #[error("makes no topic: {0}")]
    Topic(TopicError),
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// Holes that are none of the known ones, and texts between them that are in no topic.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, hole)) = rest.split_once("${") {
            let (inside, after) = hole.split_once('}').ok_or(TemplateError::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let part = part(inside.trim()).ok_or_else(|| TemplateError::Unknown(inside.into()))?;
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let template = Self {
            text: text.to_owned(),
            parts,
        };
        // With some topic of enough levels it has to make one.
        let levels = template.parts.iter().map(|part| match part {
            Part::Level(n) | Part::From(n) => *n,
            _ => 1,
        });
        let levels = levels.max().unwrap_or(1);
        let example = vec!["x"; levels].join("/");
        template
            .render(&example, "x")
            .map_err(TemplateError::Topic)?;
        Ok(template)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last level of the topic that it cannot do without.
    pub fn highest_level(&self) -> Option<usize> {
        let levels = self.parts.iter().filter_map(|part| match part {
            Part::Level(n) => Some(*n),
            _ => None,
        });
        levels.max()
    }

    /// Fills it.
    ///
    /// # Errors
    /// The topic has no such level, or what comes out is no topic.
    pub(crate) fn render(&self, topic: &str, client_id: &str) -> Result<Topic, TopicError> {
        let mut out = String::with_capacity(self.text.len() + topic.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Whole => out.push_str(topic),
                Part::ClientId => out.push_str(client_id),
                Part::Level(n) => {
                    out.push_str(topic.split('/').nth(n - 1).ok_or(TopicError::Empty)?);
                }
                Part::From(n) => {
                    let mut levels = topic.split('/').skip(n - 1);
                    match levels.next() {
                        Some(first) => out.push_str(first),
                        // `a/#` matches `a` itself: nothing comes behind the slash.
                        None if out.ends_with('/') => drop(out.pop()),
                        None => {}
                    }
                    for level in levels {
                        out.push('/');
                        out.push_str(level);
                    }
                }
            }
        }
        Topic::new(&out)
    }
}

fn part(inside: &str) -> Option<Part> {
    if inside == "clientid()" {
        return Some(Part::ClientId);
    }
    let argument = inside.strip_prefix("topic(")?.strip_suffix(')')?.trim();
    if argument.is_empty() {
        return Some(Part::Whole);
    }
    // MQTT's topics have 65,535 bytes, and so no more levels.
    let level = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0);
    if let Some(from) = argument.strip_suffix("..") {
        return level(from).map(|n| Part::From(usize::from(n)));
    }
    level(argument).map(|n| Part::Level(usize::from(n)))
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

    #[test]
    fn a_template_is_filled_from_the_other_sides_topic() {
        let ok = |template, topic| {
            let template = Template::parse(template).unwrap();
            template.render(topic, "c1").map(|t| t.to_string())
        };
        for (template, topic, expected) in [
            ("site7/${topic()}", "a/b", "site7/a/b"),
            ("site7/${topic(2)}/data", "dev/d1/t", "site7/d1/data"),
            ("${topic(2..)}", "a/b/c", "b/c"),
            ("x/${topic(2..)}", "a/b", "x/b"),
            ("x/${topic(2..)}", "a", "x"),
            ("by/${clientid()}/${topic( 1 )}", "a", "by/c1/a"),
            ("fixed", "a/b", "fixed"),
            ("${topic(1)}${topic(1)}", "a", "aa"),
            ("$aws/rules/${topic(1)}", "r/x", "$aws/rules/r"),
        ] {
            assert_eq!(ok(template, topic), Ok(expected.into()), "{template}");
        }
        assert_eq!(ok("x/${topic(3)}", "a/b"), Err(TopicError::Empty));
        assert!(ok("${topic(2..)}", "a").is_err());
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        for wrong in [
            "a/${topic(0)}",
            "a/${topic(-1)}",
            "a/${topic(65536)}",
            "a/${topic(x)}",
            "a/${topic(1",
            "a/${timestamp()}",
            "a/${}",
            "a/+/${topic()}",
            "",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
