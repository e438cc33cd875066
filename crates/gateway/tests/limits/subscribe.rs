//! SUBSCRIBE, UNSUBSCRIBE and how many subscriptions there may be.

use super::*;

#[tokio::test]
async fn a_subscribe_and_an_unsubscribe_have_so_many_filters() {
    let limits = Limits {
        max_filters_per_subscribe: 2,
        ..Limits::default()
    };
    for limits in [limits.clone(), aws(limits)] {
        let house = house(limits).await;
        let three = [("a", ZERO), ("b", ZERO), ("c", ZERO)];
        let mut five = client(&house, "five").await;
        assert_eq!(suback(&mut five, &three[..2]).await.0.len(), 2);
        let (code, words) = ended(&mut five, subscription(&three)).await;
        assert_eq!(code, ReasonCode::QuotaExceeded);
        assert!(words.contains("max_filters_per_subscribe (2)"), "{words}");
        closed(&house, subscription(&three)).await;
        let mut five = client(&house, "five").await;
        let unsubscribe = Packet::Unsubscribe(Unsubscribe {
            packet_id: NonZeroU16::MIN,
            filters: three.map(|(f, _)| Str::new(f).unwrap()).into(),
            properties: None,
        });
        let (code, _) = ended(&mut five, unsubscribe).await;
        assert_eq!(code, ReasonCode::QuotaExceeded);
    }
}

#[tokio::test]
async fn a_filter_has_the_limits_of_a_topic() {
    let limits = Limits {
        max_topic_levels: 3,
        max_topic_bytes: 12,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let (deep, long) = ("a/+/c/#", "0123456789abc");
    let filters = [
        ("a/+/#", ONE),
        (deep, ONE),
        ("0123456789ab", ONE),
        (long, ONE),
    ];
    let (codes, words) = suback(&mut five, &filters).await;
    let no = SubAckCode::Refused(ReasonCode::TopicFilterInvalid);
    let yes = SubAckCode::Granted(ONE);
    assert_eq!(codes, [yes, no, yes, no]);
    assert!(words.contains("a/+/c/#: a filter of 4 levels"), "{words}");
    assert!(
        words.contains("; 0123456789abc: a filter of 13 bytes"),
        "{words}"
    );
    let mut old = house.client("old").await;
    assert_eq!(
        old.subscribe(&filters).await,
        [yes, SubAckCode::FAILURE, yes, SubAckCode::FAILURE]
    );
    let house = another(aws(limits)).await;
    for filter in [deep, long] {
        let (code, _) = both_ended(&house, subscription(&[(filter, ONE)])).await;
        assert_eq!(code, ReasonCode::TopicFilterInvalid);
    }
}

#[tokio::test]
async fn a_session_has_so_many_subscriptions() {
    let broker = || BrokerLimits {
        max_subscriptions: 2,
        ..BrokerLimits::default()
    };
    let yes = SubAckCode::Granted(ONE);
    let no = SubAckCode::Refused(ReasonCode::QuotaExceeded);
    let three = [("a", ONE), ("b", ONE), ("c", ONE)];
    let house = House::open_with(Limits::default(), broker()).await;
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &three).await;
    assert_eq!(codes, [yes, yes, no]);
    assert!(words.contains("c: more subscriptions"), "{words}");
    // One that is there already is none more.
    assert_eq!(suback(&mut five, &[("b", ONE)]).await.0, [yes]);
    let mut old = house.client("old").await;
    assert_eq!(old.subscribe(&three).await, [yes, yes, SubAckCode::FAILURE]);
    // At AWS IoT Core the connection is closed behind the refusal.
    let house = House::open_with(aws(Limits::default()), broker()).await;
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &three).await;
    assert_eq!(codes, [yes, yes, no]);
    assert!(words.contains("max_subscriptions"), "{words}");
    let Packet::Disconnect(end) = five.receive().await else {
        panic!("no DISCONNECT")
    };
    assert_eq!(end.reason, ReasonCode::QuotaExceeded);
    assert_eq!(five.next().await, None);
    let mut old = house.client("old").await;
    assert_eq!(old.subscribe(&three).await, [yes, yes, SubAckCode::FAILURE]);
    assert_eq!(old.next().await, None);
}

#[tokio::test]
async fn a_subscription_identifier_can_be_refused() {
    let house = house(Limits {
        subscription_identifiers: false,
        ..Limits::default()
    })
    .await;
    let mut five = client(&house, "five").await;
    let Packet::Subscribe(mut packet) = subscription(&[("a", ONE)]) else {
        panic!("no SUBSCRIBE")
    };
    packet.properties = Some(Box::new(SubscribeProperties {
        subscription_id: std::num::NonZeroU32::new(1),
        ..SubscribeProperties::default()
    }));
    let (code, words) = ended(&mut five, Packet::Subscribe(packet)).await;
    assert_eq!(code, ReasonCode::SubscriptionIdentifiersNotSupported);
    assert!(words.contains("subscription_identifiers"), "{words}");
}
