//! Rule documents: what is accepted, and how refusals read.
#![allow(clippy::unwrap_used)]

use std::fs;

use iotedge_rules::{Facilities, RuleProblem, check_rules, load_dir, parse_rule};
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
            "the action dynamoDB needs a service of AWS, which this gateway does not reach",
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
            with("\"actions\": [{\"republish\": {\"topic\": \"t\", \"headers\": {\"x\": 1}}}]"),
            "headers.x: unknown key; known here: payloadFormatIndicator, contentType",
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
            "errorAction.lambda.functionArn: is missing",
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
        texts[1].contains("c.json:1:9: sql: must be a string"),
        "{texts:#?}"
    );
    assert!(texts[2].contains("d.json"), "{texts:#?}");
}

fn rule_with(action: &str) -> String {
    format!(
        r#"{{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{action}]}}"#
    )
}

#[test]
fn every_local_action_is_read_with_all_that_it_has() {
    for action in [
        r#"{"republish": {"topic": "$$aws/things/${topic(2)}/shadow/update", "qos": "1", "retain": true,
            "roleArn": "arn:aws:iam::1:role/r", "headers": {"payloadFormatIndicator": "UTF8_DATA",
            "contentType": "application/json", "responseTopic": "r/${topic()}", "correlationData": "YWI=",
            "messageExpiry": 60, "userProperties": [{"key": "k", "value": "${v}"}]}}}"#,
        r#"{"upstream": {"route": "cloud/out:a", "topic": "b/${topic()}", "qos": 0}}"#,
        r#"{"sqlite": {"table": "t_${topic(2)}"}}"#,
        r#"{"sqlite": {"file": "f.db", "table": "t", "columns": {"a": "${a}", "b_${c}": {"type": "REAL",
            "value": "${b}"}}, "maxAge": "30d", "maxBytes": "10MiB"}}"#,
        r#"{"file": {"path": "${topic(2)}/log", "mode": "append", "separator": "", "maxBytes": 4096,
            "maxAge": 3600, "keep": 3, "gzip": true}}"#,
        r#"{"file": {"path": "now", "mode": "replace"}}"#,
        r#"{"http": {"url": "https://h/${topic()}", "method": "PUT", "headers": [{"key": "a", "value": "b"}],
            "body": "${a}", "timeout": "2s", "certificate": "/c", "key": "/k", "ca": "/ca"}}"#,
        r#"{"exec": {"command": ["/bin/x", "${topic()}"], "timeout": 5}}"#,
        r#"{"lambda": {"functionArn": "arn:aws:lambda:us-east-2:123456789012:function:f:alias"}}"#,
        r#"{"lambda": {"functionArn": "arn:aws:lambda:us-east-1:123456789012:function:${topic()}"}}"#,
    ] {
        let rule = parse_rule("r", "f", &rule_with(action));
        let rule = rule.unwrap_or_else(|e| panic!("{action}: {e:?}"));
        assert_eq!(rule.action_names().len(), 1);
        assert!(rule.warnings().is_empty());
    }
    let http = r#"{"http": {"url": "http://h", "confirmationUrl": "http://h"}}"#;
    let rule = parse_rule("r", "f", &rule_with(http)).unwrap();
    assert!(rule.warnings()[0].contains("confirmationUrl is not used"));
}

