//! Values while a statement is evaluated, and the guide's conversions between their types.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::SqlVersion;
use crate::decimal::Decimal;

/// A value. What comes from the payload is borrowed from it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Value<'a> {
    /// There is none: absent attributes, invalid arguments. Left out of the output.
    #[default]
    Undefined,
    Null,
    Bool(bool),
    Number(Decimal),
    Text(Cow<'a, str>),
    Array(Cow<'a, [Json]>),
    Object(Cow<'a, Map<String, Json>>),
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn array(items: Vec<Json>) -> Self {
        Self::Array(Cow::Owned(items))
    }

    pub(crate) fn int(value: i64) -> Self {
        Self::Number(Decimal::from(value))
    }

    /// A count of something that fits memory.
    pub(crate) fn count(value: usize) -> Self {
        Self::Number(Decimal::from(value as u64))
    }

    /// A number, or Undefined where there is none.
    pub(crate) fn number(value: Option<Decimal>) -> Self {
        value.map_or(Self::Undefined, Self::Number)
    }

    /// A double's result; Undefined for NaN and the infinities, which JSON does not know.
    pub(crate) fn double(value: f64) -> Self {
        Self::number(Decimal::from_f64(value))
    }

    /// Borrows from JSON. A number beyond the magnitude is Undefined.
    pub(crate) fn borrowed(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => Self::number(Decimal::parse_json(n.as_str())),
            Json::String(s) => Self::Text(Cow::Borrowed(s)),
            Json::Array(items) => Self::Array(Cow::Borrowed(items)),
            Json::Object(members) => Self::Object(Cow::Borrowed(members)),
        }
    }

    /// Takes JSON over.
    pub(crate) fn owned(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => Self::number(Decimal::parse_json(n.as_str())),
            Json::String(s) => Self::Text(Cow::Owned(s)),
            Json::Array(items) => Self::Array(Cow::Owned(items)),
            Json::Object(members) => Self::Object(Cow::Owned(members)),
        }
    }

    /// The member of this name; Undefined for everything that is no object.
    pub(crate) fn member(self, name: &str) -> Self {
        match self {
            Self::Object(Cow::Borrowed(members)) => {
                members.get(name).map_or(Self::Undefined, Self::borrowed)
            }
            Self::Object(Cow::Owned(mut members)) => members
                .get_mut(name)
                .map_or(Self::Undefined, |v| Self::owned(v.take())),
            _ => Self::Undefined,
        }
    }

    /// The item at a position counted from 0.
    pub(crate) fn item(self, index: usize) -> Self {
        match self {
            Self::Array(Cow::Borrowed(items)) => {
                items.get(index).map_or(Self::Undefined, Self::borrowed)
            }
            Self::Array(Cow::Owned(mut items)) => items
                .get_mut(index)
                .map_or(Self::Undefined, |v| Self::owned(v.take())),
            Self::Text(text) => text
                .chars()
                .nth(index)
                .map_or(Self::Undefined, |c| Self::text(c.to_string())),
            _ => Self::Undefined,
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// "To Decimal": numbers, and strings that are spelled as one.
    pub(crate) fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(s) => Decimal::parse_string(s),
            _ => None,
        }
    }

    /// As an Int argument, rounded down (amb-sql-022). What does not fit 64 bits is held at their
    /// ends: positions and counts that far away mean the same.
    pub(crate) fn to_index(&self) -> Option<i64> {
        let number = self.to_decimal()?;
        let end = if number.signum() < 0 {
            i64::MIN
        } else {
            i64::MAX
        };
        Some(number.floor_i64().unwrap_or(end))
    }

    /// "To Boolean": booleans, and the strings true and false in any letter case.
    pub(crate) fn to_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Text(s) if s.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(s) if s.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// "To String": `None` for Null and Undefined.
    pub(crate) fn to_text(&self, version: SqlVersion) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Undefined | Self::Null => return None,
            Self::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            Self::Number(n) => Cow::Owned(spelled(*n, version).to_string()),
            Self::Text(s) => Cow::Borrowed(s),
            Self::Array(items) => {
                let items = items.iter().map(|i| respelled(i, version)).collect();
                Cow::Owned(Json::Array(items).to_string())
            }
            Self::Object(members) => {
                Cow::Owned(Json::Object(respelled_members(members, version)).to_string())
            }
        })
    }

    /// As JSON for the output; `None` for Undefined.
    pub(crate) fn into_json(self, version: SqlVersion) -> Option<Json> {
        Some(match self {
            Self::Undefined => return None,
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(b),
            Self::Number(n) => json_number(n, version),
            Self::Text(s) => Json::String(s.into_owned()),
            Self::Array(items) => {
                Json::Array(items.iter().map(|i| respelled(i, version)).collect())
            }
            Self::Object(members) => Json::Object(respelled_members(&members, version)),
        })
    }

    /// `=`: of one type and equal. Numbers by value, arrays in order, objects in any order.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => equal_items(a, b),
            (Self::Object(a), Self::Object(b)) => equal_members(a, b),
            _ => false,
        }
    }

    /// Roughly the bytes it holds, for the limits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(s) => s.len(),
            Self::Array(items) => items.iter().map(json_size).sum(),
            Self::Object(members) => members.iter().map(|(k, v)| k.len() + json_size(v)).sum(),
            _ => 8,
        }
    }
}

