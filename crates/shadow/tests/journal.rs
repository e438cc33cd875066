//! The journal of conflicts.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::Arc;

use iotedge_shadow::core::sync::Conflict;
use iotedge_shadow::sync::{Entry, Journal, Kind};
use serde_json::{Value, json};
use support::MemoryStore;

fn entry(shadow: &str, n: u64) -> Entry {
    Entry::new(n, "cloud", shadow.into(), Kind::DeletedUnseen(n))
}

fn times(journal: &Journal) -> Vec<u64> {
    let all = journal.list(None, 1000).unwrap();
    all.iter().map(|(_, entry)| entry.at).collect()
}

#[test]
fn the_oldest_lines_go_and_numbers_go_on() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::new(store.clone(), 3);
    for n in 0..5 {
        journal.note(&entry("lamp", n)).unwrap();
    }
    assert_eq!(times(&journal), [2, 3, 4]);
    assert_eq!(store.len(), 3);
    // As after a restart.
    let journal = Journal::new(store.clone(), 3);
    journal.note(&entry("lamp", 5)).unwrap();
    assert_eq!(times(&journal), [3, 4, 5]);
    let numbers: Vec<u64> = journal
        .list(Some(3), 1)
        .unwrap()
        .iter()
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(numbers, [4], "pages go on behind a number");
    assert_eq!(journal.clear().unwrap(), 3);
    assert!(journal.is_empty().unwrap());
    assert_eq!(store.len(), 0);
}

#[test]
fn what_was_said_last_of_a_shadow_is_not_said_again() {
    let journal = Journal::new(Arc::new(MemoryStore::default()), 10);
    let said = |at: u64, message: &str| {
        let kind = Kind::RefusedByCloud(413, message.into());
        journal
            .note(&Entry::new(at, "cloud", "lamp".into(), kind))
            .unwrap();
    };
    said(1, "too large");
    said(2, "too large");
    journal.note(&entry("fan", 3)).unwrap();
    said(4, "too large");
    said(5, "no JSON");
    said(6, "too large");
    assert_eq!(times(&journal), [1, 3, 5, 6]);
}

#[test]
fn a_line_is_bounded_whatever_the_documents_are() {
    let leaf = |n: usize| Conflict {
        path: format!("desired.l{n}"),
        local: Some(json!("ü".repeat(4000))),
        cloud: Some(Value::from(n)),
        local_won: false,
    };
    let kind = Kind::Conflict((0..100).map(leaf).collect());
    let entry = Entry::new(0, "cloud", "lamp".into(), kind);
    let bytes = serde_json::to_vec(&entry).unwrap().len();
    assert!(bytes < 32 * 500, "{bytes}");
    let Kind::Conflict(leaves) = &entry.what else {
        panic!("{entry:?}");
    };
    assert_eq!((leaves.len(), entry.more), (32, 68));
    assert_eq!(
        leaves[1].cloud,
        Some(json!(1)),
        "small values stand as they are"
    );
}
