//! MQTT 5 over real sockets: how connections and sessions begin and end. The gateway has the real
//! broker and store. Numbers in brackets are the statements of MQTT 5.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use iotedge_broker::Limits as BrokerLimits;
use iotedge_gateway::Limits;
use iotedge_model::{QoS, Topic};
use iotedge_mqtt::{
    Auth, AuthProperties, Connect, Disconnect, DisconnectProperties, Packet, Publish, ReasonCode,
    Str, Subscribe, Version,
};
use iotedge_ports::BrokerPort;
use support::v5::{
    ONE, client, hello, keeper, leave, message, nothing_before, open, subscribe, thrown_out, will,
};
use support::{Client, House, publish};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn connack_says_what_there_is_and_what_there_is_not() {
    let house = House::open(Limits {
        max_session_expiry: 100,
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
    assert_eq!(properties.maximum_qos, QoS::ExactlyOnce);
    assert!(properties.retain_available && properties.wildcard_subscription_available);
    assert!(properties.subscription_identifier_available);
    assert!(properties.shared_subscription_available);
    assert_eq!(properties.topic_alias_maximum, 32);
    let (_client, ack) = open(&house, hello("own", |p| p.session_expiry = 100)).await;
    let properties = ack.properties.unwrap();
    assert_eq!(properties.session_expiry, None, "what was asked for");
    assert_eq!(properties.assigned_client_id, None);
}

#[tokio::test]
async fn each_refused_connect_has_its_reason_code() {
    let house = House::open_with(
        Limits {
            max_qos: ONE,
            ..Limits::default()
        },
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
    // What is wrong behind the limit does not make it unknown.
    let mut client = Client::dial_as(Version::V5, house.mqtt()).await;
    let will = b"\x00\x00\x03a/#\x00\x00";
    let head = b"\x10\x1b\x00\x04MQTT\x05\x06\x00\x3c\x05\x27\x00\x00\x00\x14\x00\x01c";
    let bytes = [&head[..], &will[..]].concat();
    client.socket.write_all(&bytes).await.unwrap();
    let Packet::ConnAck(ack) = client.receive().await else {
        panic!("no CONNACK")
    };
    assert_eq!(ack.reason, ReasonCode::TopicNameInvalid);
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
async fn what_breaks_the_protocol_is_told_before_the_connection_is_closed() {
    let house = House::open(Limits {
        max_qos: ONE,
        ..Limits::default()
    })
    .await;
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
async fn a_will_that_waits_goes_on_waiting_when_the_broker_stops() {
    let house = House::open(Limits::default()).await;
    let mut connect = hello("c", |p| p.session_expiry = 3_600);
    connect.will = will(30);
    connect.will.as_mut().unwrap().retain = true;
    let (lost, _) = open(&house, connect).await;
    leave(lost, ReasonCode::DisconnectWithWillMessage, None).await;
    let topic = Topic::new("will").unwrap();
    assert!(house.broker.retained(&topic).is_none(), "it waits");
    house.broker.stop();
    assert!(house.broker.retained(&topic).is_none(), "it waits still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_said_goodbye_and_is_back_at_once_has_said_it() {
    let house = House::open(Limits::default()).await;
    let mut watcher = client(&house, "w").await;
    subscribe(&mut watcher, &[("will", ONE.into())], None).await;
    for _ in 0..200 {
        let mut connect = hello("c", |p| p.session_expiry = 3_600);
        connect.clean = false;
        connect.will = will(0);
        let (mut client, ack) = open(&house, connect).await;
        assert!(!ack.session_present, "it was to end with its connection");
        let properties = DisconnectProperties {
            session_expiry: Some(0),
            ..DisconnectProperties::default()
        };
        let goodbye = Disconnect {
            reason: ReasonCode::Success,
            properties: Some(Box::new(properties)),
        };
        // The next one does not wait until it has been heard.
        client.send(&Packet::Disconnect(goodbye)).await;
    }
    nothing_before(&house, &mut watcher, "will").await;
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

#[tokio::test]
async fn who_goes_on_talking_hears_the_last_words() {
    let house = House::open(Limits::default()).await;
    let mut client = client(&house, "c").await;
    client.socket.write_all(b"\xc1\0").await.unwrap();
    client.socket.readable().await.unwrap();
    for _ in 0..20 {
        tokio::task::yield_now().await;
        client.socket.write_all(b"\xc0\0").await.unwrap();
    }
    assert_eq!(thrown_out(&mut client).await, ReasonCode::MalformedPacket);
}

#[tokio::test]
async fn an_answer_that_the_client_cannot_take_ends_the_connection() {
    let house = House::open(Limits::default()).await;
    let connect = |bytes| hello("c", |p| p.maximum_packet_size = NonZeroU32::new(bytes));
    let mut client = Client::dial_as(Version::V5, house.mqtt()).await;
    client.send(&Packet::Connect(connect(10))).await;
    assert_eq!(client.next().await, None, "no room for CONNACK");
    let (mut client, _) = open(&house, connect(30)).await;
    let filters = vec![(Str::new("a").unwrap(), QoS::AtMostOnce.into()); 30];
    client
        .send(&Packet::Subscribe(Subscribe {
            packet_id: NonZeroU16::MIN,
            filters,
            properties: None,
        }))
        .await;
    assert_eq!(thrown_out(&mut client).await, ReasonCode::PacketTooLarge);
}