#[test]
fn local_actions_are_refused_for_what_can_never_work() {
    for (action, expected) in [
        (
            r#"{"republish": {"topic": "t", "headers": {"messageExpiry": "soon"}}}"#,
            "messageExpiry: must be whole seconds",
        ),
        (
            r#"{"republish": {"topic": "t", "headers": {"correlationData": "?"}}}"#,
            "correlationData: must be Base64",
        ),
        (
            r#"{"republish": {"topic": "t", "headers": {"responseTopic": "a/#"}}}"#,
            "responseTopic: is no topic",
        ),
        (
            r#"{"republish": {"topic": "t", "headers": {"payloadFormatIndicator": "JSON"}}}"#,
            "must be UNSPECIFIED_BYTES or UTF8_DATA",
        ),
        (r#"{"file": {"path": "../x"}}"#, "no part of a path is '..'"),
        (r#"{"file": {"path": "/etc/passwd"}}"#, "without '/'"),
        (
            r#"{"file": {"path": "x", "mode": "overwrite"}}"#,
            "must be append or replace",
        ),
        (
            r#"{"file": {"path": "x", "mode": "replace", "gzip": true}}"#,
            "has no meaning",
        ),
        (
            r#"{"file": {"path": "x", "maxBytes": "10 elephants"}}"#,
            "must be a size like",
        ),
        (r#"{"sqlite": {}}"#, "sqlite.table: is missing"),
        (
            r#"{"sqlite": {"table": "t", "columns": {"a": {"type": "BLOB", "value": "x"}}}}"#,
            "must be TEXT, INTEGER, REAL or NUMERIC",
        ),
        (
            r#"{"http": {"url": "ftp://h"}}"#,
            "must begin with http:// or https://",
        ),
        (
            r#"{"http": {"url": "http://h", "certificate": "/c"}}"#,
            "belong together",
        ),
        (
            r#"{"http": {"url": "http://h", "auth": {"sigv4": {}}}}"#,
            "not signed for AWS",
        ),
        (
            r#"{"http": {"url": "http://h", "method": "BREW"}}"#,
            "must be one of GET",
        ),
        (r#"{"exec": {"command": []}}"#, "must name a program"),
        (
            r#"{"exec": {"command": ["ls"]}}"#,
            "must be an absolute path",
        ),
        (
            r#"{"exec": {"command": "ls -l"}}"#,
            "command: must be an array",
        ),
        (
            r#"{"lambda": {"functionArn": "f"}}"#,
            "must be a function's ARN",
        ),
        (r#"{"upstream": {}}"#, "upstream.route: is missing"),
    ] {
        let found = problems(&rule_with(action));
        assert!(
            found.iter().any(|p| p.contains(expected)),
            "{action}\n{found:#?}"
        );
    }
}

/// The guide's own examples (2016 guide, "AWS IoT Rule Actions").
#[test]
fn actions_of_the_cloud_are_checked_and_then_refused_by_name() {
    for (name, settings) in [
        (
            "cloudwatchAlarm",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iot_cw", "alarmName": "IotAlarm",
            "stateReason": "Temperature stabilized.", "stateValue": "OK"}"#,
        ),
        (
            "cloudwatchMetric",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iot_cw", "metricNamespace": "IotNamespace",
            "metricName": "IotMetric", "metricValue": "1", "metricUnit": "Count", "metricTimestamp": "1456821314"}"#,
        ),
        (
            "dynamoDB",
            r#"{"hashKeyField": "key", "roleArn": "arn:aws:iam::123456789012:role/aws_iam_dynamoDB",
            "tableName": "my_ddb_table", "hashKeyValue": "${topic()}", "rangeKeyValue": "${timestamp()}",
            "rangeKeyField": "timestamp"}"#,
        ),
        (
            "elasticsearch",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iot_es", "endpoint": "https://my-endpoint",
            "index": "my-index", "type": "my-type", "id": "${newuuid()}"}"#,
        ),
        (
            "kinesis",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iot_kinesis", "streamName": "my_kinesis_stream",
            "partitionKey": "${topic()}"}"#,
        ),
        (
            "s3",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iam_s3", "bucketName": "my-bucket",
            "key": "${topic()}/${timestamp()}"}"#,
        ),
        (
            "sns",
            r#"{"targetArn": "arn:aws:sns:us-east-1:123456789012:my_sns_topic",
            "roleArn": "arn:aws:iam::123456789012:role/aws_iam_sns"}"#,
        ),
        (
            "firehose",
            r#"{"roleArn": "arn:aws:iam::123456789012:role/aws_iot_firehose",
            "deliveryStreamName": "my_firehose_stream"}"#,
        ),
        (
            "sqs",
            r#"{"queueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/my_sqs_queue",
            "roleArn": "arn:aws:iam::123456789012:role/aws_iot_sqs", "useBase64": false}"#,
        ),
    ] {
        let found = problems(&rule_with(&format!("{{\"{name}\": {settings}}}")));
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        assert!(
            found[0].contains(&format!("the action {name} needs a service of AWS")),
            "{found:#?}"
        );
        let wrong = problems(&rule_with(&format!(
            "{{\"{name}\": {{\"rolearn\": \"x\"}}}}"
        )));
        assert!(
            wrong.iter().any(|p| p.contains("unknown key")),
            "{wrong:#?}"
        );
        assert!(
            wrong.iter().any(|p| p.contains("roleArn: is missing")),
            "{wrong:#?}"
        );
    }
}

#[test]
fn a_rule_has_ten_actions_and_a_quarter_of_a_megabyte() {
    let republish = r#"{"republish": {"topic": "t"}}"#;
    let ten = [republish; 10].join(",");
    assert!(parse_rule("r", "f", &rule_with(&ten)).is_ok());
    let eleven = [republish; 11].join(",");
    let found = problems(&rule_with(&eleven));
    assert!(found[0].contains("at most 10 actions"), "{found:#?}");
    let long = format!("{}{}", rule_with(republish), " ".repeat(256 * 1024));
    assert!(problems(&long)[0].contains("at most 262144 bytes"));
}

#[test]
fn what_the_gateway_is_not_configured_for_is_refused_where_it_stands() {
    let rules = vec![
        parse_rule(
            "r",
            "rules.d/r.json",
            &rule_with(r#"{"exec": {"command": ["/bin/a"]}}, {"exec": {"command": ["/bin/b"]}}"#),
        )
        .unwrap(),
        parse_rule(
            "s",
            "rules.d/s.json",
            &rule_with(r#"{"upstream": {"route": "cloud/x"}}"#),
        )
        .unwrap(),
        parse_rule(
            "t",
            "rules.d/t.json",
            &rule_with(r#"{"republish": {"topic": "t"}}"#),
        )
        .unwrap(),
    ];
    let facilities = Facilities {
        exec_allow: vec!["/bin/b".into()],
        routes: ["cloud/y".to_owned()].into(),
    };
    let found: Vec<String> = check_rules(&rules, &facilities)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "rules.d/r.json:1:76: actions[0].exec.command: the configuration does not allow this program: rules.exec_allow names it not",
            "rules.d/s.json:1:76: actions[0].upstream.route: there is no outbound route of this name; there are: cloud/y",
        ]
    );
}
