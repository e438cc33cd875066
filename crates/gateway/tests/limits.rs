//! Every limit at its edge, in both profiles and both versions: what is just within it is taken,
//! one more is refused with the reason code and the words that version 5 has, or as 3.1.1 does it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_broker::Limits as BrokerLimits;
use iotedge_gateway::{Limits, Profile};
use iotedge_model::{Properties, QoS, UserProperty};
use iotedge_mqtt::{
    Connect, LastWill, Packet, Publish, ReasonCode, Str, SubAckCode, Subscribe,
    SubscribeProperties, Unsubscribe,
};
use support::v5::{client, hello, message, open, with};
use support::{Client, House, connect, publish};

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

fn aws(limits: Limits) -> Limits {
    Limits {
        profile: Profile::AwsIot,
        ..limits
    }
}

async fn house(limits: Limits) -> House {
    House::open(limits).await
}

/// [`house`], where a variable has its name.
async fn another(limits: Limits) -> House {
    House::open(limits).await
}

/// The PUBACK's reason and words.
async fn refused(client: &mut Client, packet: Packet) -> (ReasonCode, String) {
    client.send(&packet).await;
    let Packet::PubAck(ack) = client.receive().await else {
        panic!("no PUBACK")
    };
    let words = ack.properties.and_then(|p| p.reason_string);
    (
        ack.reason,
        words.map_or(String::new(), |w| w.as_str().into()),
    )
}

/// The DISCONNECT's reason and words, behind which the connection is closed.
async fn ended(client: &mut Client, packet: Packet) -> (ReasonCode, String) {
    client.send(&packet).await;
    let Packet::Disconnect(end) = client.receive().await else {
        panic!("no DISCONNECT")
    };
    assert_eq!(client.next().await, None, "closed behind DISCONNECT");
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    (end.reason, words.as_str().into())
}

/// A 3.1.1 client is thrown out without a word.
async fn closed(house: &House, packet: Packet) {
    let mut client = house.client("old").await;
    client.send(&packet).await;
    assert_eq!(client.next().await, None);
}

fn subscription(filters: &[(&str, QoS)]) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        filters: filters
            .iter()
            .map(|(f, q)| (Str::new(f).unwrap(), (*q).into()))
            .collect(),
        properties: None,
    })
}

/// SUBACK's codes and words.
async fn suback(client: &mut Client, filters: &[(&str, QoS)]) -> (Vec<SubAckCode>, String) {
    client.send(&subscription(filters)).await;
    let Packet::SubAck(ack) = client.receive().await else {
        panic!("no SUBACK")
    };
    let words = ack.properties.and_then(|p| p.reason_string);
    (
        ack.codes,
        words.map_or(String::new(), |w| w.as_str().into()),
    )
}

fn retained(packet: Packet) -> Packet {
    with(packet, |publish, _| publish.retain = true)
}

fn of_qos_2(packet: Packet) -> Packet {
    with(packet, |publish, _| publish.qos = TWO)
}

fn plain(packet: Packet) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish {
            properties: None,
            ..publish
        }),
        other => other,
    }
}

/// What a CONNECT is refused with, and the words.
async fn no_connack(house: &House, connect: Connect) -> (ReasonCode, String) {
    let (mut client, ack) = open(house, connect).await;
    assert_eq!(client.next().await, None, "closed behind the refusal");
    let words = ack.properties.and_then(|p| p.reason_string).expect("words");
    (ack.reason, words.as_str().into())
}

/// What 3.1.1 answers to a CONNECT.
async fn old_connack(house: &House, connect: Connect) -> Option<ReasonCode> {
    let mut client = Client::dial(house.mqtt()).await;
    client.send(&Packet::Connect(connect)).await;
    match client.next().await {
        None => None,
        Some(Packet::ConnAck(ack)) => Some(ack.reason),
        Some(other) => panic!("no CONNACK but {other:?}"),
    }
}

fn willing(id: &str, topic: &str, bytes: usize, qos: QoS, retain: bool) -> Connect {
    let mut connect = hello(id, |_| {});
    connect.will = Some(LastWill {
        topic: Str::new(topic).unwrap(),
        payload: Bytes::from(vec![b'x'; bytes]),
        qos,
        retain,
        properties: None,
    });
    connect
}

