//! Shadows that nobody uses any more.
#![allow(clippy::unwrap_used)]

#[path = "support/house.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iotedge_shadow::{Settings, ShadowStore};
use support::{House, MemoryStore};

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 365 * DAY;

struct Bench {
    house: House,
    store: Arc<MemoryStore>,
}

impl Bench {
    fn new(unused_lifetime: Option<u64>) -> Self {
        let store = Arc::new(MemoryStore::default());
        let settings = Settings {
            unused_lifetime,
            ..Settings::default()
        };
        let house = House::with(store.clone(), settings);
        Self { house, store }
    }

    fn update(&self, thing: &str) {
        let update = r#"{"state":{"reported":{"n":1}}}"#;
        self.house
            .ask(&format!("$aws/things/{thing}/shadow/update"), update);
    }

    /// Whether it is there; asks the store, for asking the service is using.
    fn is_there(&self, thing: &str) -> bool {
        let body = self.store.get(thing).unwrap().unwrap();
        !String::from_utf8_lossy(&body).contains("deletedAt")
    }

    /// A whole sweep.
    fn sweep(&self) {
        let sweeps = self.store.lists();
        self.house.service.sweep();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.store.lists() == sweeps {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        // What is asked after the step is answered after it.
        self.house.ask("$aws/things/nobody/shadow/get", "");
    }
}

#[test]
fn a_shadow_goes_when_it_was_not_used_for_the_lifetime() {
    let bench = Bench::new(Some(YEAR));
    for thing in ["forgotten", "updated", "read"] {
        bench.update(thing);
    }
    bench.house.clock.advance_seconds(YEAR - DAY);
    bench.sweep();
    bench.update("updated");
    bench.house.ask("$aws/things/read/shadow/get", "");
    assert!(bench.is_there("forgotten"));
    bench.house.clock.advance_seconds(2 * DAY);
    bench.sweep();
    assert!(!bench.is_there("forgotten"));
    assert!(bench.is_there("updated"));
    assert!(bench.is_there("read"));
    // Its version goes on as after any deletion.
    let news = bench
        .house
        .ask("$aws/things/forgotten/shadow/update", r#"{"state":{}}"#);
    assert_eq!(news[0].1["version"], 2);
}

#[test]
fn nothing_goes_while_the_clock_is_not_trusted_or_nobody_asked_for_it() {
    let bench = Bench::new(Some(YEAR));
    bench.update("lamp");
    bench.house.clock.advance_seconds(3 * YEAR);
    bench.house.clock.1.store(false, Ordering::SeqCst);
    bench.sweep();
    assert!(bench.is_there("lamp"));

    let bench = Bench::new(None);
    bench.update("lamp");
    bench.house.clock.advance_seconds(3 * YEAR);
    bench.sweep();
    assert!(bench.is_there("lamp"));
}

#[test]
fn the_time_of_a_shadow_from_before_the_clock_was_set_begins_when_it_is_seen() {
    let bench = Bench::new(Some(YEAR));
    bench.house.clock.1.store(false, Ordering::SeqCst);
    bench.update("lamp");
    // The clock is set: 50 years later, as it seems.
    bench.house.clock.1.store(true, Ordering::SeqCst);
    bench.house.clock.advance_seconds(50 * YEAR);
    bench.sweep();
    assert!(bench.is_there("lamp"));
    bench.house.clock.advance_seconds(YEAR + DAY);
    bench.sweep();
    assert!(!bench.is_there("lamp"));
}

#[test]
fn reading_is_noted_once_a_day_and_only_where_it_counts() {
    for (lifetime, notes) in [(Some(YEAR), 1), (None, 0)] {
        let bench = Bench::new(lifetime);
        bench.update("lamp");
        bench.house.clock.advance_seconds(DAY + 1);
        let before = bench.store.puts();
        for _ in 0..5 {
            bench.house.ask("$aws/things/lamp/shadow/get", "");
        }
        assert_eq!(bench.store.puts() - before, notes);
    }
}
