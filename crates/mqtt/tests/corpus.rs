//! Replays the fuzz target's committed corpus, so that what fuzzing found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use iotedge_mqtt::{Role, Version};

#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/session.rs"]
mod session;

#[test]
fn the_corpus_holds() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/mqtt_decode");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        exercise::exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} seeds");
}

#[test]
fn the_seeds_of_version_5_reach_every_packet() {
    let packets = |role, name: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/mqtt_decode");
        let bytes = std::fs::read(format!("{dir}/seed-v5-{name}")).expect("readable");
        let (packets, end) = exercise::decode_pieces(role, Version::V5, &bytes, bytes.len());
        assert_eq!(end, None, "{name}");
        packets.len()
    };
    assert_eq!(packets(Role::Server, "connect-full"), 1);
    assert_eq!(packets(Role::Server, "session"), 15);
    assert_eq!(packets(Role::Client, "client-session"), 6);
    assert_eq!(packets(Role::Server, "auth"), 3);
    assert_eq!(packets(Role::Client, "auth-before-connack"), 2);
    assert_eq!(packets(Role::Client, "connack-refused"), 1);
}

#[test]
fn the_corpus_of_the_session_machine_holds() {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/session_machine"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        session::exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} programmes");
}