fn old(mut connect: Connect) -> Connect {
    connect.version = iotedge_mqtt::Version::V311;
    connect.properties = None;
    connect
}

#[tokio::test]
async fn connack_says_what_the_profile_allows() {
    let house = house(aws(Limits {
        max_qos: ONE,
        min_keep_alive: 30,
        max_keep_alive: Some(1_200),
        max_topic_alias: 8,
        subscription_identifiers: false,
        max_session_expiry: 3_600,
        ..Limits::default()
    }))
    .await;
    let ack = open(&house, hello("a", |p| p.session_expiry = 3_601))
        .await
        .1;
    let said = ack.properties.unwrap();
    assert_eq!(said.maximum_qos, ONE);
    assert_eq!(said.topic_alias_maximum, 8);
    assert!(said.retain_available && !said.subscription_identifier_available);
    assert_eq!(said.session_expiry, Some(3_600));
    for (asked, given) in [
        (0, 1_200),
        (29, 30),
        (30, 30),
        (1_200, 1_200),
        (1_201, 1_200),
    ] {
        let mut connect = hello("b", |_| {});
        connect.keep_alive = asked;
        let said = open(&house, connect).await.1.properties.unwrap();
        assert_eq!(said.server_keep_alive, Some(given), "{asked}");
    }
}

#[tokio::test]
async fn a_keep_alive_is_told_only_where_it_is_another() {
    let house = house(Limits {
        max_keep_alive: Some(100),
        retain_available: false,
        max_qos: ZERO,
        ..Limits::default()
    })
    .await;
    for (asked, given) in [(100, None), (101, Some(100)), (0, Some(100))] {
        let mut connect = hello("b", |_| {});
        connect.keep_alive = asked;
        let said = open(&house, connect).await.1.properties.unwrap();
        assert_eq!(said.server_keep_alive, given, "{asked}");
        assert!(!said.retain_available);
        assert_eq!(said.maximum_qos, ZERO);
    }
}

#[tokio::test]
async fn a_keep_alive_that_was_cut_is_kept_to() {
    let house = house(Limits {
        max_keep_alive: Some(1),
        ..Limits::default()
    })
    .await;
    let mut connect = connect("old");
    connect.keep_alive = 0;
    let mut silent = Client::dial(house.mqtt()).await;
    silent.send(&Packet::Connect(connect)).await;
    assert!(matches!(silent.receive().await, Packet::ConnAck(_)));
    assert_eq!(
        silent.next().await,
        None,
        "closed after one and a half seconds"
    );
}

