//! MQTT 5 over real sockets: messages and subscriptions. The gateway has the real broker and store.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iotedge_broker::Limits as BrokerLimits;
use iotedge_gateway::Limits;
use iotedge_model::{Properties, QoS, UserProperty};
use iotedge_mqtt::{
    Ack, Connect, Packet, Publish, ReasonCode, RetainHandling, Str, SubAckCode,
    SubscriptionOptions, UnsubAck, Unsubscribe, Version,
};
use support::v5::{
    ONE, client, hello, keeper, leave, message, nothing_before, open, puback, subscribe,
    thrown_out, with,
};
use support::{House, publish};
use tokio::io::AsyncWriteExt;

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
            "$aws/events/presence/connected/x",
            "x",
            ReasonCode::NotAuthorized,
            ReasonCode::NotAuthorized,
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
        Limits {
            max_qos: ONE,
            ..Limits::default()
        },
        BrokerLimits {
            max_subscriptions: 2,
            ..BrokerLimits::default()
        },
    )
    .await;
    let mut client = client(&house, "c").await;
    let filters = ["a", "forbidden", "a/#/b", "$share/g", "$share/g/a", "c"];
    let asked: Vec<_> = filters.map(|f| (f, QoS::ExactlyOnce.into())).into();
    let codes = subscribe(&mut client, &asked, None).await;
    let refused = SubAckCode::Refused;
    assert_eq!(
        codes,
        [
            SubAckCode::Granted(ONE),
            refused(ReasonCode::NotAuthorized),
            refused(ReasonCode::TopicFilterInvalid),
            refused(ReasonCode::TopicFilterInvalid),
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
async fn what_comes_together_is_written_for_each_client_as_it_has_it() {
    let house = House::open(Limits::default()).await;
    let mut old = house.client("old").await;
    old.subscribe(&[("a", QoS::AtMostOnce)]).await;
    let mut new = client(&house, "new").await;
    let aliases = hello("aliases", |p| p.topic_alias_maximum = 5);
    let mut aliased = open(&house, aliases).await.0;
    let small = hello("small", |p| p.maximum_packet_size = NonZeroU32::new(100));
    let mut small = open(&house, small).await.0;
    let mut named = client(&house, "named").await;
    for (client, id) in [
        (&mut new, None),
        (&mut aliased, None),
        (&mut small, None),
        (&mut named, Some(9)),
    ] {
        subscribe(client, &[("a", QoS::AtMostOnce.into())], id).await;
    }
    let mut publisher = client(&house, "pub").await;
    let user = UserProperty {
        name: "n".into(),
        value: "v".into(),
    };
    // Few, which are copied, and many, which are shared.
    for count in [3, 60] {
        let text = |n: usize| format!("{n}{}", "x".repeat(if n == 1 { 90 } else { 60 }));
        let packets: Vec<Packet> = (0..count)
            .map(|n| {
                with(publish("a", &text(n), None), |_, p| {
                    let properties = p.message.get_or_insert_default();
                    properties.user.push(user.clone());
                })
            })
            .collect();
        publisher.send_all(&packets).await;
        for n in 0..count {
            let Packet::Publish(got) = old.receive().await else {
                panic!("no PUBLISH")
            };
            assert_eq!((got.payload, got.properties), (text(n).into(), None));
            for (client, ids, alias) in [
                (&mut new, &[][..], None),
                (&mut named, &[9], None),
                (&mut aliased, &[], Some(1)),
            ] {
                let got = message(client).await;
                let properties = got.properties.unwrap();
                assert_eq!((got.payload, got.qos), (text(n).into(), QoS::AtMostOnce));
                assert_eq!(properties.subscription_ids, ids);
                assert_eq!(properties.topic_alias.map(NonZeroU16::get), alias);
                assert_eq!(
                    properties.message.unwrap().user,
                    std::slice::from_ref(&user)
                );
            }
            if n != 1 {
                assert_eq!(
                    message(&mut small).await.payload,
                    text(n),
                    "one is too large"
                );
            }
        }
    }
}
