//! What a proxy answers to CONNECT and SOCKS 5. The same checks run over the committed corpus
//! in the tests of `crates/bridge`.
#![no_main]

#[path = "../../crates/bridge/tests/support/fuzzed.rs"]
#[allow(dead_code)]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::proxy(data));
