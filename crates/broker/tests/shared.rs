//! Shared subscriptions: each message to one member, and none lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use iotedge_broker::Limits;
use iotedge_model::{DropReason, QoS};
use iotedge_ports::{
    CloseReason, EndKind, Outgoing, OutgoingPublish, PubRecOutcome, PublishOutcome,
    SubscribeOptions, Wake,
};
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

#[test]
fn each_message_goes_to_one_member_in_turn() {
    for qos in [ZERO, ONE] {
        let (_dir, house) = house(Limits::default());
        let members = ["a", "b", "c"].map(|id| house.client(id).connect());
        members.iter().for_each(|m| m.subscribe(FILTER, ONE));
        let outcomes = publish(&house, 0..30, qos);
        assert!(
            outcomes
                .iter()
                .all(|o| *o == PublishOutcome::Done { matched: true })
        );
        let mut all = Vec::new();
        for member in &members {
            let got = member.drain();
            assert_eq!(got.len(), 10, "each has its turn");
            assert!(got.iter().all(|o| o.delivery.qos == qos));
            all.extend(payloads(&got));
        }
        all.sort_by_key(|n| n.parse::<usize>().unwrap());
        assert_eq!(all, numbers(0..30));
    }
}

#[test]
fn turns_are_kept_with_a_queue_too() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b", "c"].map(|id| house.client(id).persistent().connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    let outcomes = publish(&house, 0..30, ONE);
    assert!(outcomes.iter().all(|o| *o == PublishOutcome::Pending));
    assert_eq!(queue(&house).unwrap().account.queued, 30);
    for member in &members {
        let got = member.drain();
        assert_eq!(got.len(), 10);
        acknowledge(member, &got);
    }
    let account = queue(&house).unwrap().account;
    assert_eq!((account.queued, account.delivered), (0, 30));
}

#[test]
fn groups_and_plain_subscriptions_each_get_their_own_copy() {
    let (_dir, house) = house(Limits::default());
    let client = house.client("c").connect();
    client.subscribe("$share/g/a/#", ONE);
    client.subscribe("$share/h/a/#", ONE);
    client.subscribe("$share/g/a/+", ONE);
    client.subscribe("a/b", ZERO);
    client.subscribe("a/#", ONE);
    house.publish("a/b", "x", ONE);
    assert_eq!(client.drain().len(), 4, "three groups and one of its own");
}

#[test]
fn the_chosen_members_own_options_hold() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).persistent().connect());
    for (n, member) in (1..).zip(&members) {
        let options = SubscribeOptions {
            retain_as_published: n == 2,
            identifier: NonZeroU32::new(n),
            ..SubscribeOptions::v311(if n == 1 { ZERO } else { ONE })
        };
        member.subscribe_with(FILTER, options);
    }
    for _ in 0..2 {
        let mut kept = message("a/b", "x", ONE);
        kept.retain = true;
        house.publish_message(kept);
    }
    let [first, second] = members.map(|m| m.drain().pop().expect("each has one").delivery);
    assert_eq!(
        (first.qos, first.retain, &*first.identifiers),
        (ZERO, false, &[1][..])
    );
    assert_eq!(
        (second.qos, second.retain, &*second.identifiers),
        (ONE, true, &[2][..])
    );
}

#[test]
fn nothing_retained_is_sent_to_a_new_member() {
    let (_dir, house) = house(Limits::default());
    let mut kept = message("a/b", "x", ONE);
    kept.retain = true;
    house.publish_message(kept);
    let member = house.client("c").persistent().connect();
    member.subscribe(FILTER, ONE);
    assert!(member.drain().is_empty());
}

#[test]
fn a_member_with_a_full_window_is_passed_over() {
    for persistent in [false, true] {
        let (_dir, house) = house(Limits::default());
        let client = |id| {
            let client = house.client(id);
            if persistent {
                client.persistent()
            } else {
                client
            }
        };
        let slow = client("slow").receive_maximum(2).connect();
        let quick = client("quick").connect();
        slow.subscribe(FILTER, ONE);
        quick.subscribe(FILTER, ONE);
        publish(&house, 0..4, ONE);
        assert_eq!(slow.drain().len(), 2);
        acknowledge(&quick, &quick.drain());
        publish(&house, 4..14, ONE);
        assert!(slow.drain().is_empty());
        let got = quick.receive(10);
        assert_eq!(payloads(&got), numbers(4..14));
    }
}

