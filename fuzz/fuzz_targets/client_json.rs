//! JSON for the shadow functions of libiotedge and for its tokens. The same checks run over the
//! committed corpus in the tests of `ffi`.
#![no_main]

#[path = "../../ffi/tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::json(data));
