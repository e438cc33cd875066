//! The bridge against an upstream that answers exactly as a test says.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::upstream::Upstream;
use common::{MemoryMailbox, Setup, Takes, config, route, until};
use iotedge_bridge::Direction;
use iotedge_model::{DropReason, QoS};
use iotedge_ports::LinkState;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet, Publish};

fn fill(mailbox: &MemoryMailbox, from: usize, to: usize) {
    for n in from..to {
        mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
}

fn numbers(publishes: &[Publish]) -> Vec<usize> {
    publishes
        .iter()
        .map(|p| std::str::from_utf8(&p.payload).unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn what_was_not_acknowledged_goes_again_in_order_and_nothing_else() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.max_in_flight = 10;
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    fill(&mailbox, 0, 30);

    let mut link = upstream.accept_ok().await;
    let first = link.publishes(10).await;
    assert_eq!(numbers(&first), (0..10).collect::<Vec<_>>());
    assert!(link.silent().await, "ten are in flight and no more");
    for at in [0, 1, 2, 3, 6] {
        link.ack(first[at].pkid).await;
    }
    assert_eq!(numbers(&link.publishes(4).await), [10, 11, 12, 13]);
    until("five acknowledged", || mailbox.acknowledged().len() == 5).await;
    drop(link);

    let mut link = upstream.accept_ok().await;
    let again = link.publishes(10).await;
    assert_eq!(numbers(&again), [4, 5, 7, 8, 9, 10, 11, 12, 13, 14]);
    for publish in &again {
        link.ack(publish.pkid).await;
    }
    for _ in 15..30 {
        let publish = link.publish().await;
        link.ack(publish.pkid).await;
    }
    until("all acknowledged", || mailbox.waiting() == 0).await;
    let status = setup.status();
    assert_eq!(status.routes[0].resent, 9);
    assert_eq!(status.connects, 2);
}

#[tokio::test]
async fn acknowledgements_in_any_order_keep_the_flow_without_collisions() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.max_in_flight = 8;
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    fill(&mailbox, 0, 1000);
    let mut link = upstream.accept_ok().await;
    let mut seen = Vec::new();
    let mut held: Vec<u16> = Vec::new();
    while seen.len() < 1000 {
        let publish = link.publish().await;
        assert!(
            !held.contains(&publish.pkid),
            "an id in use was given again"
        );
        held.push(publish.pkid);
        seen.push(publish);
        // Newest first, the oldest only when nothing else is left.
        if held.len() == 8 {
            for id in held.drain(..).rev().collect::<Vec<_>>() {
                link.ack(id).await;
            }
        }
    }
    for id in held.drain(..) {
        link.ack(id).await;
    }
    assert_eq!(numbers(&seen), (0..1000).collect::<Vec<_>>());
    until("all acknowledged", || mailbox.waiting() == 0).await;
    assert_eq!(setup.status().connects, 1);
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_left_and_its_messages_go_again() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.keep_alive = 1;
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    fill(&setup.mailbox(), 0, 3);
    // Neither PUBACK nor PINGRESP, and the socket stays open.
    let mut silent = upstream.accept_ok().await;
    assert_eq!(numbers(&silent.publishes(3).await), [0, 1, 2]);
    let mut link = upstream.accept_ok().await;
    for publish in link.publishes(3).await {
        link.ack(publish.pkid).await;
    }
    let mailbox = setup.mailbox();
    until("all acknowledged", || mailbox.waiting() == 0).await;
}

#[tokio::test]
async fn what_can_not_go_is_kept_aside_and_holds_nothing_up() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.max_packet_bytes = 200;
    let mut out = route(Direction::Out, "#");
    out.local_prefix = "a/".into();
    config.routes.push(out);
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    let large = mailbox.push("a/x", vec![0; 300], QoS::AtLeastOnce);
    let bare = mailbox.push("a", "no topic is left of it", QoS::AtLeastOnce);
    mailbox.push("a/b", "fits", QoS::AtLeastOnce);
    let mut link = upstream.accept_ok().await;
    let publish = link.publish().await;
    assert_eq!(
        (publish.topic.as_str(), &publish.payload[..]),
        ("b", &b"fits"[..])
    );
    assert_eq!(
        mailbox.discarded(),
        [
            (large, DropReason::UpstreamRefused),
            (bare, DropReason::UpstreamRefused)
        ]
    );
    link.ack(publish.pkid).await;
    until("acknowledged", || mailbox.waiting() == 0).await;
}

