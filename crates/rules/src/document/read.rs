//! JSON that knows where it stands, so that every error names line, column and key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::RuleProblem;

/// A value of the document.
#[derive(Debug, Clone)]
pub(crate) struct Node<'t> {
    /// The value's own text, a part of the document's.
    raw: &'t str,
    /// Its path of keys.
    pub(crate) key: String,
}

impl<'t> Node<'t> {
    /// The whole document; else line, column and reason.
    pub(crate) fn parse(text: &'t str) -> Result<Self, (usize, usize, String)> {
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| {
            // The position has its own place in the error.
            let reason = e.to_string();
            let reason = reason.split(" at line ").next().unwrap_or(&reason);
            (e.line().max(1), e.column().max(1), reason.to_owned())
        })?;
        Ok(Self {
            raw: text.trim(),
            key: String::new(),
        })
    }

    /// The same place under the name of a key that is not there.
    pub(crate) fn named(&self, key: &str) -> Self {
        Self {
            raw: self.raw,
            key: self.path(key),
        }
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }

    /// Line and column in `text`, which this is a part of; both from 1.
    pub(crate) fn position(&self, text: &str) -> (usize, usize) {
        let offset = (self.raw.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or("");
        (line, last.chars().count() + 1)
    }

    fn read<T: Deserialize<'t>>(&self, expected: &'static str) -> Result<T, RuleProblem> {
        serde_json::from_str(self.raw).map_err(|_| RuleProblem::WrongType(expected))
    }

    pub(crate) fn string(&self) -> Result<String, RuleProblem> {
        self.read("a string")
    }

    pub(crate) fn boolean(&self) -> Result<bool, RuleProblem> {
        self.read("true or false")
    }

    /// A small number, as number or as string (the guides write `"qos": 1` and `"qos": "1"`).
    pub(crate) fn small_integer(&self) -> Option<u8> {
        self.raw.trim_matches('"').parse().ok()
    }

    /// A whole number that is not negative, as number or as string.
    pub(crate) fn integer(&self) -> Option<u64> {
        self.raw.trim_matches('"').parse().ok()
    }

    /// A scalar's text: a string's content, a number or a word as it is written.
    pub(crate) fn scalar(&self) -> Result<String, RuleProblem> {
        if self.raw.starts_with(['{', '[']) {
            return Err(RuleProblem::WrongType("a string"));
        }
        Ok(self.string().unwrap_or_else(|_| self.raw.to_owned()))
    }

    pub(crate) fn members(&self) -> Result<Vec<(String, Self)>, RuleProblem> {
        let members: Members<'t> = self.read("an object")?;
        Ok(members
            .0
            .into_iter()
            .map(|(key, raw)| {
                let node = Self {
                    raw: raw.get(),
                    key: self.path(&key),
                };
                (key, node)
            })
            .collect())
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>, RuleProblem> {
        let items: Vec<&'t RawValue> = self.read("an array")?;
        Ok(items
            .into_iter()
            .enumerate()
            .map(|(n, raw)| Self {
                raw: raw.get(),
                key: format!("{}[{n}]", self.key),
            })
            .collect())
    }
}

/// An object's members in order, doubled keys included.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(member) = map.next_entry()? {
                    out.push(member);
                }
                Ok(Members(out))
            }
        }
        deserializer.deserialize_map(All)
    }
}
