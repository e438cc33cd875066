//! Condition operators and keys beyond the vectors, as IAM's documentation has them.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use iotedge_model::ArnScope;
use iotedge_policy::{Case, CaseOutcome, PolicyDocument, lint_for};
use serde_json::{Value, json};

fn scope() -> ArnScope {
    ArnScope {
        region: "us-east-1".into(),
        account_id: "123456789012".into(),
    }
}

fn run(statements: Value, request: Value) -> CaseOutcome {
    let mut case = json!({
        "policies": [{"Version": "2012-10-17", "Statement": statements}],
        "client_id": "client1", "action": "iot:Publish", "resource": "x",
    });
    for (k, v) in request.as_object().unwrap() {
        case[k] = v.clone();
    }
    let case = Case::parse(&case.to_string()).unwrap();
    case.run(&scope()).unwrap()
}

/// Whether an Allow, and whether a Deny beside an Allow of everything, with this condition applies.
fn applies(condition: &Value, request: &Value) -> (bool, bool) {
    let statement = |effect: &str| json!({"Effect": effect, "Action": "iot:*", "Resource": "*", "Condition": condition});
    let everything = json!({"Effect": "Allow", "Action": "iot:*", "Resource": "*"});
    let allow = run(json!([statement("Allow")]), request.clone());
    let deny = run(json!([everything, statement("Deny")]), request.clone());
    (
        matches!(allow, CaseOutcome::Allow(_)),
        matches!(deny, CaseOutcome::Deny(_)),
    )
}

fn holds(condition: Value, request: Value) -> bool {
    let (allow, deny) = applies(&condition, &request);
    assert_eq!(allow, deny, "{condition} on {request}");
    allow
}