#[tokio::test]
async fn a_client_id_has_its_limit() {
    let limits = Limits {
        max_client_id_bytes: 8,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    // Two bytes each.
    open(&house, hello("éééé", |_| {})).await;
    let long = "ééééa";
    let (code, words) = no_connack(&house, hello(long, |_| {})).await;
    assert_eq!(code, ReasonCode::ClientIdentifierNotValid);
    assert!(words.contains("9 bytes"), "{words}");
    let code = old_connack(&house, connect(long)).await;
    assert_eq!(code, Some(ReasonCode::ClientIdentifierNotValid));
    open(&house, hello("$mine", |_| {})).await;
    let house = another(aws(limits)).await;
    let (code, words) = no_connack(&house, hello("$mine", |_| {})).await;
    assert_eq!(code, ReasonCode::ClientIdentifierNotValid);
    assert!(words.contains("reserved"), "{words}");
}

#[tokio::test]
async fn a_will_has_the_limits_of_a_publish() {
    let limits = Limits {
        max_payload_bytes: 4,
        max_topic_levels: 2,
        max_topic_bytes: 10,
        max_qos: ONE,
        retain_available: false,
        ..Limits::default()
    };
    for limits in [limits.clone(), aws(limits)] {
        let is_aws = limits.profile == Profile::AwsIot;
        let house = house(limits).await;
        open(&house, willing("w", "a/b", 4, ONE, false)).await;
        for (connect, code) in [
            (
                willing("w", "a/b/c", 4, ONE, false),
                ReasonCode::TopicNameInvalid,
            ),
            (
                willing("w", "01234567890", 4, ONE, false),
                ReasonCode::TopicNameInvalid,
            ),
            (
                willing("w", "a/b", 5, ONE, false),
                ReasonCode::QuotaExceeded,
            ),
            (
                willing("w", "a/b", 4, ONE, true),
                ReasonCode::RetainNotSupported,
            ),
            (
                willing("w", "a/b", 4, TWO, false),
                ReasonCode::QosNotSupported,
            ),
        ] {
            assert_eq!(no_connack(&house, connect).await.0, code);
        }
        let code = old_connack(&house, old(willing("w", "a/b", 4, TWO, false))).await;
        let expected = (!is_aws).then_some(ReasonCode::NotAuthorized);
        assert_eq!(code, expected, "AWS IoT Core says nothing");
    }
}

#[tokio::test]
async fn a_topic_has_its_limits() {
    let limits = Limits {
        max_topic_levels: 3,
        max_topic_bytes: 12,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    for topic in ["a/b/c", "0123456789ab", "éééééé"] {
        let (code, words) = refused(&mut five, publish(topic, "x", Some(1))).await;
        assert_eq!(
            (code, words),
            (ReasonCode::NoMatchingSubscribers, String::new())
        );
    }
    for (topic, said) in [
        ("a/b/c/d", "max_topic_levels (3)"),
        ("0123456789abc", "max_topic_bytes (12)"),
    ] {
        let (code, words) = refused(&mut five, publish(topic, "x", Some(1))).await;
        assert_eq!(code, ReasonCode::TopicNameInvalid);
        assert!(words.contains(said), "{words}");
        let (code, words) = ended(&mut five, publish(topic, "x", None)).await;
        assert_eq!(code, ReasonCode::TopicNameInvalid);
        assert!(words.contains(said), "{words}");
        five = client(&house, "five").await;
        closed(&house, publish(topic, "x", Some(1))).await;
    }
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    assert_eq!(
        refused(&mut five, publish("a/b/c", "x", Some(1))).await.0,
        ReasonCode::Success
    );
    let (code, _) = ended(&mut five, publish("a/b/c/d", "x", Some(1))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
    closed(&house, publish("a/b/c/d", "x", Some(1))).await;
}

#[tokio::test]
async fn a_payload_has_its_limit() {
    let limits = Limits {
        max_payload_bytes: 10,
        ..Limits::default()
    };
    let (just, long) = ("0123456789", "0123456789a");
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, publish("a", just, Some(1))).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, words) = refused(&mut five, publish("a", long, Some(1))).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert!(words.contains("max_payload_bytes (10)"), "{words}");
    let (code, _) = ended(&mut five, publish("a", long, None)).await;
    assert_eq!(code, ReasonCode::PacketTooLarge);
    closed(&house, publish("a", long, Some(1))).await;
    let house = another(aws(limits)).await;
    for id in [Some(1), None] {
        let mut five = client(&house, "five").await;
        let (code, _) = ended(&mut five, publish("a", long, id)).await;
        assert_eq!(code, ReasonCode::QuotaExceeded);
    }
}

#[tokio::test]
async fn a_packet_has_its_limit() {
    let house = house(Limits {
        max_packet_bytes: 100,
        ..Limits::default()
    })
    .await;
    // Two bytes of fixed header, three of topic, two of packet id, one of properties.
    let just = "x".repeat(100 - 8);
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, publish("a", &just, Some(1))).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, _) = ended(&mut five, publish("a", &format!("{just}x"), Some(1))).await;
    assert_eq!(code, ReasonCode::PacketTooLarge);
    closed(&house, publish("a", &format!("{just}xx"), Some(1))).await;
}

#[tokio::test]
async fn user_properties_have_their_limit() {
    let house = house(Limits {
        max_user_property_bytes: 100,
        ..Limits::default()
    })
    .await;
    let user = |bytes: usize| {
        vec![UserProperty {
            name: "n".into(),
            value: "x".repeat(bytes - 1).into(),
        }]
    };
    let packet = |bytes| {
        with(publish("a", "x", Some(1)), |_, p| {
            p.message = Some(Box::new(Properties {
                user: user(bytes),
                ..Properties::default()
            }));
        })
    };
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, packet(100)).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, words) = ended(&mut five, packet(101)).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert!(words.contains("user properties"), "{words}");
    let (code, _) = no_connack(&house, hello("five", |p| p.user = user(101))).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
}

