//! Replays the fuzz target's committed corpus, so that what fuzzing found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use iotedge_mqtt::{Role, Version};

#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/session.rs"]
mod session;

/// Gives each seed of a fuzz target to `exercise`.
fn replay(target: &str, exercise: fn(&[u8])) {
    let dir = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        exercise(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} seeds of {target}");
}

#[test]
fn the_corpus_holds() {
    replay("mqtt_decode", exercise::exercise);
}

#[test]
fn the_corpus_of_the_session_machine_holds() {
    replay("session_machine", session::exercise);
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
