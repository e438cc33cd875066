//! The bridge on the real broker and the real store, against a real mosquitto.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::mosquitto::{Mosquitto, Watcher};
use common::{SystemClock, config, route, until};
use iotedge_bridge::{Bridge, Config, Direction};
use iotedge_broker::{Broker, Limits};
use iotedge_model::{Message, QoS, Topic};
use iotedge_ports::*;
use iotedge_store::{Options, Store};

struct House {
    broker: Arc<Broker>,
    bridge: Bridge,
    store: Store,
}

impl House {
    fn start(dir: &Path, config: Config) -> Self {
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, mut opened) = Store::open(dir, options).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock(Instant::now()));
        let limits = Limits::default();
        let broker = Arc::new(Broker::new(
            store.clone(),
            &mut opened,
            clock.clone(),
            limits,
        ));
        let port: Arc<dyn BrokerPort> = broker.clone();
        let runtime = tokio::runtime::Handle::current();
        let bridge = Bridge::start(vec![config], &port, &clock, store.clone(), &runtime).unwrap();
        Self {
            broker,
            bridge,
            store,
        }
    }

    async fn emptied(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.books().queued > 0 {
            let late = Instant::now() >= deadline;
            assert!(!late, "the queue stays: {:#?}", self.bridge.status());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn books(&self) -> RouteStatus {
        let books = self.bridge.status().remove(0).routes.remove(0);
        let dropped: u64 = books.dropped.values().sum();
        assert_eq!(books.accepted, books.delivered + books.queued + dropped);
        books
    }

    /// All at once; the last owner of the store commits what waits.
    async fn stop(self) {
        self.bridge.stop().await;
        self.broker.stop();
    }
}

#[derive(Default)]
struct Acknowledged(Mutex<HashSet<u64>>);

impl AckSink for Acknowledged {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        outcome.unwrap();
        self.0.lock().unwrap().insert(token);
    }
}

fn publish(house: &House, sink: &Arc<Acknowledged>, n: u64) {
    let topic = Topic::new("t/x").unwrap();
    let payload = Bytes::from(format!("{n}"));
    let message = Message::internal("test", topic, payload, QoS::AtLeastOnce);
    let acks: Arc<dyn AckSink> = sink.clone();
    let mut batch = [Publication::new(message, Some((acks, n)))];
    house.broker.publish(&mut batch);
    match batch[0].outcome {
        PublishOutcome::Pending => {}
        PublishOutcome::Done { .. } => sink.acked(n, Ok(())),
        PublishOutcome::Refused(refusal) => panic!("{refusal:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_arrives_in_order_over_outages_and_restarts() {
    let Some(mut mosquitto) = Mosquitto::open() else {
        return;
    };
    let watcher = Watcher::start(mosquitto.port, "watcher", "t/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&mosquitto.url());
    config.routes.push(route(Direction::Out, "t/#"));
    let sink = Arc::new(Acknowledged::default());
    let mut sent = 0;
    for round in 0..6 {
        let house = House::start(dir.path(), config.clone());
        for n in 0..400 {
            publish(&house, &sink, sent);
            sent += 1;
            if n % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            if n == 200 && round % 2 == 1 {
                mosquitto.terminate();
            }
        }
        until("all acknowledged", || {
            sink.0.lock().unwrap().len() as u64 == sent
        })
        .await;
        house.books();
        if round % 4 == 1 {
            // Restarted during the outage.
            house.stop().await;
            mosquitto.run();
        } else {
            if round % 2 == 1 {
                mosquitto.run();
            }
            house.emptied().await;
            house.stop().await;
        }
    }
    let house = House::start(dir.path(), config);
    house.emptied().await;
    let books = house.books();
    assert_eq!((books.accepted, books.delivered), (sent, sent));
    let first = || {
        let mut seen = watcher.payloads();
        let mut known = HashSet::new();
        seen.retain(|p| known.insert(p.clone()));
        seen
    };
    until("all at the watcher", || first().len() as u64 == sent).await;
    let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
    assert_eq!(first(), expected);
    until("the file empty", || house.store.pending_bytes() == 0).await;
    house.stop().await;
}