#[tokio::test]
async fn without_retained_messages_none_is_taken_or_sent() {
    let house = house(Limits {
        retain_available: false,
        ..Limits::default()
    })
    .await;
    let mut five = client(&house, "five").await;
    let (code, words) = ended(&mut five, retained(publish("a", "x", Some(1)))).await;
    assert_eq!(code, ReasonCode::RetainNotSupported);
    assert!(words.contains("retain_available"), "{words}");
    closed(&house, plain(retained(publish("a", "x", None)))).await;
}

#[tokio::test]
async fn nothing_is_retained_on_a_reserved_topic() {
    let topic = "$aws/things/t/shadow/update";
    let house = house(Limits::default()).await;
    let mut five = client(&house, "five").await;
    let (code, words) = refused(&mut five, retained(publish(topic, "{}", Some(1)))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
    assert!(words.contains("retained"), "{words}");
    let house = another(aws(Limits::default())).await;
    let mut five = client(&house, "five").await;
    let (code, _) = ended(&mut five, retained(publish(topic, "{}", Some(1)))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
}

#[tokio::test]
async fn a_qos_above_the_highest_is_not_taken_but_granted_as_far_as_it_goes() {
    let limits = Limits {
        max_qos: ZERO,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &[("a", ONE), ("b", TWO)]).await;
    assert_eq!(codes, [SubAckCode::Granted(ZERO); 2]);
    assert_eq!(words, "");
    let (code, words) = ended(&mut five, publish("a", "x", Some(1))).await;
    assert_eq!(code, ReasonCode::QosNotSupported);
    assert!(words.contains("max_qos (0)"), "{words}");
    closed(&house, publish("a", "x", Some(1))).await;
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    let (code, words) = ended(&mut five, subscription(&[("a", ONE)])).await;
    assert_eq!(code, ReasonCode::QosNotSupported);
    assert!(words.contains("max_qos (0)"), "{words}");
    closed(&house, subscription(&[("a", TWO)])).await;
}

#[tokio::test]
async fn qos_2_is_refused_where_1_is_the_highest() {
    let limits = Limits {
        max_qos: ONE,
        ..Limits::default()
    };
    for limits in [limits.clone(), aws(limits)] {
        let house = house(limits).await;
        let mut five = client(&house, "five").await;
        let (code, _) = ended(&mut five, of_qos_2(publish("a", "x", Some(1)))).await;
        assert_eq!(code, ReasonCode::QosNotSupported);
        closed(&house, plain(of_qos_2(publish("a", "x", Some(1))))).await;
    }
}

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
        let mut five = client(&house, "five").await;
        let (code, _) = ended(&mut five, subscription(&[(filter, ONE)])).await;
        assert_eq!(code, ReasonCode::TopicFilterInvalid);
        closed(&house, subscription(&[(filter, ONE)])).await;
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

#[tokio::test]
async fn a_message_lives_no_longer_than_the_limit() {
    let house = house(aws(Limits {
        max_message_expiry: Some(100),
        ..Limits::default()
    }))
    .await;
    let mut five = client(&house, "five").await;
    suback(&mut five, &[("a", ZERO)]).await;
    for (asked, got) in [(101, 99..=100), (50, 49..=50), (0, 0..=1)] {
        let packet = with(publish("a", "x", None), |_, p| {
            p.message_expiry = Some(asked)
        });
        five.send(&packet).await;
        let expiry = message(&mut five).await.properties.unwrap().message_expiry;
        assert!(got.contains(&expiry.unwrap()), "{asked}: {expiry:?}");
    }
}

#[tokio::test]
async fn an_alias_has_its_limit_in_both_directions() {
    let house = house(Limits {
        max_topic_alias: 1,
        ..Limits::default()
    })
    .await;
    let (mut five, _) = open(&house, hello("five", |p| p.topic_alias_maximum = 10)).await;
    suback(&mut five, &[("+", ZERO)]).await;
    for (topic, alias) in [("a", Some(1)), ("b", None)] {
        five.send(&publish(topic, "x", None)).await;
        let properties = message(&mut five).await.properties;
        let given = properties.and_then(|p| p.topic_alias).map(NonZeroU16::get);
        assert_eq!(given, alias, "{topic}");
    }
    let packet = |alias| {
        with(publish("c", "x", Some(1)), |_, p| {
            p.topic_alias = NonZeroU16::new(alias);
        })
    };
    let (code, _) = refused(&mut five, packet(1)).await;
    assert_eq!(code, ReasonCode::Success);
    let got = message(&mut five).await;
    assert_eq!(got.topic.as_str(), "c");
    let (code, words) = ended(&mut five, packet(2)).await;
    assert_eq!(code, ReasonCode::TopicAliasInvalid);
    assert!(words.contains("maximum of 1"), "{words}");
}

#[tokio::test]
async fn publishes_beyond_the_rate_wait_and_at_aws_they_are_discarded() {
    let limits = Limits {
        max_publish_rate: Some(5),
        ..Limits::default()
    };
    let seven: Vec<Packet> = (1..=7).map(|n| publish("a", "x", Some(n))).collect();
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let began = Instant::now();
    five.send_all(&seven).await;
    for n in 1..=7 {
        let Packet::PubAck(ack) = five.receive().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.packet_id.get(), n);
        assert_eq!(ack.reason, ReasonCode::NoMatchingSubscribers);
        let took = began.elapsed();
        assert!(
            n <= 5 || took > Duration::from_millis(990),
            "{n} after {took:?}"
        );
    }
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    five.send_all(&seven).await;
    for n in 1..=7 {
        let Packet::PubAck(ack) = five.receive().await else {
            panic!("no PUBACK")
        };
        let over = ack.reason == ReasonCode::QuotaExceeded;
        assert_eq!((ack.packet_id.get(), over), (n, n > 5));
        assert_eq!(ack.properties.is_some(), over, "words");
    }
    let mut old = house.client("old").await;
    old.send_all(&seven).await;
    old.send(&Packet::PingReq).await;
    for n in 1..=5 {
        let Packet::PubAck(ack) = old.receive().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.packet_id.get(), n);
    }
    assert_eq!(
        old.receive().await,
        Packet::PingResp,
        "nothing more, and it stays"
    );
}

