//! An upstream that answers pings and little else, or reads slowly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use bytes::BytesMut;
use common::upstream::{Link, Upstream};
use common::{Setup, config, route, until};
use iotedge_bridge::{Config, Direction};
use iotedge_model::QoS;
use rumqttc::mqttbytes::v4::{self, Packet};

/// An answer may take three seconds with these.
fn impatient(upstream: &Upstream, direction: Direction) -> Config {
    let mut config = config(&upstream.url);
    config.keep_alive = 1;
    config.connect_timeout = Duration::from_secs(1);
    config.routes.push(route(direction, "t/#"));
    config
}

/// Answers pings until the other side closes.
async fn only_pings(link: &mut Link) {
    let closed = async {
        while let Some(packet) = link.next().await {
            if packet == Packet::PingReq {
                link.send(|b| v4::PingResp.write(b).unwrap()).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), closed)
        .await
        .expect("the link stalls and says that it is connected");
}

#[tokio::test]
async fn a_puback_that_never_comes_ends_the_connection() {
    let upstream = Upstream::start().await;
    let mut config = impatient(&upstream, Direction::Out);
    config.backoff.base = Duration::from_secs(2);
    config.backoff.max = Duration::from_secs(4);
    let setup = Setup::start(config);
    setup.mailbox().push("t/x", "1", QoS::AtLeastOnce);
    let mut link = upstream.accept_ok().await;
    link.publish().await;
    only_pings(&mut link).await;
    until("the reason", || setup.status().reason.contains("PUBACK")).await;
    let mut link = upstream.accept_ok().await;
    let again = link.publish().await;
    link.ack(again.pkid).await;
    until("acknowledged", || setup.mailbox().waiting() == 0).await;
}

#[tokio::test]
async fn a_suback_that_never_comes_ends_the_connection() {
    let upstream = Upstream::start().await;
    let mut config = impatient(&upstream, Direction::In);
    config.backoff.base = Duration::from_secs(2);
    config.backoff.max = Duration::from_secs(4);
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    only_pings(&mut link).await;
    until("the reason", || setup.status().reason.contains("SUBACK")).await;
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
}

#[tokio::test]
async fn a_large_message_may_take_longer_than_connecting() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.connect_timeout = Duration::from_secs(1);
    config.max_packet_bytes = 64 << 20;
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    // More than the sockets' buffers hold.
    setup
        .mailbox()
        .push("t/x", vec![0; 32 << 20], QoS::AtLeastOnce);
    // The link is slower than connecting may be.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let publish = link.publish().await;
    link.ack(publish.pkid).await;
    until("acknowledged", || setup.mailbox().waiting() == 0).await;
    assert_eq!(setup.status().connects, 1);
}

#[tokio::test]
async fn a_link_lost_while_it_ends_is_not_connected_again() {
    use iotedge_ports::UpstreamPort as _;
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    setup.mailbox().push("t/x", "1", QoS::AtLeastOnce);
    let mut link = upstream.accept_ok().await;
    link.publish().await;
    assert!(setup.bridge.pause("cloud", "a test").unwrap());
    drop(link);
    let again = tokio::time::timeout(Duration::from_secs(4), upstream.accept_ok()).await;
    assert!(again.is_err(), "a paused link came again");
    assert_eq!(setup.status().state, iotedge_ports::LinkState::Paused);
}

#[tokio::test]
async fn a_large_message_that_comes_slowly_is_no_silence() {
    let upstream = Upstream::start().await;
    let mut config = impatient(&upstream, Direction::In);
    config.keep_alive = 6;
    config.routes.push(route(Direction::Out, "out/#"));
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    setup.mailbox().push("out/x", "1", QoS::AtLeastOnce);
    let waits = link.publish().await;
    // Its PUBACK stands behind what comes: longer than an answer may take otherwise.
    let mut bytes = BytesMut::new();
    let mut large = v4::Publish::new("t/x", rumqttc::QoS::AtLeastOnce, vec![b'x'; 24_000]);
    large.pkid = 9;
    large.write(&mut bytes).unwrap();
    for part in bytes.chunks(1000) {
        link.send(|b| {
            b.extend_from_slice(part);
            part.len()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let status = setup.status();
    assert_eq!((status.connects, &*status.reason), (1, "connected"));
    link.ack(waits.pkid).await;
    until("acknowledged", || setup.mailbox().waiting() == 0).await;
    loop {
        match link.next().await {
            Some(Packet::PubAck(ack)) => break assert_eq!(ack.pkid, 9),
            Some(Packet::PingReq) => {}
            other => panic!("no PUBACK: {other:?}"),
        }
    }
}
