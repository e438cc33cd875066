//! What comes in, and what the local broker makes of it, over a connection in memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Setup, Takes, config, route, until};
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Event, Incoming};
use iotedge_bridge::{Config, Direction, Version};
use iotedge_model::{Message, QoS, Topic};
use iotedge_ports::{Pressure, Wake};

fn incoming(topic: &str, payload: &str, packet_id: u16) -> Incoming {
    Incoming {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id,
        expiry: None,
        properties: None,
    }
}

fn retained(topic: &str, payload: &str, packet_id: u16) -> Event {
    Event::Incoming(Box::new(Incoming {
        retain: true,
        ..incoming(topic, payload, packet_id)
    }))
}

async fn subscribed(peer: &mut Peer) {
    let Some(Packet::Subscribe(filters)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    peer.send(Event::Subscribed(vec![1; filters.len()]));
}

fn both_ways(version: Version) -> Config {
    let mut config = Config {
        version,
        gateway_id: "here".into(),
        ..config("mqtt://nowhere")
    };
    config.routes.push(route(Direction::Out, "both/#"));
    config.routes.push(route(Direction::In, "both/#"));
    config
}

#[tokio::test(start_paused = true)]
async fn a_retained_message_from_upstream_does_not_replace_what_is_newer_here() {
    for version in [Version::V3, Version::V5] {
        let (setup, mut upstream) = Setup::scripted(both_ways(version));
        let retain = |message: &mut Message| message.retain = true;
        let mailbox = setup.mailbox();
        mailbox.change("both/lamp", "off", QoS::AtLeastOnce, retain);
        // It sets no state.
        mailbox.push("both/door", "closed", QoS::AtLeastOnce);
        let mut same = Message::internal(
            "t",
            Topic::new("both/same").unwrap(),
            "here".into(),
            QoS::AtLeastOnce,
        );
        same.retain = true;
        let here = &setup.broker.retained;
        here.lock().unwrap().insert("both/same".into(), same);
        let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        subscribed(&mut peer).await;
        peer.send(retained("both/lamp", "on", 1));
        peer.send(retained("both/same", "here", 2));
        peer.send(retained("both/door", "open", 3));
        peer.send(retained("both/new", "of another", 4));
        let mut acks = Vec::new();
        while acks.len() < 4 {
            match peer.next().await {
                Some(Packet::Ack(id, _)) => acks.push(id),
                Some(Packet::Publish(..)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acks, [1, 2, 3, 4]);
        let mut expected = vec!["open", "of another"];
        if version == Version::V5 {
            // It may be a new one: the flag says nothing of when it was published.
            expected.insert(0, "here");
        }
        assert_eq!(setup.broker.payloads(), expected, "{version:?}");
    }
}

/// "on" is in flight; the echo of it is yet to come, and what was retained comes first.
#[tokio::test(start_paused = true)]
async fn a_retained_message_is_no_echo() {
    let (setup, mut upstream) = Setup::scripted(both_ways(Version::V3));
    setup.mailbox().push("both/x", "on", QoS::AtLeastOnce);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    let Some(Packet::Publish(id, _)) = peer.next().await else {
        panic!("no PUBLISH");
    };
    peer.send(retained("both/x", "on", 1));
    peer.send(Event::Incoming(Box::new(incoming("both/x", "on", 2))));
    peer.ack(id, 0);
    for id in [1, 2] {
        assert_eq!(peer.next().await, Some(Packet::Ack(id, QoS::AtLeastOnce)));
    }
    assert_eq!(setup.broker.payloads(), ["on"]);
    assert!(setup.broker.taken.lock().unwrap()[0].retain);
}

#[tokio::test(start_paused = true)]
async fn what_a_full_queue_refuses_waits_upstream_and_what_it_never_holds_does_not() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::In, "#"));
    let (setup, mut upstream) = Setup::scripted(config);
    *setup.broker.takes.lock().unwrap() = Takes::Never;
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    peer.send(Event::Incoming(Box::new(incoming("a", "huge", 1))));
    assert_eq!(peer.next().await, Some(Packet::Ack(1, QoS::AtLeastOnce)));
    assert_eq!(setup.status().routes[0].dropped.get("too-large"), Some(&1));

    *setup.broker.takes.lock().unwrap() = Takes::Not;
    let refused = || setup.broker.refused.load(Ordering::SeqCst);
    peer.send(Event::Incoming(Box::new(incoming("a", "waits", 2))));
    until("refused", || refused() > 0).await;
    for _ in 0..3 {
        let before = refused();
        setup.clock.advance(Duration::from_secs(20 * 60));
        until("refused again", || refused() > before).await;
    }
    *setup.broker.takes.lock().unwrap() = Takes::AtOnce;
    loop {
        match peer.next().await {
            Some(Packet::Ping) => peer.send(Event::Pong),
            Some(Packet::Ack(2, _)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(setup.broker.payloads(), ["waits"]);
    let books = &setup.status().routes[0];
    assert_eq!((books.accepted, books.delivered), (2, 1), "{books:?}");
}

/// A taker that keeps up when a test says so.
#[derive(Default)]
struct Pressed {
    relieved: AtomicBool,
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
    given_up: AtomicUsize,
}

impl Pressure for Pressed {
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool {
        let relieved = self.relieved.load(Ordering::SeqCst);
        if !relieved {
            self.waiters.lock().unwrap().push(waiter.clone());
        }
        relieved
    }

    fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pressed() -> (
    Setup,
    Arc<Pressed>,
    Peer,
    iotedge_bridge::uplink::scripted::ScriptedUpstream,
) {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::In, "#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let pressed = Arc::new(Pressed::default());
    *setup.broker.pressure.lock().unwrap() = Some(pressed.clone());
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    subscribed(&mut peer).await;
    for id in 1..=3u16 {
        let next = incoming("a", &id.to_string(), id);
        peer.send(Event::Incoming(Box::new(next)));
    }
    assert_eq!(peer.next().await, Some(Packet::Ack(1, QoS::AtLeastOnce)));
    assert_eq!(setup.broker.payloads(), ["1"], "the others wait");
    (setup, pressed, peer, upstream)
}

#[tokio::test(start_paused = true)]
async fn a_burst_from_upstream_waits_for_a_taker_that_does_not_keep_up() {
    let (setup, pressed, mut peer, _upstream) = pressed().await;
    *setup.broker.pressure.lock().unwrap() = None;
    pressed.relieved.store(true, Ordering::SeqCst);
    pressed.waiters.lock().unwrap()[0].wake();
    for id in [2, 3] {
        assert_eq!(peer.next().await, Some(Packet::Ack(id, QoS::AtLeastOnce)));
    }
    assert_eq!(setup.broker.payloads(), ["1", "2", "3"]);
    assert_eq!(pressed.given_up.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_taker_that_stalls_does_not_hold_up_what_comes_in_for_ever() {
    let (setup, pressed, mut peer, _upstream) = pressed().await;
    for id in [2, 3] {
        assert_eq!(peer.next().await, Some(Packet::Ack(id, QoS::AtLeastOnce)));
    }
    assert_eq!(setup.broker.payloads(), ["1", "2", "3"]);
    assert!(pressed.given_up.load(Ordering::SeqCst) > 0);
}
