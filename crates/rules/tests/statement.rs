//! What the statement of a rule learns of the message and of the gateway.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{
    CertificateId, Message, Now, Properties, QoS, Source, Topic, UnixMillis, UserProperty,
};
use iotedge_ports::{RuleEngine as _, RuleOutput, ThingFacts, ThingRecord};
use iotedge_rules::{Engine, parse_rule};

struct Things;

impl ThingFacts for Things {
    fn thing(&self, name: &str) -> Option<Arc<ThingRecord>> {
        (name == "lamp").then(|| {
            Arc::new(ThingRecord {
                thing_type: Some("light".into()),
                attributes: vec![("room".into(), "hall".into())],
                ..ThingRecord::default()
            })
        })
    }
    fn is_attached(&self, _: &str, _: &CertificateId) -> bool {
        false
    }
}

fn outcome(sql: &str, topic: &str, change: impl FnOnce(&mut Message)) -> Vec<(String, String)> {
    let engine = Engine::new("0", None).with_things(Arc::new(Things));
    let text = format!(
        r#"{{"awsIotSqlVersion": "2016-03-23", "sql": {sql:?}, "actions": [{{"republish": {{"topic": "{topic}"}}}}]}}"#
    );
    engine.replace(vec![parse_rule("r", "f", &text).unwrap()]);
    let payload = Bytes::from_static(br#"{"t": 4}"#);
    let mut message = Message::internal("test", Topic::new("a").unwrap(), payload, QoS::AtMostOnce);
    message.source = Source::Mqtt;
    change(&mut message);
    let mut out = RuleOutput::default();
    let now = Now {
        mono: 0,
        wall: UnixMillis(1),
        trusted: true,
    };
    engine.evaluate(&message, &now, &mut out);
    out.published
        .iter()
        .map(|m| {
            assert_eq!(m.source_ip, message.source_ip, "a republication keeps it");
            let payload = String::from_utf8(m.payload.to_vec()).unwrap();
            (m.topic.as_str().to_owned(), payload)
        })
        .collect()
}

fn one(sql: &str, change: impl FnOnce(&mut Message)) -> String {
    let mut out = outcome(sql, "out", change);
    assert_eq!(out.len(), 1);
    out.remove(0).1
}

#[test]
fn the_properties_of_mqtt_5_and_the_address_are_known() {
    let sql = "SELECT get_mqtt_property('content_type') AS c, get_user_properties('k') AS k, \
        sourceip() AS ip FROM 'a'";
    let out = one(sql, |message| {
        message.source_ip = Some("192.0.2.1".parse().unwrap());
        message.properties = Some(Box::new(Properties {
            content_type: Some("x/y".into()),
            user: vec![UserProperty {
                name: "k".into(),
                value: "v".into(),
            }],
            ..Properties::default()
        }));
    });
    assert_eq!(out, r#"{"c":"x/y","k":["v"],"ip":"192.0.2.1"}"#);
    assert_eq!(one(sql, |_| ()), r#"{"ip":"n/a"}"#);
}

#[test]
fn the_registry_answers_describe_thing() {
    let out = one(
        "SELECT get_registry_data('DescribeThing', 'lamp', 'arn') AS d FROM 'a'",
        |_| (),
    );
    assert_eq!(
        out,
        r#"{"d":{"defaultClientId":"lamp","thingName":"lamp","attributes":{"room":"hall"},"thingTypeName":"light"}}"#
    );
}

#[test]
fn a_template_has_the_value_that_the_statement_had() {
    let out = outcome(
        "SET @id = newuuid(), @c = t * 2 SELECT @id AS id FROM 'a'",
        "t/${@c}/${@id}",
        |_| (),
    );
    let [(topic, payload)] = out.as_slice() else {
        panic!("{out:?}");
    };
    let id = topic.strip_prefix("t/8/").unwrap();
    assert_eq!(*payload, format!(r#"{{"id":"{id}"}}"#));
}

#[test]
fn a_template_with_an_unknown_variable_is_refused_where_it_stands() {
    let text = r#"{"sql": "SET @a = 1 SELECT @a AS a FROM 'a'",
        "actions": [{"republish": {"topic": "t/${@a}"}}, {"republish": {"topic": "t/${@b}"}}]}"#;
    let errors = parse_rule("r", "f", text).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["f:2:82: actions[1].republish.topic: uses @b, which the statement does not SET"]
    );
}
