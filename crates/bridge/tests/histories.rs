//! Seeded histories on a simulated clock and disk: the bridge on the real broker and the real store,
//! against an upstream in memory. Nothing acknowledged is lost, and after every step each topic is in
//! order and the accounts balance. A message whose PUBACK the link took, and that was followed by a flush
//! of the store, never comes again, whatever happens.
//!
//! `HISTORIES=1000` for more than the 200 of every run. `HISTORY_SEED=N` repeats one, twenty times: what
//! the store's own thread does meanwhile is not in the seed; it tells the whole story when it fails.
//!
//! Time is tokio's paused clock: nobody waits. The disk is a copy of the files at the moment of a
//! crash whose log is torn behind what was synced: SQLite appends to it and syncs before it says
//! that a commit is done and before it begins the next, so that the last one, if it was not reported, may
//! be there, or not, or in part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod history;

use history::{History, Rng};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("HISTORY_SEED") {
        // What the store's thread does meanwhile is not in the seed.
        for _ in 0..number("HISTORIES").unwrap_or(20) {
            println!("{}", History::run(seed));
        }
        return;
    }
    let first = u64::from(std::process::id()) << 32;
    let mut all = history::Counts::default();
    for seed in (first..).take(number("HISTORIES").unwrap_or(200) as usize) {
        let outcome = std::panic::catch_unwind(|| History::run(seed));
        let counts = outcome.unwrap_or_else(|_| panic!("HISTORY_SEED={seed} repeats this history"));
        all.add(&counts);
    }
    println!("{all}");
    // They were histories of something.
    assert!(all.crashes > 0 && all.torn > 0 && all.again > 0 && all.dead > 0 && all.inbound > 0);
}

/// The comparison itself: it is red when the disk forgets a commit that was reported.
#[test]
#[should_panic(expected = "acknowledged and lost")]
fn a_disk_that_forgets_a_commit_is_found_out() {
    for seed in 0..20 {
        History::forgetful(seed);
    }
}

#[test]
fn dice_are_even() {
    let mut rng = Rng::new(7);
    let mut seen = [0; 4];
    (0..4000).for_each(|_| seen[rng.below(4)] += 1);
    assert!(seen.iter().all(|n| (900..1100).contains(n)), "{seen:?}");
}
