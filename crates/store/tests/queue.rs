//! What the queue promises, seen from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{append, commit, message, open, row, session, wait};
use iotedge_model::{DropReason, MessageId, QoS, Topic};
use iotedge_store::{
    Append, Options, RetainedChange, Store, StoreError, SubscriptionRecord, TakerKind, TakerRow,
    WillRecord,
};

fn ids(store: &Store, taker: iotedge_store::TakerId) -> Vec<u64> {
    let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    rows.iter().map(|r| r.message.id.0).collect()
}

#[test]
fn a_committed_message_comes_back_whole_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "cloud/out");
    let mut sent = message(opened.next_message_id, "a/b", "payload");
    sent.expiry = Some(60);
    sent.hops = 3;
    sent.trace = iotedge_model::TraceId(u128::MAX - 5);
    sent.properties = Some(Box::new(iotedge_model::Properties {
        content_type: Some("text/plain".into()),
        correlation_data: Some(vec![0, 255]),
        ..Default::default()
    }));
    let mut taken = row(taker);
    taken.identifiers = vec![1, 268_435_455].into();
    append(&store, &[(sent.clone(), vec![taken])]).unwrap();
    store.close();

    let (store, opened) = open(dir.path());
    assert_eq!(opened.takers.len(), 1);
    assert_eq!(store.find_taker(TakerKind::Route, "cloud/out"), Some(taker));
    let rows = store.read(taker, None, 10, 1 << 20).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].message, sent);
    assert_eq!(&*rows[0].identifiers, [1, 268_435_455]);
    assert_eq!(opened.takers[0].account.accepted, 1);
    assert!(opened.next_message_id > sent.id.0);
}

#[test]
fn an_acknowledged_row_goes_and_the_message_with_its_last_row() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = store.create_taker(TakerKind::Session, "a");
    let b = store.create_taker(TakerKind::Session, "b");
    append(&store, &[(message(1, "t", "x"), vec![row(a), row(b)])]).unwrap();
    store.acknowledge(a, &[MessageId(1)]);
    commit(&store);
    assert!(ids(&store, a).is_empty());
    assert_eq!(ids(&store, b), [1]);
    store.acknowledge(b, &[MessageId(1), MessageId(1), MessageId(77)]);
    commit(&store);
    let account = store.account(b);
    assert_eq!(
        (account.accepted, account.delivered, account.queued),
        (1, 1, 0)
    );
    assert_eq!(
        common::count(dir.path(), "SELECT count(*) FROM messages"),
        0
    );
}

#[test]
fn what_is_acknowledged_before_its_commit_is_counted_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: Duration::from_millis(200),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let taker = store.create_taker(TakerKind::Route, "r");
    let (done, told) = wait();
    store.append(
        vec![Append::new(
            Arc::new(message(1, "t", "x")),
            vec![row(taker)],
            None,
        )],
        Some(done),
    );
    store.acknowledge(taker, &[MessageId(1)]);
    told.recv().unwrap().unwrap();
    let account = store.account(taker);
    assert_eq!(
        (account.accepted, account.delivered, account.queued),
        (1, 1, 0)
    );
    assert_eq!(common::count(dir.path(), "SELECT count(*) FROM bodies"), 0);
    assert_eq!(
        common::count(
            dir.path(),
            "SELECT accepted + delivered FROM takers WHERE name = 'r'"
        ),
        2
    );
}

#[test]
fn an_acknowledgement_that_overtakes_its_append_counts_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let fast = store.create_taker(TakerKind::Route, "fast");
    let slow = store.create_taker(TakerKind::Route, "slow");
    store.acknowledge(fast, &[MessageId(1)]);
    store.discard(fast, &[MessageId(2)], DropReason::TooLarge);
    commit(&store);
    append(
        &store,
        &[(message(1, "t", "x"), vec![row(fast), row(slow)])],
    )
    .unwrap();
    append(&store, &[(message(2, "t", "x"), vec![row(fast)])]).unwrap();
    append(&store, &[(message(3, "t", "x"), vec![row(fast)])]).unwrap();
    assert_eq!(ids(&store, fast), [3]);
    assert_eq!(ids(&store, slow), [1]);
    let account = store.account(fast);
    assert!(account.balances(), "{account:?}");
    assert_eq!((account.accepted, account.delivered), (3, 1));
    assert_eq!(account.dropped[&DropReason::TooLarge], 1);
    assert_eq!(
        common::count(dir.path(), "SELECT sum(live) FROM parcels"),
        2
    );
}

#[test]
fn acknowledgements_alone_are_committed_within_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    append(&store, &[(message(1, "t", "x"), vec![row(taker)])]).unwrap();
    store.acknowledge(taker, &[MessageId(1)]);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while common::count(dir.path(), "SELECT count(*) FROM parcels") > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "the row is still there"
        );
        std::thread::yield_now();
    }
}

