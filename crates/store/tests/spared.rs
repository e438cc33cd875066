//! Messages that are acknowledged before their commit is due.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::{count, message, row};
use iotedge_model::{DropReason, MessageId};
use iotedge_store::{Append, Options, Store, TakerId, TakerKind};

/// A commit is due a minute after the first that needs one: within a test only what closes the
/// store brings it.
fn patient(dir: &Path) -> Store {
    let options = Options {
        linger: Duration::from_secs(60),
        lag: Duration::from_secs(60),
        min_free_disk: 0,
        ..Options::default()
    };
    Store::open(dir, options).unwrap().0
}

/// One whose commits are due after `linger` milliseconds.
fn hasty(dir: &Path, linger: u64) -> Store {
    let options = Options {
        linger: Duration::from_millis(linger),
        lag: Duration::from_secs(60),
        min_free_disk: 0,
        ..Options::default()
    };
    Store::open(dir, options).unwrap().0
}

fn append(store: &Store, id: u64, takers: &[TakerId], tell: &mpsc::SyncSender<u64>) {
    let rows = takers.iter().map(|taker| row(*taker)).collect();
    let entry = Append::new(Arc::new(message(id, "t", "x")), rows, None);
    let tell = tell.clone();
    let done = Box::new(move |ok: Result<_, _>| {
        ok.unwrap();
        tell.send(id).unwrap();
    });
    store.append(vec![entry], Some(done));
}

const STORED: &str =
    "SELECT (SELECT ifnull(sum(live), 0) FROM parcels) + (SELECT count(*) FROM queue)";
const COUNTED: &str = "SELECT accepted + delivered FROM takers WHERE name = 'a'";

#[test]
fn only_the_counters_of_what_was_acknowledged_in_time_reach_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = hasty(dir.path(), 100);
    let a = store.create_taker(TakerKind::Route, "a");
    common::commit(&store);
    let pages =
        || count(dir.path(), "PRAGMA data_version") + count(dir.path(), "PRAGMA page_count");
    let before = pages();
    let journal = || {
        std::fs::metadata(dir.path().join("queue.db-wal"))
            .unwrap()
            .len()
    };
    let journal_before = journal();
    let (tell, told) = mpsc::sync_channel(1000);
    for id in 1..=300 {
        append(&store, id, &[a], &tell);
        store.acknowledge(a, &[MessageId(id)]);
    }
    for id in 1..=300 {
        assert_eq!(told.recv().unwrap(), id);
    }
    let books = store.account(a);
    assert!(books.balances());
    assert_eq!(
        (books.accepted, books.delivered, books.queued_bytes),
        (300, 300, 0)
    );
    assert_eq!(
        (journal(), pages()),
        (journal_before, before),
        "something was written"
    );
    assert_eq!(count(dir.path(), COUNTED), 0, "the counters lag");
    store.close();
    assert_eq!(count(dir.path(), COUNTED), 600);
    assert_eq!(common::open(dir.path()).0.account(a), books);
}

#[test]
fn counters_are_written_after_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: Duration::from_millis(5),
        lag: Duration::from_millis(50),
        min_free_disk: 0,
        ..Options::default()
    };
    let store = Store::open(dir.path(), options).unwrap().0;
    let a = store.create_taker(TakerKind::Route, "a");
    let (tell, told) = mpsc::sync_channel(1);
    append(&store, 1, &[a], &tell);
    store.acknowledge(a, &[MessageId(1)]);
    told.recv().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while count(dir.path(), COUNTED) < 2 {
        assert!(Instant::now() < deadline, "the counters never came");
        std::thread::yield_now();
    }
}

#[test]
fn what_one_of_its_takers_has_not_acknowledged_is_written_for_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = hasty(dir.path(), 20);
    let a = store.create_taker(TakerKind::Route, "a");
    let b = store.create_taker(TakerKind::Session, "b");
    let (tell, told) = mpsc::sync_channel(10);
    append(&store, 1, &[a], &tell);
    append(&store, 2, &[a, b], &tell);
    append(&store, 3, &[a], &tell);
    store.acknowledge(a, &[MessageId(1), MessageId(2)]);
    store.discard(a, &[MessageId(3)], DropReason::Expired);
    // Nobody hears of one message before an earlier one.
    assert_eq!([(); 3].map(|()| told.recv().unwrap()), [1, 2, 3]);
    store.close();
    assert_eq!(count(dir.path(), STORED), 1);
    let (store, _) = common::open(dir.path());
    let rows = store.read(b, None, 10, usize::MAX).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].message.id.0, 2);
    let books = store.account(a);
    assert!(books.balances());
    assert_eq!((books.accepted, books.delivered), (3, 2));
    assert_eq!(books.dropped[&DropReason::Expired], 1);
}

