//! MQTT 5 over real sockets: the gateway with the real broker and store. Numbers in brackets are
//! the statements of MQTT 5.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iotedge_broker::Limits as BrokerLimits;
use iotedge_gateway::Limits;
use iotedge_model::{Properties, QoS, Topic, UserProperty};
use iotedge_mqtt::{
    Ack, Auth, AuthProperties, ConnAck, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, LastWill, Packet, Publish, PublishProperties, ReasonCode, RetainHandling,
    Str, SubAckCode, Subscribe, SubscribeProperties, SubscriptionOptions, UnsubAck, Unsubscribe,
    Version, WillProperties,
};
use iotedge_ports::BrokerPort;
use support::{Client, House, connect, publish};
use tokio::io::AsyncWriteExt;

/// A version 5 CONNECT with these properties.
fn hello(id: &str, set: impl FnOnce(&mut ConnectProperties)) -> Connect {
    let mut properties = ConnectProperties::default();
    set(&mut properties);
    Connect {
        version: Version::V5,
        properties: Some(Box::new(properties)),
        ..connect(id)
    }
}

async fn open(house: &House, connect: Connect) -> (Client, ConnAck) {
    let mut client = Client::dial_as(Version::V5, house.mqtt()).await;
    client.send(&Packet::Connect(connect)).await;
    match client.receive().await {
        Packet::ConnAck(ack) => (client, ack),
        other => panic!("no CONNACK but {other:?}"),
    }
}

async fn client(house: &House, id: &str) -> Client {
    let (client, ack) = open(house, hello(id, |_| {})).await;
    assert_eq!(ack.reason, ReasonCode::Success);
    client
}

/// With a session that outlives its connection by an hour.
async fn keeper(house: &House, id: &str, clean: bool) -> (Client, bool) {
    let mut connect = hello(id, |p| p.session_expiry = 3_600);
    connect.clean = clean;
    let (client, ack) = open(house, connect).await;
    (client, ack.session_present)
}

/// A PUBLISH with these properties.
fn with(packet: Packet, set: impl FnOnce(&mut Publish, &mut PublishProperties)) -> Packet {
    let Packet::Publish(mut publish) = packet else {
        panic!("no PUBLISH")
    };
    let mut properties = PublishProperties::default();
    set(&mut publish, &mut properties);
    publish.properties = Some(Box::new(properties));
    Packet::Publish(publish)
}

async fn puback(client: &mut Client) -> ReasonCode {
    match client.receive().await {
        Packet::PubAck(ack) => ack.reason,
        other => panic!("no PUBACK but {other:?}"),
    }
}

async fn message(client: &mut Client) -> Publish {
    match client.receive().await {
        Packet::Publish(publish) => publish,
        other => panic!("no PUBLISH but {other:?}"),
    }
}

/// The reason of the DISCONNECT, behind which the connection is closed ([MQTT-3.14.4-1]).
async fn thrown_out(client: &mut Client) -> ReasonCode {
    let reason = match client.receive().await {
        Packet::Disconnect(end) => end.reason,
        other => panic!("no DISCONNECT but {other:?}"),
    };
    assert_eq!(client.next().await, None, "closed behind DISCONNECT");
    reason
}

async fn leave(mut client: Client, reason: ReasonCode, session_expiry: Option<u32>) {
    let properties = session_expiry.map(|_| {
        Box::new(DisconnectProperties {
            session_expiry,
            ..DisconnectProperties::default()
        })
    });
    client
        .send(&Packet::Disconnect(Disconnect { reason, properties }))
        .await;
    assert_eq!(client.next().await, None, "nothing is said to who has gone");
}