#[tokio::test]
async fn qos_0_is_done_when_it_is_on_the_wire() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    let mut out = route(Direction::Out, "t/#");
    out.qos = QoS::AtMostOnce;
    out.remote_prefix = "site/1/".into();
    config.routes.push(out);
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    fill(&mailbox, 0, 100);
    let mut link = upstream.accept_ok().await;
    let got = link.publishes(100).await;
    assert_eq!(numbers(&got), (0..100).collect::<Vec<_>>());
    assert!(got.iter().all(|p| p.qos == rumqttc::QoS::AtMostOnce));
    assert!(got.iter().all(|p| p.topic == "site/1/t/x"));
    until("all done", || mailbox.waiting() == 0).await;
}

#[tokio::test]
async fn a_refused_connection_is_misconfigured_with_its_reason_and_tried_again_slowly() {
    let upstream = Upstream::start().await;
    let setup = Setup::start(config(&upstream.url));
    let refused = upstream.accept(ConnectReturnCode::NotAuthorized).await;
    setup.state(LinkState::Misconfigured).await;
    let status = setup.status();
    assert!(status.reason.contains("CONNACK 5"), "{}", status.reason);
    let pause = status.next_retry.unwrap().0 - status.since.0;
    assert!((300..600).contains(&pause), "{pause} ms");
    drop(refused);
    let _link = upstream.accept_ok().await;
    setup.state(LinkState::Connected).await;
}

#[tokio::test]
async fn a_refused_subscription_is_named_and_tried_again_while_the_rest_goes_on() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "down/#"));
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    assert_eq!(link.subscribed(false).await, ["down/#"]);
    setup.state(LinkState::Misconfigured).await;
    let status = setup.status();
    assert!(status.reason.contains("down/#"), "{}", status.reason);
    assert!(status.next_retry.is_some());
    let mailbox = setup.mailbox();
    fill(&mailbox, 0, 1);
    let publish = link.publish().await;
    link.ack(publish.pkid).await;
    until("acknowledged", || mailbox.waiting() == 0).await;
    assert_eq!(link.subscribed(true).await, ["down/#"]);
    setup.state(LinkState::Connected).await;
    assert_eq!(setup.status().connects, 1);
}

#[tokio::test]
async fn inbound_is_acknowledged_in_order_when_it_is_durable() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    let mut inbound = route(Direction::In, "cmd/#");
    inbound.remote_prefix = "site/1/".into();
    inbound.local_prefix = "local/".into();
    config.routes.push(inbound);
    let setup = Setup::start(config);
    *setup.broker.takes.lock().unwrap() = Takes::Later;
    let mut link = upstream.accept_ok().await;
    assert_eq!(link.subscribed(true).await, ["site/1/cmd/#"]);
    for id in 1..=3 {
        let payload = format!("{id}");
        link.deliver("site/1/cmd/x", &payload, rumqttc::QoS::AtLeastOnce, id)
            .await;
    }
    let broker = &setup.broker;
    until("three taken", || broker.waiting.lock().unwrap().len() == 3).await;
    {
        let taken = broker.taken.lock().unwrap();
        assert_eq!(taken[0].topic.as_str(), "local/cmd/x");
        assert_eq!(taken[0].source.to_column(), "upstream:cloud");
    }
    let waiting: Vec<_> = broker.waiting.lock().unwrap().drain(..).collect();
    for at in [2, 0, 1] {
        waiting[at].0.acked(waiting[at].1, Ok(()));
    }
    for id in 1..=3 {
        assert_eq!(
            link.next().await,
            Some(Packet::PubAck(rumqttc::PubAck::new(id)))
        );
    }
    let books = &setup.status().routes[0];
    assert_eq!((books.accepted, books.delivered, books.queued), (3, 3, 0));
}

