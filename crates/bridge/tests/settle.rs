//! What becomes of inbound messages when the local broker's answers are bad.
#![allow(clippy::unwrap_used)]

mod common;

use common::upstream::Upstream;
use common::{Setup, Takes, config, route, until};
use iotedge_bridge::Direction;
use rumqttc::mqttbytes::v4::Packet;

#[tokio::test]
async fn answers_behind_a_failed_one_are_not_lost() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    let broker = &setup.broker;
    *broker.takes.lock().unwrap() = Takes::Later;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
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
