//! What a link subscribes to, asks for again and gives up.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Setup, config, route};
use iotedge_bridge::uplink::scripted::{Packet, Peer, ScriptedUpstream};
use iotedge_bridge::uplink::{Accepted, Event, Incoming};
use iotedge_bridge::{Config, Direction};
use iotedge_model::QoS;
use iotedge_ports::LinkState;

/// The filters of the next SUBSCRIBE; pings are answered meanwhile.
async fn subscribe(peer: &mut Peer) -> Vec<String> {
    loop {
        match peer.next().await {
            Some(Packet::Ping) => peer.send(Event::Pong),
            Some(Packet::Subscribe(filters)) => {
                return filters.into_iter().map(|f| f.filter).collect();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_was_refused_is_asked_for_again_and_that_it_stands_is_told() {
    let mut config = config("mqtt://nowhere");
    for filter in ["a/#", "b/#", "c/#"] {
        config.routes.push(route(Direction::In, filter));
    }
    let (setup, mut upstream) = Setup::scripted(config);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    assert_eq!(subscribe(&mut peer).await, ["a/#", "b/#", "c/#"]);
    peer.send(Event::Subscribed(vec![1, 0x80, 0x87]));
    setup.state(LinkState::Misconfigured).await;
    // What stands would bring its retained messages again.
    assert_eq!(subscribe(&mut peer).await, ["b/#", "c/#"]);
    peer.send(Event::Subscribed(vec![0x80, 1]));
    assert_eq!(subscribe(&mut peer).await, ["b/#"]);
    assert!(
        !setup.status().reason.contains("c/#"),
        "{}",
        setup.status().reason
    );
    peer.send(Event::Subscribed(vec![1]));
    setup.state(LinkState::Connected).await;
    let newest = || {
        setup
            .broker
            .told
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .payload
            .clone()
    };
    let is = |state: &str| {
        String::from_utf8_lossy(&newest()).contains(&format!("\"state\":\"{state}\""))
    };
    common::until("it is told", || is("connected")).await;
}

fn inbound(filters: &[&str]) -> Config {
    let mut config = config("mqtt://nowhere");
    let routes = filters.iter().map(|filter| route(Direction::In, filter));
    config.routes.extend(routes);
    config
}

/// The next connection, to a server that has our session.
async fn present(upstream: &mut ScriptedUpstream) -> Peer {
    let mut accepted = Accepted::unlimited(30);
    accepted.session_present = true;
    upstream.accept(accepted).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_no_route_wants_any_more_is_unsubscribed_until_the_server_has_done_it() {
    let gone = |filter: &str| Some(Packet::Unsubscribe(filter.into()));
    let (mut setup, mut upstream) = Setup::scripted(inbound(&["a/#", "b/#"]));
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    assert_eq!(subscribe(&mut peer).await, ["a/#", "b/#"]);
    peer.send(Event::Subscribed(vec![1, 1]));

    drop(peer);
    let mut upstream = setup.again(inbound(&["b/#", "c/#"])).await;
    for end in [false, true] {
        let mut peer = present(&mut upstream).await;
        assert_eq!(peer.next().await, gone("a/#"), "no SUBACK has come before");
        assert_eq!(subscribe(&mut peer).await, ["b/#", "c/#"]);
        if end {
            peer.send(Event::Subscribed(vec![1, 1]));
        }
    }
    let mut peer = present(&mut upstream).await;
    assert_eq!(subscribe(&mut peer).await, ["b/#", "c/#"], "it is done");
    peer.send(Event::Subscribed(vec![1, 1]));

    drop(peer);
    // Without routes a PINGRESP says it.
    let mut upstream = setup.again(inbound(&[])).await;
    let mut peer = present(&mut upstream).await;
    assert_eq!(peer.next().await, gone("b/#"));
    assert_eq!(peer.next().await, gone("c/#"));
    peer.send(Event::Pong);
    drop(peer);
    let mut peer = present(&mut upstream).await;
    assert_eq!(peer.next().await, None, "nothing more to say");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_our_session_has_nothing_to_unsubscribe() {
    let (mut setup, mut upstream) = Setup::scripted(inbound(&["a/#"]));
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    assert_eq!(subscribe(&mut peer).await, ["a/#"]);
    drop(peer);
    let mut upstream = setup.again(inbound(&["b/#"])).await;
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    assert_eq!(subscribe(&mut peer).await, ["b/#"]);
}

#[tokio::test(start_paused = true)]
async fn a_shared_subscription_takes_the_topics_behind_its_name() {
    let mut config = inbound(&["$share/g/x/#"]);
    config.version = iotedge_bridge::Version::V5;
    let (setup, mut upstream) = Setup::scripted(config);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let Some(Packet::Subscribe(filters)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    assert_eq!(filters[0].filter, "$share/g/x/#");
    assert!(!filters[0].no_local, "a protocol error (MQTT 5, 3.8.3.1)");
    peer.send(Event::Subscribed(vec![1]));
    peer.deliver(Incoming {
        topic: "x/y".into(),
        payload: "1".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: 7,
        expiry: None,
        properties: None,
    });
    assert_eq!(peer.next().await, Some(Packet::Ack(7, QoS::AtLeastOnce)));
    assert_eq!(setup.broker.payloads(), ["1"]);
    let taken = setup.broker.taken.lock().unwrap();
    assert_eq!(taken[0].topic.as_str(), "x/y");
}

#[test]
fn a_shared_subscription_that_can_not_be_is_refused() {
    for (direction, local, remote, filter) in [
        (Direction::In, "", "$share/g/", "x/#"),
        (Direction::In, "", "site/", "$share/g/x/#"),
        (Direction::In, "", "", "$share/g"),
        (Direction::In, "", "", "$share/+/x"),
        (Direction::Out, "", "", "$share/g/x/#"),
        (Direction::Out, "$share/g/", "", "x/#"),
    ] {
        let mut config = config("mqtt://nowhere");
        let mut shared = route(direction, filter);
        shared.remote_prefix = remote.into();
        shared.local_prefix = local.into();
        config.routes.push(shared);
        assert!(config.check().is_err(), "{remote}{filter}");
    }
}
