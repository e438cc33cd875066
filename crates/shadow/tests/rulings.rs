//! What the guides leave open about documents and how it is decided; each test carries the id of
//! its question.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::{House, MemoryStore};

struct Lamp(House);

impl Lamp {
    fn new() -> Self {
        Self(House::new(Arc::new(MemoryStore::default())))
    }
    fn ask(&self, operation: &str, request: &Value) -> Vec<(String, Value)> {
        let request = match request {
            Value::String(raw) => raw.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let topic = format!("$aws/things/lamp/shadow/{operation}");
        let mut messages = self.0.ask(&topic, request);
        for (topic, _) in &mut messages {
            *topic = topic.replace("$aws/things/lamp/shadow/", "");
        }
        messages
    }
    /// The answer on `suffix`, which must be there.
    fn answer(&self, operation: &str, request: Value, suffix: &str) -> Value {
        let messages = self.ask(operation, &request);
        let found = messages.iter().find(|(s, _)| s == suffix);
        let (_, answer) = found.unwrap_or_else(|| panic!("no {suffix} in {messages:?}"));
        answer.clone()
    }
    fn update(&self, request: Value) -> Value {
        self.answer("update", request, "update/accepted")
    }
    fn reject(&self, request: Value) -> (u64, String) {
        let answer = self.answer("update", request, "update/rejected");
        (
            answer["code"].as_u64().unwrap(),
            answer["message"].as_str().unwrap().to_owned(),
        )
    }
    fn get(&self) -> Value {
        self.answer("get", Value::Null, "get/accepted")
    }
}

fn reported(value: Value) -> Value {
    json!({"state": {"reported": value}})
}

const INVALID_NODE: &str = "State contains an invalid node";

#[test]
fn amb_shadow_091_six_levels_are_accepted_and_seven_rejected() {
    let lamp = Lamp::new();
    let mut nested = json!("x");
    for level in 1..=6 {
        nested = json!({format!("l{level}"): nested});
    }
    lamp.update(json!({"state": {"desired": nested}}));
    let rejected = lamp.reject(json!({"state": {"desired": {"l7": nested}}}));
    let message = "JSON contains too many levels of nesting; maximum is 6";
    assert_eq!(rejected, (400, message.to_owned()));
    let bottomless = format!(
        "{{\"state\":{{\"desired\":{}1{}}}}}",
        "{\"a\":".repeat(500),
        "}".repeat(500)
    );
    assert_eq!(lamp.reject(Value::String(bottomless)).1, message);
}

#[test]
fn amb_shadow_092_what_is_not_reported_is_in_the_delta() {
    let lamp = Lamp::new();
    lamp.update(reported(json!({"a": 1})));
    let request = json!({"state": {"desired": {"b": 2}}, "clientToken": "t"});
    let delta = lamp.answer("update", request, "update/delta");
    assert_eq!(delta["state"], json!({"b": 2}));
    assert_eq!(delta["clientToken"], "t");
}

#[test]
fn amb_shadow_093_094_095_only_desired_and_reported_may_stand_in_state() {
    let lamp = Lamp::new();
    for state in [
        json!({"desired": {"a": 1}, "foo": {"b": 1}}),
        json!({"foo": {"b": 1}}),
        json!({"desired": {"a": 1}, "delta": {"a": 1}}),
    ] {
        let rejected = lamp.reject(json!({"state": state}));
        assert_eq!(rejected, (400, INVALID_NODE.to_owned()));
    }
}

#[test]
fn amb_shadow_096_an_empty_state_is_an_update() {
    let lamp = Lamp::new();
    assert_eq!(lamp.update(json!({"state": {}}))["version"], 1);
    assert_eq!(lamp.update(json!({"state": {}}))["version"], 2);
}

#[test]
fn amb_shadow_097_100_what_is_no_json_object_is_invalid_json() {
    let lamp = Lamp::new();
    for raw in ["", "{", "[1]", "\"x\"", "{\"state\":{}} x"] {
        let rejected = lamp.reject(Value::String(raw.into()));
        assert_eq!(rejected, (400, "Invalid JSON".into()), "{raw}");
    }
}

#[test]
fn amb_shadow_098_118_arrays_hold_no_null_at_any_depth() {
    let lamp = Lamp::new();
    for value in [json!([null]), json!([{"x": null}]), json!([[1], [null]])] {
        let rejected = lamp.reject(reported(json!({"a": value})));
        assert_eq!(rejected, (400, INVALID_NODE.to_owned()));
    }
}

#[test]
fn amb_shadow_099_a_version_is_a_whole_number() {
    let lamp = Lamp::new();
    for version in [json!(null), json!(1.5), json!(-1), json!("1"), json!([])] {
        let request = json!({"state": {}, "version": version});
        assert_eq!(lamp.reject(request), (400, "Invalid version".into()));
    }
}

#[test]
fn amb_shadow_101_103_what_is_missing_is_named_and_the_token_comes_back() {
    let lamp = Lamp::new();
    let answer = lamp.answer("get", json!({"clientToken": "q"}), "get/rejected");
    assert_eq!(answer["code"], 404);
    assert_eq!(answer["message"], "No shadow exists with name: 'lamp'");
    assert_eq!(answer["clientToken"], "q");
    let messages = lamp.0.ask("$aws/things/lamp/shadow/name/cfg/get", "");
    assert_eq!(
        messages[0].1["message"],
        "No shadow exists with name: 'lamp~cfg'"
    );
    lamp.update(reported(json!({"a": 1})));
    let answer = lamp.answer("get", json!({"clientToken": "q"}), "get/accepted");
    assert_eq!(answer["clientToken"], "q");
}

#[test]
fn amb_shadow_102_the_delta_has_metadata_as_well() {
    let lamp = Lamp::new();
    lamp.update(json!({"state": {"desired": {"a": 1}, "reported": {"a": 2}}}));
    let document = lamp.get();
    assert_eq!(document["state"]["delta"], json!({"a": 1}));
    assert_eq!(
        document["metadata"]["delta"],
        document["metadata"]["desired"]
    );
}

#[test]
fn amb_shadow_104_105_null_as_state_empties_the_shadow() {
    let lamp = Lamp::new();
    lamp.update(reported(json!({"a": 1})));
    let answer = lamp.update(json!({"state": null}));
    assert_eq!(
        (&answer["version"], &answer["state"]),
        (&json!(2), &Value::Null)
    );
    let document = lamp.get();
    assert_eq!(document["state"], json!({}));
    assert_eq!(document["metadata"], json!({}));
}

#[test]
fn amb_shadow_106_107_108_empty_sections_go_and_empty_objects_stay() {
    let lamp = Lamp::new();
    lamp.update(reported(json!({"o": {"x": 1}, "k": 1})));
    lamp.update(reported(json!({"o": {}})));
    assert_eq!(
        lamp.get()["state"]["reported"],
        json!({"o": {"x": 1}, "k": 1})
    );
    lamp.update(reported(json!({"o": {"x": null}})));
    assert_eq!(lamp.get()["state"]["reported"], json!({"o": {}, "k": 1}));
    lamp.update(reported(json!({"o": null, "k": null})));
    let document = lamp.get();
    assert!(document["state"].get("reported").is_none());
    assert!(document["metadata"].get("reported").is_none());
}

#[test]
fn deleting_below_what_is_not_there_creates_nothing() {
    let lamp = Lamp::new();
    lamp.update(reported(json!({"k": 1, "o": {"x": {"y": null}}})));
    assert_eq!(lamp.get()["state"]["reported"], json!({"k": 1}));
    lamp.update(reported(json!({"k": {"x": null, "y": 2}})));
    assert_eq!(lamp.get()["state"]["reported"], json!({"k": {"y": 2}}));
}

#[test]
fn amb_shadow_109_110_111_versions_begin_and_go_on() {
    let lamp = Lamp::new();
    let with_version = |v| json!({"state": {"reported": {"a": 1}}, "version": v});
    assert_eq!(
        lamp.reject(with_version(5)),
        (409, "Version conflict".into())
    );
    assert_eq!(lamp.update(with_version(0))["version"], 1);
    assert_eq!(lamp.reject(with_version(0)).0, 409);
    let deleted = lamp.answer("delete", Value::Null, "delete/accepted");
    assert_eq!(deleted["version"], 1, "amb-shadow-113");
    assert_eq!(lamp.update(with_version(0))["version"], 2);
    lamp.ask("delete", &Value::Null);
    lamp.0.clock.advance_seconds(48 * 3600 + 1);
    assert_eq!(lamp.update(with_version(0))["version"], 1);
}

#[test]
fn amb_shadow_114_115_every_leaf_has_a_timestamp() {
    let lamp = Lamp::new();
    let answer = lamp.update(reported(json!({"s": [1, {"x": 2}], "o": {"timestamp": 5}})));
    let now = json!({"timestamp": answer["timestamp"]});
    assert_eq!(
        answer["metadata"]["reported"],
        json!({"s": [now, {"x": now}], "o": {"timestamp": now}})
    );
    assert_eq!(lamp.get()["metadata"], answer["metadata"]);
}

#[test]
fn amb_shadow_116_117_both_sections_together_have_eight_kilobytes() {
    let lamp = Lamp::new();
    let text = |n| "x".repeat(n);
    let too_large = (
        413,
        "The payload exceeds the maximum size allowed".to_owned(),
    );
    let both = json!({"state": {"desired": {"k": text(5000)}, "reported": {"k": text(5000)}}});
    assert_eq!(lamp.reject(both), too_large);
    lamp.update(reported(json!({"k": text(8184)})));
    assert_eq!(lamp.reject(reported(json!({"k": text(8185)}))), too_large);
    assert_eq!(lamp.reject(reported(json!({"b": 1}))), too_large);
    lamp.update(reported(json!({"k": "small"})));
}

#[test]
fn amb_shadow_124_wrong_names_are_rejected() {
    let lamp = Lamp::new();
    for prefix in [
        "$aws/things/a b/shadow".to_owned(),
        format!("$aws/things/{}/shadow", "x".repeat(129)),
        "$aws/things/lamp/shadow/name/a.b".to_owned(),
        format!("$aws/things/lamp/shadow/name/{}", "x".repeat(65)),
    ] {
        let topic = format!("{prefix}/update");
        let messages = lamp.0.ask(&topic, reported(json!({"a": 1})).to_string());
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].0, format!("{topic}/rejected"));
        assert_eq!(messages[0].1["code"], 400);
    }
}

