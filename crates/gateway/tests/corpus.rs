//! Replays the fuzz target's committed corpus, so that what fuzzing found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use proptest::prelude::*;

#[path = "support/exercise.rs"]
mod exercise;

#[test]
fn the_corpus_holds() {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/websocket_frames"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        exercise::exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} seeds");
}

proptest! {
    #[test]
    fn any_bytes_hold(data in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise::exercise(&data);
    }
}
