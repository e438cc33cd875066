//! What QoS 2 needs of the store: packet ids that outlive the process, in both directions.
#![allow(clippy::unwrap_used)]

mod common;

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{append, commit, message, open, row, session, wait};
use iotedge_model::{ClientId, MessageId};
use iotedge_store::{Append, Options, QueuedRow, RowState, Store, StoreError, TakerId, TakerKind};

fn packet(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).unwrap()
}

fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

/// Hands in a QoS 2 message that nobody takes.
fn inbound(store: &Store, from: &ClientId, id: u64, packet_id: u16) -> Result<(), StoreError> {
    let (done, told) = wait();
    let entry = Append {
        inbound: Some((from.clone(), packet(packet_id))),
        ..Append::new(Arc::new(message(id, "t", "x")), vec![], None)
    };
    store.append(vec![entry], Some(done));
    told.recv().unwrap()
}

fn unreleased(dir: &Path) -> Vec<(String, Vec<u16>)> {
    let (_store, opened) = open(dir);
    let sessions = opened.sessions.into_iter();
    let mut all: Vec<_> = sessions
        .map(|s| (s.client_id.as_str().to_owned(), s.unreleased))
        .collect();
    all.sort();
    all
}

fn states(store: &Store, taker: TakerId) -> Vec<(u64, RowState, Option<u16>)> {
    let all = of(&store.read(taker, None, usize::MAX, usize::MAX).unwrap());
    let mut marked = all.clone();
    marked.retain(|row| row.1 != RowState::Queued);
    assert_eq!(of(&store.in_flight(taker).unwrap()), marked);
    all
}

fn of(rows: &[QueuedRow]) -> Vec<(u64, RowState, Option<u16>)> {
    rows.iter()
        .map(|r| (r.message.id.0, r.state, r.packet_id.map(NonZeroU16::get)))
        .collect()
}

#[test]
fn an_inbound_packet_id_is_kept_until_its_release_though_nobody_takes_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (a, b) = (client("a"), client("b"));
    store.put_session(session(&store, &a), None);
    store.put_session(session(&store, &b), None);
    inbound(&store, &a, 1, 65_535).unwrap();
    inbound(&store, &a, 2, 7).unwrap();
    inbound(&store, &a, 3, 7).unwrap();
    inbound(&store, &b, 4, 7).unwrap();
    assert_eq!(
        common::count(dir.path(), "SELECT count(*) FROM messages"),
        0
    );
    store.close();
    let all = |ids: &[u16]| vec![("a".to_owned(), ids.to_vec()), ("b".to_owned(), vec![7])];
    assert_eq!(unreleased(dir.path()), all(&[7, 65_535]));

    let (store, _) = open(dir.path());
    let (done, told) = wait();
    store.release_inbound(&a, packet(7), Some(done));
    store.release_inbound(&a, packet(99), None);
    told.recv().unwrap().unwrap();
    store.close();
    assert_eq!(unreleased(dir.path()), all(&[65_535]));
}

#[test]
fn inbound_packet_ids_go_with_their_session_and_stay_with_its_new_record() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = client("a");
    store.put_session(session(&store, &a), None);
    inbound(&store, &a, 1, 7).unwrap();
    store.put_session(session(&store, &a), None);
    commit(&store);
    drop(store);
    assert_eq!(unreleased(dir.path()), [("a".to_owned(), vec![7])]);
    let (store, _) = open(dir.path());
    store.remove_session("a", None);
    // What comes too late for the session must not wait for its successor.
    inbound(&store, &a, 2, 8).unwrap();
    store.put_session(session(&store, &a), None);
    store.close();
    assert_eq!(unreleased(dir.path()), [("a".to_owned(), vec![])]);
}

