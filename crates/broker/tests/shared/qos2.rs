//! What a member has been sent with QoS 2 is its own.

use iotedge_broker::Limits;
use iotedge_model::DropReason;
use iotedge_ports::{EndKind, Outgoing, OutgoingPublish, PubRecOutcome};

use crate::support::*;
use crate::{FILTER, TWO, committed, house, publish, queue};

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
