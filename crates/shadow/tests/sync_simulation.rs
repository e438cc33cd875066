//! Two replicas, a link that loses, doubles and reorders, crashes at any point: after it has been
//! quiet for a while both sides are equal, and nothing that one side alone has said is lost.
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

#[test]
fn both_sides_are_equal_after_any_history() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(seed) = number("SHADOW_SEED") {
        return run(seed);
    }
    let count = number("SHADOW_HISTORIES").unwrap_or(1_200);
    let first = 1_000_000_007;
    for seed in first..first + count {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!(
                "SHADOW_SEED={seed} is the history that failed: {:?}",
                Options::of(seed)
            );
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{count} histories from seed {first}");
}
