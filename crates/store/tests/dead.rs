//! Dead letters: out of a queue, looked at, back into it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{append, commit, message, open, row, wait};
use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_store::{DeadLetter, DeadLetterError, Options, Store, TakerId, TakerKind, TakerRow};

fn ids(store: &Store, taker: TakerId) -> Vec<u64> {
    let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    rows.iter().map(|r| r.message.id.0).collect()
}

fn letters(store: &Store) -> Vec<DeadLetter> {
    commit(store);
    store.dead_letters(None, usize::MAX).unwrap()
}

fn messages(letters: &[DeadLetter]) -> Vec<u64> {
    letters.iter().map(|l| l.message.id.0).collect()
}

#[test]
fn a_buried_row_leaves_its_queue_and_comes_back_whole_under_a_new_id() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "cloud/out");
    let other = store.create_taker(TakerKind::Route, "cloud/other");
    let mut sent = message(1, "a/b", "payload");
    sent.expiry = Some(60);
    sent.qos = QoS::ExactlyOnce;
    let taken = TakerRow {
        taker,
        qos: QoS::AtMostOnce,
        retain: true,
        identifiers: vec![3, 9].into(),
    };
    append(&store, &[(sent.clone(), vec![taken, row(other)])]).unwrap();
    let (done, told) = wait();
    store.bury(taker, &[MessageId(1)], "not authorized: 135", Some(done));
    assert!(ids(&store, taker).is_empty(), "from the call on");
    told.recv().unwrap().unwrap();
    assert_eq!(ids(&store, other), [1]);
    let account = store.account(taker);
    assert_eq!(account.dropped[&DropReason::UpstreamRefused], 1);
    assert!(account.balances() && account.queued_bytes == 0);
    store.close();

    let (store, _) = open(dir.path());
    let found = letters(&store);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, sent);
    assert_eq!(&*found[0].taker, "cloud/out");
    assert_eq!(found[0].kind, TakerKind::Route);
    assert_eq!(&*found[0].reason, "not authorized: 135");
    assert!(found[0].died_at.0 > 0);

    let (done, told) = wait();
    let to = store
        .revive(found[0].id, MessageId(50), Some(done))
        .unwrap();
    assert_eq!(to, taker);
    told.recv().unwrap().unwrap();
    assert!(letters(&store).is_empty());
    let rows = store.read(taker, None, 9, usize::MAX).unwrap();
    sent.id = MessageId(50);
    assert_eq!(rows[0].message, sent);
    assert_eq!((rows[0].qos, rows[0].retain), (QoS::AtMostOnce, true));
    assert_eq!(&*rows[0].identifiers, [3, 9]);
    let account = store.account(taker);
    assert_eq!((account.accepted, account.queued), (2, 1));
    assert!(account.balances());
    let again = store.revive(found[0].id, MessageId(51), None);
    assert_eq!(again, Err(DeadLetterError::Absent { id: found[0].id }));
}

#[test]
fn a_burial_may_come_before_the_commit_and_before_the_append() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: std::time::Duration::from_millis(200),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let taker = store.create_taker(TakerKind::Route, "r");
    store.bury(taker, &[MessageId(2)], "early", None);
    commit(&store);
    let (done, told) = wait();
    let entry = |id| {
        let message = Arc::new(message(id, "t", "x"));
        iotedge_store::Append::new(message, vec![row(taker)], None)
    };
    store.append(vec![entry(1), entry(2), entry(3)], Some(done));
    store.bury(taker, &[MessageId(1), MessageId(1)], "staged", None);
    told.recv().unwrap().unwrap();
    assert_eq!(ids(&store, taker), [3]);
    let found = letters(&store);
    let mut reasons: Vec<_> = found.iter().map(|l| (l.message.id.0, &*l.reason)).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [(1, "staged"), (2, "early")]);
    let account = store.account(taker);
    assert_eq!(account.dropped[&DropReason::UpstreamRefused], 2);
    assert!(account.balances(), "{account:?}");
}

#[test]
fn a_letter_outlives_its_taker_and_is_revived_only_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    append(&store, &[(message(1, "t", "x"), vec![row(taker)])]).unwrap();
    store.bury(taker, &[MessageId(1)], "refused", None);
    store.remove_taker(taker, DropReason::TakerRemoved, None);
    store.bury(taker, &[MessageId(1)], "gone", None);
    let letter = letters(&store).remove(0);
    let refused = store.revive(letter.id, MessageId(2), None);
    let (kind, name) = (TakerKind::Route, Arc::from("r"));
    assert_eq!(refused, Err(DeadLetterError::NoTaker { kind, name }));
    assert_eq!(letters(&store).len(), 1, "it stays");
    let again = store.create_taker(TakerKind::Route, "r");
    assert_eq!(store.revive(letter.id, MessageId(2), None), Ok(again));
    // Handed in before the first was committed: it does nothing.
    drop(store.revive(letter.id, MessageId(3), None));
    commit(&store);
    assert_eq!(ids(&store, again), [2]);
    assert!(store.account(again).balances());
}

#[test]
fn letters_are_listed_in_pages_and_removed_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Route, "r");
    let entries: Vec<_> = (1..=5)
        .map(|id| (message(id, "t", "x"), vec![row(taker)]))
        .collect();
    append(&store, &entries).unwrap();
    let all: Vec<_> = (1..=5).map(MessageId).collect();
    store.bury(taker, &all, "refused", None);
    commit(&store);
    let first = store.dead_letters(None, 2).unwrap();
    assert_eq!(messages(&first), [1, 2]);
    let next = store.dead_letters(Some(first[1].id), 2).unwrap();
    assert_eq!(messages(&next), [3, 4]);
    store.remove_dead(first[1].id, None);
    store.remove_dead(u64::MAX, None);
    assert_eq!(messages(&letters(&store)), [1, 3, 4, 5]);
}

#[test]
fn above_the_bound_the_oldest_letters_go() {
    let dir = tempfile::tempdir().unwrap();
    let cost = u64::try_from(message(1, "t", "x").cost()).unwrap();
    let options = || Options {
        min_free_disk: 0,
        max_bytes: 16 * (3 * cost + 1),
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options()).unwrap();
    let taker = store.create_taker(TakerKind::Route, "r");
    let bury = |store: &Store, id: u64| {
        append(store, &[(message(id, "t", "x"), vec![row(taker)])]).unwrap();
        store.bury(taker, &[MessageId(id)], "refused", None);
    };
    (1..=3).for_each(|id| bury(&store, id));
    store.remove_dead(letters(&store)[1].id, None);
    bury(&store, 4);
    assert_eq!(
        messages(&letters(&store)),
        [1, 3, 4],
        "what was removed made room"
    );
    store.close();
    let (store, _) = Store::open(dir.path(), options()).unwrap();
    bury(&store, 5);
    bury(&store, 6);
    assert_eq!(messages(&letters(&store)), [4, 5, 6]);
    assert_eq!(
        store.account(taker).dropped[&DropReason::UpstreamRefused],
        6
    );
}
