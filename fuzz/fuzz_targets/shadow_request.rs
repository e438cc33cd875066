//! Request documents of shadows. The same checks run over the committed corpus in the tests of
//! `crates/shadow`.
#![no_main]

#[path = "../../crates/shadow/tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::exercise(data));
