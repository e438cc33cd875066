//! Forgetting the tombstones of many shadows while others are asked for.
#![allow(clippy::unwrap_used)]

#[path = "support/house.rs"]
mod support;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Protocol, ThingName, TraceId};
use iotedge_shadow::{Answer, Call, Put, ShadowService, ShadowStore, StorageFailure};
use support::{House, MemoryStore};

/// A store whose lists wait for the test.
struct SlowStore {
    inner: MemoryStore,
    log: Mutex<Vec<&'static str>>,
    asked: SyncSender<()>,
    go: Mutex<Receiver<()>>,
}

impl ShadowStore for SlowStore {
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure> {
        self.log.lock().unwrap().push("get");
        self.inner.get(key)
    }
    fn put(&self, puts: Vec<Put>) -> Result<(), StorageFailure> {
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
        self.log.lock().unwrap().push("list");
        self.asked.send(()).unwrap();
        // The test's end lets everything go on.
        let _ = self.go.lock().unwrap().recv();
        self.inner.list(prefix, after, limit)
    }
}

struct Bench {
    house: House,
    store: Arc<SlowStore>,
    asked: Receiver<()>,
    go: Option<SyncSender<()>>,
}

const DELETED: usize = 1000;

/// Shadows that were deleted long ago, and one that is there.
fn bench() -> Bench {
    let (asked_tell, asked) = sync_channel(DELETED);
    let (go, go_wait) = sync_channel(1);
    let store = Arc::new(SlowStore {
        inner: MemoryStore::default(),
        log: Mutex::default(),
        asked: asked_tell,
        go: Mutex::new(go_wait),
    });
    let house = House::new(store.clone());
    let update = r#"{"state":{"reported":{"n":1}}}"#;
    for n in 0..DELETED {
        house.ask(&format!("$aws/things/t{n}/shadow/update"), update);
        house.ask(&format!("$aws/things/t{n}/shadow/delete"), "");
    }
    house.clock.advance_seconds(48 * 3600 + 1);
    house.ask("$aws/things/lamp/shadow/update", update);
    store.log.lock().unwrap().clear();
    Bench {
        house,
        store,
        asked,
        go: Some(go),
    }
}

impl Bench {
    fn wait_for_list(&self) {
        self.asked.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn requests_are_answered_between_the_steps_of_forgetting() {
    let mut bench = bench();
    bench.house.service.sweep();
    bench.wait_for_list();
    // A second call while the first is under way adds nothing.
    bench.house.service.sweep();
    bench.house.send("$aws/things/lamp/shadow/get", "");
    bench.go.as_ref().unwrap().send(()).unwrap();
    bench.wait_for_list();
    assert_eq!(*bench.store.log.lock().unwrap(), ["list", "get", "list"]);
    bench.go = None;
    bench.store.inner.wait_for_forgetting(1);
    bench.house.service.stop();
    let log = bench.store.log.lock().unwrap();
    let lists = log.iter().filter(|entry| **entry == "list").count();
    assert!(lists <= DELETED / 16, "{lists}");
}

/// Whether a request is refused at once.
fn refuses(service: &ShadowService) -> bool {
    let call = Call {
        thing: ThingName::new("lamp").unwrap(),
        shadow: None,
        operation: ShadowOperation::Get,
        payload: Bytes::new(),
        trace: TraceId(1),
        protocol: Protocol::Mqtt,
    };
    let (tell, told) = sync_channel(1);
    let reply = move |answer: Answer| {
        // An answer that comes later is not waited for.
        let _ = tell.send(answer.is_err());
    };
    service.submit(call, Box::new(reply));
    told.try_recv() == Ok(true)
}

#[test]
fn stopping_does_not_wait_for_all_steps() {
    let mut bench = bench();
    bench.house.service.sweep();
    bench.wait_for_list();
    let service = bench.house.service.clone();
    let (stopping, stops) = sync_channel(1);
    let stop = std::thread::spawn(move || {
        stopping.send(()).unwrap();
        service.stop();
    });
    stops.recv().unwrap();
    // What comes in after the stop is refused: then it has begun.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !refuses(&bench.house.service) {
        assert!(Instant::now() < deadline, "the stop has not begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.go = None;
    stop.join().unwrap();
    assert!(bench.store.inner.len() > DELETED / 2);
}