async fn subscribe(
    client: &mut Client,
    filters: &[(&str, SubscriptionOptions)],
    id: Option<u32>,
) -> Vec<SubAckCode> {
    let packet = Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        filters: filters
            .iter()
            .map(|(f, o)| (Str::new(f).unwrap(), *o))
            .collect(),
        properties: id.map(|id| {
            Box::new(SubscribeProperties {
                subscription_id: NonZeroU32::new(id),
                ..SubscribeProperties::default()
            })
        }),
    });
    client.send(&packet).await;
    match client.receive().await {
        Packet::SubAck(ack) => ack.codes,
        other => panic!("no SUBACK but {other:?}"),
    }
}

fn will(delay: u32) -> Option<LastWill> {
    Some(LastWill {
        topic: Str::new("will").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Some(Box::new(WillProperties {
            delay,
            message_expiry: Some(60),
            message: Some(Box::new(Properties {
                content_type: Some("text/plain".into()),
                ..Properties::default()
            })),
        })),
    })
}

/// Nothing comes before what this brings: publishes it and takes it.
async fn nothing_before(house: &House, watcher: &mut Client, topic: &str) {
    let mut publisher = client(house, "marker").await;
    publisher.send(&publish(topic, "marker", None)).await;
    assert_eq!(message(watcher).await.payload, "marker");
}

const ONE: QoS = QoS::AtLeastOnce;

#[tokio::test]
async fn connack_says_what_there_is_and_what_there_is_not() {
    let house = House::open(Limits {
        session_expiry_max: 100,
        ..Limits::default()
    })
    .await;
    let mut connect = hello("", |p| p.session_expiry = u32::MAX);
    connect.clean = false;
    let (_client, ack) = open(&house, connect).await;
    assert_eq!(
        (ack.reason, ack.session_present),
        (ReasonCode::Success, false)
    );
    let properties = ack.properties.unwrap();
    assert!(properties.assigned_client_id.is_some());
    assert_eq!(properties.session_expiry, Some(100));
    assert_eq!(properties.receive_maximum.get(), 100);
    assert_eq!(properties.maximum_packet_size.unwrap().get(), 1 << 20);
    assert_eq!(properties.maximum_qos, ONE);
    assert!(properties.retain_available && properties.wildcard_subscription_available);
    assert!(properties.subscription_identifier_available);
    assert!(!properties.shared_subscription_available);
    assert_eq!(properties.topic_alias_maximum, 32);
    let (_client, ack) = open(&house, hello("own", |p| p.session_expiry = 100)).await;
    let properties = ack.properties.unwrap();
    assert_eq!(properties.session_expiry, None, "what was asked for");
    assert_eq!(properties.assigned_client_id, None);
}

