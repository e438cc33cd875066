//! What must hold for any request.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod requests;

use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::core::{self, Limits, Stored, Updated};
use proptest::prelude::*;
use requests::request;
use serde_json::{Value, json};

fn now(seconds: u64) -> Now {
    Now {
        mono: 0,
        wall: UnixMillis(seconds * 1000),
        trusted: true,
    }
}

fn update(stored: Option<&Stored>, request: &Value, seconds: u64) -> Option<Updated> {
    let request = request.to_string();
    let limits = Limits::default();
    core::update(stored, request.as_bytes(), &now(seconds), &limits).ok()
}

/// Every leaf of the state has its timestamp, and nothing else has one.
fn stamped(state: &Value, metadata: &Value) -> bool {
    match state {
        Value::Object(object) => {
            let Some(stamps) = metadata.as_object() else {
                return false;
            };
            object.len() == stamps.len()
                && object
                    .iter()
                    .all(|(k, v)| stamps.get(k).is_some_and(|m| stamped(v, m)))
        }
        Value::Array(items) => metadata.as_array().is_some_and(|stamps| {
            items.len() == stamps.len() && items.iter().zip(stamps).all(|(i, s)| stamped(i, s))
        }),
        _ => metadata["timestamp"].is_u64(),
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

proptest! {
    #[test]
    fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let limits = Limits::default();
        let _ = core::update(None, &payload, &now(1), &limits);
        let _ = core::get(None, &payload, "lamp", &now(1), &limits);
        let _ = core::delete(None, &payload, "lamp", &now(1), &limits);
        let _ = Stored::parse(&payload);
    }

    #[test]
    fn a_document_is_always_whole(requests in prop::collection::vec(request(), 1..6)) {
        let mut stored: Option<Stored> = None;
        let mut version = 0;
        for (i, request) in requests.iter().enumerate() {
            let Some(updated) = update(stored.as_ref(), request, i as u64 + 1) else {
                continue;
            };
            version += 1;
            let content = updated.document.to_content();
            prop_assert_eq!(&content["version"], &json!(version));
            prop_assert!(stamped(&content["state"], &content["metadata"]), "{}", content);
            prop_assert!(!has_null(&content["state"]), "{}", content);
            let live = Stored::Live(updated.document);
            prop_assert_eq!(&Stored::parse(&live.to_bytes()).unwrap(), &live);
            stored = Some(live);
        }
    }

    #[test]
    fn reporting_all_that_is_desired_ends_the_delta(first in request()) {
        if let Some(updated) = update(None, &first, 1) {
            let content = updated.document.to_content();
            let desired = content["state"]["desired"].clone();
            let report = json!({"state": {"reported": null}});
            let cleared = Stored::Live(updated.document);
            let cleared = Stored::Live(update(Some(&cleared), &report, 2).unwrap().document);
            if desired.is_object() {
                let report = json!({"state": {"reported": desired}});
                // Both sections together may be too large: then there is nothing to see.
                if let Some(last) = update(Some(&cleared), &report, 3) {
                    prop_assert!(last.delta.is_none(), "{:?}", last.delta);
                }
            }
        }
    }

    #[test]
    fn the_same_update_again_changes_nothing_but_version_and_time(first in request()) {
        if let Some(once) = update(None, &first, 1) {
            let stored = Stored::Live(once.document.clone());
            let twice = update(Some(&stored), &first, 2).unwrap();
            let (once, twice) = (once.document.to_content(), twice.document.to_content());
            prop_assert_eq!(&once["state"], &twice["state"]);
        }
    }
}
