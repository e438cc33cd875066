//! Reading in pages gives what reading at once gives, wherever the messages lie: in parcels, in rows of
//! their own, and in what a card has spoiled.
#![allow(clippy::unwrap_used)]

mod common;

use common::{append, message, open, row};
use iotedge_model::{Message, MessageId};
use iotedge_store::{Store, TakerId, TakerKind, TakerRow};
use proptest::prelude::*;

/// A message: bytes of its payload, whether it has two takers (and so a row of its own), whether a
/// commit ends behind it.
type Plan = (usize, bool, bool);

fn plan() -> impl Strategy<Value = Vec<Plan>> {
    let bytes = prop_oneof![8 => 0..300usize, 3 => 300..5_000usize, 1 => 16_000..40_000usize];
    let one = (bytes, any::<bool>(), prop::bool::weighted(0.1));
    prop::collection::vec(one, 1..300)
}

fn fill(store: &Store, first: u64, plan: &[Plan]) -> TakerId {
    let one = store.create_taker(TakerKind::Route, "one");
    let other = store.create_taker(TakerKind::Route, "other");
    let mut batch: Vec<(Message, Vec<TakerRow>)> = Vec::new();
    for (id, (bytes, two, ends)) in (first..).zip(plan) {
        let takers = match two {
            true => vec![row(one), row(other)],
            false => vec![row(one)],
        };
        batch.push((message(id, "a", &"x".repeat(*bytes)), takers));
        if *ends {
            append(store, &std::mem::take(&mut batch)).unwrap();
        }
    }
    append(store, &batch).unwrap();
    one
}

/// The body of each parcel and each message of a row of its own that the dice name is changed.
fn spoil(dir: &std::path::Path, dice: &[u8]) {
    let file = rusqlite::Connection::open(dir.join("queue.db")).unwrap();
    let ids = |sql| -> Vec<i64> {
        let mut statement = file.prepare(sql).unwrap();
        let ids = statement.query_map([], |row| row.get(0)).unwrap();
        ids.map(Result::unwrap).collect()
    };
    let named = |ids: Vec<i64>| {
        let named = ids.into_iter().zip(dice.iter().cycle());
        named.filter(|(_, dice)| **dice > 200).map(|(id, _)| id)
    };
    for body in named(ids("SELECT id FROM bodies")) {
        let change = "UPDATE bodies SET body = x'0102' WHERE id = ?1";
        file.execute(change, [body]).unwrap();
    }
    for message in named(ids("SELECT id FROM messages")) {
        let change = "UPDATE messages SET payload = x'00' WHERE id = ?1";
        file.execute(change, [message]).unwrap();
    }
}

fn pages(store: &Store, taker: TakerId, limits: &[(usize, usize)]) -> Vec<u64> {
    let mut all = Vec::new();
    let mut limits = limits.iter().cycle();
    loop {
        let after = all.last().copied().map(MessageId);
        let (rows, bytes) = *limits.next().unwrap();
        let page = store.read(taker, after, rows, bytes).unwrap();
        assert!(page.len() <= rows);
        let cost: usize = page.iter().map(|row| row.message.cost()).sum();
        assert!(page.len() <= 1 || cost <= bytes, "{cost} > {bytes}");
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().map(|row| row.message.id.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_together_are_what_is_there_once_and_in_order(
        plan in plan(),
        limits in prop::collection::vec((1..100usize, 1..60_000usize), 1..20),
        dice in prop::collection::vec(any::<u8>(), 1..50),
        is_spoiled in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, opened) = open(dir.path());
        let taker = fill(&store, opened.next_message_id, &plan);
        if is_spoiled {
            store.close();
            spoil(dir.path(), &dice);
            store = open(dir.path()).0;
        }
        let found = pages(&store, taker, &limits);
        let whole = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
        let whole: Vec<u64> = whole.iter().map(|row| row.message.id.0).collect();
        if !is_spoiled {
            prop_assert_eq!(whole.len(), plan.len());
        }
        prop_assert_eq!(found, whole);
        prop_assert!(store.read(taker, None, 0, usize::MAX).unwrap().is_empty());
    }
}
