//! Connections over real sockets: the gateway with the real broker and store, and clients that
//! write and read packets themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use iotedge_gateway::Limits;
use iotedge_model::QoS;
use iotedge_mqtt::{Connect, Disconnect, LastWill, Packet, ReasonCode, Str, SubAckCode};
use support::{Client, House, PATIENCE, connect, publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_arrive_in_order_and_each_is_acknowledged_in_order() {
    let house = House::open(Limits::default()).await;
    let mut subscriber = house.client("sub").await;
    subscriber.subscribe(&[("a/#", QoS::AtLeastOnce)]).await;
    let mut publisher = house.client("pub").await;
    let publishing = tokio::spawn(async move {
        let mut acknowledged = 0_u32;
        for n in 0..10_050_u32 {
            if n < 10_000 {
                let id = u16::try_from(n % 60_000 + 1).unwrap();
                publisher
                    .send(&publish("a/b", &n.to_string(), Some(id)))
                    .await;
            }
            while n - acknowledged >= 50 {
                let expected = u16::try_from(acknowledged % 60_000 + 1).unwrap();
                assert_eq!(
                    publisher.receive().await,
                    Packet::PubAck(NonZeroU16::new(expected).unwrap().into())
                );
                acknowledged += 1;
            }
        }
        assert_eq!(acknowledged, 10_000);
    });
    for n in 0..10_000 {
        let Packet::Publish(got) = subscriber.receive().await else {
            panic!("no PUBLISH")
        };
        assert_eq!(got.payload, n.to_string());
        subscriber
            .send(&Packet::PubAck(got.packet_id.unwrap().into()))
            .await;
    }
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_subscription_is_answered_and_a_denied_publish_closes() {
    let house = House::open(Limits::default()).await;
    let mut client = house.client("c").await;
    let codes = client
        .subscribe(&[("fine", QoS::ExactlyOnce), ("forbidden/#", QoS::AtMostOnce)])
        .await;
    let granted = SubAckCode::Granted(QoS::ExactlyOnce);
    assert_eq!(codes, [granted, SubAckCode::FAILURE]);
    client.send(&publish("forbidden", "x", Some(1))).await;
    assert_eq!(client.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receive_is_asked_for_each_delivery() {
    let house = House::open(Limits::default()).await;
    let mut client = house.client("c").await;
    client.subscribe(&[("#", QoS::AtLeastOnce)]).await;
    client.send(&publish("unheard", "1", Some(1))).await;
    client.send(&publish("heard", "2", Some(2))).await;
    let mut heard = None;
    let mut acknowledged = 0;
    while heard.is_none() || acknowledged < 2 {
        match client.receive().await {
            Packet::Publish(got) => heard = Some(got.topic.as_str().to_owned()),
            Packet::PubAck(_) => acknowledged += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard.as_deref(), Some("heard"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_return_code() {
    let house = House::open(Limits::default()).await;
    let refused = |connect: Connect| async {
        let mut client = Client::dial(house.mqtt()).await;
        client.send(&Packet::Connect(connect)).await;
        let Packet::ConnAck(ack) = client.receive().await else {
            panic!("no CONNACK")
        };
        assert_eq!(client.next().await, None, "closed behind the refusal");
        ack.reason
    };
    assert_eq!(
        refused(connect("stranger")).await,
        ReasonCode::NotAuthorized
    );
    let mut empty = connect("");
    empty.clean = false;
    assert_eq!(refused(empty).await, ReasonCode::ClientIdentifierNotValid);
    let mut will = connect("w");
    will.will = Some(LastWill {
        topic: Str::new("forbidden").unwrap(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
    });
    assert_eq!(refused(will).await, ReasonCode::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_closed_and_its_will_published() {
    let house = House::open(Limits {
        connect_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut watcher = house.client("w").await;
    watcher.subscribe(&[("will", QoS::AtLeastOnce)]).await;
    let mut mute = Client::dial(house.mqtt()).await;
    assert_eq!(mute.next().await, None, "no CONNECT in time");
    let mut silent = Client::dial(house.mqtt()).await;
    let mut connect = connect("silent");
    connect.keep_alive = 1;
    connect.will = Some(LastWill {
        topic: Str::new("will").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
    });
    let begin = Instant::now();
    silent.send(&Packet::Connect(connect)).await;
    silent.receive().await;
    assert_eq!(silent.next().await, None);
    assert!(
        begin.elapsed() >= Duration::from_millis(1_500),
        "one and a half keep-alives"
    );
    let Packet::Publish(will) = watcher.receive().await else {
        panic!("no will")
    };
    assert_eq!(will.payload, "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_without_reading_hurts_only_itself() {
    let house = House::open(Limits::default()).await;
    let mut flood = house.client("flood").await;
    flood.subscribe(&[("flood", QoS::AtMostOnce)]).await;
    let mut out = BytesMut::new();
    for _ in 0..2_000 {
        let packet = publish("flood", &"x".repeat(1_000), None);
        iotedge_mqtt::encode(&packet, &mut out).unwrap();
    }
    // It never reads: its own echo fills its socket and its queue, and it is not read any more.
    let stuck = tokio::spawn(async move {
        let _ =
            tokio::time::timeout(Duration::from_millis(500), flood.socket.write_all(&out)).await;
        flood
    });
    let mut other = house.client("other").await;
    other.subscribe(&[("calm", QoS::AtLeastOnce)]).await;
    for n in 1..=50 {
        other.send(&publish("calm", "x", Some(n))).await;
        let (a, b) = (other.receive().await, other.receive().await);
        let delivered = [a, b].into_iter().find_map(|packet| match packet {
            Packet::Publish(got) => got.packet_id,
            _ => None,
        });
        other
            .send(&Packet::PubAck(delivered.expect("the echo").into()))
            .await;
    }
    drop(stuck.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_every_connection() {
    let house = House::open(Limits::default()).await;
    let mut client = house.client("c").await;
    house.broker.stop();
    house.running.stop(PATIENCE).await;
    assert_eq!(client.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_publishes_to_mqtt() {
    let house = House::open(Limits::default()).await;
    let mut client = house.client("c").await;
    client.subscribe(&[("a/+", QoS::AtLeastOnce)]).await;
    for (path, status) in [
        ("/topics/a%2Fb?qos=1", "200"),
        ("/topics/a/c", "200"),
        ("/topics/forbidden?qos=1", "403"),
        ("/topics/a%2", "400"),
        ("/topics/a/b?qos=2", "400"),
        ("/topics/$aws/x", "403"),
        ("/elsewhere", "404"),
    ] {
        let mut socket = TcpStream::connect(house.running.addresses()[1])
            .await
            .unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(answer.contains("traceId"), "{answer}");
    }
    for topic in ["a/b", "a/c"] {
        let Packet::Publish(got) = client.receive().await else {
            panic!("no PUBLISH")
        };
        assert_eq!((got.topic.as_str(), &got.payload[..]), (topic, &b"hi"[..]));
        if let Some(id) = got.packet_id {
            client.send(&Packet::PubAck(id.into())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_that_fills_a_slow_subscriber_does_not_stop_its_publisher() {
    let house = House::open(Limits::default()).await;
    let mut slow = house.client("slow").await;
    slow.subscribe(&[("burst", QoS::AtMostOnce)]).await;
    let mut publisher = house.client("publisher").await;
    // More than the sockets and the subscriber's queue hold while it does not read.
    let mut out = BytesMut::new();
    for _ in 0..64 {
        let packet = publish("burst", &"x".repeat(1_000), None);
        iotedge_mqtt::encode(&packet, &mut out).unwrap();
    }
    for _ in 0..400 {
        publisher.socket.write_all(&out).await.unwrap();
    }
    publisher.send(&Packet::PingReq).await;
    assert_eq!(publisher.receive().await, Packet::PingResp);
    // It waited at most a moment, and the subscriber still gets what there was room for.
    assert!(matches!(slow.receive().await, Packet::Publish(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_deliveries_do_not_hold_up_those_behind_them() {
    let house = House::open(Limits::default()).await;
    let mut client = house.client("c").await;
    client.subscribe(&[("#", QoS::AtLeastOnce)]).await;
    let mut publisher = house.client("p").await;
    let mut out = BytesMut::new();
    // More than a window's worth that may not be received, in one read with the one that may.
    for n in 1..=150 {
        iotedge_mqtt::encode(&publish("unheard", "x", Some(n)), &mut out).unwrap();
    }
    iotedge_mqtt::encode(&publish("heard", "y", Some(200)), &mut out).unwrap();
    publisher.socket.write_all(&out).await.unwrap();
    let Packet::Publish(got) = client.receive().await else {
        panic!("no PUBLISH")
    };
    assert_eq!(got.topic.as_str(), "heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_goodbye_and_is_back_at_once_leaves_no_will() {
    let house = House::open(Limits::default()).await;
    let mut watcher = house.client("w").await;
    watcher.subscribe(&[("will", QoS::AtLeastOnce)]).await;
    for _ in 0..20 {
        let mut connect = connect("c");
        connect.will = Some(LastWill {
            topic: Str::new("will").unwrap(),
            payload: Bytes::from_static(b"gone"),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        });
        let mut client = Client::dial(house.mqtt()).await;
        client.send(&Packet::Connect(connect)).await;
        client.receive().await;
        client
            .send(&Packet::Disconnect(Disconnect::default()))
            .await;
        assert_eq!(client.next().await, None);
    }
    let mut publisher = house.client("p").await;
    publisher
        .send(&publish("will", "the only one", Some(1)))
        .await;
    let Packet::Publish(got) = watcher.receive().await else {
        panic!("no PUBLISH")
    };
    assert_eq!(got.payload, "the only one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_waited_for_room_goes_on_when_there_is_room() {
    let house = House::open(Limits::default()).await;
    let mut subscriber = house.client("sub").await;
    subscriber.subscribe(&[("burst", QoS::AtMostOnce)]).await;
    let mut publisher = house.client("publisher").await;
    let begin = Instant::now();
    let publishing = tokio::spawn(async move {
        let mut out = BytesMut::new();
        for _ in 0..50_000 {
            iotedge_mqtt::encode(&publish("burst", "x", None), &mut out).unwrap();
        }
        publisher.socket.write_all(&out).await.unwrap();
        publisher
    });
    for _ in 0..50_000 {
        assert!(matches!(subscriber.receive().await, Packet::Publish(_)));
    }
    drop(publishing.await.unwrap());
    // Twenty-odd waits: half a second each, if nothing but the clock ended them.
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
}
