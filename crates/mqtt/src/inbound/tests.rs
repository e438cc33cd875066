use super::*;

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

fn token(received: Received) -> u64 {
    match received {
        Received::New(token) => token,
        other => panic!("{other:?}"),
    }
}

fn all_ready(inbound: &mut Inbound) -> Vec<Receipt> {
    std::iter::from_fn(|| inbound.next_ready()).collect()
}

#[test]
fn acknowledgements_leave_in_the_order_of_receipt() {
    let mut inbound = Inbound::new(10);
    let a = token(inbound.received(id(5), QoS::AtLeastOnce));
    let b = token(inbound.received(id(3), QoS::ExactlyOnce));
    let c = token(inbound.received(id(4), QoS::AtLeastOnce));
    assert!(!inbound.ready(c));
    assert!(!inbound.ready(b));
    assert_eq!(inbound.next_ready(), None);
    assert!(inbound.ready(a));
    assert_eq!(
        all_ready(&mut inbound),
        [
            Receipt::PubAck(id(5), ReasonCode::Success),
            Receipt::PubRec(id(3), ReasonCode::Success),
            Receipt::PubAck(id(4), ReasonCode::Success)
        ]
    );
    assert!(inbound.is_empty());
}

#[test]
fn a_repeated_qos_2_message_is_answered_and_not_delivered() {
    let mut inbound = Inbound::new(10);
    let first = token(inbound.received(id(1), QoS::ExactlyOnce));
    assert_eq!(
        inbound.received(id(1), QoS::ExactlyOnce),
        Received::Duplicate
    );
    assert_eq!(inbound.len(), 1, "one PUBREC answers both");
    inbound.ready(first);
    assert_eq!(
        all_ready(&mut inbound),
        [Receipt::PubRec(id(1), ReasonCode::Success)]
    );
    assert_eq!(
        inbound.received(id(1), QoS::ExactlyOnce),
        Received::Duplicate
    );
    assert_eq!(
        all_ready(&mut inbound),
        [Receipt::PubRec(id(1), ReasonCode::Success)]
    );
    let release = inbound.pubrel(id(1)).unwrap();
    inbound.ready(release);
    assert_eq!(
        all_ready(&mut inbound),
        [Receipt::PubComp(id(1), ReasonCode::Success)]
    );
    token(inbound.received(id(1), QoS::ExactlyOnce));
}

#[test]
fn a_qos_2_id_survives_the_connection() {
    let mut inbound = Inbound::new(10);
    inbound.resume([id(9)]);
    assert_eq!(
        inbound.received(id(9), QoS::ExactlyOnce),
        Received::Duplicate
    );
    assert_eq!(inbound.unreleased(), 1);
    let release = inbound.pubrel(id(9)).unwrap();
    assert_eq!(inbound.unreleased(), 0);
    assert!(inbound.ready(release));
}

#[test]
fn an_unknown_release_is_answered() {
    let mut inbound = Inbound::new(10);
    let release = inbound.pubrel(id(77)).unwrap();
    inbound.ready(release);
    assert_eq!(
        all_ready(&mut inbound),
        [Receipt::PubComp(
            id(77),
            ReasonCode::PacketIdentifierNotFound
        )]
    );
}

#[test]
fn at_the_limit_nothing_more_is_noted() {
    let mut inbound = Inbound::new(1);
    let only = token(inbound.received(id(1), QoS::AtLeastOnce));
    assert!(inbound.is_full());
    assert_eq!(inbound.received(id(2), QoS::ExactlyOnce), Received::Full);
    assert_eq!(inbound.pubrel(id(2)), None);
    assert_eq!(inbound.unreleased(), 0);
    inbound.ready(only);
    assert_eq!(
        inbound.next_ready(),
        Some(Receipt::PubAck(id(1), ReasonCode::Success))
    );
    token(inbound.received(id(2), QoS::ExactlyOnce));
}

