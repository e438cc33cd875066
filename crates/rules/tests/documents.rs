//! Rule documents: what is accepted, and how refusals read.
#![allow(clippy::unwrap_used)]

use std::fs;

use iotedge_rules::{RuleProblem, load_dir, parse_rule};
use iotedge_sql::SqlVersion;

const ACTIONS: &str =
    r#""actions": [{"republish": {"topic": "t", "roleArn": "arn:aws:iam::1:role/r"}}]"#;

fn problems(text: &str) -> Vec<String> {
    parse_rule("r", "rules.d/r.json", text)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_bare_and_both_wrapped_forms_are_the_same_rule() {
    let bare = format!(
        r#"{{"sql": "SELECT * FROM 'a/b'", "awsIotSqlVersion": "2016-03-23-beta", "ruleDisabled": true, "description": "d", {ACTIONS}}}"#
    );
    for text in [
        bare.clone(),
        format!(r#"{{"topicRulePayload": {bare}}}"#),
        format!(r#"{{"rule": {bare}, "ruleName": "r"}}"#),
        format!(r#"{{"ruleName": "r", "topicRulePayload": {bare}}}"#),
    ] {
        let rule = parse_rule("r", "f", &text).unwrap();
        assert_eq!(&**rule.name(), "r");
        assert_eq!(rule.sql(), "SELECT * FROM 'a/b'");
        assert_eq!(rule.sql_version(), SqlVersion::V2016);
        assert_eq!(rule.description(), Some("d"));
        assert!(!rule.is_enabled());
    }
}

#[test]
fn a_rule_without_a_version_has_the_first_one() {
    let rule = parse_rule(
        "r",
        "f",
        &format!(r#"{{"sql": "SELECT * FROM 'a'", {ACTIONS}}}"#),
    )
    .unwrap();
    assert_eq!(rule.sql_version(), SqlVersion::V2015);
    assert!(rule.is_enabled());
}

#[test]
fn refusals_name_file_line_column_and_key() {
    let text = "{\n  \"sql\": \"SELECT * FROM 'a/#/b'\",\n  \"actoins\": [],\n  \"actions\": [\n    {\"republish\": {\"topic\": \"a/+\", \"qos\": 2}}\n  ]\n}";
    assert_eq!(
        problems(text),
        [
            "rules.d/r.json:2:10: sql: column 15: the topic filter of FROM is not valid: '#' must be the last level of a filter and stand alone in it",
            "rules.d/r.json:3:14: actoins: unknown key; known here: sql, awsIotSqlVersion, description, ruleDisabled, actions, errorAction, ruleName, createdAt, ruleArn",
            "rules.d/r.json:5:29: actions[0].republish.topic: is no topic that can be published to: a topic name must not contain the wildcards '+' and '#'",
            "rules.d/r.json:5:43: actions[0].republish.qos: the QoS of republish is 0 or 1",
        ]
    );
}

#[test]
fn every_kind_of_mistake_is_refused_with_its_reason() {
    let with = |extra: &str| format!(r#"{{"sql": "SELECT * FROM 'a'", {extra}}}"#);
    for (text, expected) in [
        ("{".to_owned(), "is not JSON: EOF while parsing an object"),
        ("[]".to_owned(), "must be an object"),
        ("{}".to_owned(), "sql: is missing"),
        (with("\"ruleDisabled\": false"), "actions: is missing"),
        (
            with("\"actions\": [{}]"),
            "actions[0]: each action is an object with one key",
        ),
        (
            with("\"actions\": [{\"republish\": {\"topic\": \"t\"}, \"s3\": {}}]"),
            "actions[0]: each action",
        ),
        (
            with("\"actions\": [{\"dynamoDB\": {}}]"),
            "the action dynamoDB is not available yet",
        ),
        (
            with("\"actions\": [{\"republsh\": {}}]"),
            "there is no action \"republsh\"",
        ),
        (
            with("\"actions\": [{\"republish\": {}}]"),
            "actions[0].republish.topic: is missing",
        ),
        (
            with("\"actions\": [{\"republish\": {\"topic\": 5}}]"),
            "actions[0].republish.topic: must be a string",
        ),
        (
            with("\"actions\": [{\"republish\": {\"topic\": \"${\"}}]"),
            "column 3: expected an expression",
        ),
        (
            with("\"actions\": [{\"republish\": {\"topic\": \"$aws/events/x\"}}]"),
            "is a reserved topic",
        ),
        (
            with("\"actions\": [{\"republish\": {\"topic\": \"t\", \"headers\": {}}}]"),
            "headers: is not available yet",
        ),
        (
            with("\"actions\": [], \"actions\": []"),
            "actions: the key stands twice",
        ),
        (with("\"actions\": {}"), "actions: must be an array"),
        (
            with("\"actions\": [], \"awsIotSqlVersion\": \"2017-01-01\""),
            "awsIotSqlVersion: column 1: unknown SQL version \"2017-01-01\"",
        ),
        (
            with("\"actions\": [], \"ruleName\": \"other\""),
            "ruleName: is \"other\", but the file's name says \"r\"",
        ),
        (
            with("\"actions\": [], \"errorAction\": {\"lambda\": {}}"),
            "errorAction.lambda: the action lambda is not available yet",
        ),
        (
            "{\"rule\": {\"sql\": \"SELECT * FROM 'a'\", \"actions\": []}, \"sql\": \"\"}"
                .to_owned(),
            "sql: unknown key; known here: topicRulePayload or rule",
        ),
    ] {
        let found = problems(&text);
        assert!(
            found.iter().any(|p| p.contains(expected)),
            "{text}\n{found:#?}"
        );
    }
    let name = parse_rule("a b", "f", &with("\"actions\": []")).unwrap_err();
    assert_eq!(name[0].problem, RuleProblem::Name);
}

#[test]
fn a_directory_is_loaded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load_dir(&dir.path().join("none")).unwrap().is_empty());
    let good = format!(r#"{{"sql": "SELECT * FROM 'a'", {ACTIONS}}}"#);
    fs::write(dir.path().join("b.json"), &good).unwrap();
    fs::write(dir.path().join("a.json"), &good).unwrap();
    fs::write(dir.path().join("notes.txt"), "x").unwrap();
    fs::write(dir.path().join(".c.json"), "half written").unwrap();
    let names: Vec<String> = load_dir(dir.path())
        .unwrap()
        .iter()
        .map(|r| r.name().to_string())
        .collect();
    assert_eq!(names, ["a", "b"]);

    fs::write(dir.path().join("c.json"), "{\"sql\": 1}").unwrap();
    fs::write(dir.path().join("d.json"), [0xff]).unwrap();
    let errors = load_dir(dir.path()).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{texts:#?}");
    assert!(
        texts[0].contains("c.json:1:9: sql: must be a string"),
        "{texts:#?}"
    );
    assert!(texts[2].contains("d.json"), "{texts:#?}");
}
