//! What an upstream says of shadows: topics and documents, in any order. The same checks run over the
//! committed corpus in the tests of `crates/shadow`.
#![no_main]

#[path = "../../crates/shadow/tests/support/talk.rs"]
mod talk;

libfuzzer_sys::fuzz_target!(|data: &[u8]| talk::exercise(data));