#[test]
fn an_outbound_delivery_comes_back_in_the_state_it_had_reached() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let taker = store.create_taker(TakerKind::Session, "a");
    let other = store.create_taker(TakerKind::Session, "b");
    let entries: Vec<_> = (1..=4)
        .map(|id| (message(id, "t", "x"), vec![row(taker), row(other)]))
        .collect();
    append(&store, &entries).unwrap();
    let (done, told) = wait();
    let sent = [
        (MessageId(1), packet(10)),
        (MessageId(2), packet(20)),
        (MessageId(3), packet(30)),
        (MessageId(77), packet(40)),
    ];
    store.mark_sent(taker, None, &sent, Some(done));
    told.recv().unwrap().unwrap();
    let (done, told) = wait();
    store.mark_received(taker, MessageId(2), Some(done));
    store.mark_received(taker, MessageId(4), None);
    told.recv().unwrap().unwrap();
    store.acknowledge(taker, &[MessageId(3)]);
    store.close();

    let (store, _) = open(dir.path());
    let expected = [
        (1, RowState::Sent, Some(10)),
        (2, RowState::Received, Some(20)),
        (4, RowState::Queued, None),
    ];
    assert_eq!(states(&store, taker), expected);
    assert!(
        states(&store, other)
            .iter()
            .all(|r| r.1 == RowState::Queued)
    );
    store.mark_sent(taker, None, &[(MessageId(1), packet(11))], None);
    store.mark_sent(taker, None, &[(MessageId(2), packet(21))], None);
    commit(&store);
    let expected = [
        (1, RowState::Sent, Some(11)),
        (2, RowState::Received, Some(20)),
        (4, RowState::Queued, None),
    ];
    assert_eq!(states(&store, taker), expected, "never back from received");
    store.acknowledge(taker, &[MessageId(1), MessageId(2), MessageId(4)]);
    commit(&store);
    assert!(states(&store, taker).is_empty());
    assert!(store.account(taker).balances());
}

#[test]
fn a_row_is_marked_in_the_transaction_that_brings_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: Duration::from_secs(60),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let taker = store.create_taker(TakerKind::Session, "a");
    for id in 1..=3 {
        let entry = Append::new(Arc::new(message(id, "t", "x")), vec![row(taker)], None);
        store.append(vec![entry], None);
        let packet_id = packet(u16::try_from(id).unwrap());
        store.mark_sent(taker, None, &[(MessageId(id), packet_id)], None);
    }
    store.mark_received(taker, MessageId(2), None);
    store.acknowledge(taker, &[MessageId(3)]);
    store.close();
    let (store, _) = open(dir.path());
    let expected = [
        (1, RowState::Sent, Some(1)),
        (2, RowState::Received, Some(2)),
    ];
    assert_eq!(states(&store, taker), expected);
}

#[test]
fn a_claimed_row_of_a_shared_queue_is_found_by_its_session_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (a, b) = (client("a"), client("b"));
    let (one, two) = (session(&store, &a), session(&store, &b));
    let claimants = [one.taker, two.taker];
    store.put_session(one, None);
    store.put_session(two, None);
    let group = store.create_taker(TakerKind::Shared, "$share/g/t");
    let entries: Vec<_> = (1..=5)
        .map(|id| (message(id, "t", "x"), vec![row(group)]))
        .collect();
    append(&store, &entries).unwrap();
    for id in 1..=4_u16 {
        let claimant = claimants[usize::from(id) % 2];
        let sent = [(MessageId(u64::from(id)), packet(id))];
        store.mark_sent(group, Some(claimant), &sent, None);
    }
    store.mark_received(group, MessageId(3), None);
    store.unmark(group, &[MessageId(4), MessageId(3)]);
    commit(&store);
    let claimed = |store: &Store, claimant| -> Vec<_> {
        let rows = store.claimed(claimant).unwrap();
        rows.iter()
            .map(|(queue, row)| {
                assert_eq!((*queue, row.claimant), (group, Some(claimant)));
                (row.message.id.0, row.state, row.packet_id.unwrap().get())
            })
            .collect()
    };
    let of_b = [(1, RowState::Sent, 1), (3, RowState::Received, 3)];
    assert_eq!(claimed(&store, claimants[1]), of_b);
    assert_eq!(claimed(&store, claimants[0]), [(2, RowState::Sent, 2)]);
    store.close();

    let (store, _) = open(dir.path());
    assert_eq!(claimed(&store, claimants[1]), of_b);
    store.acknowledge(group, &[MessageId(1)]);
    assert_eq!(claimed(&store, claimants[1]), of_b[1..], "settled at once");
    store.remove_session("b", None);
    commit(&store);
    assert!(claimed(&store, claimants[1]).is_empty());
    let left = [
        (2, RowState::Sent, Some(2)),
        (4, RowState::Queued, None),
        (5, RowState::Queued, None),
    ];
    assert_eq!(states(&store, group), left);
    let books = store.account(group);
    assert!(books.balances());
    let ended = books.dropped.get(&iotedge_model::DropReason::SessionEnded);
    assert_eq!((books.delivered, ended), (1, Some(&1)));
}