#[test]
fn several_operators_keys_and_values() {
    let from = |ip: &str| json!({"source_ip": ip});
    // Values of a key: any. Keys and operators: all.
    let both = json!({
        "IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]},
        "StringEquals": {"iot:ClientId": ["a", "client1"], "aws:sourceip": "192.0.2.7"},
    });
    assert!(holds(both.clone(), from("192.0.2.7")));
    assert!(!holds(both.clone(), from("192.0.2.8")));
    assert!(!holds(both, from("2001:db8::1")));
    // A negated operator with several values: none of them.
    let none = json!({"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "198.51.100.0/24"]}});
    assert!(holds(none.clone(), from("203.0.113.1")));
    assert!(!holds(none.clone(), from("198.51.100.1")));
    // An address without one matches what is negated, and nothing else.
    assert!(holds(none, json!({})));
    assert!(!holds(
        json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
        json!({})
    ));
    // IPv4 in IPv6's clothes is IPv4.
    let four = json!({"IpAddress": {"aws:SourceIp": "192.0.2.7"}});
    assert!(holds(four, from("::ffff:192.0.2.7")));
}

#[test]
fn if_exists_asks_only_where_there_is_a_value() {
    let thing = |n: &str| json!({"principal": {"thing_name": "client1", "attributes": {"n": n}}});
    let key = "iot:Connection.Thing.Attributes[n]";
    for (operator, value, with, without) in [
        ("StringEqualsIfExists", "1", true, true),
        ("StringEqualsIfExists", "2", false, true),
        ("StringNotEqualsIfExists", "1", false, true),
        ("NumericLessThanIfExists", "2", true, true),
        ("NumericLessThanIfExists", "1", false, true),
        ("BoolIfExists", "true", false, true),
        ("ForAllValues:StringEqualsIfExists", "1", true, true),
        ("ForAnyValue:StringLikeIfExists", "?", true, true),
        ("NumericNotEquals", "1", false, true),
        ("NumericNotEquals", "2", true, true),
        ("NumericEquals", "1.0", true, false),
        ("BinaryEquals", "MQ==", true, false),
        ("BinaryEquals", "Mg==", false, false),
        ("Null", "true", false, true),
        ("Null", "false", true, false),
    ] {
        let condition = json!({operator: {key: value}});
        assert_eq!(
            holds(condition.clone(), thing("1")),
            with,
            "{operator} {value}"
        );
        assert_eq!(
            holds(condition, json!({})),
            without,
            "{operator} {value} without"
        );
    }
}

#[test]
fn sets_are_compared_value_by_value() {
    let names =
        |n: &[&str]| json!({"principal": {"certificate": {"subject": {"Organization": n}}}});
    let key = "iot:Certificate.Subject.Organization.List";
    for (operator, values, has, expected) in [
        (
            "ForAllValues:StringEquals",
            vec!["a", "b"],
            vec!["a", "b"],
            true,
        ),
        (
            "ForAllValues:StringEquals",
            vec!["a", "b"],
            vec!["a", "c"],
            false,
        ),
        ("ForAllValues:StringEquals", vec!["a"], vec![], true),
        ("ForAllValues:StringEquals", vec![], vec!["a"], false),
        (
            "ForAllValues:StringNotEquals",
            vec!["a"],
            vec!["b", "c"],
            true,
        ),
        (
            "ForAllValues:StringNotEquals",
            vec!["a"],
            vec!["a", "c"],
            false,
        ),
        ("ForAnyValue:StringEquals", vec!["a"], vec!["b", "a"], true),
        ("ForAnyValue:StringEquals", vec!["a"], vec!["b"], false),
        ("ForAnyValue:StringEquals", vec!["a"], vec![], false),
        (
            "ForAnyValue:StringNotEquals",
            vec!["a"],
            vec!["a", "b"],
            true,
        ),
        ("ForAnyValue:StringNotEquals", vec!["a"], vec!["a"], false),
        ("ForAnyValue:StringLike", vec!["x*", "a?"], vec!["ab"], true),
        (
            "ForAnyValue:StringEqualsIgnoreCase",
            vec!["A"],
            vec!["a"],
            true,
        ),
        // Only the first five values count.
        (
            "ForAnyValue:StringEquals",
            vec!["6"],
            vec!["1", "2", "3", "4", "5", "6"],
            false,
        ),
        (
            "ForAnyValue:StringEquals",
            vec!["5"],
            vec!["1", "2", "3", "4", "5", "6"],
            true,
        ),
    ] {
        let condition = json!({operator: {key: values}});
        assert_eq!(
            holds(condition, names(&has)),
            expected,
            "{operator} {values:?} {has:?}"
        );
    }
}

#[test]
fn the_connections_own_facts_are_keys() {
    let tls = json!({"Bool": {"aws:SecureTransport": "true"}});
    assert!(holds(tls.clone(), json!({"secure_transport": true})));
    assert!(!holds(tls, json!({"secure_transport": false})));
    let name = json!({"StringLike": {"iot:DomainName": "*.example"}});
    assert!(holds(name.clone(), json!({"domain_name": "gw.example"})));
    assert!(!holds(name, json!({})));
    for (operator, value, expected) in [
        ("DateLessThan", "2026-06-01T00:00:00Z", true),
        ("DateGreaterThanEquals", "2026-05-31", true),
        ("DateGreaterThan", "2026-05-31T12:00:00Z", false),
        ("DateEquals", "1780228800", true),
        ("DateEquals", "2026-05-31T14:00:00+02:00", true),
        ("DateNotEquals", "2026-05-31T12:00:00Z", false),
    ] {
        let at = json!({"current_time": "2026-05-31T12:00:00Z"});
        for key in ["aws:CurrentTime", "aws:EpochTime", "AWS:currenttime"] {
            let condition = json!({operator: {key: value}});
            assert_eq!(
                holds(condition, at.clone()),
                expected,
                "{operator} {key} {value}"
            );
        }
    }
    let number = json!({"NumericLessThan": {"aws:EpochTime": "1780228801"}});
    assert!(holds(
        number,
        json!({"current_time": "2026-05-31T12:00:00Z"})
    ));
}

#[test]
fn a_time_that_nobody_knows_fails_closed() {
    for operator in [
        "DateLessThan",
        "DateGreaterThan",
        "DateNotEquals",
        "DateLessThanIfExists",
    ] {
        let condition = json!({operator: {"aws:CurrentTime": "2026-06-01T00:00:00Z"}});
        assert_eq!(applies(&condition, &json!({})), (false, true), "{operator}");
    }
}

#[test]
fn a_document_says_whether_it_asks_what_time_it_is() {
    let asks = |statement: Value| {
        let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
        PolicyDocument::parse(&text).unwrap().uses_time()
    };
    let with = |condition: Value| {
        asks(json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}))
    };
    assert!(with(
        json!({"DateLessThan": {"aws:CurrentTime": "2026-06-01"}})
    ));
    assert!(with(
        json!({"StringEquals": {"iot:ClientId": "${aws:EpochTime}"}})
    ));
    assert!(!with(json!({"StringEquals": {"iot:ClientId": "a"}})));
    let resource = "arn:aws:iot:us-east-1:123456789012:topic/${aws:CurrentTime}";
    assert!(asks(
        json!({"Effect": "Allow", "Action": "*", "Resource": resource})
    ));
}