#[test]
fn reads_go_on_after_an_id_and_stop_at_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    let entries: Vec<_> = (1..=10)
        .map(|id| (message(id, "t", &"x".repeat(100)), vec![row(taker)]))
        .collect();
    append(&store, &entries).unwrap();
    let some = |after: Option<u64>, rows, bytes| -> Vec<u64> {
        let rows = store
            .read(taker, after.map(MessageId), rows, bytes)
            .unwrap();
        rows.iter().map(|r| r.message.id.0).collect()
    };
    assert_eq!(some(None, 3, usize::MAX), [1, 2, 3]);
    assert_eq!(some(Some(3), 2, usize::MAX), [4, 5]);
    assert_eq!(some(Some(5), 10, 340), [6, 7], "165 bytes each");
    assert_eq!(some(Some(5), 10, 1), [6], "one row always comes");
    assert_eq!(
        store.oldest(taker, 2).unwrap(),
        [MessageId(1), MessageId(2)]
    );
    assert_eq!(store.depth(taker).rows, 10);
    assert_eq!(store.depth(taker).bytes, 1650);
}

#[test]
fn an_acknowledged_row_is_not_read_again_though_it_is_still_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    for id in 1..500 {
        append(&store, &[(message(id, "t", "x"), vec![row(taker)])]).unwrap();
        store.acknowledge(taker, &[MessageId(id)]);
        assert!(ids(&store, taker).is_empty());
        assert!(store.oldest(taker, 1).unwrap().is_empty());
    }
}

#[test]
fn a_removed_taker_leaves_its_books_and_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let gone = store.create_taker(TakerKind::Session, "gone");
    let stays = store.create_taker(TakerKind::Session, "stays");
    let entries: Vec<_> = (1..=1200)
        .map(|id| (message(id, "t", "x"), vec![row(gone), row(stays)]))
        .collect();
    append(&store, &entries).unwrap();
    store.acknowledge(gone, &[MessageId(1)]);
    store.count_drop(gone, DropReason::QueueFull, 5);
    let (done, told) = wait();
    store.remove_taker(gone, DropReason::SessionEnded, Some(done));
    let again = store.create_taker(TakerKind::Session, "gone");
    assert_ne!(gone, again);
    told.recv().unwrap().unwrap();
    let removed = store.removed_account();
    assert!(removed.balances());
    assert_eq!(removed.accepted, 1205);
    assert_eq!(removed.delivered, 1);
    assert_eq!(removed.dropped[&DropReason::SessionEnded], 1199);
    assert_eq!(removed.dropped[&DropReason::QueueFull], 5);
    assert_eq!(store.account(again).accepted, 0);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while common::count(dir.path(), "SELECT count(*) FROM queue") > 1200 {
        assert!(std::time::Instant::now() < deadline, "rows are still there");
        std::thread::yield_now();
    }
    assert_eq!(ids(&store, stays).len(), 1200);
    store.close();
    let (store, _) = open(dir.path());
    assert_eq!(store.removed_account(), removed);
}

#[test]
fn sessions_and_subscriptions_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let client = iotedge_model::ClientId::new("é/client").unwrap();
    let mut session = session(&store, &client);
    let subscription = |text: &str| SubscriptionRecord {
        text: Arc::from(text),
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: 2,
        identifier: std::num::NonZeroU32::new(7),
    };
    store.put_session(session.clone(), None);
    store.put_subscription(&client, subscription("a/#"), None);
    store.put_subscription(&client, subscription("b/+"), None);
    store.remove_subscription(client.as_str(), "b/+", None);
    store.close();
    let (store, opened) = open(dir.path());
    session.subscriptions = vec![subscription("a/#")];
    assert_eq!(opened.sessions, [session]);
    let (done, told) = wait();
    store.remove_session(client.as_str(), Some(done));
    told.recv().unwrap().unwrap();
    store.close();
    let (_store, opened) = open(dir.path());
    assert!(opened.sessions.is_empty() && opened.takers.is_empty());
}

#[test]
fn retained_messages_are_set_replaced_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let change = |id, topic: &str, payload: &str, change| {
        let (done, told) = wait();
        store.append(
            vec![Append::new(
                Arc::new(message(id, topic, payload)),
                vec![],
                Some(change),
            )],
            Some(done),
        );
        told.recv().unwrap().unwrap();
    };
    change(1, "a", "1", RetainedChange::Set);
    change(2, "b", "2", RetainedChange::Set);
    change(3, "a", "3", RetainedChange::Set);
    change(4, "b", "", RetainedChange::Clear);
    store.close();
    let (_store, opened) = open(dir.path());
    assert_eq!(opened.retained, [message(3, "a", "3")]);
}

