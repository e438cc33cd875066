//! Random update requests.

use proptest::prelude::*;
use serde_json::{Value, json};

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        prop::collection::vec(0..3i64, 0..3).prop_map(Value::from),
    ]
}

fn section() -> impl Strategy<Value = Value> {
    let tree = leaf().prop_recursive(4, 24, 3, |inner| {
        prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| m.into_iter().collect())
    });
    prop::collection::btree_map("[a-d]", tree, 0..4).prop_map(|m| m.into_iter().collect())
}

pub fn request() -> impl Strategy<Value = Value> {
    (prop::option::of(section()), prop::option::of(section())).prop_map(
        |(desired, reported)| json!({"state": {"desired": desired, "reported": reported}}),
    )
}
