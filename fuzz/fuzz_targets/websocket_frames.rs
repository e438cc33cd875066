//! Any bytes in place of a client's WebSocket frames. The same checks run over the committed
//! corpus in the tests of `crates/gateway`.
#![no_main]

#[path = "../../crates/gateway/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::exercise(data));
