//! Damaged files: the store starts, and says what it could not bring over.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use common::{append, message, open, row};
use iotedge_model::{DropReason, QoS};
use iotedge_store::{Expect, Options, Store, StoreError, TakerKind, TakerRow};

const MESSAGES: u64 = 2000;

/// A queue of 2,000 messages of about 300 bytes, closed.
fn filled(dir: &Path) {
    filled_with(dir, QoS::AtLeastOnce);
}

/// The same in rows of their own, as all were once.
fn filled_with_rows(dir: &Path) {
    filled_with(dir, QoS::ExactlyOnce);
}

fn filled_with(dir: &Path, qos: QoS) {
    let (store, _) = open(dir);
    let taker = store.create_taker(TakerKind::Route, "r");
    let entries: Vec<_> = (1..=MESSAGES)
        .map(|id| {
            let row = TakerRow { qos, ..row(taker) };
            (message(id, "t", &format!("{id:0300}")), vec![row])
        })
        .collect();
    append(&store, &entries).unwrap();
    let things = store.documents("things");
    for key in ["a", "b", "c"] {
        things.put(key, "x".repeat(100), Expect::Any, None).unwrap();
    }
    store.close();
}

fn overwrite(path: &Path, at: u64, len: usize) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xA5; len], at).unwrap();
}

/// Opens, checks the books, and gives what is there and what was lost.
fn reopened(dir: &Path) -> (Vec<u64>, u64) {
    let (store, opened) = open(dir);
    assert_eq!(opened.damaged.len(), 1, "{:?}", opened.damaged);
    assert!(opened.damaged[0].set_aside.exists());
    let mut ids = Vec::new();
    let mut lost = 0;
    for taker in store.takers() {
        assert!(taker.account.balances(), "{:?}", taker.account);
        let rows = store.read(taker.id, None, usize::MAX, usize::MAX).unwrap();
        assert_eq!(rows.len() as u64, taker.account.queued);
        for row in rows {
            assert_eq!(
                row.message.payload,
                format!("{:0300}", row.message.id.0).as_bytes()
            );
            ids.push(row.message.id.0);
        }
        lost += taker
            .account
            .dropped
            .get(&DropReason::Damaged)
            .copied()
            .unwrap_or(0);
    }
    assert!(opened.next_message_id > MESSAGES);
    store.close();
    let (_store, again) = open(dir);
    assert!(again.damaged.is_empty(), "the new file is whole");
    (ids, lost)
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("queue.db");
    let length = path.metadata().unwrap().len();
    overwrite(&path, 0, length as usize);
    let (ids, _) = reopened(dir.path());
    assert!(ids.is_empty());
}

#[test]
fn rows_around_a_damaged_place_are_brought_over_and_the_lost_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("queue.db");
    let size = std::fs::metadata(&path).unwrap().len();
    let middle = size / 2 / 4096 * 4096;
    overwrite(&path, middle, 4096);
    // SQLite does not read that page at start: a reader comes upon it.
    let (tell, fatal) = std::sync::mpsc::sync_channel(4);
    let options = Options {
        min_free_disk: 0,
        on_fatal: Some(Arc::new(move |error: &StoreError| {
            tell.send(error.clone()).unwrap();
        })),
        ..Options::default()
    };
    let (store, opened) = Store::open(dir.path(), options).unwrap();
    assert!(opened.damaged.is_empty());
    let taker = opened.takers[0].id;
    let met = store.read(taker, None, usize::MAX, usize::MAX);
    assert!(matches!(met, Err(StoreError::Damaged { .. })), "{met:?}");
    assert_eq!(fatal.recv().unwrap(), store.health().unwrap_err());
    drop(store);
    let (ids, lost) = reopened(dir.path());
    assert!(
        ids.len() as u64 > MESSAGES * 9 / 10,
        "{} came over",
        ids.len()
    );
    assert_eq!(ids.len() as u64 + lost, MESSAGES);
    assert!(ids.is_sorted());
}

