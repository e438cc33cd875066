//! Copies taken while the store works.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{append, message, open, row};
use iotedge_store::{Expect, StoreError, TakerKind};

#[test]
fn a_copy_taken_under_load_opens_with_all_that_was_done_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    let things = store.documents("things");
    let stop = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 501.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                append(&store, &[(message(id, "t", "x"), vec![row(taker)])]).unwrap();
            }
        });
        let copies: Vec<_> = (1..=5u64)
            .map(|n| {
                let key = n.to_string();
                let (done, told) = common::wait();
                things.put(&key, "x", Expect::Any, Some(done)).unwrap();
                told.recv().unwrap().unwrap();
                let to = dir.path().join(format!("copy-{n}"));
                let before = store.account(taker).accepted;
                common::commit(&store);
                store.backup(&to).unwrap();
                (n, before, to)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        copies
    });
    for (n, before, to) in copies {
        let (copy, found) = open(&to);
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        assert!(found.next_message_id > opened.next_message_id);
        let account = copy.account(taker);
        assert!(account.balances() && account.accepted >= before);
        let rows = copy.read(taker, None, usize::MAX, usize::MAX).unwrap();
        assert_eq!(rows.len() as u64, account.queued);
        let documents = copy.documents("things").scan().unwrap();
        assert_eq!(documents.len() as u64, n);
    }
}

#[test]
fn a_copy_never_replaces_what_is_there_and_mends_what_an_earlier_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let to = dir.path().join("copy");
    std::fs::create_dir(dir.path().join("copy.part")).unwrap();
    std::fs::write(dir.path().join("copy.part/queue.db"), b"cut short").unwrap();
    store.backup(&to).unwrap();
    assert!(!dir.path().join("copy.part").exists());
    let again = store.backup(&to);
    assert!(matches!(again, Err(StoreError::Io { .. })), "{again:?}");
    let nowhere = store.backup(&dir.path().join("no/such/folder"));
    assert!(matches!(nowhere, Err(StoreError::Io { .. })), "{nowhere:?}");
    drop(store);
    open(&to);
}