#[tokio::test]
async fn deliveries_beyond_the_rate_wait_and_nothing_else_does() {
    let house = house(Limits {
        max_delivery_rate: Some(5),
        ..Limits::default()
    })
    .await;
    let mut slow = client(&house, "slow").await;
    suback(&mut slow, &[("a", ONE)]).await;
    let mut publisher = client(&house, "publisher").await;
    let began = Instant::now();
    for n in 1..=7 {
        let (code, _) = refused(&mut publisher, publish("a", "x", Some(n))).await;
        assert_eq!(code, ReasonCode::Success);
    }
    for _ in 1..=5 {
        message(&mut slow).await;
    }
    slow.send(&Packet::PingReq).await;
    assert_eq!(slow.receive().await, Packet::PingResp);
    for _ in 6..=7 {
        message(&mut slow).await;
    }
    assert!(began.elapsed() > Duration::from_millis(990));
}

#[tokio::test]
async fn bytes_beyond_the_rate_wait_in_both_directions() {
    let house = house(Limits {
        max_bytes_rate: Some(20_000),
        max_keep_alive: Some(1),
        ..Limits::default()
    })
    .await;
    // Its keep-alive waits while it is not read.
    let mut five = client(&house, "five").await;
    let began = Instant::now();
    let five_thousand = "x".repeat(5_000);
    let packets: Vec<Packet> = (1..=13)
        .map(|n| publish("a", &five_thousand, Some(n)))
        .collect();
    five.send_all(&packets).await;
    for n in 1..=13 {
        assert!(matches!(five.receive().await, Packet::PubAck(_)), "{n}");
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "65 kB in {took:?}");
    let house = another(Limits {
        max_bytes_rate: Some(20_000),
        ..Limits::default()
    })
    .await;
    let mut slow = client(&house, "slow").await;
    suback(&mut slow, &[("a", ZERO)]).await;
    let message = house.message("a", &five_thousand);
    let began = Instant::now();
    house.publish_all(vec![message; 13]);
    for _ in 1..=13 {
        support::v5::message(&mut slow).await;
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "65 kB in {took:?}");
    slow.send(&Packet::PingReq).await;
    assert_eq!(slow.receive().await, Packet::PingResp);
}