#[test]
fn a_retained_message_is_removed_only_if_it_is_still_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: Duration::from_millis(100),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let set = |id, topic: &str| {
        let message = message(id, topic, "x");
        let entry = Append::new(Arc::new(message), vec![], Some(RetainedChange::Set));
        store.append(vec![entry], None);
    };
    let remove = |id, topic: &str| {
        store.remove_retained(&Topic::new(topic).unwrap(), MessageId(id), None);
    };
    // `a` and `b` in transactions of their own, `c` and `d` in one.
    set(1, "a");
    set(2, "b");
    commit(&store);
    set(3, "b");
    commit(&store);
    remove(1, "a");
    remove(2, "b");
    commit(&store);
    set(4, "c");
    remove(4, "c");
    set(5, "d");
    remove(4, "d");
    store.close();
    let (_store, opened) = open(dir.path());
    let mut left: Vec<u64> = opened.retained.iter().map(|m| m.id.0).collect();
    left.sort_unstable();
    assert_eq!(left, [3, 5]);
}

#[test]
fn a_will_is_kept_until_it_is_removed_whatever_becomes_of_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let client = iotedge_model::ClientId::new("c").unwrap();
    store.put_session(session(&store, &client), None);
    let will = |id| {
        let mut message = message(id, "will", "gone");
        message.client_id = client.shared();
        message.source = iotedge_model::Source::Will;
        WillRecord { delay: 30, message }
    };
    for id in [1, 2, 3] {
        store.put_will(will(id), None);
    }
    store.remove_will(MessageId(1), None);
    store.remove_session("c", None);
    store.close();
    let (store, opened) = open(dir.path());
    assert!(opened.sessions.is_empty());
    assert_eq!(opened.wills, [will(2), will(3)]);
    store.remove_will(MessageId(2), None);
    store.remove_will(MessageId(3), None);
    store.close();
    assert!(open(dir.path()).1.wills.is_empty());
}

#[test]
fn ids_are_not_given_again_though_nothing_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = open(dir.path());
    drop(store);
    let (store, second) = open(dir.path());
    assert!(second.next_message_id > first.next_message_id + 1_000_000);
    let far = second.next_message_id + (1 << 40);
    append(&store, &[(message(far, "t", "x"), vec![])]).unwrap();
    drop(store);
    let (_store, third) = open(dir.path());
    assert!(third.next_message_id > far);
}

#[test]
fn a_second_process_can_not_open_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let again = Store::open(dir.path(), Options::default()).err();
    assert!(matches!(again, Some(StoreError::Busy { .. })), "{again:?}");
    drop(store);
    open(dir.path());
}

#[test]
fn the_quota_and_the_floor_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.health().unwrap();
    drop(store);
    let options = Options {
        max_bytes: 1000,
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    assert!(matches!(
        store.health(),
        Err(StoreError::QuotaExceeded { limit: 1000, .. })
    ));
    drop(store);
    let options = Options {
        min_free_disk: u64::MAX,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    assert!(matches!(store.health(), Err(StoreError::DiskFull { .. })));
}

#[test]
fn operations_after_the_close_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let other = store.clone();
    store.close();
    let (done, told) = wait();
    other.append(vec![], Some(done));
    assert_eq!(told.recv().unwrap(), Err(StoreError::Closed));
}

#[test]
fn a_panic_in_a_callback_ends_the_writer_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, fatal) = std::sync::mpsc::sync_channel(4);
    let tell = std::sync::Mutex::new(tell);
    let options = Options {
        min_free_disk: 0,
        on_fatal: Some(Arc::new(move |error: &StoreError| {
            tell.lock().unwrap().send(error.clone()).unwrap();
        })),
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    store.flush(Box::new(|_| panic!("deliberate")));
    let error = fatal.recv().unwrap();
    assert!(error.to_string().contains("deliberate"), "{error}");
    let (done, told) = wait();
    store.flush(done);
    assert_eq!(told.recv().unwrap(), Err(error.clone()));
    assert_eq!(store.health(), Err(error));
}

#[test]
fn drops_that_are_counted_while_the_writer_is_held_up_take_no_memory_each() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let takers = ["a", "b"].map(|name| store.create_taker(TakerKind::Route, name));
    commit(&store);
    // The writer waits in this callback.
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let (tell, told) = wait();
    let hold = Box::new(move |outcome| {
        gone.recv().unwrap();
        tell(outcome);
    });
    store.flush(hold);
    while store.pending_bytes() > 0 {
        std::thread::yield_now();
    }
    for n in 0..10_000 {
        store.count_drop(takers[n % 2], DropReason::QueueFull, 1);
    }
    assert!(store.pending_bytes() < 1_000, "{}", store.pending_bytes());
    go.send(()).unwrap();
    told.recv().unwrap().unwrap();
    commit(&store);
    for taker in takers {
        let books = store.account(taker);
        assert_eq!(books.dropped[&DropReason::QueueFull], 5_000);
        assert!(books.balances());
    }
}

