//! A damaged queue file and its journal, read page by page. The same checks run
//! over the committed corpus in the tests of `crates/store`.
#![no_main]

#[path = "../../crates/store/tests/support/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::damaged_queue(data));
