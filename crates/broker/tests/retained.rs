//! Retained messages that expire.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::path::Path;

use iotedge_broker::Limits;
use iotedge_model::{QoS, Topic};
use iotedge_ports::BrokerPort;
use support::{House, message, payloads};

fn retain(house: &House, topic: &str, payload: &str, expiry: Option<u32>) {
    let mut message = message(topic, payload, QoS::AtLeastOnce);
    message.retain = true;
    message.expiry = expiry;
    house.publish_message(message);
}

/// What the file holds.
fn kept(dir: &Path) -> Vec<String> {
    let house = House::open_at(dir, 0);
    let client = house.client("late").connect();
    client.subscribe("#", QoS::AtMostOnce);
    let found = payloads(&client.drain());
    drop(client);
    house.close();
    found
}

#[test]
fn an_expired_retained_message_is_freed_though_nobody_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    retain(&house, "gone", "1", Some(10));
    retain(&house, "replaced", "2", Some(10));
    retain(&house, "replaced", "3", Some(60));
    retain(&house, "for ever", "4", None);
    assert_eq!(house.broker.status().retained, 3);
    house.pass(9_999);
    assert_eq!(house.broker.status().retained, 3);
    house.pass(1);
    assert_eq!(house.broker.status().retained, 2);
    house.close();
    // The clock of the next process is back at the beginning: only what is not there is missing.
    assert_eq!(kept(dir.path()), ["4", "3"]);
}

#[test]
fn nobody_gets_an_expired_retained_message_before_it_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    retain(&house, "gone", "1", Some(10));
    let past = std::sync::atomic::Ordering::Relaxed;
    house.clock.0.fetch_add(10_000, past);
    let client = house.client("late").persistent().connect();
    client.subscribe("gone", QoS::AtLeastOnce);
    assert!(client.drain().is_empty());
    assert!(
        house
            .broker
            .retained(&Topic::new("gone").unwrap())
            .is_none()
    );
}
