//! Rule documents and rows of outboxes: no bytes panic, every refusal has a place in the text, and
//! what can be read is written back as it was.
#![no_main]

use bytes::Bytes;
use iotedge_rules::{Facilities, Work, check_rules, parse_rule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let row = Bytes::copy_from_slice(bytes);
    if let Some(work) = Work::decode(&row) {
        if let Some(again) = work.encode() {
            assert_eq!(Work::decode(&again), Some(work));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse_rule("r", "f", text) {
        Ok(rule) => {
            let _ = check_rules(&[rule], &Facilities::default());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.matches('\n').count() + 1;
            assert!(errors.iter().all(|e| (1..=lines).contains(&e.line)));
        }
    }
});
