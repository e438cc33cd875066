//! What a version 5 client asks of its session.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use iotedge_model::QoS;
use iotedge_ports::EndKind;
use support::{House, payloads};

#[test]
fn the_window_is_the_smaller_of_the_brokers_and_the_clients_on_each_connection() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), iotedge_broker::Limits::default());
    let client = house.client("c").persistent().receive_maximum(2).connect();
    client.subscribe("a", QoS::AtLeastOnce);
    for n in 1..=5 {
        house.publish("a", &n.to_string(), QoS::AtLeastOnce);
    }
    let got = client.receive(2);
    assert_eq!(payloads(&got), ["1", "2"]);
    assert!(client.drain().is_empty());
    client.disconnect(EndKind::Lost);
    let client = house.client("c").persistent().receive_maximum(1).connect();
    let mut order = Vec::new();
    for _ in 0..5 {
        let got = client.receive(1);
        order.extend(payloads(&got));
        assert!(client.drain().is_empty(), "one at a time");
        assert!(client.acknowledge(&got[0]));
    }
    assert_eq!(order, ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_will_waits_no_longer_than_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), iotedge_broker::Limits::default());
    let watcher = house.client("w").connect();
    watcher.subscribe("will", QoS::AtLeastOnce);
    // The session ends with the connection.
    let client = house.client("c").will("will", "gone").will_delay(100);
    let client = client.connect();
    client.disconnect(EndKind::Lost);
    assert_eq!(payloads(&watcher.receive(1)), ["gone"]);
    // The session ends before the delay does.
    let client = house.client("c").will("will", "gone").will_delay(100);
    let client = client.session_expiry(10).connect();
    client.disconnect(EndKind::ClientInitiatedWithWill);
    house.broker.tick();
    assert!(watcher.drain().is_empty(), "it waits");
    house
        .clock
        .0
        .fetch_add(10_000, std::sync::atomic::Ordering::Relaxed);
    house.broker.tick();
    assert_eq!(payloads(&watcher.receive(1)), ["gone"]);
}