#[tokio::test]
async fn each_refused_connect_has_its_reason_code() {
    let house = House::open_with(
        Limits::default(),
        BrokerLimits {
            max_connections: 1,
            ..BrokerLimits::default()
        },
    )
    .await;
    let refused = |connect: Connect| async {
        let (mut client, ack) = open(&house, connect).await;
        assert_eq!(client.next().await, None, "closed behind the refusal");
        let properties = ack.properties.expect("says why");
        assert!(properties.reason_string.is_some());
        ack.reason
    };
    let plain = |id: &str| hello(id, |_| {});
    assert_eq!(refused(plain("stranger")).await, ReasonCode::NotAuthorized);
    let method = hello("c", |p| p.authentication_method = Str::new("SCRAM").ok());
    assert_eq!(refused(method).await, ReasonCode::BadAuthenticationMethod);
    let mut unwilling = plain("w");
    unwilling.will = will(0);
    unwilling.will.as_mut().unwrap().topic = Str::new("forbidden").unwrap();
    assert_eq!(refused(unwilling.clone()).await, ReasonCode::NotAuthorized);
    unwilling.will.as_mut().unwrap().qos = QoS::ExactlyOnce;
    assert_eq!(refused(unwilling).await, ReasonCode::QosNotSupported);
    let _one = client(&house, "one").await;
    assert_eq!(refused(plain("two")).await, ReasonCode::QuotaExceeded);
    // A CONNECT that cannot be read: a receive maximum of 0.
    let mut client = Client::dial_as(Version::V5, house.mqtt()).await;
    let bytes = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x01c";
    client.socket.write_all(bytes).await.unwrap();
    let Packet::ConnAck(ack) = client.receive().await else {
        panic!("no CONNACK")
    };
    assert_eq!(ack.reason, ReasonCode::ProtocolError);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_refusal_is_no_larger_than_the_client_takes() {
    let house = House::open(Limits::default()).await;
    let connect = hello("stranger", |p| p.maximum_packet_size = NonZeroU32::new(20));
    let (_client, ack) = open(&house, connect).await;
    assert_eq!(ack.reason, ReasonCode::NotAuthorized);
    assert!(ack.properties.is_none_or(|p| p.reason_string.is_none()));
}

#[tokio::test]
async fn a_session_lives_as_long_as_its_expiry_says() {
    let house = House::open(Limits::default()).await;
    // Without an expiry it ends with the connection, clean start or not.
    let mut connect = hello("short", |_| {});
    connect.clean = false;
    leave(
        open(&house, connect.clone()).await.0,
        ReasonCode::Success,
        None,
    )
    .await;
    assert!(!open(&house, connect).await.1.session_present);
    // With one it is resumed within it ...
    let (client, _) = keeper(&house, "long", true).await;
    leave(client, ReasonCode::Success, None).await;
    house.clock.advance(Duration::from_secs(3_500));
    house.broker.tick();
    let (client, present) = keeper(&house, "long", false).await;
    assert!(present);
    leave(client, ReasonCode::Success, None).await;
    // ... not after it ...
    house.clock.advance(Duration::from_secs(3_601));
    house.broker.tick();
    let (client, present) = keeper(&house, "long", false).await;
    assert!(!present);
    // ... not after a DISCONNECT that takes it back ...
    leave(client, ReasonCode::Success, Some(0)).await;
    let (client, present) = keeper(&house, "long", false).await;
    assert!(!present);
    leave(client, ReasonCode::Success, None).await;
    // ... and a clean start throws it away.
    assert!(!keeper(&house, "long", true).await.1);
}

#[tokio::test]
async fn disconnect_cannot_give_a_session_a_life_that_connect_did_not() {
    let house = House::open(Limits::default()).await;
    let mut client = client(&house, "c").await;
    let properties = Box::new(DisconnectProperties {
        session_expiry: Some(10),
        ..DisconnectProperties::default()
    });
    client
        .send(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: Some(properties),
        }))
        .await;
    assert_eq!(thrown_out(&mut client).await, ReasonCode::ProtocolError);
}

#[tokio::test]
async fn what_travels_with_a_message_arrives() {
    let house = House::open(Limits::default()).await;
    let mut subscriber = client(&house, "sub").await;
    subscribe(&mut subscriber, &[("a/#", ONE.into())], Some(7)).await;
    subscribe(&mut subscriber, &[("a/b", ONE.into())], Some(70_000)).await;
    let mut old = house.client("old").await;
    old.subscribe(&[("a/b", ONE)]).await;
    let user = |name: &str| UserProperty {
        name: name.into(),
        value: "v".into(),
    };
    let travels = Properties {
        content_type: Some("text/plain".into()),
        correlation_data: Some(vec![0, 1, 2]),
        user: vec![user("b"), user("a"), user("b")],
        ..Properties::default()
    };
    let packet = with(publish("a/b", "x", Some(1)), |_, p| {
        p.message_expiry = Some(100);
        p.message = Some(Box::new(travels.clone()));
    });
    let mut publisher = client(&house, "pub").await;
    publisher.send(&packet).await;
    assert_eq!(puback(&mut publisher).await, ReasonCode::Success);
    let got = message(&mut subscriber).await;
    let properties = got.properties.unwrap();
    assert_eq!(*properties.message.unwrap(), travels);
    assert!(matches!(properties.message_expiry, Some(99 | 100)));
    let mut ids = properties.subscription_ids;
    ids.sort_unstable();
    assert_eq!(ids, [7, 70_000]);
    // 3.1.1 has no room for any of it.
    let Packet::Publish(got) = old.receive().await else {
        panic!("no PUBLISH")
    };
    assert_eq!((got.payload, got.properties), ("x".into(), None));
}