#[test]
fn a_commit_of_many_messages_leaves_out_only_what_is_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let takers = ["a", "b"].map(|name| store.create_taker(TakerKind::Route, name));
    let entries = |ids: std::ops::RangeInclusive<u64>, taker| -> Vec<_> {
        ids.map(|id| {
            // In rows of their own.
            let qos = QoS::ExactlyOnce;
            (message(id, "t", "x"), vec![TakerRow { qos, ..row(taker) }])
        })
        .collect()
    };
    append(&store, &entries(20..=20, takers[0])).unwrap();
    // Of the 100 the taker has one, and the other taker's are messages that are there.
    append(&store, &entries(1..=100, takers[0])).unwrap();
    append(&store, &entries(50..=120, takers[1])).unwrap();
    assert_eq!(ids(&store, takers[0]), Vec::from_iter(1..=100));
    assert_eq!(ids(&store, takers[1]), Vec::from_iter(50..=120));
    for taker in takers {
        assert!(store.account(taker).balances());
    }
    assert_eq!(store.account(takers[0]).accepted, 100);
    let refs = |id: u64| {
        common::count(
            dir.path(),
            &format!("SELECT refs FROM messages WHERE id = {id}"),
        )
    };
    assert_eq!((refs(20), refs(49), refs(50), refs(120)), (1, 1, 2, 1));
    let all: Vec<_> = (1..=100).map(MessageId).collect();
    store.acknowledge(takers[0], &all);
    commit(&store);
    assert_eq!(
        common::count(dir.path(), "SELECT count(*) FROM messages"),
        71
    );
}

#[test]
fn messages_in_parcels_are_left_out_where_they_are_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let takers = ["a", "b"].map(|name| store.create_taker(TakerKind::Route, name));
    let entries = |ids: std::ops::RangeInclusive<u64>, taker| -> Vec<_> {
        ids.map(|id| (message(id, "t", "x"), vec![row(taker)]))
            .collect()
    };
    append(&store, &entries(1..=100, takers[0])).unwrap();
    append(&store, &entries(50..=120, takers[1])).unwrap();
    store.acknowledge(takers[0], &[MessageId(20)]);
    commit(&store);
    append(&store, &entries(90..=110, takers[0])).unwrap();
    let there: Vec<u64> = (1..=110).filter(|id| *id != 20).collect();
    assert_eq!(ids(&store, takers[0]), there);
    assert_eq!(ids(&store, takers[1]), Vec::from_iter(50..=120));
    for taker in takers {
        assert!(store.account(taker).balances());
    }
    store.close();
    let (store, _) = open(dir.path());
    append(&store, &entries(60..=130, takers[1])).unwrap();
    assert_eq!(ids(&store, takers[1]), Vec::from_iter(50..=130));
    assert_eq!(store.account(takers[1]).accepted, 81);
    let (done, told) = wait();
    store.remove_taker(takers[1], DropReason::TakerRemoved, Some(done));
    told.recv().unwrap().unwrap();
    let all: Vec<_> = (1..=110).map(MessageId).collect();
    store.acknowledge(takers[0], &all);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let left = "SELECT (SELECT count(*) FROM bodies) + (SELECT count(*) FROM parcels)
        + (SELECT count(*) FROM queue) + (SELECT count(*) FROM messages)";
    while common::count(dir.path(), left) > 0 {
        assert!(std::time::Instant::now() < deadline, "something is left");
        std::thread::yield_now();
    }
}

#[test]
fn what_comes_for_a_removed_taker_is_not_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = open(dir.path());
    let id = opened.next_message_id;
    for late in 0..3 {
        let taker = store.create_taker(TakerKind::Session, "s");
        let rows: Vec<_> = (0..3)
            .map(|n| {
                let id = id + late * 3 + n;
                (message(id, "a", "x"), vec![row(taker)])
            })
            .collect();
        append(&store, &rows).unwrap();
        let ids: Vec<_> = rows.iter().map(|(message, _)| message.id).collect();
        store.remove_taker(taker, DropReason::SessionEnded, None);
        match late {
            0 => store.discard(taker, &ids, DropReason::TooLarge),
            1 => store.acknowledge(taker, &ids),
            _ => store.bury(taker, &ids, "refused", None),
        }
        commit(&store);
    }
    store.close();
    let file = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    let count = |sql| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let of_nobody = "SELECT count(*) FROM drops WHERE taker NOT IN (SELECT id FROM takers)
                     AND taker > 0";
    assert_eq!(count(of_nobody), 0);
    assert_eq!(count("SELECT count(*) FROM dead_letters"), 0);
}
