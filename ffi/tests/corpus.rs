//! Replays the committed corpora of the fuzz targets, so that what fuzzing found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails as its helpers do

#[path = "support/fuzzed.rs"]
mod fuzzed;

/// Gives each seed of a fuzz target to `exercise`.
fn replay(target: &str, exercise: fn(&[u8])) {
    let dir = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} seeds of {target}");
}

#[test]
fn the_corpus_of_packets_holds() {
    replay("client_packets", fuzzed::packets);
}

#[test]
fn the_corpus_of_json_holds() {
    replay("client_json", fuzzed::json);
}
