//! Replays the fuzz targets' committed corpora, so that what fuzzing found stays found.
#![allow(clippy::expect_used)] // a test that panics has failed

#[path = "support/fuzzed.rs"]
mod fuzzed;
#[path = "support/talk.rs"]
mod talk;

fn replay(target: &str, exercise: fn(&[u8])) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    let dir = std::path::Path::new(corpus).join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 8, "{count} seeds");
}

#[test]
fn request_documents_hold() {
    replay("shadow_request", fuzzed::exercise);
}

#[test]
fn what_a_cloud_may_say_is_borne() {
    replay("shadow_cloud", talk::exercise);
}