#[tokio::test]
async fn a_message_that_waited_has_so_much_less_to_live_and_may_be_too_late() {
    let house = House::open(Limits::default()).await;
    let (mut away, _) = keeper(&house, "away", true).await;
    subscribe(&mut away, &[("a", ONE.into())], None).await;
    leave(away, ReasonCode::Success, None).await;
    let mut publisher = client(&house, "pub").await;
    for (n, expiry) in [(1, 10), (2, 1_000)] {
        let packet = publish("a", &n.to_string(), Some(n));
        let packet = with(packet, |_, p| p.message_expiry = Some(expiry));
        publisher.send(&packet).await;
        assert_eq!(puback(&mut publisher).await, ReasonCode::Success);
    }
    house.clock.advance(Duration::from_secs(100));
    let (mut back, present) = keeper(&house, "away", false).await;
    assert!(present);
    let got = message(&mut back).await;
    assert_eq!(got.payload, "2");
    let left = got.properties.unwrap().message_expiry.unwrap();
    assert!((880..=900).contains(&left), "{left}");
}

#[tokio::test]
async fn aliases_stand_for_topics_in_both_directions() {
    let house = House::open(Limits::default()).await;
    let (mut client, _) = open(&house, hello("c", |p| p.topic_alias_maximum = 1)).await;
    subscribe(&mut client, &[("a/#", QoS::AtMostOnce.into())], None).await;
    let alias = |topic: &str, payload: &str| {
        with(publish("x", payload, None), |publish, p| {
            publish.topic = Str::new(topic).unwrap();
            p.topic_alias = NonZeroU16::new(32);
        })
    };
    client.send(&alias("a/1", "1")).await;
    client.send(&alias("", "2")).await;
    client.send(&alias("a/2", "3")).await;
    client.send(&alias("", "4")).await;
    let mut got = Vec::new();
    for _ in 0..4 {
        let publish = message(&mut client).await;
        let alias = publish.properties.and_then(|p| p.topic_alias);
        got.push((
            publish.topic.as_str().to_owned(),
            publish.payload,
            alias.map(NonZeroU16::get),
        ));
    }
    let expected = [
        ("a/1", "1", Some(1)),
        ("", "2", Some(1)),
        ("a/2", "3", None),
        ("a/2", "4", None),
    ];
    let expected = expected.map(|(t, p, a)| (t.to_owned(), Bytes::from_static(p.as_bytes()), a));
    assert_eq!(got, expected);
}

#[tokio::test]
async fn an_alias_that_is_too_high_or_stands_for_nothing_ends_the_connection() {
    let house = House::open(Limits::default()).await;
    for (alias, topic, reason) in [
        (33, "a", ReasonCode::TopicAliasInvalid),
        (32, "", ReasonCode::ProtocolError),
    ] {
        let mut client = client(&house, "c").await;
        let packet = with(publish("x", "", None), |publish, p| {
            publish.topic = Str::new(topic).unwrap();
            p.topic_alias = NonZeroU16::new(alias);
        });
        client.send(&packet).await;
        assert_eq!(thrown_out(&mut client).await, reason);
    }
}