#[test]
fn a_message_waits_for_its_own_time_and_not_for_that_of_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = hasty(dir.path(), 400);
    let a = store.create_taker(TakerKind::Route, "a");
    common::commit(&store);
    let (tell, told) = mpsc::sync_channel(10);
    append(&store, 1, &[a], &tell);
    std::thread::sleep(Duration::from_millis(250));
    append(&store, 2, &[a], &tell);
    store.acknowledge(a, &[MessageId(1)]);
    assert_eq!(told.recv().unwrap(), 1);
    // The first was due, the second is not yet.
    store.acknowledge(a, &[MessageId(2)]);
    assert_eq!(told.recv().unwrap(), 2);
    assert_eq!(count(dir.path(), COUNTED), 0);
    assert_eq!(count(dir.path(), STORED), 0);
}

#[test]
fn a_second_answer_and_one_for_an_older_row_find_what_they_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = hasty(dir.path(), 20);
    let a = store.create_taker(TakerKind::Route, "a");
    let (tell, told) = mpsc::sync_channel(10);
    append(&store, 1, &[a], &tell);
    told.recv().unwrap();
    assert_eq!(count(dir.path(), STORED), 1);
    append(&store, 2, &[a], &tell);
    store.acknowledge(a, &[MessageId(2), MessageId(1), MessageId(2)]);
    told.recv().unwrap();
    store.close();
    assert_eq!(count(dir.path(), STORED), 0);
    assert_eq!(count(dir.path(), COUNTED), 4);
}

#[test]
fn what_waits_when_the_store_is_closed_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = patient(dir.path());
    let a = store.create_taker(TakerKind::Route, "a");
    let told = Arc::new(Mutex::new(Vec::new()));
    for id in 1..=3 {
        let told = told.clone();
        let entry = Append::new(Arc::new(message(id, "t", "x")), vec![row(a)], None);
        let done = Box::new(move |ok: Result<_, _>| told.lock().unwrap().push((id, ok.is_ok())));
        store.append(vec![entry], Some(done));
    }
    store.acknowledge(a, &[MessageId(1), MessageId(3)]);
    store.close();
    assert_eq!(*told.lock().unwrap(), [(1, true), (2, true), (3, true)]);
    assert_eq!(count(dir.path(), STORED), 1);
    assert_eq!(count(dir.path(), COUNTED), 5);
}

/// With commits a minute apart.
#[test]
fn a_publisher_that_waits_for_each_answer_does_not_wait_for_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = patient(dir.path());
    let a = store.create_taker(TakerKind::Route, "a");
    common::commit(&store);
    let (tell, told) = mpsc::sync_channel(1);
    let soon = Duration::from_secs(30);
    for id in 1..=500 {
        append(&store, id, &[a], &tell);
        store.acknowledge(a, &[MessageId(id)]);
        assert_eq!(told.recv_timeout(soon), Ok(id));
    }
    // Several at once, answered out of order: told in order, and nothing of it is written.
    let (tell, told) = mpsc::sync_channel(100);
    for id in 501..=600 {
        append(&store, id, &[a], &tell);
    }
    for id in (501..=600).rev() {
        store.acknowledge(a, &[MessageId(id)]);
    }
    for id in 501..=600 {
        assert_eq!(told.recv_timeout(soon), Ok(id));
    }
    assert_eq!(store.stored_messages(), 600);
    assert_eq!(count(dir.path(), STORED), 0);
    assert_eq!(count(dir.path(), COUNTED), 0);
}

#[test]
fn a_message_that_another_taker_still_has_to_answer_holds_those_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = patient(dir.path());
    let a = store.create_taker(TakerKind::Route, "a");
    let b = store.create_taker(TakerKind::Route, "b");
    common::commit(&store);
    let (tell, told) = mpsc::sync_channel(10);
    append(&store, 1, &[a, b], &tell);
    append(&store, 2, &[a], &tell);
    store.acknowledge(a, &[MessageId(2)]);
    store.acknowledge(a, &[MessageId(1)]);
    let quiet = told.recv_timeout(Duration::from_millis(20));
    assert_eq!(
        quiet,
        Err(mpsc::RecvTimeoutError::Timeout),
        "b has not answered"
    );
    store.acknowledge(b, &[MessageId(1)]);
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(1));
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(2));
    assert_eq!(count(dir.path(), STORED), 0);
}
