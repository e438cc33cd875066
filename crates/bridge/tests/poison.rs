//! Messages that one side can not take.
#![allow(clippy::unwrap_used)]

mod common;

use common::upstream::Upstream;
use common::{Setup, config, route};
use iotedge_bridge::Direction;
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