#[test]
fn with_all_windows_full_the_queue_keeps_the_rest() {
    let (_dir, house) = house(Limits::default());
    let members = ["a", "b"].map(|id| house.client(id).persistent().receive_maximum(3).connect());
    members.iter().for_each(|m| m.subscribe(FILTER, ONE));
    publish(&house, 0..20, ONE);
    let mut all = Vec::new();
    while all.len() < 20 {
        for member in &members {
            let got = member.drain();
            assert!(got.len() <= 3);
            acknowledge(member, &got);
            assert!(got.iter().all(|o| !o.delivery.dup));
            all.extend(payloads(&got));
        }
    }
    all.sort_by_key(|n| n.parse::<usize>().unwrap());
    assert_eq!(all, numbers(0..20));
    assert_eq!(queue(&house).unwrap().account.queued, 0);
}

#[test]
fn without_a_queue_a_full_window_keeps_it_in_memory() {
    let (_dir, house) = house(Limits::default());
    let member = house.client("c").receive_maximum(1).connect();
    member.subscribe(FILTER, ONE);
    publish(&house, 0..5, ONE);
    let mut all = Vec::new();
    while all.len() < 5 {
        let got = member.receive(1);
        acknowledge(&member, &got);
        all.extend(payloads(&got));
    }
    assert_eq!(all, numbers(0..5));
}

#[test]
fn a_member_that_takes_nothing_at_all_is_closed_in_the_end() {
    let (_dir, house) = house(Limits {
        outbox_messages: 4,
        ..Limits::default()
    });
    let member = house.client("c").connect();
    member.subscribe(FILTER, ONE);
    publish(&house, 0..5, ONE);
    assert_eq!(member.ears.heard().closed, Some(CloseReason::SlowConsumer));
}

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
    let denied = members[0].drain().remove(0);
    members[0]
        .connected
        .mailbox
        .discard(&denied, DropReason::Policy);
    assert!(members[1].drain().is_empty());
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

/// A durable group with two members; the first has been sent "0" with QoS 2.
fn begun_at_qos_2(house: &House) -> (Client, Client, OutgoingPublish) {
    let members = ["a", "b"].map(|id| house.client(id).persistent().connect());
    members.iter().for_each(|m| m.subscribe(FILTER, TWO));
    publish(house, 0..1, TWO);
    let begun = members[0].receive(1).remove(0);
    assert_eq!(begun.delivery.qos, TWO);
    let [first, second] = members;
    (first, second, begun)
}

fn committed(house: &House) {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    house.store.flush(Box::new(move |_| tell.send(()).unwrap()));
    told.recv().unwrap();
}

#[test]
fn what_was_sent_with_qos_2_stays_with_its_member_through_restarts() {
    let (dir, house) = house(Limits::default());
    let (first, second, begun) = begun_at_qos_2(&house);
    first.disconnect(EndKind::Lost);
    committed(&house);
    assert!(second.drain().is_empty());
    drop(second);
    house.close();

    let house = House::open(dir.path(), Limits::default());
    let second = house.client("b").persistent().connect();
    publish(&house, 1..2, TWO);
    assert_eq!(
        payloads(&second.receive(1)),
        ["1"],
        "and not the one before it"
    );
    let first = house.client("a").persistent().connect();
    let again = first.receive(1).remove(0);
    assert_eq!(again.packet_id, begun.packet_id);
    assert!(again.delivery.dup);
    let mailbox = &first.connected.mailbox;
    let id = again.packet_id.unwrap();
    assert_eq!(mailbox.pubrec(id), PubRecOutcome::Pending);
    committed(&house);
    drop((first, second));
    house.close();

    let house = House::open(dir.path(), Limits::default());
    let first = house.client("a").persistent().connect();
    let all = first.drain_all();
    assert!(matches!(all[..], [Outgoing::Release(released)] if released == id));
    assert!(first.connected.mailbox.pubcomp(id));
    committed(&house);
    assert_eq!(
        queue(&house).unwrap().account.queued,
        1,
        "that of the other member"
    );
}

