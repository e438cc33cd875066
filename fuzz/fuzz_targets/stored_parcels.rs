//! Parcels of stored messages, as a card may have changed them. The same checks run
//! over the committed corpus in the tests of `crates/store`.
#![no_main]

#[path = "../../crates/store/tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::parcel(data));
