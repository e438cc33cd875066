//! Any bytes in place of a certificate, a request or a revocation list. The same checks run over the
//! committed corpus in the tests of `crates/identity`.
#![no_main]

#[path = "../../crates/identity/tests/common/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::exercise(data));
