//! The broker's own counters.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use iotedge_broker::Limits;
use iotedge_model::{QoS, Topic};
use iotedge_ports::{BrokerPort, EndKind};
use support::{Client, House};

/// Values by topic behind `$SYS/broker/`.
fn values(client: &Client, retained: bool) -> BTreeMap<String, String> {
    let got = client.drain();
    got.iter()
        .map(|outgoing| {
            assert_eq!(outgoing.delivery.retain, retained);
            let message = &outgoing.delivery.message;
            let topic = message.topic.as_str().strip_prefix("$SYS/broker/").unwrap();
            let value = String::from_utf8(message.payload.to_vec()).unwrap();
            (topic.to_owned(), value)
        })
        .collect()
}

#[test]
fn a_new_subscriber_gets_all_counters_and_then_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let sleeper = house.client("sleeper").persistent().connect();
    sleeper.subscribe("queue", QoS::AtLeastOnce);
    sleeper.subscribe("$share/g/x", QoS::AtLeastOnce);
    sleeper.disconnect(EndKind::ClientInitiated);
    house.publish("queue", "12345", QoS::AtLeastOnce);
    house.pass(0);
    let watcher = house.client("w").persistent().connect();
    watcher.subscribe("$SYS/#", QoS::AtLeastOnce);
    let all = values(&watcher, true);
    assert_eq!(all.len(), 22 + 27, "{all:#?}");
    for (topic, value) in [
        ("version", concat!("iotedge ", env!("CARGO_PKG_VERSION"))),
        ("uptime", "0 seconds"),
        ("clients/connected", "0"),
        ("clients/disconnected", "1"),
        ("clients/total", "1"),
        ("clients/maximum", "1"),
        ("clients/expired", "0"),
        ("subscriptions/count", "2"),
        ("shared_subscriptions/count", "1"),
        ("retained messages/count", "0"),
        ("store/messages/count", "1"),
        ("store/messages/bytes", "74"),
        ("store/written/messages", "1"),
        ("load/messages/received/15min", "0.00"),
    ] {
        assert_eq!(all[topic], value, "{topic}");
    }
    house.pass(9_999);
    assert!(watcher.drain().is_empty(), "not yet");
    house.pass(1);
    let news = values(&watcher, false);
    assert_eq!(news["uptime"], "10 seconds");
    assert_eq!(news["clients/connected"], "1");
    assert_eq!(news["subscriptions/count"], "3");
    assert!(!news.contains_key("version") && !news.contains_key("clients/disconnected"));
    // The session of the sleeper ends.
    house.pass(3_600_000);
    let news = values(&watcher, false);
    assert_eq!(news["clients/expired"], "1");
    assert_eq!(news["store/messages/count"], "0");
}

#[test]
fn counters_are_never_on_disk_and_no_retained_messages_to_any_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        retained_max: 1,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits.clone());
    house.pass(0);
    let uptime = Topic::new("$SYS/broker/uptime").unwrap();
    assert!(house.broker.retained(&uptime).is_some());
    assert_eq!(house.broker.status().retained, 0);
    house.close();
    let house = House::open(dir.path(), limits);
    assert!(house.broker.retained(&uptime).is_none());
}

#[test]
fn no_interval_no_counters() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        sys_interval: Duration::ZERO,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let watcher = house.client("w").connect();
    watcher.subscribe("$SYS/#", QoS::AtMostOnce);
    house.pass(0);
    house.pass(60_000);
    assert!(watcher.drain().is_empty());
}
