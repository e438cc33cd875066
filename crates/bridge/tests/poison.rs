//! Messages that one side can not take.
#![allow(clippy::unwrap_used)]

mod common;

use common::upstream::Upstream;
use common::{Setup, config, route, until};
use iotedge_bridge::Direction;
use iotedge_model::{DropReason, QoS};
use rumqttc::mqttbytes::v4::Packet;

#[tokio::test]
async fn an_inbound_message_above_the_limit_is_dropped_and_acknowledged() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.max_packet_bytes = 1000;
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    let large = "x".repeat(5000);
    link.deliver("a", &large, rumqttc::QoS::AtLeastOnce, 1)
        .await;
    link.deliver("a", "fits", rumqttc::QoS::AtLeastOnce, 2)
        .await;
    for id in 1..=2 {
        assert_eq!(
            link.next().await,
            Some(Packet::PubAck(rumqttc::PubAck::new(id)))
        );
    }
    assert_eq!(setup.broker.payloads(), ["fits"]);
    let books = &setup.status().routes[0];
    assert_eq!(books.dropped.get("too-large"), Some(&1));
    assert_eq!((books.accepted, books.delivered), (2, 1));
}

#[tokio::test]
async fn a_message_that_ends_each_connection_goes_alone_and_then_away() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::Out, "t/#"));
    // Lost connections before SUBACK say nothing of a message sent alone.
    config.routes.push(route(Direction::In, "down/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    let poison = mailbox.push("t/x", "poison", QoS::AtLeastOnce);
    mailbox.push("t/x", "good", QoS::AtLeastOnce);
    mailbox.push("t/x", "good", QoS::AtLeastOnce);
    for _ in 0..3 {
        let mut link = upstream.accept_ok().await;
        link.subscribed(true).await;
        assert_eq!(link.publishes(3).await[0].payload, "poison");
    }
    drop(upstream.accept_ok().await);
    for _ in 0..2 {
        let mut link = upstream.accept_ok().await;
        link.subscribed(true).await;
        assert_eq!(link.publish().await.payload, "poison");
        assert!(link.silent().await, "it goes alone");
    }
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    for publish in link.publishes(2).await {
        assert_eq!(publish.payload, "good");
        link.ack(publish.pkid).await;
    }
    until("all done", || mailbox.waiting() == 0).await;
    assert_eq!(mailbox.discarded(), [(poison, DropReason::UpstreamRefused)]);
}

#[tokio::test]
async fn a_suspect_that_is_acknowledged_holds_nothing_up_any_more() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    for n in 0..3 {
        mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
    for _ in 0..3 {
        upstream.accept_ok().await.publishes(3).await;
    }
    let mut link = upstream.accept_ok().await;
    let alone = link.publish().await;
    assert_eq!(alone.payload, "0");
    assert!(link.silent().await, "it goes alone");
    link.ack(alone.pkid).await;
    for publish in link.publishes(2).await {
        link.ack(publish.pkid).await;
    }
    until("all acknowledged", || mailbox.waiting() == 0).await;
    assert!(mailbox.discarded().is_empty());
}
