//! Sessions: what survives a connection, and what does not.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::sync::Arc;

use iotedge_broker::Limits;
use iotedge_model::{ClientId, Principal, QoS};
use iotedge_ports::{BrokerPort, CloseReason, ConnectRefused, EndKind, PublishOutcome};
use support::*;

#[test]
fn a_persistent_session_gets_what_was_published_while_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    client.subscribe("a/#", QoS::AtLeastOnce);
    client.disconnect(EndKind::Lost);
    for n in 0..300 {
        let outcome = house.publish("a/b", &n.to_string(), QoS::AtLeastOnce);
        assert_eq!(
            outcome,
            PublishOutcome::Pending,
            "kept before it is acknowledged"
        );
    }
    house.publish("a/b", "qos 0 is not kept", QoS::AtMostOnce);
    let client = house.client("c").persistent().connect();
    assert!(client.connected.session_present);
    let mut all = Vec::new();
    while all.len() < 300 {
        for outgoing in client.receive(1) {
            assert!(client.acknowledge(&outgoing));
            all.push(outgoing);
        }
    }
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&all), expected);
}

/// What the CONNACK of this client waits for, and has.
fn waits(client: &Client) -> bool {
    if client.connected.promised {
        return false;
    }
    client.ears.wait("the commit of CONNACK", |heard| {
        heard.acked.contains(&(CONNACK, Ok(())))
    });
    true
}

#[test]
fn connack_waits_for_what_it_promises_of_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let new = house.client("c").persistent().connect();
    assert!(waits(&new), "a session that stays");
    new.disconnect(EndKind::ClientInitiated);
    let same = house.client("c").persistent().connect();
    assert!(!waits(&same), "nothing new");
    same.disconnect(EndKind::ClientInitiated);
    let with_will = house.client("c").persistent().will("w", "x").connect();
    assert!(waits(&with_will), "its will stays too");
    with_will.disconnect(EndKind::ClientInitiated);
    let clean = house.client("c").connect();
    assert!(waits(&clean), "the old session is gone for ever");
    clean.disconnect(EndKind::ClientInitiated);
    assert!(!waits(&house.client("c").connect()), "nothing to keep");
}

#[test]
fn a_restart_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    client.subscribe("a", QoS::AtLeastOnce);
    for n in 0..10 {
        house.publish("a", &n.to_string(), QoS::AtLeastOnce);
    }
    let got = client.receive(10);
    for outgoing in &got[..4] {
        client.acknowledge(outgoing);
    }
    drop(client);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    assert!(client.connected.session_present);
    let rest = client.receive(6);
    assert_eq!(payloads(&rest), ["4", "5", "6", "7", "8", "9"]);
    assert!(
        rest.iter().all(|o| o.delivery.dup),
        "they may have been sent before"
    );
    house.publish("a", "new", QoS::AtLeastOnce);
    let new = client.receive(1);
    assert_eq!(payloads(&new), ["new"]);
    assert!(!new[0].delivery.dup);
}

#[test]
fn what_was_in_flight_comes_again_with_its_packet_id() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(
        dir.path(),
        Limits {
            max_inflight: 3,
            ..Limits::default()
        },
    );
    let client = house.client("c").persistent().connect();
    client.subscribe("a", QoS::AtLeastOnce);
    for n in 0..5 {
        house.publish("a", &n.to_string(), QoS::AtLeastOnce);
    }
    let first = client.receive(3);
    assert_eq!(payloads(&first), ["0", "1", "2"], "no more than the window");
    assert!(client.drain().is_empty());
    client.acknowledge(&first[1]);
    client.disconnect(EndKind::Lost);
    let client = house.client("c").persistent().connect();
    let again = client.receive(3);
    assert_eq!(payloads(&again), ["0", "2", "3"]);
    assert_eq!(again[0].packet_id, first[0].packet_id);
    assert_eq!(again[1].packet_id, first[2].packet_id);
    assert!(again[0].delivery.dup && again[1].delivery.dup && !again[2].delivery.dup);
    for outgoing in &again {
        client.acknowledge(outgoing);
    }
    assert_eq!(payloads(&client.receive(1)), ["4"]);
}

#[test]
fn a_clean_session_ends_with_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").connect();
    client.subscribe("a", QoS::AtLeastOnce);
    assert_eq!(
        house.publish("a", "1", QoS::AtLeastOnce),
        PublishOutcome::Done { matched: true },
        "no durable taker: nothing to wait for"
    );
    client.disconnect(EndKind::ClientInitiated);
    house.publish("a", "2", QoS::AtLeastOnce);
    let client = house.client("c").persistent().connect();
    assert!(!client.connected.session_present);
    assert!(client.drain().is_empty());
    assert_eq!(house.broker.status().sessions, 1);
}

#[test]
fn clean_start_ends_a_persistent_session_and_its_queue() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    client.subscribe("a", QoS::AtLeastOnce);
    client.disconnect(EndKind::Lost);
    house.publish("a", "1", QoS::AtLeastOnce);
    house
        .client("c")
        .connect()
        .disconnect(EndKind::ClientInitiated);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    assert!(!client.connected.session_present);
    client.subscribe("a", QoS::AtLeastOnce);
    house.publish("a", "2", QoS::AtLeastOnce);
    assert_eq!(payloads(&client.receive(1)), ["2"]);
}

