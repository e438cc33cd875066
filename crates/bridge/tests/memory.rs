//! The bridge over a connection in memory: what no real upstream does on demand, without sockets.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Setup, config, route, until};
use iotedge_bridge::Direction;
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Ended, Event, Layer};
use iotedge_model::{DropReason, QoS};
use iotedge_ports::LinkState;

async fn publish(peer: &mut Peer) -> (u16, String) {
    match peer.next().await {
        Some(Packet::Publish(id, publish)) => {
            (id, String::from_utf8(publish.payload.to_vec()).unwrap())
        }
        other => panic!("no PUBLISH: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_kept_aside_and_does_not_block_those_behind_it() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let mailbox = setup.mailbox();
    let refused = mailbox.push("t/x", "a", QoS::AtLeastOnce);
    mailbox.push("t/x", "b", QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let (first, second) = (publish(&mut peer).await, publish(&mut peer).await);
    assert_eq!((first.1.as_str(), second.1.as_str()), ("a", "b"));
    peer.ack(first.0, 0x97);
    peer.ack(second.0, 0x10);
    until("none waits", || mailbox.waiting() == 0).await;
    assert_eq!(
        mailbox.discarded(),
        [(refused, DropReason::UpstreamRefused)]
    );
    assert_eq!(setup.status().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_no_longer_than_the_servers_receive_maximum() {
    for (maximum, window) in [(1, 1), (2, 1), (5, 4)] {
        let mut config = config("mqtt://nowhere");
        config.routes.push(route(Direction::Out, "t/#"));
        let (setup, mut upstream) = Setup::scripted(config);
        for n in 0..10 {
            setup
                .mailbox()
                .push("t/x", format!("{n}"), QoS::AtLeastOnce);
        }
        let mut peer = upstream
            .accept(Accepted {
                receive_maximum: maximum,
                ..Accepted::unlimited(30)
            })
            .await
            .unwrap();
        let mut waiting = Vec::new();
        for _ in 0..window {
            waiting.push(publish(&mut peer).await.0);
        }
        setup.state(LinkState::Connected).await;
        assert_eq!(peer.try_next(), None, "maximum {maximum}");
        peer.ack(waiting[0], 0);
        assert_eq!(publish(&mut peer).await.1, format!("{window}"));
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_packet_id_subscribe_has_it_first() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    config.routes.push(route(Direction::In, "down/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    setup.mailbox().push("t/x", "a", QoS::AtLeastOnce);
    let one = Accepted {
        receive_maximum: 1,
        ..Accepted::unlimited(30)
    };
    let mut peer = upstream.accept(one).await.unwrap();
    let Some(Packet::Subscribe(filters)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    assert!(filters.iter().all(|f| f.no_local), "{filters:?}");
    setup.state(LinkState::Connected).await;
    assert_eq!(peer.try_next(), None);
    peer.send(Event::Subscribed(vec![1]));
    assert_eq!(publish(&mut peer).await.1, "a");
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_says_at_the_end_is_the_reason() {
    let (setup, mut upstream) = Setup::scripted(config("mqtt://nowhere"));
    let refused = upstream.next_try().await.unwrap();
    refused.refuse(Ended::connack(0x87, Some("no policy")));
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(
        reason.ends_with("not authorized (CONNACK 0x87: \"no policy\")"),
        "{reason}"
    );
    let busy = upstream.next_try().await.unwrap();
    busy.refuse(Ended::connack(0x89, None));
    setup.state(LinkState::BackingOff).await;
    let peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    setup.state(LinkState::Connected).await;
    peer.end(Ended::disconnect(0x8E, None));
    setup.state(LinkState::BackingOff).await;
    let reason = setup.status().reason;
    assert!(reason.contains("same client id"), "{reason}");
    upstream
        .next_try()
        .await
        .unwrap()
        .refuse(Ended::lost(Layer::Dns, "no such name"));
}
