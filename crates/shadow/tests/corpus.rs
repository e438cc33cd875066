//! Replays the fuzz target's committed corpus, so that what fuzzing found stays found.
#![allow(clippy::expect_used)] // a test that panics has failed

#[path = "support/fuzzed.rs"]
mod fuzzed;

#[test]
fn the_corpus_holds() {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/shadow_request"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        fuzzed::exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 8, "{count} seeds");
}
