//! A room that talks with the upstream beside the routes, over a connection in memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{Setup, config, route, until};
use iotedge_bridge::Direction;
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Event, Incoming};
use iotedge_model::{QoS, Topic, TopicFilter};
use iotedge_ports::{RequestRefused, UpstreamLine, UpstreamPeer, UpstreamPort};
use tokio::time::Instant;

/// What it is told.
#[derive(Default)]
struct Room(Mutex<Vec<String>>);

impl Room {
    fn say(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    async fn hears(&self, what: &str) {
        until(what, || {
            self.0.lock().unwrap().iter().any(|said| said == what)
        })
        .await;
    }
}

impl UpstreamPeer for Room {
    fn connected(&self) {
        self.say("connected".into());
    }
    fn disconnected(&self) {
        self.say("disconnected".into());
    }
    fn subscribed(&self, filter: &str, granted: bool) {
        self.say(format!("{filter} {granted}"));
    }
    fn refused(&self, topic: &Topic, why: &RequestRefused) {
        self.say(format!("{topic} {why:?}"));
    }
    fn received(&self, topic: &str, payload: &Bytes) {
        self.say(format!("{topic} {}", String::from_utf8_lossy(payload)));
    }
}

fn join(setup: &Setup) -> (Arc<Room>, Arc<dyn UpstreamLine>) {
    let room = Arc::new(Room::default());
    let line = setup.bridge.join("cloud", room.clone()).unwrap();
    (room, line)
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn filters(all: &[&str]) -> Vec<TopicFilter> {
    all.iter().map(|f| TopicFilter::new(f).unwrap()).collect()
}

async fn publish(peer: &mut Peer) -> (u16, String) {
    match peer.next().await {
        Some(Packet::Publish(id, publish)) => (id, publish.topic),
        other => panic!("no PUBLISH: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_asks_and_hears_beside_the_routes() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::In, "down/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let (room, line) = join(&setup);
    assert!(!line.publish(&topic("get"), Bytes::new()), "no connection");
    assert!(setup.bridge.join("cloud", room.clone()).is_none(), "one");
    assert!(setup.bridge.join("other", room.clone()).is_none());
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    room.hears("connected").await;
    assert!(line.subscribe(&filters(&["s/a", "s/b"])));
    // The routes' SUBSCRIBE is first; one at a time tells whose SUBACK it is.
    let Some(Packet::Subscribe(first)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    assert_eq!(first[0].filter, "down/#");
    assert!(line.publish(&topic("get"), Bytes::from_static(b"{}")));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(peer.try_next(), None, "what was asked first goes first");
    peer.send(Event::Subscribed(vec![1]));
    let Some(Packet::Subscribe(second)) = peer.next().await else {
        panic!("no SUBSCRIBE");
    };
    assert_eq!(second.len(), 2);
    peer.send(Event::Subscribed(vec![1, 0x87]));
    room.hears("s/a true").await;
    room.hears("s/b false").await;
    let (id, to) = publish(&mut peer).await;
    assert_eq!(to, "get");
    peer.ack(id, 0);
    peer.deliver(Incoming {
        topic: "s/a".into(),
        payload: Bytes::from_static(b"answer"),
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: 7,
        expiry: None,
        properties: None,
    });
    room.hears("s/a answer").await;
    assert_eq!(peer.next().await, Some(Packet::Ack(7, QoS::AtLeastOnce)));
    assert!(line.unsubscribe(&filters(&["s/a"])));
    assert_eq!(peer.next().await, Some(Packet::Unsubscribe("s/a".into())));
    drop(peer);
    room.hears("disconnected").await;
    assert!(!line.publish(&topic("get"), Bytes::new()));
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_behind_a_backlog() {
    let mut config = config("mqtt://nowhere");
    config.max_in_flight = 4;
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    for n in 0..100 {
        setup
            .mailbox()
            .push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
    let (room, line) = join(&setup);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    room.hears("connected").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(publish(&mut peer).await.0);
    }
    assert!(line.publish(&topic("get"), Bytes::new()));
    peer.ack(ids[0], 0);
    assert_eq!(publish(&mut peer).await.1, "get");
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_does_not_take_is_told_with_its_reason() {
    let (setup, mut upstream) = Setup::scripted(config("mqtt://nowhere"));
    let (room, line) = join(&setup);
    let small = Accepted {
        maximum_packet_size: Some(200),
        ..Accepted::unlimited(30)
    };
    let mut peer = upstream.accept(small).await.unwrap();
    room.hears("connected").await;
    room.heard();
    for (reason, told) in [
        (0x87, "NotAuthorized"),
        (0x97, "Quota"),
        (0x99, "Other"),
        (0x10, ""),
    ] {
        assert!(line.publish(&topic("get"), Bytes::new()));
        let (id, _) = publish(&mut peer).await;
        peer.ack(id, reason);
        if told.is_empty() {
            continue;
        }
        until(told, || !room.0.lock().unwrap().is_empty()).await;
        let heard = room.heard();
        assert!(heard[0].starts_with(&format!("get {told}")), "{heard:?}");
    }
    assert!(line.publish(&topic("large"), Bytes::from(vec![b'x'; 300])));
    until("too large", || !room.0.lock().unwrap().is_empty()).await;
    let heard = room.heard();
    assert!(heard[0].starts_with("large TooLarge"), "{heard:?}");
    assert_eq!(peer.try_next(), None);
    assert_eq!(setup.status().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn requests_that_end_each_connection_do_not_keep_the_routes_from_their_link() {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    let (setup, mut upstream) = Setup::scripted(config);
    let (room, line) = join(&setup);
    let mut held = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        setup.mailbox().push("t/x", "m", QoS::AtLeastOnce);
        let (id, to) = publish(&mut peer).await;
        assert_eq!(to, "t/x");
        peer.ack(id, 0);
        // Pings keep it up as long as the room is kept off.
        while room
            .0
            .lock()
            .unwrap()
            .iter()
            .all(|said| said != "connected")
        {
            match tokio::time::timeout(Duration::from_secs(1), peer.next()).await {
                Ok(Some(Packet::Ping)) => peer.send(Event::Pong),
                Ok(other) => panic!("{other:?}: {:?}", setup.status()),
                // As the library's own pings do.
                Err(_) => peer.send(Event::Pong),
            }
        }
        held.push(begun.elapsed() > Duration::from_secs(30));
        assert!(line.publish(&topic("forbidden"), Bytes::new()));
        loop {
            match peer.next().await {
                Some(Packet::Publish(_, publish)) => {
                    assert_eq!(publish.topic, "forbidden");
                    break;
                }
                Some(Packet::Ping) => peer.send(Event::Pong),
                other => panic!("no PUBLISH: {other:?}"),
            }
        }
        drop(peer);
        room.hears("disconnected").await;
        room.heard();
    }
    assert_eq!(held, [false, false, false, true, true]);
    assert_eq!(setup.mailbox().waiting(), 0, "every message went");
}