#[test]
fn a_token_that_is_not_outstanding_changes_nothing() {
    let mut inbound = Inbound::new(2);
    assert!(!inbound.ready(0));
    let a = token(inbound.received(id(1), QoS::AtLeastOnce));
    inbound.ready(a);
    inbound.next_ready();
    let b = token(inbound.received(id(2), QoS::AtLeastOnce));
    assert!(!inbound.ready(a));
    assert!(!inbound.ready(u64::MAX));
    assert!(inbound.ready(b));
}

#[test]
fn a_refused_qos_2_message_frees_its_id() {
    let mut inbound = Inbound::new(10);
    let first = token(inbound.received(id(1), QoS::ExactlyOnce));
    assert!(inbound.ready_with(first, ReasonCode::QuotaExceeded));
    assert_eq!(
        all_ready(&mut inbound),
        [Receipt::PubRec(id(1), ReasonCode::QuotaExceeded)]
    );
    assert_eq!(inbound.unreleased(), 0);
    token(inbound.received(id(1), QoS::ExactlyOnce));
}

#[test]
fn a_refused_qos_1_message_is_answered_in_its_turn() {
    let mut inbound = Inbound::new(10);
    let a = token(inbound.received(id(1), QoS::AtLeastOnce));
    let b = token(inbound.received(id(2), QoS::AtLeastOnce));
    assert!(!inbound.ready_with(b, ReasonCode::NotAuthorized));
    inbound.ready_with(a, ReasonCode::NoMatchingSubscribers);
    assert_eq!(
        all_ready(&mut inbound),
        [
            Receipt::PubAck(id(1), ReasonCode::NoMatchingSubscribers),
            Receipt::PubAck(id(2), ReasonCode::NotAuthorized)
        ]
    );
}

#[test]
fn the_receive_maximum_is_held_against_what_has_no_last_answer() {
    let mut inbound = Inbound::new(10);
    inbound.resume([id(9)]);
    assert_eq!(inbound.unanswered(), 0, "of an earlier connection");
    let one = token(inbound.received(id(1), QoS::AtLeastOnce));
    let two = token(inbound.received(id(2), QoS::ExactlyOnce));
    let three = token(inbound.received(id(3), QoS::ExactlyOnce));
    assert_eq!(inbound.unanswered(), 3);
    inbound.ready(one);
    inbound.ready(two);
    inbound.ready_with(three, ReasonCode::QuotaExceeded);
    assert_eq!(inbound.unanswered(), 3, "nothing has gone");
    all_ready(&mut inbound);
    assert_eq!(inbound.unanswered(), 1, "PUBREC is not the last answer");
    for released in [2, 9] {
        let release = inbound.pubrel(id(released)).unwrap();
        inbound.ready(release);
    }
    all_ready(&mut inbound);
    assert_eq!(inbound.unanswered(), 0);
}

#[test]
fn a_message_that_comes_again_counts_once_against_the_receive_maximum() {
    let mut inbound = Inbound::new(10);
    inbound.resume([id(9)]);
    let first = token(inbound.received(id(1), QoS::ExactlyOnce));
    inbound.ready(first);
    all_ready(&mut inbound);
    for again in [1, 9, 9] {
        let received = inbound.received(id(again), QoS::ExactlyOnce);
        assert_eq!(received, Received::Duplicate);
    }
    assert_eq!(inbound.unanswered(), 2);
    for released in [1, 9, 9] {
        let release = inbound.pubrel(id(released)).unwrap();
        inbound.ready(release);
    }
    all_ready(&mut inbound);
    assert_eq!(inbound.unanswered(), 0);
}

#[test]
fn memory_is_held_until_the_work_is_done() {
    let mut inbound = Inbound::new(10);
    let a = token(inbound.received(id(1), QoS::AtLeastOnce));
    let b = token(inbound.received(id(2), QoS::ExactlyOnce));
    inbound.hold(a, 100);
    inbound.hold(b, 30);
    assert_eq!(inbound.held(), 130);
    inbound.ready(b);
    inbound.ready(b);
    assert_eq!(inbound.held(), 100);
    inbound.ready_with(a, ReasonCode::QuotaExceeded);
    assert_eq!(inbound.held(), 0);
    all_ready(&mut inbound);
    // What has been answered holds nothing any more.
    inbound.hold(a, 50);
    assert_eq!(inbound.held(), 0);
}