#[test]
fn one_trailing_nul_is_tolerated_and_two_are_not() {
    let lamp = Lamp::new();
    let request = |nuls| Value::String(format!("{{\"state\":{{}}}}{}", "\0".repeat(nuls)));
    assert_eq!(lamp.update(request(1))["version"], 1);
    assert_eq!(lamp.reject(request(2)), (400, "Invalid JSON".into()));
}

#[test]
fn numbers_keep_their_spelling_and_are_compared_by_value() {
    let lamp = Lamp::new();
    let request = r#"{"state":{"desired":{"a":1.0,"big":12345678901234567890,"e":1e2},
                                "reported":{"a":1,"big":12345678901234567891,"e":100}}}"#;
    let delta = lamp.answer("update", Value::String(request.into()), "update/delta");
    assert_eq!(
        delta["state"].to_string(),
        r#"{"big":12345678901234567890}"#
    );
    let desired = lamp.get()["state"]["desired"].to_string();
    assert!(desired.contains("1.0"), "{desired}");
    assert!(desired.contains("12345678901234567890"), "{desired}");
}

#[test]
fn a_request_beyond_the_size_of_a_message_is_not_even_read() {
    let lamp = Lamp::new();
    let request = format!("{}{{", " ".repeat(128 * 1024));
    assert_eq!(lamp.reject(Value::String(request)).0, 413);
}
