//! More requests than may be open: who is refused, how, and that it passes.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Protocol, ThingName, TraceId};
use iotedge_ports::Failure;
use iotedge_shadow::{Answer, Call, Settings, StorageFailure};
use serde_json::Value;
use support::{House, MemoryStore, block_on};

fn house(settings: Settings) -> (House, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (House::with(store.clone(), settings), store)
}

fn update(thing: &str) -> String {
    format!("$aws/things/{thing}/shadow/update")
}

const REQUEST: &str = r#"{"state":{"reported":{"n":1}}}"#;

fn call(house: &House, thing: &str) -> Answer {
    block_on(house.service.call(Call {
        thing: ThingName::new(thing).unwrap(),
        shadow: None,
        operation: ShadowOperation::Update,
        payload: Bytes::from_static(REQUEST.as_bytes()),
        trace: TraceId(7),
        protocol: Protocol::Http,
    }))
}

fn answers(messages: &[(String, Value)], suffix: &str) -> usize {
    messages.iter().filter(|(t, _)| t.ends_with(suffix)).count()
}

#[test]
fn beyond_all_that_may_be_open_nothing_is_taken_and_nothing_acknowledged() {
    let (house, store) = house(Settings {
        max_open: 2,
        ..Settings::default()
    });
    store.hold();
    house.send(&update("a"), REQUEST);
    house.send(&update("b"), REQUEST);
    let dropped = house.send(&update("c"), REQUEST);
    assert_eq!(house.acks.wait(1), [(dropped, Err(Failure::Store))]);
    let refused = call(&house, "d").unwrap_err();
    assert_eq!(refused.reason.code(), 429);
    store.wait_for_puts(2);
    store.release(&Ok(()));
    house.acks.wait(2);
    assert_eq!(answers(&house.broker.take(), "update/accepted"), 2);
    // It has passed.
    call(&house, "c").unwrap();
    assert_eq!(answers(&house.broker.take(), "update/accepted"), 1);
}

#[test]
fn requests_that_wait_have_a_limit_in_bytes() {
    let (house, _) = house(Settings {
        max_queued_bytes: REQUEST.len(),
        ..Settings::default()
    });
    let large = format!("{REQUEST} ");
    let dropped = house.send(&update("a"), large);
    assert_eq!(house.acks.wait(1), [(dropped, Err(Failure::Store))]);
    let taken = house.send(&update("a"), REQUEST);
    assert_eq!(house.acks.wait(1), [(taken, Ok(()))]);
}

#[test]
fn a_thing_at_its_limit_is_in_nobodys_way_and_free_again_afterwards() {
    let (house, store) = house(Settings {
        max_in_flight: 3,
        ..Settings::default()
    });
    for outcome in [Ok(()), Err(StorageFailure("disk".into())), Ok(())] {
        store.hold();
        let before = store.puts();
        for _ in 0..10 {
            house.send(&update("busy"), REQUEST);
        }
        let named = "$aws/things/busy/shadow/name/cfg/get";
        house.send(named, "");
        house.send(&update("other"), REQUEST);
        store.wait_for_puts(before + 4);
        store.release(&outcome);
        house.acks.wait(12);
        let messages = house.broker.take();
        let of = |thing: &str| -> Vec<(String, Value)> {
            let prefix = format!("$aws/things/{thing}/");
            let ours = messages.iter().filter(|(t, _)| t.starts_with(&prefix));
            ours.cloned().collect()
        };
        let codes: Vec<u64> = of("busy")
            .iter()
            .filter_map(|(_, m)| m["code"].as_u64())
            .collect();
        // Seven updates, and the request for the named shadow of the same thing.
        assert_eq!(codes.iter().filter(|c| **c == 429).count(), 8);
        let accepted = if outcome.is_ok() { (3, 1) } else { (0, 0) };
        let counts = ["busy", "other"].map(|thing| answers(&of(thing), "update/accepted"));
        assert_eq!((counts[0], counts[1]), accepted);
    }
}

#[test]
fn what_was_asked_before_the_stop_is_answered() {
    let (house, store) = house(Settings::default());
    store.hold();
    for n in 0..50 {
        house.send(&update(&format!("thing-{n}")), REQUEST);
    }
    let service = house.service.clone();
    let stopping = std::thread::spawn(move || service.stop());
    store.wait_for_puts(50);
    store.release(&Ok(()));
    stopping.join().unwrap();
    assert!(house.acks.wait(50).iter().all(|(_, ack)| ack.is_ok()));
    assert_eq!(answers(&house.broker.take(), "update/accepted"), 50);
}
