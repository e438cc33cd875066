//! Replays the committed corpora of the fuzz targets, so that what fuzzing found stays found.
#![allow(clippy::expect_used)]

#[path = "support/fuzzed.rs"]
mod fuzzed;

/// Gives each seed of a fuzz target to `exercise`, whole and cut.
fn replay(target: &str, exercise: fn(&[u8])) {
    let dir = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        let bytes = std::fs::read(&path).expect("readable");
        exercise(&bytes);
        for eighth in 1..8 {
            exercise(bytes.get(..bytes.len() * eighth / 8).unwrap_or_default());
        }
        count += 1;
    }
    assert!(count >= 5, "{count} seeds of {target}");
}

#[test]
fn the_corpus_of_parcels_holds() {
    replay("stored_parcels", fuzzed::parcel);
}

#[test]
fn the_corpus_of_damaged_queues_holds() {
    replay("damaged_queue", fuzzed::damaged_queue);
    let folder = std::env::temp_dir().join(format!("iotedge-fuzz-{}", std::process::id()));
    std::fs::remove_dir_all(folder).expect("removed");
}
