//! A section as it is kept: each leaf's JSON text with the time of its last change.
//!
//! A shadow is read, changed in a few leaves and written with each update. Texts that stay are
//! carried over as they stand in the store: only what a request brings is ever parsed. Texts are
//! compact and spelled by serde_json alone, so that equal strings and keys have equal texts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Section;

/// From so many members on, both in an object and in what is looked for, an index pays.
const MANY: usize = 16;

/// A member's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    /// What is no object; arrays are leaves.
    Leaf {
        /// When it was set, in seconds.
        at: u64,
        /// Its JSON.
        json: Cow<'a, str>,
    },
    Object(Object<'a>),
}

/// Members in their order: the key as JSON text, with its quotes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Object<'a> {
    pub(super) members: Vec<(Cow<'a, str>, Node<'a>)>,
}

/// A key as it is kept.
pub(super) fn key_text(key: &str) -> String {
    // A string can always be written.
    serde_json::to_string(key).unwrap_or_default()
}

impl<'a> Node<'a> {
    /// A new value, all of whose leaves are of now.
    pub(super) fn new(value: &Value, at: u64) -> Self {
        match value {
            Value::Object(section) => Self::Object(Object::new(section, at)),
            leaf => Self::Leaf {
                at,
                json: Cow::Owned(leaf.to_string()),
            },
        }
    }

    fn into_owned(self) -> Node<'static> {
        match self {
            Self::Leaf { at, json } => Node::Leaf {
                at,
                json: Cow::Owned(json.into_owned()),
            },
            Self::Object(object) => Node::Object(object.into_owned()),
        }
    }

    fn write_state(&self, out: &mut String) {
        match self {
            Self::Leaf { json, .. } => out.push_str(json),
            Self::Object(object) => object.write_state(out),
        }
    }

    fn write_metadata(&self, out: &mut String) {
        match self {
            Self::Leaf { at, json } => write_stamps(json, *at, out),
            Self::Object(object) => object.write_metadata(out),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Leaf { at, json } => {
                out.push('[');
                push_number(*at, out);
                out.push(',');
                out.push_str(json);
                out.push(']');
            }
            Self::Object(object) => object.write(out),
        }
    }

    fn state_bytes(&self) -> usize {
        match self {
            Self::Leaf { json, .. } => json.len(),
            Self::Object(object) => object.state_bytes(),
        }
    }
}

impl<'a> Object<'a> {
    fn new(section: &Section, at: u64) -> Self {
        let members = section.iter();
        Self {
            members: members
                .map(|(key, value)| (Cow::Owned(key_text(key)), Node::new(value, at)))
                .collect(),
        }
    }

    /// From a state and the timestamps that clients see.
    pub(super) fn with_metadata(state: &Section, metadata: &Section) -> Self {
        let node = |key: &str, value: &Value| match (value, metadata.get(key)) {
            (Value::Object(state), Some(Value::Object(metadata))) => {
                Node::Object(Object::with_metadata(state, metadata))
            }
            (value, metadata) => Node::new(value, metadata.map_or(0, first_stamp)),
        };
        let members = state.iter();
        Self {
            members: members
                .map(|(key, value)| (Cow::Owned(key_text(key)), node(key, value)))
                .collect(),
        }
    }

    pub(super) fn into_owned(self) -> Object<'static> {
        let members = self.members.into_iter();
        Object {
            members: members
                .map(|(key, node)| (Cow::Owned(key.into_owned()), node.into_owned()))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn write_with(&self, out: &mut String, value: impl Fn(&Node<'_>, &mut String)) {
        out.push('{');
        for (at, (key, node)) in self.members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(key);
            out.push(':');
            value(node, out);
        }
        out.push('}');
    }

    /// As clients see it.
    pub(super) fn write_state(&self, out: &mut String) {
        self.write_with(out, |node, out| node.write_state(out));
    }

    /// A timestamp in the place of each leaf.
    pub(super) fn write_metadata(&self, out: &mut String) {
        self.write_with(out, |node, out| node.write_metadata(out));
    }

    /// For the store.
    pub(super) fn write(&self, out: &mut String) {
        self.write_with(out, |node, out| node.write(out));
    }

    /// The length of what [`Object::write_state`] writes.
    pub(super) fn state_bytes(&self) -> usize {
        let members = self.members.iter();
        let inside: usize = members.map(|(k, n)| k.len() + 1 + n.state_bytes()).sum();
        2 + inside + self.members.len().saturating_sub(1)
    }

    /// The state as a value.
    pub(super) fn to_section(&self) -> Section {
        let mut text = String::new();
        self.write_state(&mut text);
        // It was written from values.
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// Finds members by key, also those that were added after it was made.
pub(super) struct Index<'a>(Option<HashMap<Cow<'a, str>, usize>>);

impl<'a> Index<'a> {
    /// For so many searches.
    pub(super) fn new(object: &Object<'a>, searches: usize) -> Self {
        if object.members.len() < MANY || searches < MANY {
            return Self(None);
        }
        let members = object.members.iter().enumerate();
        Self(Some(members.map(|(at, (k, _))| (k.clone(), at)).collect()))
    }

    pub(super) fn find(&self, object: &Object<'_>, key: &str) -> Option<usize> {
        match &self.0 {
            Some(places) => places.get(key).copied(),
            None => object.members.iter().position(|(k, _)| k == key),
        }
    }
}

/// The time of a leaf; the elements of an array are all of one time.
fn first_stamp(metadata: &Value) -> u64 {
    match metadata {
        Value::Array(items) => items.first().map_or(0, first_stamp),
        other => other.get("timestamp").and_then(Value::as_u64).unwrap_or(0),
    }
}

pub(super) fn push_number(number: u64, out: &mut String) {
    use fmt::Write as _;
    // Writing into a string cannot fail.
    let _ = write!(out, "{number}");
}

fn write_stamp(at: u64, out: &mut String) {
    out.push_str("{\"timestamp\":");
    push_number(at, out);
    out.push('}');
}

/// `{"timestamp": …}` for a leaf; an array has one for each element.
fn write_stamps(json: &str, at: u64, out: &mut String) {
    match json.starts_with('[').then(|| serde_json::from_str(json)) {
        Some(Ok(array)) => write_value_stamps(&array, at, out),
        _ => write_stamp(at, out),
    }
}

/// The same for a section that came with a request.
pub(super) fn write_section_stamps(section: &Section, at: u64, out: &mut String) {
    out.push('{');
    for (n, (key, value)) in section.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push_str(&key_text(key));
        out.push(':');
        write_value_stamps(value, at, out);
    }
    out.push('}');
}

/// The same for a value.
pub(super) fn write_value_stamps(value: &Value, at: u64, out: &mut String) {
    match value {
        Value::Object(section) => write_section_stamps(section, at, out),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_value_stamps(item, at, out);
            }
            out.push(']');
        }
        _ => write_stamp(at, out),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            members.push((Cow::Borrowed(key.get()), map.next_value()?));
        }
        Ok(Object { members })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a leaf with its time")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node<'de>, A::Error> {
        ObjectVisitor.visit_map(map).map(Node::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut leaf: A) -> Result<Node<'de>, A::Error> {
        use serde::de::Error as _;
        let short = || A::Error::custom("a leaf has a time and a value");
        let at: u64 = leaf.next_element()?.ok_or_else(short)?;
        let json: &RawValue = leaf.next_element()?.ok_or_else(short)?;
        Ok(Node::Leaf {
            at,
            json: Cow::Borrowed(json.get()),
        })
    }
}
