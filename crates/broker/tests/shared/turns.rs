//! Whose turn it is, and what becomes of members that do not keep up.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use iotedge_broker::Limits;
use iotedge_ports::{BrokerPort, CloseReason, Publication, PublishOutcome, SubscribeOptions};

use crate::support::*;
use crate::{FILTER, ONE, TWO, ZERO, acknowledge, house, numbers, publish, queue};

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
fn so_is_one_that_has_no_room_when_a_qos_2_message_is_committed() {
    let (_dir, house) = house(Limits {
        outbox_messages: 4,
        ..Limits::default()
    });
    let member = house.client("c").connect();
    member.subscribe(FILTER, ONE);
    publish(&house, 0..4, ONE);
    assert_eq!(member.ears.heard().closed, None);
    let publisher = house.client("p").persistent().connect();
    let ears = Arc::new(Ears::default());
    let ack = Some((ears.clone() as Arc<_>, 1));
    let mut publication = Publication::new(message("a/b", "one too many", TWO), ack);
    publication.connection = Some(publisher.connected.connection);
    publication.inbound = NonZeroU16::new(1);
    house.broker.publish(&mut [publication]);
    ears.wait("the commit", |heard| heard.acked == [(1, Ok(()))]);
    assert_eq!(member.ears.heard().closed, Some(CloseReason::SlowConsumer));
    assert_eq!(payloads(&member.drain()), numbers(0..4));
}

#[test]
fn a_member_that_asked_for_qos_0_goes_without_what_it_has_no_room_for() {
    let (_dir, house) = house(Limits {
        outbox_messages: 4,
        ..Limits::default()
    });
    let member = house.client("c").connect();
    member.subscribe(FILTER, ZERO);
    publish(&house, 0..6, ONE);
    assert_eq!(member.ears.heard().closed, None);
    assert_eq!(payloads(&member.drain()), numbers(0..4));
}