#[test]
fn many_damaged_places_do_not_stop_the_start() {
    for seed in 1u64..24 {
        let dir = tempfile::tempdir().unwrap();
        match seed % 2 {
            0 => filled_with_rows(dir.path()),
            _ => filled(dir.path()),
        }
        let path = dir.path().join("queue.db");
        let pages = std::fs::metadata(&path).unwrap().len() / 4096;
        let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..5 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            overwrite(&path, (1 + (x >> 33) % (pages - 1)) * 4096 + 7, 2000);
        }
        std::fs::File::create(dir.path().join("queue.db.suspect")).unwrap();
        reopened(dir.path());
    }
}

#[test]
fn damaged_documents_are_salvaged_too() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    overwrite(&dir.path().join("state.db"), 0, 100);
    let (store, opened) = open(dir.path());
    assert_eq!(opened.damaged[0].file, "state.db");
    let things = store.documents("things");
    assert_eq!(
        &*things.get("a").unwrap().unwrap().body,
        "x".repeat(100).as_bytes()
    );
    things.put("d", "new", Expect::Absent, None).unwrap();
}

#[test]
fn a_newer_file_and_a_foreign_file_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("queue.db");
    let set = |sql: &str| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    set("PRAGMA user_version = 99");
    let error = Store::open(dir.path(), Options::default()).err().unwrap();
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 99,
                known: 5,
                ..
            }
        ),
        "{error}"
    );
    set("PRAGMA user_version = 0");
    let error = Store::open(dir.path(), Options::default()).err().unwrap();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    set("PRAGMA user_version = 5");
    let (_, opened) = open(dir.path());
    assert!(opened.damaged.is_empty());
    assert_eq!(opened.takers[0].account.queued, MESSAGES);
}

/// As the first version left it, with a session, its subscription and a retained message.
fn of_version_1(dir: &Path) {
    filled_with_rows(dir);
    let (store, _) = open(dir);
    let client = iotedge_model::ClientId::new("c").unwrap();
    let record = common::session(&store, &client);
    store.put_session(record, None);
    store.close();
    let connection = rusqlite::Connection::open(dir.join("queue.db")).unwrap();
    connection
        .execute_batch(
            "ALTER TABLE sessions DROP COLUMN identifier; DROP TABLE wills;
             DROP TABLE parcels; DROP TABLE bodies;
             ALTER TABLE messages DROP COLUMN sum;
             DELETE FROM meta WHERE name LIKE 'taker %';
             DROP INDEX queue_in_flight; DROP INDEX queue_claimed;
             INSERT INTO retained SELECT id, trace, hops, principal, source, client_id, topic, qos,
                 retain, accepted_at, trusted, expiry, properties, payload
                 FROM messages WHERE id = 9;
             PRAGMA user_version = 1",
        )
        .unwrap();
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date_whole() {
    let dir = tempfile::tempdir().unwrap();
    of_version_1(dir.path());
    let (store, opened) = open(dir.path());
    assert!(opened.damaged.is_empty() && opened.unreadable.is_empty());
    assert_eq!(opened.retained.len(), 1);
    let taker = opened.takers[0].id;
    // New messages are behind the old ones, though their form is another.
    let next = opened.next_message_id;
    append(&store, &[(message(next, "t", "x"), vec![row(taker)])]).unwrap();
    let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    let ids: Vec<u64> = rows.iter().map(|row| row.message.id.0).collect();
    assert_eq!(ids, Vec::from_iter((1..=MESSAGES).chain([next])));
    let [session] = &opened.sessions[..] else {
        panic!("{:?}", opened.sessions);
    };
    assert_eq!((session.client_id.as_str(), session.identifier), ("c", 0));
    store.put_session(common::session(&store, &session.client_id), None);
    drop(store);
    let (_store, opened) = open(dir.path());
    assert_eq!(opened.sessions[0].identifier, 7 << 100);
}

#[test]
fn a_damaged_file_of_the_first_version_keeps_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    of_version_1(dir.path());
    let path = dir.path().join("queue.db");
    let middle = std::fs::metadata(&path).unwrap().len() / 2 / 4096 * 4096;
    overwrite(&path, middle, 4096);
    std::fs::File::create(dir.path().join("queue.db.suspect")).unwrap();
    let (_store, opened) = open(dir.path());
    let [report] = &opened.damaged[..] else {
        panic!("{:?}", opened.damaged);
    };
    assert!(!report.incomplete.contains(&"wills"), "{report:?}");
    assert_eq!(opened.sessions.len(), 1);
    assert_eq!(opened.retained.len(), 1);
}