#[test]
fn jobs_have_their_actions_on_things() {
    let thing = "arn:aws:iot:us-east-1:123456789012:thing/lamp";
    let ask = |action: &str, written: &str| {
        let statement = json!([{"Effect": "Allow", "Action": written, "Resource": thing}]);
        let outcome = run(statement, json!({"action": action, "resource": "lamp"}));
        matches!(outcome, CaseOutcome::Allow(_))
    };
    for name in [
        "DescribeJobExecution",
        "GetPendingJobExecutions",
        "StartNextPendingJobExecution",
        "UpdateJobExecution",
    ] {
        let action = format!("iot:{name}");
        assert!(ask(&action, &action));
        assert!(ask(&action, &format!("iotjobsdata:{name}")));
        assert!(ask(&action, "iot:*JobExecution*"));
        assert!(!ask(&action, "iot:Publish"));
        assert!(!ask("iot:GetThingShadow", &format!("iotjobsdata:{name}")));
    }
}

#[test]
fn not_resource_is_everything_else_of_any_type() {
    let not = |effect: &str, not: Value| {
        json!([{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": "*"},
               {"Effect": effect, "Action": "iot:*", "NotResource": not}])
    };
    let topics = json!([
        "arn:aws:iot:us-east-1:123456789012:topic/a",
        "arn:aws:iot:*:*:topic/b/*"
    ]);
    let publish = |topic: &str| json!({"resource": topic});
    let allowed = |effect: &str, topic: &str| {
        let outcome = run(not(effect, topics.clone()), publish(topic));
        matches!(outcome, CaseOutcome::Allow(_))
    };
    assert!(!allowed("Allow", "a") && !allowed("Allow", "b/x") && allowed("Allow", "b"));
    assert!(!allowed("Deny", "a"));
    let subscribe = json!({"action": "iot:Subscribe", "resource": "a"});
    let outcome = run(not("Deny", topics.clone()), subscribe);
    assert!(matches!(outcome, CaseOutcome::Deny(_)));
}

#[test]
fn question_marks_take_one_character_each() {
    let may = |pattern: &str, topic: &str| {
        let resource = format!("arn:aws:iot:us-east-1:123456789012:topic/{pattern}");
        let statement = json!([{"Effect": "Allow", "Action": "iot:Publish", "Resource": resource}]);
        matches!(
            run(statement, json!({"resource": topic})),
            CaseOutcome::Allow(_)
        )
    };
    for (pattern, topic, allowed) in [
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("a?c", "aéc", true),
        ("a?c", "a/c", true),
        ("*?b?*c", "xxaybzzc", true),
        ("*?b?*c", "bxc", false),
        ("*a?*?b*", "a12b", true),
        ("*a?*?b*", "a1b", false),
        ("?*", "", false),
        ("*??", "é/", true),
    ] {
        assert_eq!(may(pattern, topic), allowed, "{pattern} {topic}");
    }
}

#[test]
fn lint_knows_what_never_matches_and_what_opens_more_than_it_seems() {
    const A: &str = "arn:aws:iot:us-east-1:123456789012:";
    let remarks = |statements: Value| {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let document = PolicyDocument::parse(&text).unwrap();
        lint_for(&document, Some(&scope())).join("\n")
    };
    let allow = |action: &str, resource: &str| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let with = |condition: Value| json!({"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": condition});
    for (statements, words) in [
        (
            allow("iot:Publish", "arn:aws:iot:eu-west-1:123456789012:topic/a"),
            "region is \"us-east-1\"",
        ),
        (
            allow("iot:Publish", "arn:aws:iot:us-east-1:000000000000:topic/a"),
            "account is",
        ),
        (
            allow("iot:Publish", "arn:aws-cn:iot:*:*:topic/a"),
            "begin with arn:aws:iot:",
        ),
        (
            allow("iot:Publish", &format!("{A}topics/a")),
            "nothing is asked on \"topics\"",
        ),
        (allow("iot:Publish", &format!("{A}a")), "a type and a name"),
        (
            allow("iot:Subscribe", &format!("{A}topic/a")),
            "asked on a topicfilter ARN",
        ),
        (
            allow("iot:ListRetainedMessages", &format!("{A}topic/*")),
            "asked on \"*\" only",
        ),
        (
            allow("iot:Publish", &format!("{A}topic/a/#")),
            "ordinary characters",
        ),
        (allow("iot:CreateThing", "*"), "never asks for"),
        (
            allow("iot:Publish", &format!("{A}topic/a/*/b")),
            "is not one level",
        ),
        (
            allow("iot:Publish", &format!("{A}topic/dev1*")),
            "begins like its last level",
        ),
        (
            allow("iot:Publish", &format!("{A}topic/*")),
            "shadows of all other things",
        ),
        (allow("iot:Receive", "*"), "shadows of all other things"),
        (
            allow("iot:Subscribe", &format!("{A}topicfilter/*")),
            "'#' and '$aws/#'",
        ),
        (allow("*", "*"), "everything on everything"),
        (
            allow("iot:Subscribe", &format!("{A}topicfilter/a")),
            "iot:Receive nowhere",
        ),
        (
            allow("iot:RetainPublish", &format!("{A}topic/a")),
            "needs both",
        ),
        (
            json!([allow("iot:*", "*"), {"Effect": "Deny", "Action": "*", "Resource": "*"}]),
            "denies everything",
        ),
        (
            json!([
                allow("iot:Connect", "*"),
                allow("iot:Publish", &format!("{A}topic/${{iot:ClientId}}/x"))
            ]),
            "rests on ${iot:ClientId}",
        ),
        (
            json!({"Effect": "Allow", "NotAction": "iot:Publish", "Resource": "*"}),
            "every action but",
        ),
        (
            json!({"Effect": "Allow", "Action": "iot:Publish", "NotResource": "*"}),
            "leaves nothing",
        ),
        (
            json!({"Effect": "Allow", "Action": "iot:Publish", "NotResource": format!("{A}topic/a")}),
            "every resource but",
        ),
        (
            with(json!({"StringEquals": {"iot:ClientId": "a*"}})),
            "StringLike is the operator",
        ),
        (
            with(json!({"StringEquals": {"iot:ClientId": []}})),
            "never matches",
        ),
        (
            with(json!({"StringEquals": {"iot:NoSuchKey": "a"}})),
            "never known here",
        ),
        (
            with(json!({"StringEquals": {"iot:LastWillTopic": "a/b"}})),
            "is an ARN",
        ),
        (
            with(json!({"StringNotEquals": {"iot:Connection.Thing.ThingTypeName": "a"}})),
            "also holds where",
        ),
        (
            with(json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})),
            "takes every address",
        ),
        (
            json!({"Effect": "Allow", "Action": "iot:Publish", "Resource": format!("{A}topic/a"),
                "Condition": {"ForAnyValue:StringEquals": {"iot:ConnectAttributes": "LastWill"}}}),
            "when a client connects only",
        ),
    ] {
        let said = remarks(statements.clone());
        assert!(
            said.contains(words),
            "{words}\nis not in\n{said}\nof {statements}"
        );
    }
    let good = json!([
        allow("iot:Connect", &format!("{A}client/${{iot:Connection.Thing.ThingName}}")),
        {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
         "Resource": format!("{A}topic/site/${{iot:ClientId}}/*")},
        allow("iot:Subscribe", &format!("{A}topicfilter/site/${{iot:ClientId}}/*")),
        {"Effect": "Deny", "Action": "iot:Connect", "Resource": "*",
         "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    ]);
    assert_eq!(remarks(good), "");
}

#[test]
fn the_explanation_tells_of_variables_without_a_value_and_of_conditions() {
    let statements = json!([
        {"Effect": "Allow", "Action": "iot:Publish",
         "Resource": "arn:aws:iot:us-east-1:123456789012:topic/${iot:Connection.Thing.ThingName}"},
        {"Sid": "Night", "Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
         "Condition": {"StringEquals": {"iot:ClientId": ["client1", "c2"]},
                       "IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
    ]);
    let CaseOutcome::Deny(why) = run(statements, json!({"source_ip": "203.0.113.1"})) else {
        panic!("allowed");
    };
    for part in [
        "statement 1 Allow: no: the resource does not match",
        "topic/<no value>",
        "${iot:Connection.Thing.ThingName} has no value here, so this allows nothing",
        "statement 2 Allow Night: no: a condition fails",
        "condition holds: StringEquals [\"client1\", \"c2\"] on iot:ClientId, which is [\"client1\"]",
        "condition fails: IpAddress [\"192.0.2.0/24\"] on aws:SourceIp, which is [\"203.0.113.1\"]",
        "statement 3 Allow: no: the action is not one of [\"iot:Connect\"]",
        "verdict    deny, because no statement allows it",
    ] {
        assert!(why.contains(part), "{part}\nis not in\n{why}");
    }
}
