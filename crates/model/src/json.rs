//! JSON from outside, before it becomes a value.
//!
//! serde_json keeps one object key for itself: an object whose first key is its raw-value token is
//! read as the JSON text inside a string, with the limit of nesting counted from the start. A text
//! of a few kilobytes can so nest deeper than any stack, and a stored object that gets the token as
//! its first key cannot be read again. Such a text is refused before it is read.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The key.
const TOKEN: &str = "$serde_json::private::RawValue";

/// Reads any JSON and keeps nothing; fails where an object has the reserved key.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

/// Whether a text has to be read as [`Plain`] before it is read as a value: it has what the
/// reserved key is spelled with, as it is or escaped. Ordinary texts do not pay for the check.
pub fn may_be_reserved(text: &[u8]) -> bool {
    let has = |word: &[u8]| text.windows(word.len()).any(|w| w == word);
    has(b"\\u") || has(b"$serde_json")
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_str<E>(self, _: &str) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Plain, A::Error> {
        while items.next_element::<Plain>()?.is_some() {}
        Ok(Plain)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Plain, A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            if key == TOKEN {
                return Err(A::Error::custom("an object has a key that is reserved"));
            }
            members.next_value::<Plain>()?;
        }
        Ok(Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[[[...]]]` in a reserved object in a string, `layers` times: each begins to count anew.
    fn nested(layers: usize) -> String {
        let mut text = "1".to_owned();
        for _ in 0..layers {
            let inner = format!("{}{text}{}", "[".repeat(120), "]".repeat(120));
            let escaped: String = inner
                .chars()
                .map(|c| match c {
                    '"' => "\\u0022".to_owned(),
                    '\\' => "\\u005c".to_owned(),
                    other => other.to_string(),
                })
                .collect();
            text = format!("{{\"$serde_json::private::RawValue\":\"{escaped}\"}}");
        }
        text
    }

    #[test]
    fn a_text_with_the_reserved_key_is_refused_however_it_is_spelled() {
        for text in [
            nested(2),
            r#"{"a":[{"$serde_json::private::RawValue":"1"}]}"#.to_owned(),
            r#"{"\u0024serde_json::private::RawValue":"1"}"#.to_owned(),
            r#"{"a":1,"$serde_json::private::RawVal\u0075e":1}"#.to_owned(),
        ] {
            assert!(may_be_reserved(text.as_bytes()), "{text}");
            assert!(serde_json::from_str::<Plain>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_json_passes() {
        for text in [
            r#"{"a":[1,-2.5e3,true,null,"\u0041 $serde_json::private::RawValue"],"b":{}}"#,
            "12345678901234567890123",
            r#"{"\u0041":1}"#,
        ] {
            assert!(serde_json::from_str::<Plain>(text).is_ok(), "{text}");
        }
        assert!(!may_be_reserved(br#"{"a":"line\nfeed"}"#));
    }
}
