//! What a server sends to the client of libiotedge, over a socket. The same checks run over the
//! committed corpus in the tests of `ffi`.
#![no_main]

#[path = "../../ffi/tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::packets(data));
