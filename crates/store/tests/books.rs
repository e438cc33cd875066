//! Counters and indexes that a card has changed, in a file whose shape is right.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;

use common::{append, commit, message, open, row};
use iotedge_model::{ClientId, DropReason, MessageId, QoS};
use iotedge_store::{Account, Store, TakerId, TakerKind, TakerRow};

fn put(store: &Store, taker: TakerId, qos: QoS, ids: impl IntoIterator<Item = u64>) {
    let entries: Vec<_> = ids
        .into_iter()
        .map(|id| (message(id, "t", "x"), vec![TakerRow { qos, ..row(taker) }]))
        .collect();
    append(store, &entries).unwrap();
}

fn read(store: &Store, taker: TakerId) -> Vec<u64> {
    let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    rows.iter().map(|row| row.message.id.0).collect()
}

fn acknowledge(store: &Store, taker: TakerId, ids: &[u64]) {
    let ids: Vec<_> = ids.iter().map(|id| MessageId(*id)).collect();
    store.acknowledge(taker, &ids);
    commit(store);
}

fn change(dir: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(dir.join("queue.db")).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn damaged(account: &Account) -> u64 {
    let dropped = account.dropped.get(&DropReason::Damaged);
    dropped.copied().unwrap_or(0)
}

/// Takes all that waits, adds one, and looks whether the file and memory say the same after that.
fn goes_on(dir: &Path, kind: TakerKind) -> (Vec<u64>, Account) {
    let (store, opened) = open(dir);
    assert!(opened.damaged.is_empty() && opened.unreadable.is_empty());
    let taker = match opened.sessions.first() {
        Some(session) => session.taker,
        None => store.create_taker(kind, "n"),
    };
    let found = read(&store, taker);
    put(&store, taker, QoS::AtLeastOnce, [opened.next_message_id]);
    let with_new = read(&store, taker);
    assert_eq!(with_new.last(), Some(&opened.next_message_id));
    assert_eq!(with_new.len(), found.len() + 1);
    commit(&store);
    let account = store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.queued, with_new.len() as u64);
    assert_eq!(account.queued_bytes, 66 * with_new.len() as u64);
    acknowledge(&store, taker, &with_new);
    let account = store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!((account.queued, account.queued_bytes), (0, 0));
    store.close();
    let (store, again) = open(dir);
    assert!(again.damaged.is_empty() && again.unreadable.is_empty());
    assert_eq!(store.account(taker), account);
    assert_eq!(store.create_taker(kind, "n"), taker);
    assert!(read(&store, taker).is_empty(), "nothing comes again");
    (found, account)
}

/// 20 messages in parcels and 10 in rows of their own; four of them are delivered.
fn filled(dir: &Path, kind: TakerKind) {
    let (store, _) = open(dir);
    let taker = match kind {
        TakerKind::Session => {
            let record = common::session(&store, &ClientId::new("n").unwrap());
            let taker = record.taker;
            store.put_session(record, None);
            taker
        }
        _ => store.create_taker(kind, "n"),
    };
    put(&store, taker, QoS::AtLeastOnce, 1..=10);
    put(&store, taker, QoS::AtLeastOnce, 11..=20);
    put(&store, taker, QoS::ExactlyOnce, 21..=30);
    acknowledge(&store, taker, &[1, 2, 21, 22]);
    store.close();
}

#[test]
fn a_counter_that_can_not_be_is_counted_anew() {
    for kind in [
        TakerKind::Session,
        TakerKind::Route,
        TakerKind::Outbox,
        TakerKind::Shared,
    ] {
        for column in ["accepted", "delivered", "rows", "bytes"] {
            for value in [-1, i64::MIN, i64::MAX, 1 << 60] {
                let dir = tempfile::tempdir().unwrap();
                filled(dir.path(), kind);
                change(
                    dir.path(),
                    &format!("UPDATE takers SET {column} = {value} WHERE id > 0"),
                );
                let (found, account) = goes_on(dir.path(), kind);
                let case = format!("{kind:?}, {column}, {value}");
                assert_eq!(found, Vec::from_iter((3..=20).chain(23..=30)), "{case}");
                let counts = (account.accepted, account.delivered, damaged(&account));
                assert_eq!(counts, (31, 31, 0), "{case}");
            }
        }
    }
}

#[test]
fn books_that_do_not_balance_are_counted_anew() {
    for sql in [
        "UPDATE takers SET accepted = accepted + 64",
        "UPDATE takers SET rows = rows - 2, bytes = bytes - 2",
        "INSERT INTO drops VALUES (1, 'expired', -3)",
        "INSERT INTO drops VALUES (1, 'expired', 9223372036854775807), (1, 'full', 9223372036854775807)",
        "UPDATE takers SET rows = 0, bytes = 0, delivered = delivered + rows",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Route);
        change(dir.path(), sql);
        let (found, _) = goes_on_any(dir.path());
        assert_eq!(found.len(), 26, "{sql}");
    }
}

/// As [`goes_on`], where the counts may be any that balance.
fn goes_on_any(dir: &Path) -> (Vec<u64>, Account) {
    let (store, opened) = open(dir);
    let taker = store.create_taker(TakerKind::Route, "n");
    assert_eq!(opened.takers.first().map(|found| found.id), Some(taker));
    let found = read(&store, taker);
    acknowledge(&store, taker, &found);
    store.close();
    let (store, _) = open(dir);
    put(&store, taker, QoS::AtLeastOnce, [opened.next_message_id]);
    let account = store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!((account.queued, account.queued_bytes), (1, 66));
    (found, account)
}

