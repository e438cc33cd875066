use super::*;

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

#[test]
fn the_window_is_the_limit() {
    let mut out = Outbound::new(2);
    assert_eq!(out.push(QoS::AtLeastOnce, 'a'), Some(id(1)));
    assert_eq!(out.push(QoS::ExactlyOnce, 'b'), Some(id(2)));
    assert_eq!(out.free(), 0);
    assert_eq!(out.push(QoS::AtLeastOnce, 'c'), None);
    assert_eq!(out.puback(id(1)), Some('a'));
    assert_eq!(out.push(QoS::AtLeastOnce, 'c'), Some(id(3)));
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_or_id_changes_nothing() {
    let mut out = Outbound::new(10);
    let one = out.push(QoS::AtLeastOnce, 1).unwrap();
    let two = out.push(QoS::ExactlyOnce, 2).unwrap();
    let request = out.push_request(3).unwrap();
    assert_eq!(out.puback(two), None);
    assert_eq!(out.pubcomp(two), None, "PUBREC has not come");
    assert_eq!(out.pubrec(one), PubRec::Unknown);
    assert_eq!(out.pubrec(request), PubRec::Unknown);
    assert_eq!(out.answered(one), None);
    assert_eq!(out.puback(id(999)), None);
    assert_eq!(out.len(), 3);
    assert_eq!(out.answered(request), Some(3));
    assert_eq!(out.answered(request), None);
}

#[test]
fn qos_2_goes_through_release() {
    let mut out = Outbound::new(10);
    let two = out.push(QoS::ExactlyOnce, 2).unwrap();
    assert_eq!(out.pubrec(two), PubRec::Released(&mut 2));
    assert_eq!(out.pubrec(two), PubRec::Again);
    assert!(out.iter().all(InFlight::released));
    assert_eq!(out.pubcomp(two), Some(2));
    assert_eq!(out.pubrec(two), PubRec::Unknown);
}

#[test]
fn resuming_keeps_ids_order_and_release() {
    let mut out = Outbound::new(3);
    out.resume([
        (id(65_535), QoS::AtLeastOnce, false, 'a'),
        (id(2), QoS::ExactlyOnce, true, 'b'),
        (id(1), QoS::ExactlyOnce, false, 'c'),
        (id(1), QoS::AtLeastOnce, false, 'x'),
        (id(7), QoS::AtMostOnce, false, 'y'),
        (id(4), QoS::AtLeastOnce, false, 'd'),
    ]);
    let order: Vec<_> = out.iter().map(|e| (e.packet_id.get(), e.item)).collect();
    assert_eq!(order, [(65_535, 'a'), (2, 'b'), (1, 'c'), (4, 'd')]);
    assert_eq!(out.free(), 0, "beyond the window, but not below nothing");
    assert_eq!(out.pubcomp(id(2)), Some('b'));
    assert_eq!(out.puback(id(65_535)), Some('a'));
    assert_eq!(out.push(QoS::AtLeastOnce, 'e'), Some(id(5)));
    let left: Vec<_> = out.drain().map(|e| e.item).collect();
    assert_eq!(left, ['c', 'd', 'e']);
    assert!(out.is_empty());
}

#[test]
fn an_id_in_flight_is_not_given_again_when_the_circle_closes() {
    let mut out = Outbound::new(3);
    let stuck = out.push(QoS::AtLeastOnce, 0).unwrap();
    let also_stuck = out.push(QoS::AtLeastOnce, 0).unwrap();
    let mut given = 0_u32;
    for round in 0..200_000_u32 {
        let id = out.push(QoS::AtLeastOnce, round).unwrap();
        assert!(id != stuck && id != also_stuck);
        assert_eq!(out.puback(id), Some(round));
        given += 1;
    }
    assert_eq!(given, 200_000);
}

#[test]
fn all_ids_can_be_in_flight() {
    let mut out = Outbound::new(u16::MAX);
    let mut seen = std::collections::HashSet::new();
    out.resume([(id(3), QoS::AtLeastOnce, false, ())]);
    seen.insert(id(3));
    while let Some(given) = out.push(QoS::AtLeastOnce, ()) {
        assert!(seen.insert(given));
    }
    assert_eq!(seen.len(), 65_535);
}

#[test]
fn a_refused_qos_2_message_is_given_back_once_and_only_before_its_release() {
    let mut out = Outbound::new(10);
    let refused = out.push(QoS::ExactlyOnce, 'a').unwrap();
    let released = out.push(QoS::ExactlyOnce, 'b').unwrap();
    out.pubrec(released);
    assert_eq!(out.refused(refused), Some('a'));
    assert_eq!(out.refused(refused), None);
    assert_eq!(out.refused(released), None);
    assert_eq!(out.pubcomp(released), Some('b'));
}
