//! What fuzzing has kept: each input again, in every run of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/fuzzed.rs"]
mod fuzzed;

use std::path::Path;

fn replay(name: &str, exercise: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder.join(name)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        exercise(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 5, "{name} has a corpus");
}

#[test]
fn topics() {
    replay("bridge_topics", fuzzed::topics);
}

#[test]
fn payloads() {
    replay("bridge_payloads", fuzzed::payload);
}

#[test]
fn answers_of_proxies() {
    replay("bridge_proxy", fuzzed::proxy);
}
