//! What AWS IoT Core does otherwise than the standard, each switched on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use iotedge_broker::Limits;
use iotedge_model::{Message, QoS};
use iotedge_ports::{EndKind, PublishOutcome};
use support::*;

const ONE: QoS = QoS::AtLeastOnce;

fn retained(topic: &str, payload: &str) -> Message {
    Message {
        retain: true,
        ..message(topic, payload, QoS::AtMostOnce)
    }
}

#[test]
fn a_wildcard_matches_the_parent_or_not() {
    for matches in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            wildcards_match_parent: matches,
            ..Limits::default()
        };
        let house = House::open(dir.path(), limits);
        let client = house.client("c").connect();
        client.subscribe("sensor/#", QoS::AtMostOnce);
        for topic in ["sensor", "sensor/", "sensor/temperature/room1"] {
            let outcome = house.publish(topic, topic, QoS::AtMostOnce);
            let matched = matches || topic != "sensor";
            assert_eq!(outcome, PublishOutcome::Done { matched }, "{topic}");
        }
    }
}

#[test]
fn a_wildcard_brings_retained_messages_or_not() {
    for brings in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            retained_to_wildcards: brings,
            ..Limits::default()
        };
        let house = House::open(dir.path(), limits);
        house.publish_message(retained("a/b", "kept"));
        let client = house.client("c").connect();
        client.subscribe("a/+", QoS::AtMostOnce);
        house.publish("a/b", "new", QoS::AtMostOnce);
        let expected: &[&str] = if brings { &["kept", "new"] } else { &["new"] };
        assert_eq!(payloads(&client.receive(expected.len())), expected);
        // The topic itself brings its message either way.
        let client = house.client("d").connect();
        client.subscribe("a/b", QoS::AtMostOnce);
        assert_eq!(payloads(&client.receive(1)), ["kept"]);
    }
}

#[test]
fn a_session_is_resumed_by_another_version_or_not() {
    for resumes in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            resume_across_versions: resumes,
            ..Limits::default()
        };
        let house = House::open(dir.path(), limits);
        let client = house.client("c").persistent().connect();
        client.subscribe("a", ONE);
        client.disconnect(EndKind::Lost);
        let client = house.client("c").persistent().connect();
        assert!(client.connected.session_present, "the same version");
        client.disconnect(EndKind::Lost);
        let client = house.client("c").persistent().version5().connect();
        assert_eq!(client.connected.session_present, resumes);
    }
}
