//! What waits for a group, and what comes back to it.

use iotedge_broker::Limits;
use iotedge_model::DropReason;
use iotedge_ports::{BrokerPort, EndKind, PublishOutcome};

use crate::support::*;
use crate::{FILTER, ONE, ZERO, acknowledge, committed, house, numbers, publish, queue};

#[test]
fn what_comes_while_all_are_away_waits_once_for_whoever_comes() {
    let (_dir, house) = house(Limits::default());
    for id in ["a", "b"] {
        let member = house.client(id).persistent().connect();
        member.subscribe(FILTER, ONE);
        member.disconnect(EndKind::Lost);
    }
    assert_eq!(publish(&house, 0..1, ONE), [PublishOutcome::Pending]);
    publish(&house, 1..5, ONE);
    house.publish("a/b", "qos 0 is not kept", ZERO);
    assert_eq!(house.broker.status().queued, 5);
    let new = house.client("new").connect();
    new.subscribe(FILTER, ONE);
    let got = new.receive(5);
    assert_eq!(payloads(&got), numbers(0..5));
    assert!(got.iter().all(|o| !o.delivery.dup));
    acknowledge(&new, &got);
    let old = house.client("a").persistent().connect();
    assert!(old.connected.session_present);
    assert!(old.drain().is_empty());
}

#[test]
fn without_a_session_that_stays_nothing_waits() {
    let (_dir, house) = house(Limits::default());
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ZERO);
    member.disconnect(EndKind::Lost);
    let outcomes = publish(&house, 0..1, ONE);
    assert_eq!(outcomes, [PublishOutcome::Done { matched: true }]);
    assert!(queue(&house).is_none());
    assert!(house.client("c").persistent().connect().drain().is_empty());
}

#[test]
fn what_a_lost_member_has_not_acknowledged_goes_to_another() {
    let (_dir, house) = house(Limits::default());
    let lost = house
        .client("lost")
        .persistent()
        .receive_maximum(2)
        .connect();
    lost.subscribe(FILTER, ONE);
    publish(&house, 0..6, ONE);
    let got = lost.drain();
    assert_eq!(payloads(&got), ["0", "1"]);
    acknowledge(&lost, &got[..1]);
    lost.disconnect(EndKind::Lost);
    let other = house.client("other").connect();
    other.subscribe(FILTER, ONE);
    let got = other.receive(5);
    assert_eq!(payloads(&got), numbers(1..6));
    assert!(
        got.iter().all(|o| !o.delivery.dup),
        "to another client it is a new delivery"
    );
    acknowledge(&other, &got);
    let back = house.client("lost").persistent().connect();
    assert!(back.drain().is_empty());
}

#[test]
fn what_comes_back_to_the_same_member_says_so() {
    let (_dir, house) = house(Limits::default());
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ONE);
    publish(&house, 0..3, ONE);
    let got = member.drain();
    acknowledge(&member, &got[1..2]);
    member.disconnect(EndKind::Lost);
    publish(&house, 3..4, ONE);
    let back = house.client("c").persistent().connect();
    let got = back.receive(3);
    assert_eq!(payloads(&got), ["0", "2", "3"]);
    let dups: Vec<bool> = got.iter().map(|o| o.delivery.dup).collect();
    assert_eq!(dups, [true, true, false]);
}

#[test]
fn a_takeover_gives_back_what_the_first_connection_had() {
    let (_dir, house) = house(Limits::default());
    let first = house.client("c").persistent().connect();
    first.subscribe(FILTER, ONE);
    publish(&house, 0..3, ONE);
    let got = first.drain();
    let second = house.client("c").persistent().connect();
    assert!(!first.acknowledge(&got[0]));
    assert!(first.drain().is_empty());
    assert_eq!(payloads(&second.receive(3)), numbers(0..3));
}

#[test]
fn without_a_queue_a_lost_members_messages_go_to_another_too() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).receive_maximum(1).connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    publish(&house, 0..4, ONE);
    let [lost, other] = members;
    assert_eq!(lost.drain().len(), 1, "one is sent, one waits");
    lost.disconnect(EndKind::Lost);
    let mut all = Vec::new();
    while all.len() < 4 {
        let got = other.receive(1);
        acknowledge(&other, &got);
        all.extend(payloads(&got));
    }
    all.sort();
    assert_eq!(all, numbers(0..4));
}

