//! The session machine as a programme of bytes says: messages, acknowledgements in any order, lost
//! connections, peers that keep to nothing. The same checks run over the committed corpus in the
//! tests of `crates/mqtt`.
#![no_main]

#[path = "../../crates/mqtt/tests/support/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| session::exercise(data));
