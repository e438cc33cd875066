//! An upstream that answers pings and little else, or reads slowly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

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