#[test]
fn a_member_that_leaves_ends_what_it_began_and_leaves_the_rest() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).persistent().connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    publish(&house, 0..2, ONE);
    let begun = members[0].drain();
    publish(&house, 2..4, ONE);
    members[0].unsubscribe(FILTER);
    assert!(members[0].drain().is_empty());
    let rest = members[1].receive(3);
    acknowledge(&members[0], &begun);
    acknowledge(&members[1], &rest);
    let account = queue(&house).unwrap().account;
    assert_eq!((account.queued, account.delivered), (0, 4));
}

#[test]
fn a_restart_loses_nothing_of_a_group() {
    let (dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).persistent().connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    publish(&house, 0..10, ONE);
    let got = members[0].receive(5);
    acknowledge(&members[0], &got[..3]);
    drop(members);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    assert_eq!(house.broker.status().queued, 7);
    let member = house.client("b").persistent().connect();
    assert_eq!(house.broker.status().subscriptions, 2);
    let rest = member.receive(7);
    assert!(
        got[..3]
            .iter()
            .all(|o| !payloads(&rest).contains(&payloads(std::slice::from_ref(o))[0]))
    );
    acknowledge(&member, &rest);
    publish(&house, 10..11, ONE);
    assert_eq!(payloads(&member.receive(1)), ["10"]);
}

#[test]
fn the_queue_goes_with_the_last_member_and_is_counted() {
    let (_dir, house) = house(Limits::default());
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ONE);
    publish(&house, 0..3, ONE);
    member.unsubscribe(FILTER);
    assert!(queue(&house).is_none());
    let removed = |reason| {
        let account = house.store.removed_account();
        account.dropped.get(&reason).copied().unwrap_or(0)
    };
    committed(&house);
    assert_eq!(removed(DropReason::TakerRemoved), 3);
    member.subscribe(FILTER, ONE);
    publish(&house, 3..5, ONE);
    member.disconnect(EndKind::Lost);
    house
        .client("c")
        .connect()
        .disconnect(EndKind::ClientInitiated);
    committed(&house);
    assert_eq!(removed(DropReason::SessionEnded), 2);
    assert!(queue(&house).is_none());
}

#[test]
fn what_waits_for_a_group_stays_while_it_has_any_member() {
    let (_dir, house) = house(Limits::default());
    let durable = house.client("durable").persistent().connect();
    durable.subscribe(FILTER, ONE);
    durable.disconnect(EndKind::Lost);
    publish(&house, 0..3, ONE);
    let passing = house.client("passing").receive_maximum(1).connect();
    passing.subscribe(FILTER, ONE);
    // The durable session ends; the rest of its queue still has a taker.
    house
        .client("durable")
        .connect()
        .disconnect(EndKind::ClientInitiated);
    publish(&house, 3..5, ONE);
    let mut all = Vec::new();
    while all.len() < 5 {
        let got = passing.receive(1);
        acknowledge(&passing, &got);
        all.extend(payloads(&got));
    }
    all.sort();
    assert_eq!(all, numbers(0..5));
}

#[test]
fn the_queue_has_limits_and_counts_what_is_beyond() {
    let (_dir, house) = house(Limits {
        max_queued_messages: 3,
        ..Limits::default()
    });
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ONE);
    member.disconnect(EndKind::Lost);
    publish(&house, 0..5, ONE);
    let account = queue(&house).unwrap().account;
    assert_eq!(account.queued, 3);
    assert_eq!(account.dropped.get(&DropReason::QueueFull), Some(&2));
    let member = house.client("c").persistent().connect();
    assert_eq!(payloads(&member.receive(3)), numbers(0..3));
}

#[test]
fn a_member_that_asked_for_qos_0_gets_no_more_and_settles_the_row() {
    let (_dir, house) = house(Limits::default());
    let durable = house.client("durable").persistent().connect();
    durable.subscribe(FILTER, ONE);
    durable.disconnect(EndKind::Lost);
    publish(&house, 0..3, ONE);
    let zero = house.client("zero").connect();
    zero.subscribe(FILTER, ZERO);
    let got = zero.receive(3);
    assert_eq!(payloads(&got), numbers(0..3));
    assert!(
        got.iter()
            .all(|o| o.delivery.qos == ZERO && o.packet_id.is_none())
    );
    assert_eq!(queue(&house).unwrap().account.queued, 0);
    publish(&house, 3..4, ONE);
    assert_eq!(payloads(&zero.receive(1)), ["3"]);
}

