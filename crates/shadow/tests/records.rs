//! What stands in the store.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::core::{self, Limits, Stored};
use serde_json::{Value, json};

const NOW: Now = Now {
    mono: 0,
    wall: UnixMillis(1_700_000_000_000),
    trusted: true,
};

#[test]
fn a_shadow_that_was_kept_in_the_former_form_is_whole() {
    let state = json!({
        "desired": {"a": 1, "o": {"x": [1, {"y": 2}], "timestamp": "t"}},
        "reported": {"r": {}},
    });
    let metadata = json!({
        "desired": {
            "a": {"timestamp": 5},
            "o": {
                "x": [{"timestamp": 6}, {"y": {"timestamp": 6}}],
                "timestamp": {"timestamp": 7},
            },
        },
        "reported": {"r": {}},
    });
    let base = json!({"local": 2, "cloud": 4, "desired": {}, "reported": {"r": 1}});
    let record = json!({
        "state": state, "metadata": metadata, "version": 3, "timestamp": 8, "used": 9, "base": base,
    });
    let bytes = record.to_string();
    let stored = Stored::parse(bytes.as_bytes()).unwrap();
    let bytes = stored.to_bytes();
    let again = Stored::parse(&bytes).unwrap();
    assert_eq!(again, stored);
    let Stored::Live(document) = &again else {
        panic!("{again:?}");
    };
    let content = json!({"state": state, "metadata": metadata, "version": 3});
    assert_eq!(document.to_content(), content);
    assert_eq!((document.timestamp, document.used), (8, Some(9)));
    assert_eq!(again.known().unwrap().base.unwrap().cloud, 4);
}

#[test]
fn a_record_that_is_not_whole_is_damaged() {
    let request = br#"{"state":{"desired":{"a":[1],"o":{"x":"y"}}}}"#;
    let limits = Limits::default();
    let updated = core::update(None, request, &NOW, &limits).unwrap();
    let bytes = Stored::Live(updated.document).to_bytes();
    Stored::parse(&bytes).unwrap();
    for cut in 0..bytes.len() {
        assert!(Stored::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    for text in [
        r#"{"version":1,"timestamp":1,"desired":{"a":1}}"#,
        r#"{"version":1,"timestamp":1,"desired":{"a":[1]}}"#,
        r#"{"version":1,"timestamp":1,"desired":{"a":["x",1]}}"#,
        r#"{"version":1,"timestamp":1,"desired":{"a":[1,2,3]}}"#,
        r#"{"version":1}"#,
        r#"{"timestamp":1}"#,
        r#"[1]"#,
    ] {
        assert!(Stored::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn many_attributes_are_merged_and_compared_by_their_names() {
    let limits = Limits {
        max_bytes: 1 << 20,
        ..Limits::default()
    };
    let all = |from: usize, to: usize, value: Value| -> Value {
        (from..to)
            .map(|n| (format!("key\"{n}"), value.clone()))
            .collect()
    };
    let mut stored: Option<Stored<'static>> = None;
    let mut update = |section: &str, patch: Value| {
        let request = json!({"state": {section: patch}}).to_string();
        let updated = core::update(stored.as_ref(), request.as_bytes(), &NOW, &limits).unwrap();
        let delta = updated.document.delta();
        stored = Some(Stored::Live(updated.document));
        delta.map(|d| d.len())
    };
    assert_eq!(update("desired", all(0, 1000, json!(1))), Some(1000));
    assert_eq!(update("reported", all(0, 900, json!(1.0))), Some(100));
    assert_eq!(update("reported", all(500, 1000, json!(2))), Some(500));
    assert_eq!(update("desired", all(400, 1000, Value::Null)), None);
    assert_eq!(update("desired", all(300, 450, json!("new"))), Some(150));
    let Some(Stored::Live(document)) = &stored else {
        panic!("{stored:?}");
    };
    let content = document.to_content();
    let desired = content["state"]["desired"].as_object().unwrap();
    assert_eq!(desired.len(), 450);
    assert_eq!(desired["key\"299"], 1);
    assert_eq!(desired["key\"449"], "new");
}
