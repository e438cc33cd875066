//! Replicas, links that lose, double and reorder, crashes at any point: after it has been
//! quiet for a while all sides are equal, and nothing that one side alone has said is lost. There are
//! one or two gateways below the cloud.
//!
//! `SHADOW_HISTORIES` says how many histories are run, `SHADOW_SEED` runs one alone.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "simulation/mod.rs"]
mod simulation;

use simulation::{Options, World};

fn run(seed: u64) {
    let options = Options::of(seed);
    let mut world = World::new(seed, options);
    for _ in 0..options.steps {
        world.step();
    }
    world.settle();
    world.check();
}

/// Histories `first`, `first + step` and so on.
fn run_all(first: u64, end: u64, step: u64) {
    for seed in (first..end).step_by(usize::try_from(step).unwrap()) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            let options = Options::of(seed);
            eprintln!("SHADOW_SEED={seed} is the history that failed: {options:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn both_sides_are_equal_after_any_history() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(seed) = number("SHADOW_SEED") {
        return run(seed);
    }
    let count = number("SHADOW_HISTORIES").unwrap_or(1_000);
    let first = 1_000_000_007;
    let threads =
        std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || run_all(first + thread, first + count, threads));
        }
    });
    eprintln!("{count} histories from seed {first}");
}
