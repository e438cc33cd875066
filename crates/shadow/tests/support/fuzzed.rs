//! Request documents of shadows, one after the other on one shadow, which goes to the store and comes
//! back between them. What the fuzz target `shadow_request` runs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a target fails as a test does

use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::core::{self, Limits, Stored};
use serde_json::Value;

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("an answer is JSON")
}

/// 0xff ends a request, and stands in no UTF-8: what follows is the next one. An empty one deletes.
pub fn exercise(data: &[u8]) {
    let limits = Limits::default();
    let mut kept: Option<Vec<u8>> = None;
    // What is in the store comes from outside, too.
    let _ = Stored::parse(data);
    for (n, request) in (0u64..).zip(data.split(|b| *b == 0xff)) {
        let now = Now {
            mono: n,
            wall: UnixMillis(1_700_000_000_000 + n * 1000),
            trusted: n % 2 == 0,
        };
        let stored = kept
            .as_deref()
            .map(|bytes| Stored::parse(bytes).expect("what was kept can be read"));
        let stored = stored.as_ref();
        if let Ok(text) = core::get(stored, request, "lamp", &now, &limits) {
            read(&text);
        }
        let next = if request.is_empty() {
            core::delete(stored, request, "lamp", &now, &limits).map(|deleted| {
                read(&deleted.accepted);
                Stored::Deleted(deleted.tombstone).to_bytes()
            })
        } else {
            core::update(stored, request, &now, &limits).map(|updated| {
                let documents = read(&updated.documents);
                assert_eq!(documents["current"], updated.document.to_content());
                assert_eq!(read(&updated.accepted)["version"], updated.document.version);
                let delta = updated.delta.as_deref().map(read);
                assert_eq!(delta.is_some(), updated.document.delta().is_some());
                let sections = documents["current"]["state"].as_object().expect("a state");
                let bytes: usize = sections.values().map(|s| s.to_string().len()).sum();
                assert!(bytes <= limits.max_bytes);
                Stored::Live(updated.document).to_bytes()
            })
        };
        match next {
            Ok(bytes) => kept = Some(bytes),
            Err(rejection) => {
                rejection.to_json(&now);
            }
        }
    }
}