#[tokio::test]
async fn a_publish_that_is_refused_is_told_so_and_only_qos_0_ends_the_connection() {
    let house = House::open(Limits {
        max_topic_levels: 3,
        max_payload_bytes: 10,
        ..Limits::default()
    })
    .await;
    let cases = [
        (
            "forbidden",
            "x",
            ReasonCode::NotAuthorized,
            ReasonCode::NotAuthorized,
        ),
        (
            "$aws/x",
            "x",
            ReasonCode::TopicNameInvalid,
            ReasonCode::TopicNameInvalid,
        ),
        (
            "a/b/c/d",
            "x",
            ReasonCode::TopicNameInvalid,
            ReasonCode::TopicNameInvalid,
        ),
        (
            "a",
            "01234567890",
            ReasonCode::QuotaExceeded,
            ReasonCode::PacketTooLarge,
        ),
    ];
    let mut one = client(&house, "one").await;
    for (topic, payload, acknowledged, disconnected) in cases {
        one.send(&publish(topic, payload, Some(1))).await;
        assert_eq!(puback(&mut one).await, acknowledged, "{topic}");
        let mut zero = client(&house, "zero").await;
        zero.send(&publish(topic, payload, None)).await;
        assert_eq!(thrown_out(&mut zero).await, disconnected, "{topic}");
    }
    one.send(&publish("nobody/listens", "x", Some(2))).await;
    assert_eq!(puback(&mut one).await, ReasonCode::NoMatchingSubscribers);
    subscribe(&mut one, &[("a", QoS::AtMostOnce.into())], None).await;
    one.send(&publish("a", "x", Some(3))).await;
    let (first, second) = (one.receive().await, one.receive().await);
    assert!([first, second].contains(&Packet::PubAck(NonZeroU16::new(3).unwrap().into())));
}

