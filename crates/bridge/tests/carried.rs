//! What routes make of messages, and which of them goes first, over a connection in memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Setup, config, route, until};
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Event, Incoming, Publish};
use iotedge_bridge::{Config, Direction, Idempotency, Kind, Template, Version};
use iotedge_model::{DropReason, Properties, QoS, UserProperty};

async fn publish(peer: &mut Peer) -> (u16, Publish) {
    match peer.next().await {
        Some(Packet::Publish(id, publish)) => (id, publish),
        other => panic!("no PUBLISH: {other:?}"),
    }
}

fn v5() -> Config {
    Config {
        version: Version::V5,
        gateway_id: "here".into(),
        ..config("mqtt://nowhere")
    }
}

fn user(publish: &Publish) -> Vec<(String, String)> {
    let properties = publish.properties.iter();
    let user = properties.flat_map(|p| &p.user);
    user.map(|p| (p.name.to_string(), p.value.to_string()))
        .collect()
}

fn incoming(topic: &str, payload: impl Into<Bytes>, packet_id: u16) -> Incoming {
    Incoming {
        topic: topic.into(),
        payload: payload.into(),
        qos: if packet_id == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        },
        retain: false,
        dup: false,
        packet_id,
        expiry: None,
        properties: None,
    }
}

fn property(name: &str, value: &str) -> Option<Box<Properties>> {
    Some(Box::new(Properties {
        user: vec![UserProperty {
            name: name.into(),
            value: value.into(),
        }],
        ..Properties::default()
    }))
}

