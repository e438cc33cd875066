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

fn update(
    stored: Option<&Stored<'static>>,
    request: &Value,
    seconds: u64,
) -> Option<Updated<'static>> {
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

/// Whether each leaf of `wanted` is in `there`; an object without members wants nothing.
fn has_all(there: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Object(wanted) => wanted.iter().all(|(key, wanted)| match there.get(key) {
            Some(there) => has_all(there, wanted),
            None => wanted.as_object().is_some_and(|w| w.is_empty()),
        }),
        leaf => there == leaf,
    }
}

/// Whether what `before` has and `wanted` does not speak of is in `after`.
fn keeps(before: &Value, after: &Value, wanted: &Value) -> bool {
    let Value::Object(before) = before else {
        return true;
    };
    before.iter().all(|(key, before)| match wanted.get(key) {
        None => after.get(key) == Some(before),
        Some(wanted @ Value::Object(_)) => keeps(before, &after[key], wanted),
        Some(_) => true,
    })
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
        let mut stored: Option<Stored<'static>> = None;
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
            let bytes = live.to_bytes();
            prop_assert_eq!(&Stored::parse(&bytes).unwrap(), &live);
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

    #[test]
    fn what_is_wanted_can_be_had_from_the_delta(requests in prop::collection::vec(request(), 1..4)) {
        let stored = requests.iter().fold(None, |stored, request| {
            update(stored.as_ref(), request, 1).map(|u| Stored::Live(u.document)).or(stored)
        });
        if let Some(Stored::Live(document)) = &stored {
            let state = document.to_content()["state"].clone();
            if let Some(delta) = document.delta() {
                let report = json!({"state": {"reported": delta}});
                let after = update(stored.as_ref(), &report, 2).unwrap();
                prop_assert!(after.delta.is_none(), "{:?}", after.delta);
                let reported = &after.document.to_content()["state"]["reported"];
                prop_assert!(has_all(reported, &state["desired"]), "{} {}", reported, state);
                let alone = keeps(&state["reported"], reported, &state["desired"]);
                prop_assert!(alone, "{} {}", reported, state);
            }
        }
    }

    #[test]
    fn the_size_is_that_of_both_sections_as_compact_json(
        requests in prop::collection::vec(request(), 1..6),
        max_bytes in 0..120usize,
    ) {
        let limits = Limits { max_bytes, ..Limits::default() };
        let mut stored: Option<Stored<'static>> = None;
        for request in &requests {
            let Some(free) = update(stored.as_ref(), request, 1) else {
                continue;
            };
            let state = &free.document.to_content()["state"];
            let bytes = |name| state.get(name).map_or(0, |section: &Value| section.to_string().len());
            let text = request.to_string();
            let limited = core::update(stored.as_ref(), text.as_bytes(), &now(1), &limits);
            let fits = bytes("desired") + bytes("reported") <= max_bytes;
            prop_assert_eq!(limited.is_ok(), fits, "{}", state);
            stored = Some(Stored::Live(free.document));
        }
    }
}
