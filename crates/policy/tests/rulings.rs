//! What the guides leave open and how it is decided; each test carries the id of its question.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use iotedge_model::ArnScope;
use iotedge_policy::{Case, CaseOutcome, PolicyDocument, PolicyError, Problem, lint};
use serde_json::{Value, json};

const A: &str = "arn:aws:iot:us-east-1:123456789012:";

fn scope() -> ArnScope {
    ArnScope {
        region: "us-east-1".into(),
        account_id: "123456789012".into(),
    }
}

/// `allow`, `deny` or `invalid` for these statements and this request.
fn verdict(statements: Value, request: Value) -> &'static str {
    let mut case = json!({
        "policies": [{"Version": "2012-10-17", "Statement": statements}],
        "client_id": "client1",
    });
    for (k, v) in request.as_object().unwrap() {
        case[k] = v.clone();
    }
    match Case::parse(&case.to_string())
        .unwrap()
        .run(&scope())
        .unwrap()
    {
        CaseOutcome::Allow(_) => "allow",
        CaseOutcome::Deny(_) => "deny",
        CaseOutcome::Invalid(..) => "invalid",
    }
}

fn allow(action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

fn publish(resource: &str) -> Value {
    json!({"action": "iot:Publish", "resource": resource})
}

fn subject(attribute: &str, values: &[&str], request: Value) -> Value {
    let mut request = request;
    request["principal"] = json!({"certificate": {"subject": {attribute: values}}});
    request
}

fn invalid(statement: Value) -> PolicyError {
    let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    PolicyDocument::parse(&text).unwrap_err()
}

#[test]
fn amb_policy_125_the_short_thing_name_is_an_alias() {
    let statements = json!([allow(
        "iot:Publish",
        &format!("{A}topic/my/topic/${{iot:Thing.ThingName}}")
    )]);
    let mut request = publish("my/topic/thing1");
    request["client_id"] = json!("thing1");
    request["principal"] = json!({"thing_name": "thing1"});
    assert_eq!(verdict(statements, request), "allow");
}

#[test]
fn amb_policy_126_a_thing_without_the_certificate_gives_no_name() {
    let statements = json!([allow(
        "iot:Connect",
        &format!("{A}client/${{iot:Connection.Thing.ThingName}}")
    )]);
    let request = |attached: bool| {
        json!({"action": "iot:Connect", "resource": "thing1", "client_id": "thing1",
               "principal": {"thing_name": "thing1", "is_attached": attached}})
    };
    assert_eq!(verdict(statements.clone(), request(false)), "deny");
    assert_eq!(verdict(statements, request(true)), "allow");
}

#[test]
fn amb_policy_127_an_unresolved_variable_fails_closed() {
    let name = "${iot:Connection.Thing.ThingName}";
    let deny = |key: &str| {
        json!([allow("iot:*", "*"),
               {"Effect": "Deny", "Action": "iot:*", key: format!("{A}topic/{name}/bar")}])
    };
    assert_eq!(verdict(deny("Resource"), publish("thing1/bar")), "deny");
    assert_eq!(verdict(deny("NotResource"), publish("thing1/bar")), "deny");
    // What no value of the variable could mean is not denied: the client still connects.
    let connect = json!({"action": "iot:Connect", "resource": "client1"});
    assert_eq!(verdict(deny("Resource"), connect), "allow");
    let not = json!([{"Effect": "Allow", "Action": "iot:Publish",
                      "NotResource": format!("{A}topic/{name}")}]);
    assert_eq!(
        verdict(not, publish("x")),
        "deny",
        "an Allow never rests on an unknown value"
    );
}

#[test]
fn an_unresolved_variable_in_a_condition_fails_closed() {
    let statement = |effect: &str, operator: &str| {
        json!({"Effect": effect, "Action": "iot:Publish", "Resource": "*",
               "Condition": {operator: {"iot:ClientId": "${iot:NoSuchVariable}"}}})
    };
    for operator in ["StringEquals", "StringNotEquals", "StringLike"] {
        let allow_only = json!([statement("Allow", operator)]);
        assert_eq!(verdict(allow_only, publish("x")), "deny", "{operator}");
        let deny = json!([allow("iot:*", "*"), statement("Deny", operator)]);
        assert_eq!(verdict(deny, publish("x")), "deny", "{operator}");
    }
}

#[test]
fn amb_policy_128_129_an_index_of_one_is_the_second_value() {
    let statements = json!([allow(
        "iot:Publish",
        &format!("{A}topic/c/${{iot:Certificate.Subject.Country.1}}")
    )]);
    let two = |topic| subject("Country", &["DE", "FR"], publish(topic));
    assert_eq!(verdict(statements.clone(), two("c/FR")), "allow");
    assert_eq!(verdict(statements, two("c/DE")), "deny");
    let admin = json!([{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
        "Condition": {"StringEquals": {"iot:Certificate.Subject.CommonName.2": "Administrator"}}}]);
    let names = |n: &[&str]| subject("CommonName", n, publish("admin/x"));
    assert_eq!(
        verdict(admin.clone(), names(&["a", "Administrator"])),
        "deny"
    );
    assert_eq!(verdict(admin, names(&["a", "b", "Administrator"])), "allow");
}

#[test]
fn amb_policy_130_131_for_all_values_means_every_value_and_holds_for_none() {
    let statements = json!([{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
        "Condition": {"ForAllValues:StringEquals":
            {"iot:Certificate.Subject.Organization.List": ["Example Corp", "AnyCompany"]}}}]);
    let with = |v: &[&str]| subject("Organization", v, publish("my/topic/client1"));
    assert_eq!(
        verdict(statements.clone(), with(&["Example Corp", "Other"])),
        "deny"
    );
    assert_eq!(verdict(statements.clone(), with(&[])), "allow");
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let remarks = lint(&PolicyDocument::parse(&text).unwrap());
    assert!(
        remarks.iter().any(|r| r.contains("no value at all")),
        "{remarks:?}"
    );
}

#[test]
fn amb_policy_132_certificate_values_are_put_in_as_they_are() {
    let statements = json!([allow(
        "iot:Publish",
        &format!("{A}topic/${{iot:Certificate.Subject.CommonName}}")
    )]);
    let request = subject("CommonName", &["a=b"], publish("a=b"));
    assert_eq!(verdict(statements, request), "allow");
}

#[test]
fn a_certificate_value_of_more_than_1024_characters_is_not_put_in() {
    let statements = json!([allow(
        "iot:Publish",
        &format!("{A}topic/${{iot:Certificate.Subject.CommonName}}")
    )]);
    let long = "é".repeat(1025);
    let request = subject("CommonName", &[&long], publish(&long));
    assert_eq!(verdict(statements, request), "deny");
}

#[test]
fn amb_policy_133_a_star_in_the_client_id_is_no_wildcard() {
    let statements = json!([allow(
        "iot:Publish",
        &format!("{A}topic/${{iot:ClientId}}/x")
    )]);
    for client in ["*", "?ictim", "v*"] {
        let mut request = publish("victim/x");
        request["client_id"] = json!(client);
        assert_eq!(verdict(statements.clone(), request), "deny", "{client}");
        let mut request = publish(&format!("{client}/x"));
        request["client_id"] = json!(client);
        assert_eq!(verdict(statements.clone(), request), "allow", "{client}");
    }
}

#[test]
fn amb_policy_134_escapes_are_literal() {
    for (escape, character) in [("${*}", "*"), ("${?}", "?"), ("${$}", "$")] {
        let statements = json!([allow("iot:Publish", &format!("{A}topic/a{escape}b"))]);
        assert_eq!(
            verdict(statements.clone(), publish(&format!("a{character}b"))),
            "allow"
        );
        assert_eq!(verdict(statements, publish("axb")), "deny");
    }
}

#[test]
fn amb_policy_135_actions_have_no_letter_case_and_take_wildcards() {
    for action in [
        "iot:publish",
        "IOT:PUBLISH",
        "iot:Pub*",
        "iot:?ublish",
        "iot:*",
        "*",
    ] {
        assert_eq!(
            verdict(json!([allow(action, "*")]), publish("x")),
            "allow",
            "{action}"
        );
    }
    let get = json!({"action": "iot:GetThingShadow", "resource": "lamp"});
    assert_eq!(verdict(json!([allow("iot:Get*", "*")]), get), "allow");
    assert_eq!(
        verdict(json!([allow("iot:Get*", "*")]), publish("x")),
        "deny"
    );
}

#[test]
fn amb_policy_136_139_subscribe_and_receive_have_their_own_resources() {
    let both = |kind: &str| {
        json!([{"Effect": "Allow", "Action": ["iot:Subscribe", "iot:Receive"],
                "Resource": format!("{A}{kind}/$aws/things/t/shadow/update/accepted")}])
    };
    let topic = "$aws/things/t/shadow/update/accepted";
    let receive = json!({"action": "iot:Receive", "resource": topic});
    let subscribe = json!({"action": "iot:Subscribe", "resource": topic});
    assert_eq!(verdict(both("topicfilter"), receive.clone()), "deny");
    assert_eq!(verdict(both("topicfilter"), subscribe.clone()), "allow");
    assert_eq!(verdict(both("topic"), receive), "allow");
    assert_eq!(verdict(both("topic"), subscribe), "deny");
}

#[test]
fn amb_policy_137_138_shadow_actions_are_about_the_thing_and_the_shadow() {
    let list = json!({"action": "iot:ListNamedShadowsForThing", "resource": "lamp"});
    let thing = format!("{A}thing/lamp");
    assert_eq!(
        verdict(json!([allow("iot:ListNamedShadowsForThing", &thing)]), list),
        "allow"
    );
    let named = json!({"action": "iot:GetThingShadow", "resource": "lamp/cfg"});
    assert_eq!(
        verdict(json!([allow("iot:GetThingShadow", &thing)]), named.clone()),
        "deny"
    );
    let shadow = format!("{A}thing/lamp/cfg");
    assert_eq!(
        verdict(json!([allow("iot:GetThingShadow", &shadow)]), named),
        "allow"
    );
}

#[test]
fn amb_policy_140_publish_does_not_ask_for_connect() {
    let statements = json!([allow("iot:Publish", &format!("{A}topic/a"))]);
    assert_eq!(verdict(statements, publish("a")), "allow");
}

#[test]
fn listing_retained_messages_is_allowed_by_a_star_only() {
    let list = json!({"action": "iot:ListRetainedMessages", "resource": "*"});
    assert_eq!(
        verdict(
            json!([allow("iot:ListRetainedMessages", "*")]),
            list.clone()
        ),
        "allow"
    );
    let topics = format!("{A}topic/*");
    assert_eq!(
        verdict(json!([allow("iot:ListRetainedMessages", &topics)]), list),
        "deny"
    );
}

#[test]
fn a_star_for_the_region_does_not_reach_into_the_topic() {
    let statements = json!([allow("iot:Publish", "arn:aws:iot:*:*:topic/a")]);
    assert_eq!(verdict(statements.clone(), publish("a")), "allow");
    assert_eq!(verdict(statements, publish("x:y:topic/a")), "deny");
    for open in ["arn:aws:iot:*", "arn:*", "arn:aws:iot:us-east-1:*"] {
        assert_eq!(
            verdict(json!([allow("iot:Publish", open)]), publish("a")),
            "allow",
            "{open}"
        );
    }
    for wrong in [
        "arn:aws:iot:us-east-1:topic/a",
        "arn:aws:s3:::a",
        "a*",
        "arn:aws:iot",
    ] {
        assert_eq!(
            verdict(json!([allow("iot:Publish", wrong)]), publish("a")),
            "invalid",
            "{wrong}"
        );
    }
}

#[test]
fn not_action_is_everything_else() {
    let statements = json!([{"Effect": "Allow", "NotAction": "iot:Publish", "Resource": "*"}]);
    assert_eq!(verdict(statements.clone(), publish("x")), "deny");
    let subscribe = json!({"action": "iot:Subscribe", "resource": "x"});
    assert_eq!(verdict(statements, subscribe), "allow");
}

#[test]
fn conditions_on_keys_without_a_value_follow_iam() {
    let key = "iot:Connection.Thing.ThingTypeName";
    let holds = |operator: &str, value: &str| {
        let statements = json!([{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
                                 "Condition": {operator: {key: value}}}]);
        verdict(statements, publish("x")) == "allow"
    };
    assert!(!holds("StringEquals", "x"));
    assert!(holds("StringNotEquals", "x"));
    assert!(holds("StringEqualsIfExists", "x"));
    assert!(holds("ForAllValues:StringEquals", "x"));
    assert!(!holds("ForAnyValue:StringNotEquals", "x"));
    assert!(holds("Null", "true"));
    assert!(!holds("Null", "false"));
}

#[test]
fn comparisons_compare() {
    let holds = |operator: &str, value: Value, attribute: &str| {
        let statements = json!([{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*",
            "Condition": {operator: {"iot:Connection.Thing.Attributes[n]": value}}}]);
        let mut request = publish("x");
        request["principal"] = json!({"thing_name": "client1", "attributes": {"n": attribute}});
        verdict(statements, request) == "allow"
    };
    assert!(holds("NumericLessThan", json!(10), "9.5"));
    assert!(!holds("NumericLessThan", json!("10"), "10"));
    assert!(holds("NumericLessThanEquals", json!("10"), "1e1"));
    assert!(holds("NumericNotEquals", json!("10"), "11"));
    assert!(!holds("NumericEquals", json!("10"), "ten"));
    assert!(holds(
        "DateGreaterThan",
        json!("2026-01-01"),
        "2026-01-01T00:00:01Z"
    ));
    assert!(holds("StringLike", json!(["a*", "b?"]), "bx"));
    assert!(!holds("StringEquals", json!("a*"), "ab"));
    assert!(holds("StringEqualsIgnoreCase", json!("ÄB"), "äb"));
    assert!(holds("Bool", json!(true), "TRUE"));
    assert!(holds("StringEquals", json!("${iot:ClientId}"), "client1"));
}

#[test]
fn a_star_in_an_arn_condition_stays_in_its_part() {
    let will = |pattern: &str, topic: &str| {
        let statements = json!([{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*",
                                 "Condition": {"ArnLike": {"iot:LastWillTopic": pattern}}}]);
        verdict(
            statements,
            json!({"action": "iot:Connect", "resource": "client1",
                                   "last_will_topic": topic}),
        )
    };
    assert_eq!(will("arn:aws:iot:*:*:topic/a*", "a/b:c"), "allow");
    assert_eq!(
        will(
            "arn:*:iot:us-east-1:123456789012:topic/${iot:ClientId}",
            "client1"
        ),
        "allow"
    );
    assert_eq!(will("arn:*:topic:a:b:c", "a"), "deny");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert_eq!(
        PolicyDocument::parse("{\n  \"Version\" \"2012-10-17\"}")
            .unwrap_err()
            .to_string(),
        "line 2, column 13: expected `:`"
    );
    let statement = json!({"Effect": "Allow", "Action": "iot:Publish"});
    assert_eq!(
        invalid(statement).to_string(),
        "statement 1: Resource: is missing"
    );
    let statement = json!({"Effect": "Allow", "Action": "iot:Publish", "Resource": "topic/a"});
    assert!(matches!(
        invalid(statement),
        PolicyError::Statement {
            statement: 1,
            problem: Problem::Resource { .. },
            ..
        }
    ));
    let statement = json!({"Effect": "Allow", "Action": "iot:Pubish", "Resource": "*"});
    assert!(invalid(statement).to_string().contains("iot:Pubish"));
    let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Resources": "*"});
    assert!(
        invalid(statement)
            .to_string()
            .starts_with("statement 1: Resources: is not known")
    );
    let statement = json!({"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"});
    assert!(invalid(statement).to_string().contains("beside Action"));
    let statement = json!({"Effect": "Deny", "Action": "*", "Resource": "*",
                           "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}});
    assert!(
        invalid(statement)
            .to_string()
            .contains("Condition.IpAddress.aws:SourceIp")
    );
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let error = PolicyDocument::parse(text).unwrap_err();
    assert!(
        error.to_string().contains("\"Effect\" stands there twice"),
        "{error}"
    );
}

#[test]
fn the_explanation_names_the_statement_and_fills_in_variables() {
    let case = json!({
        "policies": [{"Version": "2012-10-17", "Statement": [
            {"Sid": "Own", "Effect": "Allow", "Action": "iot:Publish",
             "Resource": format!("{A}topic/dev/${{iot:ClientId}}/*")},
            {"Effect": "Deny", "Action": "iot:Publish", "Resource": format!("{A}topic/dev/c7/secret")}]}],
        "principal": {"certificate_id": "abc"}, "client_id": "c7",
        "action": "iot:Publish", "resource": "dev/c7/secret",
    });
    let outcome = Case::parse(&case.to_string())
        .unwrap()
        .run(&scope())
        .unwrap();
    let CaseOutcome::Deny(why) = outcome else {
        panic!("{outcome:?}");
    };
    for part in [
        "principal  abc",
        "client id  c7",
        "action     iot:Publish",
        "resource   arn:aws:iot:us-east-1:123456789012:topic/dev/c7/secret",
        "statement 1 Allow Own: matches",
        "topic/dev/c7/*",
        "verdict    deny, by statement 2 of policy 1",
    ] {
        assert!(why.contains(part), "{part} in\n{why}");
    }
}