#[test]
fn a_session_whose_queue_is_not_there_has_one() {
    for sql in [
        "DELETE FROM takers WHERE kind = 'session'",
        "UPDATE takers SET kind = 'sessioo' WHERE kind = 'session'",
        "UPDATE sessions SET taker = taker + 64",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Session);
        change(dir.path(), sql);
        let (store, opened) = open(dir.path());
        let taker = opened.sessions[0].taker;
        assert_eq!(store.find_taker(TakerKind::Session, "n"), Some(taker));
        assert_eq!(read(&store, taker).len(), 26, "{sql}");
        put(&store, taker, QoS::AtLeastOnce, [opened.next_message_id]);
        assert_eq!(read(&store, taker).len(), 27, "{sql}");
        let account = store.account(taker);
        assert!(account.balances() && account.queued == 27, "{account:?}");
        drop(store);
        let (_store, again) = open(dir.path());
        assert_eq!(again.sessions[0].taker, taker);
        assert!(again.unreadable.is_empty(), "{:?}", again.unreadable);
    }
}

/// The first parcel's index is 1 time 0 apart at 66 bytes, 9 times 1 apart at 66 bytes.
#[test]
fn a_changed_index_is_read_from_the_body() {
    for ids in [
        "x'010042110142'",
        "x'010042080142'",
        "x'010042090242'",
        "x'01004209014A'",
        "x'FF'",
        "x''",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Route);
        change(
            dir.path(),
            &format!("UPDATE parcels SET ids = {ids} WHERE first = 1"),
        );
        let (found, account) = goes_on(dir.path(), TakerKind::Route);
        assert_eq!(found, Vec::from_iter((3..=20).chain(23..=30)), "{ids}");
        assert_eq!((account.accepted, damaged(&account)), (31, 0), "{ids}");
    }
}

#[test]
fn a_changed_index_over_a_changed_body_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), TakerKind::Route);
    change(
        dir.path(),
        "UPDATE parcels SET ids = x'010042110142' WHERE first = 1;
         UPDATE bodies SET body = CAST(x'00' || substr(body, 2) AS BLOB) WHERE id = 1",
    );
    let (found, account) = goes_on(dir.path(), TakerKind::Route);
    assert_eq!(found, Vec::from_iter((11..=20).chain(23..=30)));
    assert_eq!((account.accepted, damaged(&account)), (31, 8));
}

#[test]
fn counts_of_a_parcel_that_are_not_those_of_its_messages_are_set_right() {
    for sql in [
        "live = -1",
        "live = 9223372036854775807",
        "live = 0",
        "live = 72",
        "bytes = -1",
        "bytes = 9223372036854775807",
        "gone = gone + 1024",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Route);
        change(
            dir.path(),
            &format!("UPDATE parcels SET {sql} WHERE first = 1"),
        );
        let (found, account) = goes_on(dir.path(), TakerKind::Route);
        assert_eq!(found, Vec::from_iter((3..=20).chain(23..=30)), "{sql}");
        assert_eq!((account.accepted, damaged(&account)), (31, 0), "{sql}");
    }
}

/// Which of them are gone is not known: a message that waits is not passed over uncounted.
#[test]
fn a_bit_more_or_less_in_what_is_gone_is_counted() {
    for gone in [2, 7, 1023, 511, 0] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Route);
        change(
            dir.path(),
            &format!("UPDATE parcels SET gone = {gone} WHERE first = 1"),
        );
        let (found, account) = goes_on(dir.path(), TakerKind::Route);
        assert_eq!(found, Vec::from_iter((11..=20).chain(23..=30)), "{gone}");
        assert_eq!((account.accepted, damaged(&account)), (31, 8), "{gone}");
    }
    // With one way to be right it is that one.
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), TakerKind::Route);
    change(dir.path(), "UPDATE parcels SET gone = 4 WHERE first = 11");
    let (found, account) = goes_on(dir.path(), TakerKind::Route);
    assert_eq!(found, Vec::from_iter((3..=20).chain(23..=30)));
    assert_eq!((account.accepted, damaged(&account)), (31, 0));
}

#[test]
fn a_row_that_says_it_has_more_bytes_than_there_are_is_settled() {
    for bytes in [i64::MIN, -1, i64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), TakerKind::Route);
        change(
            dir.path(),
            &format!("UPDATE queue SET bytes = {bytes} WHERE message > 25"),
        );
        let (found, account) = goes_on_any(dir.path());
        assert_eq!((found.len(), account.accepted), (26, 31), "{bytes}");
    }
}

#[test]
fn a_salvage_goes_on_over_counters_that_can_not_be() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), TakerKind::Route);
    change(
        dir.path(),
        "UPDATE takers SET accepted = -9223372036854775807, delivered = 9223372036854775807;
         UPDATE queue SET bytes = 9223372036854775807;
         UPDATE parcels SET bytes = -1;
         INSERT INTO drops VALUES (1, 'expired', 9223372036854775807), (1, 'full', 9223372036854775807);
         INSERT INTO drops VALUES (0, 'expired', -9223372036854775807)",
    );
    let path = dir.path().join("queue.db");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xA5; 16], 0).unwrap();
    let (store, opened) = open(dir.path());
    assert_eq!(opened.damaged.len(), 1);
    let taker = opened.takers[0].id;
    assert_eq!(read(&store, taker).len(), 26);
    let account = store.account(taker);
    assert!(account.balances() && account.queued == 26, "{account:?}");
    assert!(store.removed_account().balances());
}
