//! Wills that wait, and wills that outlive the process.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::path::Path;

use iotedge_model::QoS;
use iotedge_ports::EndKind;
use support::{Client, House, payloads};

/// A client with a session of an hour and a will that waits `delay` seconds.
fn mortal(house: &House, delay: u32) -> Client {
    let client = house.client("c").persistent().will("will", "gone");
    client.will_delay(delay).connect()
}

/// Someone who takes wills, as long as this process lives.
fn watcher(house: &House) -> Client {
    let watcher = house.client("w").connect();
    watcher.subscribe("will", QoS::AtLeastOnce);
    watcher
}

/// What the next process publishes at its start.
fn after_restart(dir: &Path, millis: u64) -> Vec<String> {
    let house = House::open_at(dir, millis);
    let watcher = watcher(&house);
    house.broker.tick();
    let published = payloads(&watcher.drain());
    house.close();
    published
}

#[test]
fn a_will_that_waits_goes_on_waiting_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    mortal(&house, 100).disconnect(EndKind::Lost);
    house.close();
    // The time between the processes counts.
    assert!(after_restart(dir.path(), 40_000).is_empty());
    let house = House::open_at(dir.path(), 90_000);
    let watcher = watcher(&house);
    house.pass(9_000);
    assert!(watcher.drain().is_empty(), "99 seconds");
    house.pass(1_000);
    assert_eq!(payloads(&watcher.drain()), ["gone"]);
    drop(watcher);
    house.close();
    assert!(
        after_restart(dir.path(), 200_000).is_empty(),
        "and only once"
    );
}

#[test]
fn a_client_that_is_back_after_a_restart_has_no_will() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    mortal(&house, 100).disconnect(EndKind::Lost);
    house.close();
    let house = House::open_at(dir.path(), 50_000);
    let watcher = watcher(&house);
    let client = house.client("c").persistent().connect();
    assert!(client.connected.session_present);
    house.pass(100_000);
    assert!(watcher.drain().is_empty());
    client.disconnect(EndKind::Lost);
    drop(watcher);
    house.close();
    assert!(after_restart(dir.path(), 300_000).is_empty());
}

#[test]
fn a_will_does_not_wait_for_a_session_that_ends_while_the_daemon_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let client = house.client("c").will("will", "gone").will_delay(1_000);
    client
        .session_expiry(60)
        .connect()
        .disconnect(EndKind::Lost);
    house.close();
    assert_eq!(after_restart(dir.path(), 61_000), ["gone"]);
    assert!(after_restart(dir.path(), 2_000_000).is_empty());
}

#[test]
fn a_kill_is_the_end_of_the_connection_for_a_session_that_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let durable = mortal(&house, 0);
    let fleeting = house.client("f").will("will", "of a clean session");
    let fleeting = fleeting.connect();
    house.close();
    drop((durable, fleeting));
    assert_eq!(after_restart(dir.path(), 1_000), ["gone"]);
    assert!(after_restart(dir.path(), 2_000).is_empty(), "and only once");
}

#[test]
fn the_delay_of_a_killed_connection_begins_with_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let client = mortal(&house, 10);
    house.close();
    drop(client);
    let house = House::open_at(dir.path(), 100_000);
    let watcher = watcher(&house);
    house.pass(9_000);
    assert!(watcher.drain().is_empty());
    house.pass(1_000);
    assert_eq!(payloads(&watcher.drain()), ["gone"]);
}

#[test]
fn a_will_taken_back_by_disconnect_does_not_come_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    mortal(&house, 0).disconnect(EndKind::ClientInitiated);
    house.close();
    assert!(after_restart(dir.path(), 1_000).is_empty());
}

#[test]
fn a_new_will_takes_the_place_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    mortal(&house, 100).disconnect(EndKind::Lost);
    let second = house.client("c").persistent().will("will", "new");
    let second = second.connect();
    house.close();
    drop(second);
    assert_eq!(after_restart(dir.path(), 1_000), ["new"]);
}

#[test]
fn a_stop_publishes_what_is_due_and_leaves_the_rest_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let watcher = watcher(&house);
    let waiting = mortal(&house, 100);
    let due = house.client("d").persistent().will("will", "at once");
    let due = due.connect();
    house.broker.stop();
    waiting.disconnect(EndKind::Lost);
    due.disconnect(EndKind::Lost);
    assert_eq!(payloads(&watcher.drain()), ["at once"]);
    drop(watcher);
    house.close();
    assert_eq!(after_restart(dir.path(), 100_000), ["gone"]);
}

#[test]
fn a_will_whose_time_has_come_is_sent_though_the_client_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let watcher = watcher(&house);
    mortal(&house, 10).disconnect(EndKind::Lost);
    let past = std::sync::atomic::Ordering::Relaxed;
    house.clock.0.fetch_add(10_000, past);
    let back = house.client("c").persistent().connect();
    assert!(back.connected.session_present);
    assert_eq!(payloads(&watcher.drain()), ["gone"]);
}