#[test]
fn what_was_sent_with_qos_2_ends_with_a_session_that_does_not_come_back() {
    let (dir, house) = house(Limits::default());
    let (first, second, _) = begun_at_qos_2(&house);
    drop((first, second));
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let second = house.client("b").persistent().connect();
    house
        .client("a")
        .connect()
        .disconnect(EndKind::ClientInitiated);
    committed(&house);
    assert!(second.drain().is_empty());
    let account = queue(&house).unwrap().account;
    assert_eq!(account.dropped.get(&DropReason::SessionEnded), Some(&1));
    assert_eq!(account.queued, 0);
}

#[test]
fn what_was_sent_with_qos_2_is_ended_after_unsubscribe() {
    let (_dir, house) = house(Limits::default());
    let (first, second, begun) = begun_at_qos_2(&house);
    first.unsubscribe(FILTER);
    second.unsubscribe(FILTER);
    assert!(queue(&house).is_none());
    first.disconnect(EndKind::Lost);
    let first = house.client("a").persistent().connect();
    let again = first.receive(1).remove(0);
    assert_eq!(again.packet_id, begun.packet_id);
    let mailbox = &first.connected.mailbox;
    let id = again.packet_id.unwrap();
    assert_eq!(
        mailbox.pubrec(id),
        PubRecOutcome::Release,
        "no row is left to mark"
    );
    assert!(mailbox.pubcomp(id));
}

/// What has come, and who waits for it to be all.
#[derive(Default)]
struct Together {
    got: Mutex<BTreeSet<String>>,
    waiting: Mutex<Vec<Arc<Ears>>>,
    expected: usize,
}

impl Together {
    fn done(&self) -> bool {
        self.got.lock().unwrap().len() >= self.expected
    }

    fn add(&self, outgoing: &OutgoingPublish) {
        let [payload] = <[String; 1]>::try_from(payloads(std::slice::from_ref(outgoing))).unwrap();
        let new = self.got.lock().unwrap().insert(payload);
        assert!(new, "it was with one member alone");
        if self.done() {
            self.waiting
                .lock()
                .unwrap()
                .iter()
                .for_each(|ears| ears.wake());
        }
    }

    fn join(&self, house: &House, id: &str) -> Client {
        let member = house.client(id).persistent().receive_maximum(5).connect();
        self.waiting.lock().unwrap().push(member.ears.clone());
        member.subscribe(FILTER, ONE);
        member
    }
}

/// A member in a thread of its own: takes, acknowledges, and now and then loses its connection with
/// something unacknowledged, until all is there.
fn work(house: &House, id: &str, all: &Together) {
    let mut member = all.join(house, id);
    let mut rounds = 0;
    while !all.done() {
        let wakes = member.ears.heard().wakes;
        let got = member.drain();
        if got.is_empty() {
            member
                .ears
                .wait("a message", |heard| heard.wakes > wakes || all.done());
            continue;
        }
        rounds += 1;
        if rounds % 7 == 0 {
            member.disconnect(EndKind::Lost);
            member = all.join(house, id);
            continue;
        }
        for outgoing in &got {
            all.add(outgoing);
            member.acknowledge(outgoing);
        }
    }
}

#[test]
fn members_in_many_threads_share_everything() {
    const PUBLISHERS: usize = 2;
    const EACH: usize = 400;
    let (_dir, house) = house(Limits::default());
    let anchor = house.client("anchor").persistent().connect();
    anchor.subscribe(FILTER, ONE);
    anchor.disconnect(EndKind::Lost);
    let all = Together {
        expected: PUBLISHERS * EACH,
        ..Together::default()
    };
    std::thread::scope(|scope| {
        for p in 0..PUBLISHERS {
            let house = &house;
            scope.spawn(move || {
                for n in 0..EACH {
                    house.publish("a/b", &format!("{p}-{n}"), ONE);
                }
            });
        }
        for id in ["a", "b", "c"] {
            let (house, all) = (&house, &all);
            scope.spawn(move || work(house, id, all));
        }
    });
    let account = queue(&house).unwrap().account;
    assert_eq!(
        (account.queued, account.delivered),
        (0, (PUBLISHERS * EACH) as u64)
    );
}