#[test]
fn a_second_connection_takes_the_session_over_and_the_first_gets_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let watcher = house.client("w").connect();
    watcher.subscribe("will", QoS::AtLeastOnce);
    let first = house
        .client("c")
        .persistent()
        .will("will", "gone")
        .connect();
    first.subscribe("a", QoS::AtLeastOnce);
    house.publish("a", "1", QoS::AtLeastOnce);
    let got = first.receive(1);
    let second = house.client("c").persistent().connect();
    assert_eq!(
        first.ears.heard().closed,
        Some(CloseReason::SessionTakenOver)
    );
    assert_eq!(payloads(&watcher.receive(1)), ["gone"]);
    assert!(
        !first.acknowledge(&got[0]),
        "its acknowledgements count no more"
    );
    house.publish("a", "2", QoS::AtLeastOnce);
    assert!(first.drain().is_empty());
    let again = second.receive(2);
    assert_eq!(payloads(&again), ["1", "2"]);
    assert!(again[0].delivery.dup);
    first.disconnect(EndKind::Lost);
    assert!(
        second.ears.heard().closed.is_none(),
        "the old connection's end changes nothing"
    );
    house.publish("a", "3", QoS::AtLeastOnce);
    assert_eq!(payloads(&second.receive(1)), ["3"]);
}

#[test]
fn an_anonymous_client_gets_nobody_elses_session() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let owner = house.client("c").persistent().connect();
    let thief = house.client("c").principal(anonymous()).try_connect();
    assert_eq!(thief.err(), Some(ConnectRefused::NotYours));
    owner.disconnect(EndKind::Lost);
    let thief = house.client("c").principal(anonymous()).try_connect();
    assert_eq!(thief.err(), Some(ConnectRefused::NotYours));
    assert!(
        house
            .client("c")
            .principal(user("another"))
            .try_connect()
            .is_ok()
    );
}

#[test]
fn a_session_whose_time_is_over_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").persistent().connect();
    client.subscribe("a", QoS::AtLeastOnce);
    client.disconnect(EndKind::Lost);
    house
        .clock
        .0
        .store(3_599_000, std::sync::atomic::Ordering::Relaxed);
    house.broker.tick();
    assert_eq!(house.broker.status().sessions, 1);
    house
        .clock
        .0
        .store(3_600_000, std::sync::atomic::Ordering::Relaxed);
    house.broker.tick();
    assert_eq!(house.broker.status().sessions, 0);
    assert_eq!(
        house.publish("a", "1", QoS::AtLeastOnce),
        PublishOutcome::Done { matched: false }
    );
}

#[test]
fn a_full_house_refuses_new_clients_but_not_a_takeover() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(
        dir.path(),
        Limits {
            max_connections: 1,
            ..Limits::default()
        },
    );
    let _first = house.client("a").connect();
    assert_eq!(
        house.client("b").try_connect().err(),
        Some(ConnectRefused::TooMany)
    );
    assert!(house.client("a").try_connect().is_ok());
    house.broker.stop();
    assert_eq!(
        house.client("a").try_connect().err(),
        Some(ConnectRefused::Stopping)
    );
}

#[test]
fn revoking_closes_every_connection_of_the_principal() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let one = house.client("1").principal(user("bad")).connect();
    let two = house.client("2").principal(user("good")).connect();
    let closed = house
        .broker
        .close_principal(&user("bad"), CloseReason::NotAuthorized);
    assert_eq!(closed, 1);
    assert_eq!(one.ears.heard().closed, Some(CloseReason::NotAuthorized));
    assert!(two.ears.heard().closed.is_none());
}

#[test]
fn a_client_id_connects_so_often_in_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_connects_per_client: Some(1),
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let first = house.client("c").connect();
    let refused = house.client("c").try_connect();
    assert!(matches!(refused, Err(ConnectRefused::TooSoon)));
    let soon = Arc::new(Ears::default());
    let id = ClientId::new("c").unwrap();
    assert!(!house.broker.make_way(&id, &user("c"), soon));
    assert!(first.ears.heard().closed.is_none(), "nothing is taken over");
    house.client("d").connect();
    house.pass(1_000);
    house.client("c").connect();
    assert!(first.ears.heard().closed.is_some());
}

#[test]
fn only_lasting_sessions_count_against_their_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_sessions: 1,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let _passing = house.client("passing").connect();
    let _other = house.client("other").connect();
    house.client("first").persistent().connect();
    for id in ["second", "passing"] {
        let refused = house.client(id).persistent().try_connect();
        assert!(matches!(refused, Err(ConnectRefused::TooMany)), "{id}");
    }
    house.client("first").persistent().connect();
    house.client("second").connect();
}

#[test]
fn a_connection_makes_way_and_its_successor_hears_when_it_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let id = ClientId::new("c").unwrap();
    let make_way = |principal: &Arc<Principal>, next: &Arc<Ears>| {
        let next: Arc<Ears> = next.clone();
        house.broker.make_way(&id, principal, next)
    };
    let next = Arc::new(Ears::default());
    assert!(!make_way(&user("c"), &next), "nobody is there");
    let first = house.client("c").persistent().connect();
    assert!(!make_way(&anonymous(), &next), "not for a stranger");
    assert!(first.ears.heard().closed.is_none());
    assert!(make_way(&user("c"), &next));
    assert!(!make_way(&user("c"), &next), "it makes way already");
    let asked = first.ears.heard().closed;
    assert_eq!(asked, Some(CloseReason::SessionTakenOver));
    assert_eq!(next.heard().wakes, 0, "it is still there");
    first.disconnect(EndKind::ClientInitiated);
    assert_eq!(next.heard().wakes, 1);
    let second = house.client("c").persistent().connect();
    assert!(second.connected.session_present);
    // One that does not go is taken over, and who waited for it hears of that too.
    assert!(make_way(&user("c"), &next));
    let _third = house.client("c").persistent().connect();
    assert_eq!(next.heard().wakes, 2);
}