#[tokio::test]
async fn a_failed_commit_ends_the_connection_without_an_acknowledgement() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    *setup.broker.takes.lock().unwrap() = Takes::Later;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    link.deliver("a", "1", rumqttc::QoS::AtLeastOnce, 1).await;
    let broker = &setup.broker;
    until("taken", || broker.waiting.lock().unwrap().len() == 1).await;
    let (sink, token) = broker.waiting.lock().unwrap().remove(0);
    sink.acked(token, Err(iotedge_ports::Failure::Store));
    assert_eq!(link.next().await, None, "closed, not acknowledged");
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    *broker.takes.lock().unwrap() = Takes::AtOnce;
    link.deliver("a", "1", rumqttc::QoS::AtLeastOnce, 9).await;
    assert_eq!(
        link.next().await,
        Some(Packet::PubAck(rumqttc::PubAck::new(9)))
    );
    let books = &setup.status().routes[0];
    assert_eq!((books.accepted, books.delivered, books.queued), (1, 1, 0));
}

#[tokio::test]
async fn what_the_local_broker_refuses_waits_in_order_without_an_acknowledgement() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    *setup.broker.takes.lock().unwrap() = Takes::Not;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    for id in 1..=5u16 {
        link.deliver("a", &format!("{id}"), rumqttc::QoS::AtLeastOnce, id)
            .await;
    }
    link.deliver("a", "0", rumqttc::QoS::AtMostOnce, 0).await;
    until("the QoS 0 message dropped", || {
        setup.status().routes[0].dropped.get("queue-full") == Some(&1)
    })
    .await;
    *setup.broker.takes.lock().unwrap() = Takes::AtOnce;
    for id in 1..=5 {
        assert_eq!(
            link.next().await,
            Some(Packet::PubAck(rumqttc::PubAck::new(id)))
        );
    }
    assert_eq!(setup.broker.payloads(), ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn too_much_that_the_local_broker_refuses_stays_with_the_upstream() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    *setup.broker.takes.lock().unwrap() = Takes::Not;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    for id in 1..=1001u16 {
        link.deliver("a", "x", rumqttc::QoS::AtLeastOnce, id).await;
    }
    assert_eq!(link.next().await, None);
    let _link = upstream.accept_ok().await;
    assert!(setup.broker.payloads().is_empty());
}

#[tokio::test]
async fn pause_sends_disconnect_and_resume_goes_on() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    use iotedge_ports::UpstreamPort as _;
    let mut link = upstream.accept_ok().await;
    setup.state(LinkState::Connected).await;
    assert!(!setup.bridge.pause("nobody", "a test").unwrap());
    assert!(setup.bridge.pause("cloud", "a test").unwrap());
    assert_eq!(link.next().await, Some(Packet::Disconnect));
    setup.state(LinkState::Paused).await;
    fill(&setup.mailbox(), 0, 2);
    assert!(setup.bridge.resume("cloud").unwrap());
    let mut link = upstream.accept_ok().await;
    let both = link.publishes(2).await;
    assert_eq!(numbers(&both), [0, 1]);
    for publish in both {
        link.ack(publish.pkid).await;
    }
    // Stopping waits a moment for what is under way.
    fill(&setup.mailbox(), 2, 3);
    let publish = link.publish().await;
    let stop = setup.bridge.stop();
    let answer = async {
        link.ack(publish.pkid).await;
        assert_eq!(link.next().await, Some(Packet::Disconnect));
    };
    tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(stop, answer)
    })
    .await
    .unwrap();
    assert_eq!(setup.mailbox().acknowledged(), [1, 2, 3]);
    assert_eq!(setup.status().state, LinkState::Stopped);
}

#[tokio::test]
async fn credentials_session_and_keep_alive_are_in_connect() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.username = Some("me".into());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    config.password_file = Some(file);
    config.keep_alive = 77;
    let _setup = Setup::start(config);
    let link = upstream.accept_ok().await;
    assert_eq!(link.connect.client_id, "gateway");
    assert_eq!(link.connect.keep_alive, 77);
    assert!(!link.connect.clean_session);
    let login = link.connect.login.unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.as_str()),
        ("me", "secret")
    );
}

#[test]
fn a_configuration_with_overlapping_inbound_routes_is_refused() {
    let mut config = config("mqtt://host");
    config.routes.push(route(Direction::In, "a/#"));
    config.routes.push(route(Direction::Out, "a/+"));
    assert_eq!(config.check(), Ok(()));
    config.routes.push(route(Direction::In, "a/b"));
    let error = config.check().unwrap_err().to_string();
    assert!(
        error.contains("in:a/#") && error.contains("in:a/b"),
        "{error}"
    );
}