fn json_size(json: &Json) -> usize {
    match json {
        Json::String(s) => s.len() + 8,
        Json::Array(items) => items.iter().map(json_size).sum::<usize>() + 8,
        Json::Object(members) => {
            members
                .iter()
                .map(|(k, v)| k.len() + json_size(v))
                .sum::<usize>()
                + 8
        }
        Json::Number(n) => n.as_str().len() + 8,
        _ => 8,
    }
}

fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            match (
                Decimal::parse_json(a.as_str()),
                Decimal::parse_json(b.as_str()),
            ) {
                (Some(a), Some(b)) => a == b,
                _ => a == b,
            }
        }
        (Json::Array(a), Json::Array(b)) => equal_items(a, b),
        (Json::Object(a), Json::Object(b)) => equal_members(a, b),
        _ => a == b,
    }
}

fn equal_items(a: &[Json], b: &[Json]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
}

fn equal_members(a: &Map<String, Json>, b: &Map<String, Json>) -> bool {
    a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| equal(a, b)))
}

/// Whole-number decimals are Ints in version 2016-03-23: `10.0` is written `10`. Others keep
/// their spelling.
fn spelled(number: Decimal, version: SqlVersion) -> Decimal {
    if version == SqlVersion::V2016 && number.is_whole() {
        number.normalized()
    } else {
        number
    }
}

/// Bytes of its compact JSON text, escapes not counted.
pub(crate) fn json_text_size(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(true) => 4,
        Json::Bool(false) => 5,
        Json::Number(n) => n.as_str().len(),
        Json::String(s) => s.len() + 2,
        Json::Array(items) => items.iter().map(|i| json_text_size(i) + 1).sum::<usize>() + 1,
        Json::Object(members) => {
            let member = |(k, v): (&String, &Json)| k.len() + json_text_size(v) + 4;
            members.iter().map(member).sum::<usize>() + 1
        }
    }
}

/// A number as JSON.
fn json_number(number: Decimal, version: SqlVersion) -> Json {
    // A decimal's text is always a JSON number.
    spelled(number, version)
        .to_string()
        .parse()
        .map_or(Json::Null, Json::Number)
}

/// A copy of JSON with its numbers as the version writes them.
fn respelled(json: &Json, version: SqlVersion) -> Json {
    match json {
        Json::Number(n) if version == SqlVersion::V2016 => match Decimal::parse_json(n.as_str()) {
            Some(number) if n.as_str().contains(['.', 'e', 'E']) => json_number(number, version),
            _ => json.clone(),
        },
        Json::Array(items) => Json::Array(items.iter().map(|i| respelled(i, version)).collect()),
        Json::Object(members) => Json::Object(respelled_members(members, version)),
        _ => json.clone(),
    }
}

pub(crate) fn respelled_members(
    members: &Map<String, Json>,
    version: SqlVersion,
) -> Map<String, Json> {
    members
        .iter()
        .map(|(k, v)| (k.clone(), respelled(v, version)))
        .collect()
}
