//! Templates and prefixes of topics. The same checks run over the committed corpus
//! in the tests of `crates/bridge`.
#![no_main]

#[path = "../../crates/bridge/tests/support/fuzzed.rs"]
#[allow(dead_code)]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::topics(data));