#[tokio::test]
async fn words_are_left_out_where_the_client_wants_none() {
    let house = house(Limits::default()).await;
    let (mut five, _) = open(
        &house,
        hello("five", |p| p.request_problem_information = false),
    )
    .await;
    let (code, words) = refused(&mut five, publish("forbidden", "x", Some(1))).await;
    assert_eq!((code, words.as_str()), (ReasonCode::NotAuthorized, ""));
    let (codes, words) = suback(&mut five, &[("forbidden", ONE), ("a/#/b", ONE)]).await;
    let no = SubAckCode::Refused;
    assert_eq!(
        codes,
        [
            no(ReasonCode::NotAuthorized),
            no(ReasonCode::TopicFilterInvalid)
        ]
    );
    assert_eq!(words, "");
    // DISCONNECT may have them all the same (3.1.2.11.7).
    let (code, words) = ended(&mut five, publish("forbidden", "x", None)).await;
    assert_eq!(code, ReasonCode::NotAuthorized);
    assert!(words.contains("iot:Publish is denied"), "{words}");
}

#[tokio::test]
async fn an_unknown_packet_id_is_told_in_words() {
    let house = house(Limits::default()).await;
    let id = NonZeroU16::MIN;
    for talkative in [true, false] {
        let hello = hello("five", |p| p.request_problem_information = talkative);
        let (mut five, _) = open(&house, hello).await;
        five.send(&Packet::PubRel(id.into())).await;
        let Packet::PubComp(done) = five.receive().await else {
            panic!("no PUBCOMP")
        };
        five.send(&Packet::PubRec(id.into())).await;
        let Packet::PubRel(release) = five.receive().await else {
            panic!("no PUBREL")
        };
        for ack in [done, release] {
            assert_eq!(ack.reason, ReasonCode::PacketIdentifierNotFound);
            let words = ack.properties.and_then(|p| p.reason_string);
            assert_eq!(words.is_some(), talkative);
        }
    }
}

#[tokio::test]
async fn words_of_many_filters_have_an_end_and_fit_into_what_the_client_takes() {
    let house = house(Limits::default()).await;
    let many: Vec<String> = (0..100).map(|n| format!("forbidden/{n}")).collect();
    let filters: Vec<(&str, QoS)> = many.iter().map(|f| (f.as_str(), ONE)).collect();
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &filters).await;
    assert_eq!(codes.len(), 100);
    assert!((512..=1_024).contains(&words.len()), "{}", words.len());
    let small = std::num::NonZeroU32::new(200);
    let (mut five, _) = open(&house, hello("five", |p| p.maximum_packet_size = small)).await;
    let (codes, words) = suback(&mut five, &filters).await;
    assert_eq!((codes.len(), words.as_str()), (100, ""));
}

#[tokio::test]
async fn whoever_is_closed_is_told_why() {
    let house = house(Limits::default()).await;
    let mut first = client(&house, "same").await;
    let _second = client(&house, "same").await;
    let Packet::Disconnect(end) = first.receive().await else {
        panic!("no DISCONNECT")
    };
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    assert!(
        words.as_str().contains("taken the client id over"),
        "{words}"
    );
    let mut connect = hello("silent", |_| {});
    connect.keep_alive = 1;
    let (mut silent, _) = open(&house, connect).await;
    let Packet::Disconnect(end) = silent.receive().await else {
        panic!("no DISCONNECT")
    };
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    assert!(words.as_str().contains("keep-alive"), "{words}");
    // Nothing of the sort is said to 3.1.1, which has no DISCONNECT from a server.
    let mut old = house.client("old").await;
    let _again = house.client("old").await;
    assert_eq!(old.next().await, None);
}
