//! Shared subscriptions: each message to one member, and none lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod qos2;
mod queue;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod turns;

use iotedge_broker::Limits;
use iotedge_model::QoS;
use iotedge_ports::{OutgoingPublish, PublishOutcome};
use iotedge_store::{TakerInfo, TakerKind};
use support::*;

const TWO: QoS = QoS::ExactlyOnce;
const ONE: QoS = QoS::AtLeastOnce;
const ZERO: QoS = QoS::AtMostOnce;
const FILTER: &str = "$share/g/a/#";

fn house(limits: Limits) -> (tempfile::TempDir, House) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), limits);
    (dir, house)
}

/// The only group's queue.
fn queue(house: &House) -> Option<TakerInfo> {
    let mut takers = house.store.takers();
    takers.retain(|taker| taker.kind == TakerKind::Shared);
    assert!(takers.len() <= 1);
    takers.pop()
}

fn publish(house: &House, numbers: std::ops::Range<usize>, qos: QoS) -> Vec<PublishOutcome> {
    numbers
        .map(|n| house.publish("a/b", &n.to_string(), qos))
        .collect()
}

fn acknowledge(client: &Client, deliveries: &[OutgoingPublish]) {
    for outgoing in deliveries {
        assert!(client.acknowledge(outgoing));
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn committed(house: &House) {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    house.store.flush(Box::new(move |_| tell.send(()).unwrap()));
    told.recv().unwrap();
}
