//! Merging and comparing.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::Section;
use super::tree::{Index, Node, Object, key_text};

/// Merges `patch` into `object`: null removes, objects are merged, everything else replaces. What
/// is set is of the time `now`.
pub(super) fn merge(object: &mut Object<'_>, patch: &Section, now: u64) {
    let index = Index::new(object, patch.len());
    let mut removed = Vec::new();
    for (key, value) in patch {
        let key = key_text(key);
        let place = index.find(object, &key);
        let found = place.and_then(|at| object.members.get_mut(at));
        let node = match (value, found) {
            (Value::Null, _) => {
                removed.extend(place);
                continue;
            }
            (Value::Object(patch), Some((_, Node::Object(inner)))) => {
                merge(inner, patch, now);
                continue;
            }
            (Value::Object(patch), present) => match without_nulls(patch) {
                Some(new) => Node::new(&Value::Object(new), now),
                None if present.is_some() => Node::Object(Object::default()),
                // Nothing but nulls where nothing was.
                None => continue,
            },
            (value, _) => Node::new(value, now),
        };
        match place.and_then(|at| object.members.get_mut(at)) {
            Some((_, place)) => *place = node,
            // A patch has each key once: what is added is not looked for again.
            None => object.members.push((Cow::Owned(key), node)),
        }
    }
    if !removed.is_empty() {
        removed.sort_unstable();
        let mut at = 0;
        object.members.retain(|_| {
            at += 1;
            removed.binary_search(&(at - 1)).is_err()
        });
    }
}

/// A new object without its nulls; `None` when nothing but nulls was in it.
fn without_nulls(object: &Section) -> Option<Section> {
    let mut kept = Section::new();
    for (key, value) in object {
        match value {
            Value::Null => {}
            Value::Object(inner) => {
                if let Some(inner) = without_nulls(inner) {
                    kept.insert(key.clone(), Value::Object(inner));
                }
            }
            other => {
                kept.insert(key.clone(), other.clone());
            }
        }
    }
    (object.is_empty() || !kept.is_empty()).then_some(kept)
}

/// What `desired` has and `reported` has not or has differently, with desired's times.
pub(super) fn difference<'a>(desired: &Object<'a>, reported: &Object<'_>) -> Object<'a> {
    let index = Index::new(reported, desired.members.len());
    let mut delta = Object::default();
    for (key, wanted) in &desired.members {
        let found = index.find(reported, key);
        let found = found.and_then(|at| reported.members.get(at));
        let different = match (wanted, found.map(|(_, node)| node)) {
            (Node::Object(wanted), Some(Node::Object(is))) => {
                let inner = difference(wanted, is);
                (!inner.is_empty()).then_some(Node::Object(inner))
            }
            // An object without attributes wants nothing.
            (Node::Object(wanted), None) if wanted.is_empty() => None,
            (Node::Leaf { json, .. }, Some(Node::Leaf { json: is, .. })) if same_text(json, is) => {
                None
            }
            (wanted, _) => Some(wanted.clone()),
        };
        delta
            .members
            .extend(different.map(|node| (key.clone(), node)));
    }
    delta
}

/// Equality by value: 1 is 1.0, the order of members does not count, that of elements does.
fn same_text(a: &str, b: &str) -> bool {
    // What has no numbers in it has one text only.
    let may_differ = |text: &str| !text.starts_with(['"', 't', 'f', 'n']);
    if a == b {
        return true;
    }
    if !may_differ(a) || !may_differ(b) {
        return false;
    }
    match (serde_json::from_str(a), serde_json::from_str(b)) {
        (Ok(a), Ok(b)) => same(&a, &b),
        _ => false,
    }
}

/// Equality by value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    if a == b {
        return true;
    }
    // Whole numbers are compared to the last digit; a double would round the large ones.
    if let (Some(a), Some(b)) = (a.as_i128(), b.as_i128()) {
        return a == b;
    }
    matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

/// Levels of objects and arrays.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether null stands somewhere in an array.
pub(super) fn null_in_array(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.values().any(null_in_array),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(object) => object.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}