async fn subscribed(peer: &mut Peer) {
    let Some(Packet::Subscribe(filters)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    peer.send(Event::Subscribed(vec![1; filters.len()]));
}

#[tokio::test(start_paused = true)]
async fn properties_and_what_is_left_of_their_time_go_along() {
    let mut config = v5();
    let mut out = route(Direction::Out, "t/#");
    out.rules.ttl = Some(Duration::from_secs(100));
    config.routes.push(out);
    let (setup, mut upstream) = Setup::scripted(config);
    setup
        .mailbox()
        .change("t/x", "a", QoS::AtLeastOnce, |message| {
            message.expiry = Some(1000);
            message.properties = Some(Box::new(Properties {
                content_type: Some("text/plain".into()),
                correlation_data: Some(vec![7]),
                ..*property("k", "v").unwrap()
            }));
            message.accepted_at.0 = setup.wall() - 30_000;
            message.trusted = true;
        });
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let (_, sent) = publish(&mut peer).await;
    assert_eq!(sent.expiry, Some(70), "the route's time is the shorter one");
    let properties = sent.properties.clone().unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&[7][..]));
    let own = ("k".to_owned(), "v".to_owned());
    assert_eq!(user(&sent), [own, ("iotedge-via".into(), "here".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_template_makes_topics_both_ways() {
    let mut config = config("mqtt://nowhere");
    let mut out = route(Direction::Out, "dev/+/t");
    out.topic = Some(Template::parse("site7/${topic(2)}/data").unwrap());
    let mut inbound = route(Direction::In, "site7/+/cmd");
    inbound.topic = Some(Template::parse("cmd/${topic(2)}").unwrap());
    config.routes.extend([out, inbound]);
    let (setup, mut upstream) = Setup::scripted(config);
    setup.mailbox().push("dev/d1/t", "a", QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    assert_eq!(publish(&mut peer).await.1.topic, "site7/d1/data");
    peer.send(Event::Incoming(Box::new(incoming("site7/d2/cmd", "on", 1))));
    until("it came", || setup.broker.payloads() == ["on"]).await;
    assert_eq!(
        setup.broker.taken.lock().unwrap()[0].topic.as_str(),
        "cmd/d2"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_server_can_not_take_is_kept_aside_and_those_behind_it_go_on() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let mailbox = setup.mailbox();
    let large = mailbox.push("t/x", "x".repeat(500), QoS::AtLeastOnce);
    mailbox.push("t/x", "small", QoS::AtLeastOnce);
    let limited = Accepted {
        maximum_packet_size: Some(200),
        retain_available: false,
        ..Accepted::unlimited(30)
    };
    let mut peer = upstream.accept(limited).await.unwrap();
    assert_eq!(publish(&mut peer).await.1.payload, "small");
    assert_eq!(mailbox.discarded(), [(large, DropReason::UpstreamRefused)]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_full_gets_the_message_again() {
    let mut config = v5();
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let mailbox = setup.mailbox();
    mailbox.push("t/x", "a", QoS::AtLeastOnce);
    for _ in 0..30 {
        let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        let (id, sent) = publish(&mut peer).await;
        assert_eq!(sent.payload, "a");
        peer.ack(id, 0x97);
    }
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let (id, _) = publish(&mut peer).await;
    peer.ack(id, 0);
    until("none waits", || mailbox.waiting() == 0).await;
    assert!(mailbox.discarded().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_the_same_each_time_a_message_goes() {
    let mut config = v5();
    let mut out = route(Direction::Out, "p/#");
    out.idempotency = Some(Idempotency::Property);
    let mut json = route(Direction::Out, "j/#");
    json.idempotency = Some(Idempotency::Json("id".into()));
    config.routes.extend([out, json]);
    let (setup, mut upstream) = Setup::scripted(config);
    let id = setup
        .mailbox_of("cloud/out:p/#")
        .push("p/x", "a", QoS::AtLeastOnce);
    let other = setup
        .mailbox_of("cloud/out:j/#")
        .push("j/x", r#"{"v": 1}"#, QoS::AtLeastOnce);
    for _ in 0..2 {
        let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        let mut sent = [publish(&mut peer).await.1, publish(&mut peer).await.1];
        sent.sort_by(|a, b| b.topic.cmp(&a.topic));
        let key = ("idempotency-key".to_owned(), format!("here-{id}"));
        assert!(user(&sent[0]).contains(&key), "{sent:?}");
        assert_eq!(
            sent[1].payload,
            format!(r#"{{"id":"here-{other}","v": 1}}"#)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_are_packed_for_the_link_and_come_out_as_they_were() {
    let mut config = v5();
    let mut out = route(Direction::Out, "t/#");
    out.compress = true;
    let mut inbound = route(Direction::In, "down/#");
    inbound.decompress = true;
    config.routes.extend([out, inbound]);
    let (setup, mut upstream) = Setup::scripted(config);
    let text = "reading ".repeat(200);
    setup.mailbox().push("t/x", text.clone(), QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    let (_, sent) = publish(&mut peer).await;
    assert!(sent.payload.len() < 100, "{}", sent.payload.len());
    assert!(user(&sent).contains(&("content-encoding".into(), "gzip".into())));
    let mut back = incoming("down/x", sent.payload, 1);
    back.properties = property("content-encoding", "gzip");
    peer.send(Event::Incoming(Box::new(back)));
    until("it came", || setup.broker.payloads() == [text.as_str()]).await;
    let properties = setup.broker.taken.lock().unwrap()[0].properties.clone();
    assert_eq!(properties, property("iotedge-via", "here"));
}

#[tokio::test(start_paused = true)]
async fn flags_are_cleared_and_qos_raised_where_a_route_says_so() {
    let mut config = config("mqtt://nowhere");
    let mut inbound = route(Direction::In, "down/#");
    inbound.keep_retain = false;
    inbound.rules.raise_qos = true;
    config.routes.push(inbound);
    let mut live = route(Direction::In, "live/#");
    live.rules.send_retained = false;
    config.routes.push(live);
    let (setup, mut upstream) = Setup::scripted(config);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    for (topic, id) in [("down/x", 0), ("live/x", 7), ("live/x", 0)] {
        let mut retained = incoming(topic, "kept", id);
        retained.retain = true;
        peer.send(Event::Incoming(Box::new(retained)));
    }
    peer.send(Event::Incoming(Box::new(incoming("live/x", "new", 8))));
    until("they came", || setup.broker.payloads() == ["kept", "new"]).await;
    let first = setup.broker.taken.lock().unwrap()[0].clone();
    assert_eq!((first.qos, first.retain), (QoS::AtLeastOnce, false));
    for id in [7, 8] {
        assert_eq!(peer.next().await, Some(Packet::Ack(id, QoS::AtLeastOnce)));
    }
}

#[tokio::test(start_paused = true)]
async fn our_own_messages_are_not_taken_back() {
    for version in [Version::V3, Version::V5] {
        let mut config = v5();
        config.version = version;
        config.routes.push(route(Direction::Out, "both/#"));
        config.routes.push(route(Direction::In, "both/#"));
        let (setup, mut upstream) = Setup::scripted(config);
        setup.mailbox().push("both/x", "mine", QoS::AtLeastOnce);
        let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        subscribed(&mut peer).await;
        let (id, sent) = publish(&mut peer).await;
        // The echo may overtake the PUBACK.
        let mut echo = incoming("both/x", sent.payload.clone(), 9);
        echo.properties = sent.properties.as_ref().map(|p| Box::new((**p).clone()));
        peer.send(Event::Incoming(Box::new(echo)));
        peer.ack(id, 0);
        assert_eq!(peer.next().await, Some(Packet::Ack(9, QoS::AtLeastOnce)));
        // Another client's, word for word the same.
        peer.send(Event::Incoming(Box::new(incoming("both/x", "mine", 10))));
        until("it came", || setup.broker.payloads() == ["mine"]).await;
        let status = setup.status();
        let books = status.routes.iter().find(|r| r.direction == "in").unwrap();
        assert_eq!(books.dropped.get("loop"), Some(&1), "{version:?}");
        assert_eq!((books.accepted, books.delivered), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn routes_share_the_link_by_their_priorities() {
    let mut config = config("mqtt://nowhere");
    config.max_in_flight = 1;
    for (filter, priority) in [("low/#", 1), ("high/#", 4)] {
        let mut out = route(Direction::Out, filter);
        out.priority = priority;
        config.routes.push(out);
    }
    let (setup, mut upstream) = Setup::scripted(config);
    for n in 0..500 {
        for name in ["low", "high"] {
            let mailbox = setup.mailbox_of(&format!("cloud/out:{name}/#"));
            mailbox.push(&format!("{name}/x"), n.to_string(), QoS::AtLeastOnce);
        }
    }
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..450 {
        let (id, sent) = publish(&mut peer).await;
        order.push(sent.topic);
        peer.ack(id, 0);
    }
    let low = order.iter().filter(|t| *t == "low/x").count();
    assert!((40..=60).contains(&low), "{low} of 450, one ninth is 50");
}

#[tokio::test(start_paused = true)]
async fn what_breaks_a_limit_of_aws_iot_core_is_kept_aside_and_costs_no_connection() {
    let mut config = config("mqtts://nowhere");
    config.preset(Kind::AwsIotCore);
    (config.certificate, config.key) = (Some("c".into()), Some("k".into()));
    config.routes.push(route(Direction::Out, "#"));
    let mut system = route(Direction::Out, "s/#");
    system.local_prefix = "s/".into();
    system.remote_prefix = "$SYS/".into();
    system.filter = "#".into();
    system.name = "system".into();
    config.routes.push(system);
    let (setup, mut upstream) = Setup::scripted(config);
    let mailbox = setup.mailbox_of("cloud/out:#");
    let mut buried = vec![
        mailbox.push(&"x".repeat(257), "long", QoS::AtLeastOnce),
        mailbox.push("1/2/3/4/5/6/7/8/9", "deep", QoS::AtLeastOnce),
        mailbox.push("large", vec![b'x'; 131_073], QoS::AtLeastOnce),
    ];
    mailbox.push("1/2/3/4/5/6/7/8", "good", QoS::AtLeastOnce);
    let reserved = setup.mailbox_of("cloud/system");
    reserved.push("s/x", "reserved", QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let (id, sent) = publish(&mut peer).await;
    assert_eq!(sent.topic, "1/2/3/4/5/6/7/8");
    peer.ack(id, 0);
    until("all done", || mailbox.waiting() + reserved.waiting() == 0).await;
    let gone = |mailbox: &common::MemoryMailbox| -> Vec<u64> {
        mailbox.discarded().into_iter().map(|(id, _)| id).collect()
    };
    let mut found = gone(&mailbox);
    found.sort_unstable();
    buried.sort_unstable();
    assert_eq!(found, buried);
    assert_eq!(gone(&reserved).len(), 1);
    assert_eq!(setup.status().connects, 1);
}
