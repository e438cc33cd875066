//! What becomes of inbound messages when the local broker's answers are bad.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::upstream::{Link, Upstream};
use common::{Setup, Takes, config, route, until};
use iotedge_bridge::Direction;
use rumqttc::mqttbytes::v4::Packet;

/// A bridge that takes everything of its upstream to a local broker that answers so.
async fn connected(takes: Takes) -> (Upstream, Setup, Link) {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    *setup.broker.takes.lock().unwrap() = takes;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    (upstream, setup, link)
}

#[tokio::test]
async fn answers_behind_a_failed_one_are_not_lost() {
    let (upstream, setup, mut link) = connected(Takes::Later).await;
    let broker = &setup.broker;
    for id in 1..=3 {
        link.deliver("a", "x", rumqttc::QoS::AtLeastOnce, id).await;
    }
    until("three taken", || broker.waiting.lock().unwrap().len() == 3).await;
    // All three answers before the bridge looks: one thread, and no await between them.
    let failed = Err(iotedge_ports::Failure::Store);
    let waiting: Vec<_> = broker.waiting.lock().unwrap().drain(..).collect();
    for ((sink, token), outcome) in waiting.into_iter().zip([failed, Ok(()), failed]) {
        sink.acked(token, outcome);
    }
    assert_eq!(link.next().await, None, "closed, nothing acknowledged");
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    *broker.takes.lock().unwrap() = Takes::AtOnce;
    link.deliver("a", "x", rumqttc::QoS::AtLeastOnce, 9).await;
    assert_eq!(
        link.next().await,
        Some(Packet::PubAck(rumqttc::PubAck::new(9)))
    );
    let books = &setup.status().routes[0];
    assert_eq!((books.accepted, books.delivered, books.queued), (2, 2, 0));
}

/// Waits for tries that began after now.
async fn tried_again(setup: &Setup) {
    let refused = || setup.broker.refused.load(Ordering::SeqCst);
    let before = refused();
    until("tried again", || refused() >= before + 2).await;
}

#[tokio::test]
async fn only_what_the_local_broker_can_never_take_is_dropped() {
    let (upstream, setup, mut link) = connected(Takes::NotNow).await;
    let broker = &setup.broker;
    link.deliver("a", "never", rumqttc::QoS::AtLeastOnce, 1)
        .await;
    // A store that takes nothing can be mended by waiting.
    tried_again(&setup).await;
    setup.clock.advance(Duration::from_secs(3600));
    tried_again(&setup).await;
    assert!(setup.status().routes[0].dropped.is_empty());
    *broker.takes.lock().unwrap() = Takes::Not;
    tried_again(&setup).await;
    setup.clock.advance(Duration::from_secs(300));
    tried_again(&setup).await;
    drop(link);
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    link.deliver("a", "never", rumqttc::QoS::AtLeastOnce, 2)
        .await;
    tried_again(&setup).await;
    assert!(setup.status().routes[0].dropped.is_empty());
    // A full queue may have room after days.
    setup.clock.advance(Duration::from_secs(100 * 3600));
    tried_again(&setup).await;
    assert!(setup.status().routes[0].dropped.is_empty());
    *broker.takes.lock().unwrap() = Takes::Never;
    assert_eq!(
        link.next().await,
        Some(Packet::PubAck(rumqttc::PubAck::new(2)))
    );
    *broker.takes.lock().unwrap() = Takes::AtOnce;
    link.deliver("a", "next", rumqttc::QoS::AtLeastOnce, 3)
        .await;
    assert_eq!(
        link.next().await,
        Some(Packet::PubAck(rumqttc::PubAck::new(3)))
    );
    assert_eq!(broker.payloads(), ["next"]);
    let books = &setup.status().routes[0];
    assert_eq!(books.dropped.get("too-large"), Some(&1));
    assert_eq!((books.accepted, books.delivered, books.queued), (2, 1, 0));
}