#[test]
fn what_its_member_may_not_have_is_given_to_nobody_else() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).persistent().connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    publish(&house, 0..1, ONE);
    members[0].refuse(DropReason::Policy);
    assert!(members.iter().all(|m| m.drain().is_empty()));
    let account = queue(&house).unwrap().account;
    assert_eq!(account.queued, 0);
    assert_eq!(account.dropped.get(&DropReason::Policy), Some(&1));
}

#[test]
fn an_expired_message_of_a_group_is_dropped_and_counted() {
    let (_dir, house) = house(Limits::default());
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ONE);
    let mut soon = message("a/b", "waits in memory", ONE);
    soon.expiry = Some(1);
    house.publish_message(soon.clone());
    house
        .clock
        .0
        .store(5_000, std::sync::atomic::Ordering::Relaxed);
    assert!(member.drain().is_empty());
    member.disconnect(EndKind::Lost);
    house.publish_message(soon);
    house
        .clock
        .0
        .store(10_000, std::sync::atomic::Ordering::Relaxed);
    assert!(house.client("c").persistent().connect().drain().is_empty());
    let account = queue(&house).unwrap().account;
    assert_eq!(account.dropped.get(&DropReason::Expired), Some(&2));
    assert_eq!(account.queued, 0);
}

/// A house whose commits are due after `millis`, and whose counters may lag for a minute.
fn patient(dir: &std::path::Path, millis: u64) -> House {
    let options = iotedge_store::Options {
        linger: std::time::Duration::from_millis(millis),
        lag: std::time::Duration::from_secs(60),
        min_free_disk: 0,
        ..iotedge_store::Options::default()
    };
    House::open_with(dir, Limits::default(), options)
}

fn hand_in(house: &House, ears: &std::sync::Arc<Ears>, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let ack = (ears.clone() as std::sync::Arc<_>, n as u64);
        let message = message("a/b", &n.to_string(), ONE);
        let mut batch = [iotedge_ports::Publication::new(message, Some(ack))];
        house.broker.publish(&mut batch);
        assert_eq!(batch[0].outcome, PublishOutcome::Pending);
    }
}

/// The publisher's PUBACK rests on the member's then, as on any other taker's.
#[test]
fn what_its_members_acknowledge_before_the_commit_is_due_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let house = patient(dir.path(), 1000);
    let members: Vec<_> = ["a", "b"]
        .map(|id| {
            let member = house.client(id).persistent().connect();
            member.subscribe(FILTER, ONE);
            member
        })
        .into();
    committed(&house);
    let ears = std::sync::Arc::new(Ears::default());
    let before = house.store.written_bytes();
    hand_in(&house, &ears, 0..50);
    for member in &members {
        acknowledge(member, &member.drain());
    }
    ears.wait("all", |heard| heard.acked.len() == 50);
    assert_eq!(house.store.written_bytes(), before, "nothing is written");
    let account = house.store.account(queue(&house).unwrap().id);
    assert!(account.balances());
    assert_eq!((account.accepted, account.delivered), (50, 50));
}

/// One member acknowledges, the other is lost before the commit: what it had is written, and goes to who
/// comes, also behind a restart.
#[test]
fn what_a_lost_member_had_before_the_commit_is_written_and_goes_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let house = patient(dir.path(), 500);
    let (good, lost) = (
        house.client("good").persistent().connect(),
        house.client("lost").persistent().connect(),
    );
    good.subscribe(FILTER, ONE);
    lost.subscribe(FILTER, ONE);
    committed(&house);
    let ears = std::sync::Arc::new(Ears::default());
    hand_in(&house, &ears, 0..10);
    let (kept, gone) = (good.drain(), lost.drain());
    assert_eq!(kept.len() + gone.len(), 10);
    assert!(!kept.is_empty() && !gone.is_empty());
    acknowledge(&good, &kept);
    lost.disconnect(EndKind::Lost);
    good.disconnect(EndKind::Lost);
    ears.wait("all", |heard| heard.acked.len() == 10);
    committed(&house);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let next = house.client("next").connect();
    next.subscribe(FILTER, ONE);
    let again = next.receive(gone.len());
    assert_eq!(payloads(&again), payloads(&gone));
    acknowledge(&next, &again);
    let account = house.store.account(queue(&house).unwrap().id);
    assert!(account.balances());
    assert_eq!((account.accepted, account.delivered), (10, 10));
}
