//! The thread between service and upstream.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{Topic, TopicFilter};
use iotedge_ports::{UpstreamLine, UpstreamPeer, UpstreamPort, UpstreamStatus};
use iotedge_shadow::core::sync::Direction;
use iotedge_shadow::sync::{Journal, Selection, Settings, Synchroniser};
use iotedge_shadow::{Put, ShadowStore, StorageFailure};
use serde_json::{Value, json};
use support::{House, MemoryStore};

/// An upstream that does what the test says.
struct Upstream {
    peer: Mutex<Option<Arc<dyn UpstreamPeer>>>,
    asked: Arc<Asked>,
}

struct Asked(Mutex<SyncSender<(String, Value)>>);

impl UpstreamLine for Asked {
    fn subscribe(&self, filters: &[TopicFilter]) -> bool {
        for filter in filters {
            let what = (format!("SUBSCRIBE {filter}"), Value::Null);
            self.0.lock().unwrap().send(what).unwrap();
        }
        true
    }
    fn unsubscribe(&self, _: &[TopicFilter]) -> bool {
        true
    }
    fn publish(&self, topic: &Topic, payload: Bytes) -> bool {
        let what = (topic.to_string(), serde_json::from_slice(&payload).unwrap());
        self.0.lock().unwrap().send(what).unwrap();
        true
    }
}

impl UpstreamPort for Upstream {
    fn status(&self) -> Vec<UpstreamStatus> {
        Vec::new()
    }
    fn pause(&self, _: &str, _: &str) -> Result<bool, String> {
        Ok(false)
    }
    fn resume(&self, _: &str) -> Result<bool, String> {
        Ok(false)
    }
    fn join(&self, upstream: &str, peer: Arc<dyn UpstreamPeer>) -> Option<Arc<dyn UpstreamLine>> {
        assert_eq!(upstream, "cloud");
        *self.peer.lock().unwrap() = Some(peer);
        Some(self.asked.clone())
    }
}

/// Panics once, or fails to list once.
#[derive(Default)]
struct Fragile {
    inner: MemoryStore,
    panics: AtomicBool,
    fails: AtomicBool,
}

impl ShadowStore for Fragile {
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure> {
        self.inner.get(key)
    }
    fn put(&self, puts: Vec<Put>) -> Result<(), StorageFailure> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "by order");
        self.inner.put(puts)
    }
    fn forget(&self, key: &str) -> Result<(), StorageFailure> {
        self.inner.forget(key)
    }
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StorageFailure> {
        match self.fails.swap(false, Ordering::SeqCst) {
            true => Err(StorageFailure("by order".into())),
            false => self.inner.list(prefix, after, limit),
        }
    }
}

struct Cloud {
    house: House,
    sync: Arc<Synchroniser>,
    peer: Arc<dyn UpstreamPeer>,
    asked: Receiver<(String, Value)>,
}

const PREFIX: &str = "$aws/things/lamp/shadow";

fn start(shadows: Arc<Fragile>, journal: Arc<Fragile>) -> Cloud {
    let house = House::new(shadows);
    let state = json!({"state": {"reported": {"a": 1}}});
    house.ask(&format!("{PREFIX}/update"), state.to_string());
    let (sender, asked) = sync_channel(100);
    let upstream = Upstream {
        peer: Mutex::default(),
        asked: Arc::new(Asked(Mutex::new(sender))),
    };
    let settings = Settings {
        upstream: "cloud".into(),
        peer: "cloud".into(),
        selections: vec![Selection {
            thing: "*".parse().unwrap(),
            classic: true,
            named: Vec::new(),
            direction: Direction::Both,
            interval: Duration::ZERO,
        }],
        rate: 100,
        max_subscriptions: 10,
        wildcard: false,
        answer_timeout: Duration::from_secs(3600),
        refresh: Duration::from_secs(3600),
    };
    let journal = Arc::new(Journal::new(journal, 10));
    let clock = Arc::new(RealClock(std::time::Instant::now()));
    let sync = Synchroniser::start(settings, &house.service, &upstream, journal, clock, 1);
    let sync = sync.unwrap().unwrap();
    let peer = upstream.peer.lock().unwrap().clone().unwrap();
    peer.connected();
    Cloud {
        house,
        sync,
        peer,
        asked,
    }
}

struct RealClock(std::time::Instant);

impl iotedge_ports::Clock for RealClock {
    fn now(&self) -> iotedge_model::Now {
        let mono = u64::try_from(self.0.elapsed().as_millis()).unwrap();
        iotedge_model::Now {
            mono,
            wall: iotedge_model::UnixMillis(1_700_000_000_000 + mono),
            trusted: true,
        }
    }
}

impl Cloud {
    /// Grants subscriptions until something else is asked.
    fn asked(&self) -> (String, Value) {
        loop {
            let (what, payload) = self.asked.recv_timeout(Duration::from_secs(30)).unwrap();
            match what.strip_prefix("SUBSCRIBE ") {
                Some(filter) => self.peer.subscribed(filter, true),
                None => return (what, payload),
            }
        }
    }

    /// The cloud has another value.
    fn answer_get(&self) {
        let (topic, asked) = self.asked();
        assert_eq!(topic, format!("{PREFIX}/get"));
        let answer = json!({
            "state": {"reported": {"a": 2}}, "version": 3, "clientToken": asked["clientToken"],
        });
        let payload = Bytes::from(answer.to_string());
        self.peer.received(&format!("{topic}/accepted"), &payload);
    }
}

#[test]
fn after_a_panic_it_begins_anew_and_loses_nothing() {
    let journal = Arc::new(Fragile::default());
    journal.panics.store(true, Ordering::SeqCst);
    let cloud = start(Arc::default(), journal);
    // A conflict, which cannot be noted.
    cloud.answer_get();
    cloud.answer_get();
    let (topic, update) = cloud.asked();
    assert_eq!(topic, format!("{PREFIX}/update"));
    assert_eq!(update["state"], json!({"reported": {"a": 1}}));
    assert_eq!(update["version"], 3);
    cloud.sync.stop();
    cloud.house.service.stop();
}

#[test]
fn a_store_that_cannot_be_read_is_read_later() {
    let shadows = Arc::new(Fragile::default());
    shadows.fails.store(true, Ordering::SeqCst);
    let cloud = start(shadows.clone(), Arc::default());
    assert!(!shadows.fails.load(Ordering::SeqCst) || cloud.sync.status().shadows == 0);
    cloud.answer_get();
    assert!(!shadows.fails.load(Ordering::SeqCst));
    cloud.sync.stop();
}

#[test]
fn messages_beyond_what_can_wait_make_it_ask_again() {
    let cloud = start(Arc::default(), Arc::default());
    cloud.answer_get();
    let (_, update) = cloud.asked();
    let answer = json!({"version": 4, "clientToken": update["clientToken"]}).to_string();
    let topic = format!("{PREFIX}/update/accepted");
    cloud.peer.received(&topic, &Bytes::from(answer));
    let large = Bytes::from(vec![b' '; 5 << 20]);
    cloud
        .peer
        .received(&format!("{PREFIX}/update/documents"), &large);
    assert_eq!(cloud.asked().0, format!("{PREFIX}/get"));
}
