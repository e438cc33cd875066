//! What the rules in force do with a message.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{
    CertificateId, Message, MessageId, Now, Principal, QoS, Source, Topic, TraceId, UnixMillis,
};
use iotedge_ports::{RuleEngine, RuleOutput};
use iotedge_rules::{
    Engine, Rule, RuleCounts, RuleTest, RuleTestError, RuleTestOutcome, parse_rule, rule_test,
};

const NOW: Now = Now {
    mono: 5,
    wall: UnixMillis(1_700_000_000_123),
    trusted: true,
};

fn rule(name: &str, sql: &str, rest: &str) -> Rule {
    let text = format!(r#"{{"awsIotSqlVersion": "2016-03-23", "sql": {sql:?}, {rest}}}"#);
    parse_rule(name, "f", &text).unwrap_or_else(|e| panic!("{e:?}"))
}

fn republish(topic: &str) -> String {
    format!(r#""actions": [{{"republish": {{"topic": "{topic}", "qos": 1}}}}]"#)
}

fn message(topic: &str, payload: &str) -> Message {
    Message {
        id: MessageId(9),
        trace: TraceId(77),
        hops: 1,
        principal: Arc::new(Principal::certificate(CertificateId::from_digest(&[7; 32]))),
        client_id: "client-1".into(),
        source_ip: None,
        source: Source::Mqtt,
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: true,
        accepted_at: UnixMillis(3),
        trusted: true,
        expiry: Some(10),
        properties: None,
    }
}

fn run(engine: &Engine, message: &Message) -> Vec<Message> {
    let mut out = RuleOutput::default();
    engine.evaluate(message, &NOW, &mut out);
    assert!(out.handed.is_empty());
    out.published
}

fn counts(engine: &Engine, name: &str) -> RuleCounts {
    let rules = engine.rules();
    rules.iter().find(|r| &**r.name() == name).unwrap().counts()
}

#[test]
fn a_republished_message_carries_its_origin() {
    let engine = Engine::new("000000000000", None);
    engine.replace(vec![rule(
        "enrich",
        "SELECT *, topic(2) AS device, timestamp() AS at, clientid() AS who FROM 'sensors/+/t' WHERE v > 1",
        &republish("out/${topic(2)}"),
    )]);
    let source = message("sensors/s1/t", r#"{"v":2.50}"#);
    let out = run(&engine, &source);
    let derived = Message {
        id: MessageId(0),
        hops: 2,
        source: Source::Rule {
            name: "enrich".into(),
        },
        topic: Topic::new("out/s1").unwrap(),
        payload: Bytes::from_static(
            br#"{"v":2.50,"device":"s1","at":1700000000123,"who":"client-1"}"#,
        ),
        qos: QoS::AtLeastOnce,
        retain: false,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: None,
        ..source.clone()
    };
    assert_eq!(out, [derived]);
    assert!(run(&engine, &message("sensors/s1/t", r#"{"v":1}"#)).is_empty());
    assert!(run(&engine, &message("sensors/s1", r#"{"v":2}"#)).is_empty());
    assert_eq!(
        counts(&engine, "enrich"),
        RuleCounts {
            topic_matched: 2,
            executed: 1,
            succeeded: 1,
            ..RuleCounts::default()
        }
    );
}

#[test]
fn select_star_passes_the_very_bytes_on() {
    let engine = Engine::new("0", None);
    engine.replace(vec![rule("raw", "SELECT * FROM '#'", &republish("copy"))]);
    let source = message("a", "\u{0}not json { \"v\" : 1.0 }");
    let out = run(&engine, &source);
    assert_eq!(out[0].payload, source.payload);
}

#[test]
fn a_failing_rule_is_counted_and_stops_no_other() {
    let engine = Engine::new("0", None);
    engine.replace(vec![
        rule("bad_sql", "SELECT *, 1 AS x FROM 'a'", &republish("t")),
        rule("bad_topic", "SELECT * FROM 'a'", &republish("t/${'+'}")),
        rule("empty_topic", "SELECT * FROM 'a'", &republish("${missing}")),
        rule(
            "reserved",
            "SELECT * FROM 'a'",
            &republish("$$aws/${'events'}/x"),
        ),
        rule("good", "SELECT * FROM 'a'", &republish("t")),
    ]);
    let out = run(&engine, &message("a", "no json"));
    let names: Vec<String> = out.iter().map(|m| m.source.to_column()).collect();
    assert_eq!(names, ["rule:good"]);
    assert_eq!(counts(&engine, "bad_sql").failed_sql, 1);
    for name in ["bad_topic", "empty_topic", "reserved"] {
        assert_eq!(counts(&engine, name).failed_topic, 1, "{name}");
        assert_eq!(counts(&engine, name).succeeded, 0, "{name}");
    }
}

#[test]
fn the_error_action_says_what_failed() {
    let engine = Engine::new("0", None);
    let rest = format!(
        r#"{}, "errorAction": {{"republish": {{"topic": "errors/${{topic()}}"}}}}"#,
        republish("t/${'#'}")
    );
    engine.replace(vec![rule("r", "SELECT * FROM 'a/b'", &rest)]);
    let out = run(&engine, &message("a/b", "{}"));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].topic.as_str(), "errors/a/b");
    let text = std::str::from_utf8(&out[0].payload).unwrap();
    for part in [
        r#""ruleName":"r""#,
        r#""base64OriginalPayload":"e30=""#,
        r##""failedResource":"t/#""##,
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn shadow_topics_can_be_republished_to() {
    let engine = Engine::new("0", None);
    engine.replace(vec![rule(
        "lwt",
        "SELECT state.x AS state.reported.x FROM 'lwt/+'",
        &republish("$$aws/things/${topic(2)}/shadow/update"),
    )]);
    let out = run(&engine, &message("lwt/lamp", r#"{"state":{"x":1}}"#));
    assert_eq!(out[0].topic.as_str(), "$aws/things/lamp/shadow/update");
    assert_eq!(out[0].payload, r#"{"state":{"reported":{"x":1}}}"#);
}

#[test]
fn a_replacement_is_whole_and_keeps_counters() {
    let engine = Engine::new("0", None);
    let first = engine.replace(vec![
        rule("a", "SELECT * FROM 'x'", &republish("a")),
        rule("b", "SELECT * FROM 'x'", &republish("b")),
    ]);
    assert_eq!(first.added.len(), 2);
    run(&engine, &message("x", "{}"));
    let second = engine.replace(vec![
        rule("a", "SELECT * FROM 'y'", &republish("a")),
        rule(
            "c",
            "SELECT * FROM 'x'",
            &format!("\"ruleDisabled\": true, {}", republish("c")),
        ),
    ]);
    assert_eq!(second.added, ["c".into()]);
    assert_eq!(second.changed, ["a".into()]);
    assert_eq!(second.removed, ["b".into()]);
    assert!(run(&engine, &message("x", "{}")).is_empty());
    assert_eq!(run(&engine, &message("y", "{}")).len(), 1);
    assert_eq!(counts(&engine, "a").executed, 2);
}

#[test]
fn a_message_for_one_rule_reaches_it_alone() {
    let engine = Engine::new("0", None);
    engine.replace(vec![
        rule("all", "SELECT * FROM '#'", &republish("all")),
        rule("one", "SELECT topic() AS t", &republish("one")),
        rule("two", "SELECT topic() AS t FROM 'x/#'", &republish("two")),
    ]);
    let out = run(&engine, &message("$aws/rules/one/x/y", "{}"));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].payload, r#"{"t":"x/y"}"#);
    assert_eq!(run(&engine, &message("$aws/rules/two/x/y", "{}")).len(), 1);
    assert!(run(&engine, &message("$aws/rules/two/y", "{}")).is_empty());
}

#[test]
fn rule_test_answers_as_the_command_prints() {
    let test = RuleTest {
        sql: "SELECT v + 1 AS v, accountid() AS a FROM 'a/+' WHERE v > 0",
        sql_version: Some("2016-03-23"),
        topic: "a/b",
        payload: Bytes::from_static(b"{\"v\":1}"),
        context: Some(r#"{"account_id": "123456789012"}"#),
        ..RuleTest::default()
    };
    let output = |text: &str| RuleTestOutcome::Output(Bytes::copy_from_slice(text.as_bytes()));
    assert_eq!(
        rule_test(&test).unwrap(),
        output(r#"{"v":2,"a":"123456789012"}"#)
    );
    let template = RuleTest {
        template: Some("t/${topic(2)}"),
        ..test.clone()
    };
    assert_eq!(rule_test(&template).unwrap(), output("t/b"));
    let other = RuleTest {
        topic: "b",
        ..test.clone()
    };
    assert_eq!(rule_test(&other).unwrap(), RuleTestOutcome::NoMatch);
    for (broken, expected) in [
        (
            RuleTest {
                sql: "SELECT",
                ..test.clone()
            },
            "sql: column 7: expected an expression, found the end",
        ),
        (
            RuleTest {
                template: Some("${"),
                ..test.clone()
            },
            "template: column 3: expected an expression, found the end",
        ),
        (
            RuleTest {
                topic: "+",
                ..test.clone()
            },
            "topic: a topic name must not contain the wildcards '+' and '#'",
        ),
        (
            RuleTest {
                sql: "SELECT *, 1 AS a FROM 'a/b'",
                payload: Bytes::new(),
                ..test.clone()
            },
            "the payload is not a JSON object, so '*' cannot be combined with other items",
        ),
    ] {
        assert_eq!(rule_test(&broken).unwrap_err().to_string(), expected);
    }
    let context = RuleTest {
        context: Some("{\"vai\": 1}"),
        ..test
    };
    assert!(matches!(
        rule_test(&context),
        Err(RuleTestError::Context(_))
    ));
}

#[test]
fn a_thousand_other_rules_cost_a_message_little() {
    let hit = || {
        rule(
            "hit",
            "SELECT *, topic(2) AS d FROM 'sensors/+/t'",
            &republish("out/${topic(2)}"),
        )
    };
    let few = Engine::new("0", None);
    few.replace(vec![hit()]);
    let many = Engine::new("0", None);
    let others = (0..1000).map(|n| {
        let filter = match n % 3 {
            0 => format!("sensors/s{n}/t"),
            1 => format!("sensors/+/other{n}"),
            _ => format!("site{n}/#"),
        };
        rule(
            &format!("r{n}"),
            &format!("SELECT * FROM '{filter}'"),
            &republish("x"),
        )
    });
    many.replace(others.chain([hit()]).collect());
    let source = message("sensors/device/t", r#"{"v":1,"w":"x"}"#);
    let time = |engine: &Engine| {
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            assert_eq!(run(engine, &source).len(), 1);
        }
        begun.elapsed()
    };
    // The fastest of alternating rounds: what else the machine does can only slow a round down.
    let (mut one, mut thousand) = (time(&few), time(&many));
    for _ in 0..30 {
        one = one.min(time(&few));
        thousand = thousand.min(time(&many));
    }
    assert!(
        thousand.as_secs_f64() < 1.5 * one.as_secs_f64(),
        "{thousand:?} with a thousand other rules, {one:?} alone"
    );
    eprintln!(
        "{:?} alone, {:?} with a thousand other rules, for 200 messages",
        one, thousand
    );
}