#[tokio::test]
async fn a_full_house_refuses_a_message_and_keeps_the_connection() {
    let house = House::open_with(
        Limits::default(),
        BrokerLimits {
            retained_max: 1,
            ..BrokerLimits::default()
        },
    )
    .await;
    let mut client = client(&house, "c").await;
    for (n, reason) in [(1, ReasonCode::Success), (2, ReasonCode::QuotaExceeded)] {
        let packet = with(publish(&format!("a/{n}"), "x", Some(n)), |publish, _| {
            publish.retain = true;
        });
        client.send(&packet).await;
        assert_eq!(puback(&mut client).await, reason);
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_before_the_connection_is_closed() {
    let house = House::open(Limits::default()).await;
    let mut two = client(&house, "c").await;
    let packet = Packet::Publish(Publish {
        qos: QoS::ExactlyOnce,
        ..match publish("a", "x", Some(1)) {
            Packet::Publish(publish) => publish,
            _ => panic!("no PUBLISH"),
        }
    });
    two.send(&packet).await;
    assert_eq!(thrown_out(&mut two).await, ReasonCode::QosNotSupported);
    let mut auth = client(&house, "c").await;
    auth.send(&Packet::Auth(Auth {
        reason: ReasonCode::ReAuthenticate,
        properties: Some(Box::new(AuthProperties {
            method: Str::new("SCRAM").ok(),
            ..AuthProperties::default()
        })),
    }))
    .await;
    assert_eq!(thrown_out(&mut auth).await, ReasonCode::ProtocolError);
    for (bytes, reason) in [
        (&b"\x36\x03\x00\x01a"[..], ReasonCode::MalformedPacket),
        (b"\x3f\xff\xff\xff\x7f", ReasonCode::MalformedPacket),
        (b"\x30\xff\xff\xff\x7f", ReasonCode::PacketTooLarge),
        (b"\xc1\x00", ReasonCode::MalformedPacket),
        (b"\x30\x04\x00\x01#\x00", ReasonCode::TopicNameInvalid),
    ] {
        let mut client = client(&house, "c").await;
        client.socket.write_all(bytes).await.unwrap();
        assert_eq!(thrown_out(&mut client).await, reason, "{bytes:?}");
    }
}

#[tokio::test]
async fn nothing_larger_than_the_client_takes_is_sent() {
    let house = House::open(Limits::default()).await;
    let mut connect = hello("c", |p| {
        p.maximum_packet_size = NonZeroU32::new(100);
        p.session_expiry = 60;
    });
    let (mut small, _) = open(&house, connect.clone()).await;
    subscribe(&mut small, &[("a", ONE.into())], None).await;
    let mut publisher = client(&house, "pub").await;
    for (n, size) in [(1, 200), (2, 10), (3, 94), (4, 93)] {
        publisher
            .send(&publish("a", &"x".repeat(size), Some(n)))
            .await;
        assert_eq!(puback(&mut publisher).await, ReasonCode::Success);
    }
    // Of 94 bytes the packet has 2 + 3 + 2 + 1 more: 100 with a payload of 92.
    let got = message(&mut small).await;
    assert_eq!(got.payload.len(), 10);
    small
        .send(&Packet::PubAck(got.packet_id.unwrap().into()))
        .await;
    publisher
        .send(&publish("a", &"x".repeat(92), Some(5)))
        .await;
    let got = message(&mut small).await;
    assert_eq!(got.payload.len(), 92);
    small
        .send(&Packet::PubAck(got.packet_id.unwrap().into()))
        .await;
    leave(small, ReasonCode::Success, None).await;
    // What was dropped does not come again when the client takes more.
    connect.clean = false;
    connect.properties.as_mut().unwrap().maximum_packet_size = None;
    let (mut back, ack) = open(&house, connect).await;
    assert!(ack.session_present);
    nothing_before(&house, &mut back, "a").await;
}

#[tokio::test]
async fn no_more_is_in_flight_than_the_client_takes_and_a_resumed_session_keeps_to_it() {
    let house = House::open(Limits::default()).await;
    let connect = |maximum: u16, clean| Connect {
        clean,
        ..hello("c", |p| {
            p.receive_maximum = NonZeroU16::new(maximum).unwrap();
            p.session_expiry = 60;
        })
    };
    let (mut subscriber, _) = open(&house, connect(3, true)).await;
    subscribe(&mut subscriber, &[("a", ONE.into())], None).await;
    let mut publisher = client(&house, "pub").await;
    for n in 1..=6 {
        publisher.send(&publish("a", &n.to_string(), Some(n))).await;
        assert_eq!(puback(&mut publisher).await, ReasonCode::Success);
    }
    let ids = |got: &[Publish]| -> Vec<Bytes> { got.iter().map(|p| p.payload.clone()).collect() };
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(message(&mut subscriber).await);
    }
    assert_eq!(ids(&got), ["1", "2", "3"]);
    subscriber.send(&Packet::PingReq).await;
    assert_eq!(
        subscriber.receive().await,
        Packet::PingResp,
        "no fourth one"
    );
    drop(subscriber);
    let (mut subscriber, ack) = open(&house, connect(1, false)).await;
    assert!(ack.session_present);
    for n in 1..=6_u16 {
        let got = message(&mut subscriber).await;
        assert_eq!((got.payload, got.dup), (n.to_string().into(), n <= 3));
        subscriber.send(&Packet::PingReq).await;
        assert_eq!(
            subscriber.receive().await,
            Packet::PingResp,
            "no second one"
        );
        let ack = Ack::new(got.packet_id.unwrap(), ReasonCode::Success);
        subscriber.send(&Packet::PubAck(ack)).await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_receive_maximum_is_told_so() {
    let house = House::open(Limits {
        max_inflight: 5,
        ..Limits::default()
    })
    .await;
    let (mut taker, _) = keeper(&house, "taker", true).await;
    subscribe(&mut taker, &[("a", ONE.into())], None).await;
    let mut client = client(&house, "c").await;
    let mut out = BytesMut::new();
    for n in 1..=6 {
        let packet = publish("a", "x", Some(n));
        iotedge_mqtt::encode_for(Version::V5, &packet, &mut out).unwrap();
    }
    client.socket.write_all(&out).await.unwrap();
    let reason = loop {
        match client.receive().await {
            Packet::PubAck(_) => {}
            Packet::Disconnect(end) => break end.reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, ReasonCode::ReceiveMaximumExceeded);
}

#[tokio::test]
async fn each_filter_has_its_reason_code() {
    let house = House::open_with(
        Limits::default(),
        BrokerLimits {
            max_subscriptions: 2,
            ..BrokerLimits::default()
        },
    )
    .await;
    let mut client = client(&house, "c").await;
    let filters = ["a", "forbidden", "a/#/b", "$share/g/a", "b", "c"];
    let asked: Vec<_> = filters.map(|f| (f, QoS::ExactlyOnce.into())).into();
    let codes = subscribe(&mut client, &asked, None).await;
    let refused = SubAckCode::Refused;
    assert_eq!(
        codes,
        [
            SubAckCode::Granted(ONE),
            refused(ReasonCode::NotAuthorized),
            refused(ReasonCode::TopicFilterInvalid),
            refused(ReasonCode::SharedSubscriptionsNotSupported),
            SubAckCode::Granted(ONE),
            refused(ReasonCode::QuotaExceeded),
        ]
    );
    client
        .send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: NonZeroU16::MIN,
            filters: ["a", "a/#/b", "c"].map(|f| Str::new(f).unwrap()).into(),
            properties: None,
        }))
        .await;
    let Packet::UnsubAck(UnsubAck { codes, .. }) = client.receive().await else {
        panic!("no UNSUBACK")
    };
    assert_eq!(
        codes,
        [
            ReasonCode::Success,
            ReasonCode::TopicFilterInvalid,
            ReasonCode::NoSubscriptionExisted,
        ]
    );
}

#[tokio::test]
async fn subscription_options_do_what_they_say() {
    let house = House::open(Limits::default()).await;
    let mut c = client(&house, "c").await;
    let options = |set: fn(&mut SubscriptionOptions)| {
        let mut options = SubscriptionOptions::from(QoS::AtMostOnce);
        set(&mut options);
        options
    };
    let retained = |topic: &str, payload: &str| {
        with(publish(topic, payload, None), |publish, _| {
            publish.retain = true
        })
    };
    // No local, for what is kept too; others' messages come.
    let no_local = options(|o| o.no_local = true);
    c.send(&retained("mine/kept", "own")).await;
    subscribe(&mut c, &[("mine/#", no_local)], None).await;
    c.send(&publish("mine/x", "own", None)).await;
    nothing_before(&house, &mut c, "mine/x").await;
    // Retain as published.
    let as_published = options(|o| o.retain_as_published = true);
    subscribe(
        &mut c,
        &[("kept", as_published), ("plain", options(|_| {}))],
        None,
    )
    .await;
    c.send(&retained("kept", "1")).await;
    c.send(&retained("plain", "2")).await;
    let (first, second) = (message(&mut c).await, message(&mut c).await);
    assert_eq!((first.payload, first.retain), ("1".into(), true));
    assert_eq!((second.payload, second.retain), ("2".into(), false));
    // Retain handling: never, only when new, always.
    let never = options(|o| o.retain_handling = RetainHandling::DoNotSend);
    let if_new = options(|o| o.retain_handling = RetainHandling::SendIfNew);
    let mut d = client(&house, "d").await;
    subscribe(&mut d, &[("plain", never)], None).await;
    subscribe(&mut d, &[("plain", if_new)], None).await;
    subscribe(&mut d, &[("kept", if_new)], None).await;
    let got = message(&mut d).await;
    assert_eq!((got.topic.as_str(), got.retain), ("kept", true));
    subscribe(&mut d, &[("kept", if_new)], None).await;
    nothing_before(&house, &mut d, "kept").await;
    subscribe(&mut d, &[("plain", options(|_| {}))], None).await;
    assert_eq!(message(&mut d).await.payload, "2");
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_a_client_that_is_back_has_none() {
    let house = House::open(Limits::default()).await;
    let mut watcher = client(&house, "w").await;
    subscribe(&mut watcher, &[("will", QoS::AtMostOnce.into())], None).await;
    let connect = |clean| Connect {
        clean,
        will: will(30),
        ..hello("c", |p| p.session_expiry = 3_600)
    };
    // Back within the delay; then a DISCONNECT that keeps the will.
    let (lost, _) = open(&house, connect(true)).await;
    drop(lost);
    house.clock.advance(Duration::from_secs(20));
    house.broker.tick();
    let (back, ack) = open(&house, connect(false)).await;
    assert!(ack.session_present);
    house.clock.advance(Duration::from_secs(20));
    house.broker.tick();
    nothing_before(&house, &mut watcher, "will").await;
    leave(back, ReasonCode::DisconnectWithWillMessage, None).await;
    nothing_before(&house, &mut watcher, "will").await;
    house.clock.advance(Duration::from_secs(31));
    house.broker.tick();
    let got = message(&mut watcher).await;
    assert_eq!(got.payload, "gone");
    let properties = got.properties.unwrap();
    assert_eq!(
        properties.message.unwrap().content_type.as_deref(),
        Some("text/plain")
    );
    assert!(matches!(properties.message_expiry, Some(59 | 60)));
    // The session's end is earlier than the delay's; a normal DISCONNECT leaves none.
    let (back, _) = open(&house, connect(false)).await;
    leave(back, ReasonCode::DisconnectWithWillMessage, Some(0)).await;
    assert_eq!(message(&mut watcher).await.payload, "gone");
    let (back, _) = open(&house, connect(false)).await;
    leave(back, ReasonCode::Success, Some(0)).await;
    nothing_before(&house, &mut watcher, "will").await;
}

#[tokio::test]
async fn a_will_that_waits_is_published_when_a_clean_start_ends_its_session() {
    let house = House::open(Limits::default()).await;
    let mut watcher = client(&house, "w").await;
    subscribe(&mut watcher, &[("will", QoS::AtMostOnce.into())], None).await;
    let connect = || Connect {
        will: will(30),
        ..hello("c", |p| p.session_expiry = 3_600)
    };
    let (lost, _) = open(&house, connect()).await;
    leave(lost, ReasonCode::DisconnectWithWillMessage, None).await;
    let (_back, _) = open(&house, connect()).await;
    assert_eq!(message(&mut watcher).await.payload, "gone");
}

#[tokio::test]
async fn a_will_that_waits_is_published_when_the_broker_stops() {
    let house = House::open(Limits::default()).await;
    let mut connect = hello("c", |p| p.session_expiry = 3_600);
    connect.will = will(30);
    connect.will.as_mut().unwrap().retain = true;
    let (lost, _) = open(&house, connect).await;
    leave(lost, ReasonCode::DisconnectWithWillMessage, None).await;
    let topic = Topic::new("will").unwrap();
    assert!(house.broker.retained(&topic).is_none(), "it waits");
    house.broker.stop();
    let will = house.broker.retained(&topic).expect("it was published");
    assert_eq!(will.payload, "gone");
}

#[tokio::test]
async fn the_server_says_why_it_closes() {
    let house = House::open(Limits::default()).await;
    let mut first = client(&house, "c").await;
    let mut second = client(&house, "c").await;
    assert_eq!(thrown_out(&mut first).await, ReasonCode::SessionTakenOver);
    let mut connect = hello("silent", |_| {});
    connect.keep_alive = 1;
    let (mut silent, _) = open(&house, connect).await;
    assert_eq!(thrown_out(&mut silent).await, ReasonCode::KeepAliveTimeout);
    house.broker.stop();
    let reason = thrown_out(&mut second).await;
    assert_eq!(reason, ReasonCode::ServerShuttingDown);
}
