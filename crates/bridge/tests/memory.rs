//! The bridge over a connection in memory: what no real upstream does on demand, without sockets.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Setup, config, route, until};
use iotedge_bridge::Direction;
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Ended, Event, Layer};
use iotedge_model::{DropReason, QoS};
use iotedge_ports::{LinkState, UpstreamPort};

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
    peer.ack(first.0, 0x87);
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
    for (maximum, window) in [(1, 1), (2, 2), (5, 5)] {
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
async fn a_subscribe_takes_no_place_of_a_message() {
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
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("same client id"), "{reason}");
    upstream
        .next_try()
        .await
        .unwrap()
        .refuse(Ended::lost(Layer::Dns, "no such name"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_asked_then_degraded_then_left_and_everyone_is_told() {
    let mut config = config("mqtt://nowhere");
    config.keep_alive = 60;
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let mut peer = upstream.accept(Accepted::unlimited(60)).await.unwrap();
    setup.mailbox().push("t/x", "a", QoS::AtLeastOnce);
    let (id, _) = publish(&mut peer).await;
    assert_eq!(peer.next().await, Some(Packet::Ping));
    setup.state(LinkState::Degraded).await;
    assert!(setup.status().reason.contains("no answer"));
    peer.send(Event::Pong);
    setup.state(LinkState::Connected).await;
    peer.ack(id, 0);
    until("acknowledged", || setup.mailbox().waiting() == 0).await;
    setup.mailbox().push("t/x", "b", QoS::AtLeastOnce);
    let begun = tokio::time::Instant::now();
    publish(&mut peer).await;
    setup.state(LinkState::BackingOff).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    let told: Vec<String> = setup
        .broker
        .told
        .lock()
        .unwrap()
        .iter()
        .map(|m| {
            assert_eq!(m.topic.as_str(), "$SYS/upstream/cloud/state");
            let text = String::from_utf8(m.payload.to_vec()).unwrap();
            let state = text.split("\"state\":\"").nth(1).unwrap();
            state.split('"').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        told,
        [
            "resolving",
            "handshaking",
            "connected",
            "degraded",
            "connected",
            "degraded",
            "backing-off"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_gets_no_more_in_a_second_than_its_rate() {
    let mut config = config("mqtt://nowhere");
    config.max_rate = Some(100);
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    for n in 0..500 {
        setup
            .mailbox()
            .push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
    let mut peer = upstream.accept(Accepted::unlimited(60)).await.unwrap();
    let start = tokio::time::Instant::now();
    let mut times = Vec::new();
    for _ in 0..500 {
        let (id, _) = publish(&mut peer).await;
        times.push(start.elapsed().as_millis());
        peer.ack(id, 0);
    }
    let most = times
        .iter()
        .map(|from| {
            times
                .iter()
                .filter(|at| (*from..from + 1000).contains(*at))
                .count()
        })
        .max();
    assert!(most <= Some(100), "{most:?}");
    assert!(start.elapsed().as_secs() < 7, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_filters_are_subscribed_to_eight_at_a_time() {
    let mut config = config("mqtt://nowhere");
    for n in 0..20 {
        config
            .routes
            .push(route(Direction::In, &format!("down/{n}")));
    }
    let (setup, mut upstream) = Setup::scripted(config);
    let mut peer = upstream.accept(Accepted::unlimited(60)).await.unwrap();
    for expected in [8, 8, 4] {
        let Some(Packet::Subscribe(filters)) = peer.next().await else {
            panic!("no SUBSCRIBE");
        };
        assert_eq!(filters.len(), expected);
        let mut codes = vec![1; expected];
        if expected == 4 {
            codes[3] = 0x87;
        }
        peer.send(Event::Subscribed(codes));
    }
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("down/19 (not authorized)"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_waits_for_the_clock_keeps_the_link_down() {
    let mut config = config("mqtt://nowhere");
    config.windows = vec!["00:00-24:00".parse().unwrap()];
    let (setup, mut upstream) = Setup::scripted(config);
    let peer = upstream.accept(Accepted::unlimited(60)).await;
    setup.state(LinkState::Connected).await;
    setup.clock.trust(false);
    // The clock went wrong while it is up: it goes down, and comes back with the clock.
    setup.state(LinkState::Paused).await;
    let reason = setup.status().reason;
    assert!(reason.contains("clock"), "{reason}");
    drop(peer);
    setup.clock.trust(true);
    let _peer = upstream.accept(Accepted::unlimited(60)).await;
    setup.state(LinkState::Connected).await;
}

/// It has a second for its last acknowledgements. A crash within it must not send again what came.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_while_the_link_leaves_counts_at_once() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let mailbox = setup.mailbox();
    mailbox.push("t/x", "a", QoS::AtLeastOnce);
    mailbox.push("t/x", "b", QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let (first, _second) = (publish(&mut peer).await, publish(&mut peer).await);
    // No time passes: only what is ready runs.
    let ready = async || {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    };
    setup.bridge.pause("cloud", "a test").unwrap();
    ready().await;
    peer.ack(first.0, 0);
    ready().await;
    assert_eq!(setup.status().state, LinkState::Connected, "it waits for b");
    assert_eq!(mailbox.waiting(), 1);
}
