//! Any bytes at either end of an MQTT connection of either version: as they stand, behind an
//! opening, and as body and properties of each packet of version 5. The same checks run over the
//! committed corpus in the tests of `crates/mqtt`.
#![no_main]

#[path = "../../crates/mqtt/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::exercise(data));