#[test]
fn rows_that_are_not_as_they_were_written_are_passed_over_and_named() {
    let dir = tempfile::tempdir().unwrap();
    filled_with_rows(dir.path());
    let connection = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO takers(id, kind, name) VALUES (77, 'of the future', 'x');
             INSERT INTO drops VALUES (1, 'of the future', 3);
             UPDATE takers SET accepted = accepted + 3 WHERE id = 1;
             INSERT INTO sessions VALUES ('c', 5, 'no principal', 4, 0, 0, NULL, 0, 0, NULL);
             UPDATE messages SET topic = 'a/+' WHERE id IN (1, 2, 3, 7);
             INSERT INTO retained SELECT id, trace, hops, principal, 'no source', client_id,
                 topic, qos, retain, accepted_at, trusted, expiry, properties, payload
                 FROM messages WHERE id = 9",
        )
        .unwrap();
    drop(connection);
    let (store, opened) = open(dir.path());
    assert!(opened.damaged.is_empty());
    assert_eq!(opened.unreadable.len(), 3, "{:?}", opened.unreadable);
    let taker = opened.takers[0].id;
    let first = store.read(taker, None, 2, usize::MAX).unwrap();
    assert_eq!(
        first[0].message.id.0, 4,
        "the unreadable ones are passed over"
    );
    let all = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    assert_eq!(all.len() as u64, MESSAGES - 4);
    common::commit(&store);
    let account = store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.dropped[&DropReason::Damaged], 4 + 3);
}

/// A card that changes a byte here and there leaves the shape of the file as it is.
#[test]
fn parcels_that_are_not_as_they_were_written_are_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let connection = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    let change = "UPDATE bodies SET body = CAST(substr(body, 1, 900) || x'00' || substr(body, 902)
         AS BLOB) WHERE id IN (2, 4);
         UPDATE parcels SET ids = x'FF' WHERE body IN (3, 4)";
    connection.execute_batch(change).unwrap();
    drop(connection);
    let (store, opened) = open(dir.path());
    assert!(opened.damaged.is_empty());
    let taker = opened.takers[0].id;
    let all = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    // The third one's index is in its body too.
    assert_eq!(all.len() as u64, MESSAGES - 128);
    common::commit(&store);
    let account = store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.dropped[&DropReason::Damaged], 128);
    let bytes: usize = all.iter().map(|row| row.message.cost()).sum();
    assert_eq!(account.queued_bytes, bytes as u64);
    assert_eq!(common::count(dir.path(), "SELECT count(*) FROM bodies"), 30);
}

fn empty(path: &Path) {
    std::fs::File::create(path).unwrap();
}

#[test]
fn an_emptied_file_is_set_aside_and_reported() {
    for (file, other) in [("queue.db", "state.db"), ("state.db", "queue.db")] {
        // Known by the other file, by its own journal, by the CA beside it.
        for trace in [other, &format!("{file}-wal"), "ca"] {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path());
            empty(&dir.path().join(file));
            if trace != other {
                std::fs::remove_file(dir.path().join(other)).unwrap();
                std::fs::write(dir.path().join(trace), "x").unwrap();
            }
            let (store, opened) = open(dir.path());
            let [report] = &opened.damaged[..] else {
                panic!("{file}, {trace}: {:?}", opened.damaged);
            };
            assert_eq!(report.file, file, "{trace}");
            assert!(report.set_aside.exists() && !report.incomplete.is_empty());
            if trace.ends_with("-wal") {
                let wal = format!("{}-wal", report.set_aside.display());
                assert_eq!(std::fs::read(wal).unwrap(), b"x");
            }
            if (file, trace) == ("queue.db", other) {
                assert!(store.documents("things").get("a").unwrap().is_some());
            }
            store.close();
            let (_, again) = open(dir.path());
            assert!(again.damaged.is_empty(), "{file}, {trace}");
        }
    }
}

#[test]
fn empty_files_in_a_new_directory_are_new() {
    let dir = tempfile::tempdir().unwrap();
    empty(&dir.path().join("queue.db"));
    empty(&dir.path().join("state.db"));
    let (_, opened) = open(dir.path());
    assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
}
