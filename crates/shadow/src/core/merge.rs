//! Merging, stamping and comparing values.

use serde_json::{Number, Value, json};

use super::Section;

/// Merges `patch` into `section`: null removes, objects are merged, everything else replaces.
/// `metadata` follows with a timestamp for each leaf.
pub(super) fn merge(section: &mut Section, metadata: &mut Section, patch: &Section, seconds: u64) {
    for (key, value) in patch {
        match (value, section.get_mut(key)) {
            (Value::Null, _) => {
                section.shift_remove(key);
                metadata.shift_remove(key);
            }
            (Value::Object(patch), Some(Value::Object(inner))) => {
                let entry = metadata.entry(key).or_insert_with(|| json!({}));
                if !entry.is_object() {
                    *entry = json!({});
                }
                if let Some(inner_metadata) = entry.as_object_mut() {
                    merge(inner, inner_metadata, patch, seconds);
                }
            }
            (Value::Object(patch), present) => {
                let replaces = present.is_some();
                match without_nulls(patch) {
                    Some(new) => set(section, metadata, key, Value::Object(new), seconds),
                    None if replaces => set(section, metadata, key, json!({}), seconds),
                    // Nothing but nulls where nothing was.
                    None => {}
                }
            }
            (value, _) => set(section, metadata, key, value.clone(), seconds),
        }
    }
}

fn set(section: &mut Section, metadata: &mut Section, key: &str, value: Value, seconds: u64) {
    metadata.insert(key.to_owned(), stamp(&value, seconds));
    section.insert(key.to_owned(), value);
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

/// `{"timestamp": …}` in the place of each leaf; arrays have one for each element.
pub(super) fn stamp(value: &Value, seconds: u64) -> Value {
    match value {
        Value::Object(object) => Value::Object(stamp_object(object, seconds)),
        Value::Array(items) => items.iter().map(|i| stamp(i, seconds)).collect(),
        _ => json!({"timestamp": seconds}),
    }
}

pub(super) fn stamp_object(object: &Section, seconds: u64) -> Section {
    object
        .iter()
        .map(|(k, v)| (k.clone(), stamp(v, seconds)))
        .collect()
}

/// What `desired` has and `reported` has not or has differently, with desired's metadata.
pub(super) fn difference(
    desired: &Section,
    metadata: &Section,
    reported: &Section,
) -> (Section, Section) {
    let (mut state, mut stamps) = (Section::new(), Section::new());
    let mut include = |key: &String, value: Value, stamp: Option<Value>| {
        state.insert(key.clone(), value);
        if let Some(stamp) = stamp {
            stamps.insert(key.clone(), stamp);
        }
    };
    for (key, wanted) in desired {
        let stamp = metadata.get(key);
        match (wanted, reported.get(key)) {
            (Value::Object(wanted), Some(Value::Object(is))) => {
                let none = Section::new();
                let stamp = stamp.and_then(Value::as_object).unwrap_or(&none);
                let (inner, inner_stamps) = difference(wanted, stamp, is);
                if !inner.is_empty() {
                    include(key, inner.into(), Some(inner_stamps.into()));
                }
            }
            // An object without attributes wants nothing.
            (Value::Object(wanted), None) if wanted.is_empty() => {}
            (wanted, Some(is)) if same(wanted, is) => {}
            (wanted, _) => include(key, wanted.clone(), stamp.cloned()),
        }
    }
    (state, stamps)
}

/// Equality by value: 1 is 1.0, the order of members does not count, that of elements does.
fn same(a: &Value, b: &Value) -> bool {
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
