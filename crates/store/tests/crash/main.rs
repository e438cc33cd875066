//! SIGKILL at random moments against a model: what the file holds afterwards is what the model
//! holds after some number of operations, and never fewer than were reported done.
//!
//! The operations are a function of their number, so that parent and child agree on them without
//! a word. The child is this test's own executable.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{message, row};
use iotedge_model::{ClientId, DropReason, MessageId};
use iotedge_store::{Append, DeadLetter, Done, Expect, Options, Store, TakerId, TakerKind};
use model::{Model, NAMES, Op, op, random, topic};

/// Who publishes with QoS 2.
fn publisher() -> ClientId {
    ClientId::new("publisher").unwrap()
}

/// The oldest dead letter once all that was handed in is done.
fn oldest_letter(store: &Store) -> Option<DeadLetter> {
    common::commit(store);
    store.dead_letters(None, 1).unwrap().pop()
}

fn run(store: &Store, op: Op, done: Box<dyn FnOnce() + Send>) {
    let taker = |at: usize| -> TakerId { store.create_taker(TakerKind::Route, NAMES[at]) };
    let ids = |ids: Vec<u64>| -> Vec<MessageId> { ids.into_iter().map(MessageId).collect() };
    match op {
        Op::Append {
            id,
            takers,
            retained,
            inbound,
        } => {
            let text = "x".repeat(usize::try_from(id % 700).unwrap());
            let takers = takers.into_iter().map(|at| row(taker(at))).collect();
            let entry = Append {
                inbound: inbound.map(|id| (publisher(), NonZeroU16::new(id).unwrap())),
                ..Append::new(Arc::new(message(id, &topic(id), &text)), takers, retained)
            };
            store.append(
                vec![entry],
                Some(Box::new(move |ok| ok.map_or((), |()| done()))),
            );
        }
        Op::MarkSent { taker: at, sent } => {
            let sent: Vec<_> = sent
                .into_iter()
                .map(|(id, packet)| (MessageId(id), NonZeroU16::new(packet).unwrap()))
                .collect();
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            store.mark_sent(taker(at), None, &sent, Some(done));
        }
        Op::MarkReceived { taker: at, id } => {
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            store.mark_received(taker(at), MessageId(id), Some(done));
        }
        Op::Release { packet_id } => {
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            let packet_id = NonZeroU16::new(packet_id).unwrap();
            store.release_inbound(&publisher(), packet_id, Some(done));
        }
        Op::Acknowledge { taker: at, ids: i } => store.acknowledge(taker(at), &ids(i)),
        Op::Discard { taker: at, ids: i } => {
            store.discard(taker(at), &ids(i), DropReason::Expired);
        }
        Op::Bury { taker: at, ids: i } => {
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            store.bury(taker(at), &ids(i), "refused", Some(done));
        }
        Op::Revive { id } => {
            let Some(letter) = oldest_letter(store) else {
                return store.flush(Box::new(move |ok| ok.map_or((), |()| done())));
            };
            store.create_taker(letter.kind, &letter.taker);
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            store.revive(letter.id, MessageId(id), Some(done)).unwrap();
        }
        Op::RemoveDead => {
            let letter = oldest_letter(store).map_or(u64::MAX, |letter| letter.id);
            let done: Done = Box::new(move |ok| ok.map_or((), |()| done()));
            store.remove_dead(letter, Some(done));
        }
        Op::CountDrop { taker: at, n } => store.count_drop(taker(at), DropReason::QueueFull, n),
        Op::Remove { taker: at } => store.remove_taker(
            taker(at),
            DropReason::TakerRemoved,
            Some(Box::new(move |ok| ok.map_or((), |()| done()))),
        ),
    }
}

/// Change number `n` of the documents: every seventh is a deletion.
fn change(store: &Store, n: u64, done: Done) {
    let documents = store.documents("crash");
    let key = format!("{}", n % 5);
    if n % 7 == 0 {
        documents.delete(&key, Expect::Any, Some(done)).unwrap();
    } else {
        documents
            .put(&key, format!("{n}"), Expect::Any, Some(done))
            .unwrap();
    }
}

/// The documents as they should be: versions, and bodies of those that are there.
#[derive(Default)]
struct Changed(BTreeMap<String, (u64, Option<String>)>);

impl Changed {
    fn apply(&mut self, n: u64) {
        let (version, body) = self.0.entry(format!("{}", n % 5)).or_default();
        *body = (n % 7 != 0).then(|| format!("{n}"));
        *version += u64::from(body.is_some());
    }

    fn there(&self) -> BTreeMap<String, (u64, String)> {
        let all = self.0.clone().into_iter();
        all.filter_map(|(key, (version, body))| Some((key, (version, body?))))
            .collect()
    }
}

/// Runs operations from a number on until it is killed; does nothing in an ordinary test run.
#[test]
fn child() {
    let Ok(dir) = std::env::var("STORE_CRASH_DIR") else {
        return;
    };
    let from: u64 = std::env::var("STORE_CRASH_FROM").unwrap().parse().unwrap();
    let options = Options {
        linger: Duration::from_millis(if from % 2 == 0 { 0 } else { 5 }),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(Path::new(&dir), options).unwrap();
    store.put_session(common::session(&store, &publisher()), None);
    let documents = std::env::var("STORE_CRASH_DOCUMENTS").is_ok();
    for n in from.. {
        let done = move || {
            let mut out = std::io::stderr().lock();
            writeln!(out, "done {n}").unwrap();
        };
        if documents {
            change(&store, n, Box::new(move |ok| ok.map_or((), |()| done())));
        } else {
            run(&store, op(n), Box::new(done));
        }
        // As admission does: what waits is bounded.
        while store.pending_bytes() > 200_000 {
            std::thread::yield_now();
        }
    }
}

/// Held while this process has a store open, and while it forks: a fork would hold the directory's
/// lock until its exec, and another test's child would find it busy.
static OPEN_OR_FORK: Mutex<()> = Mutex::new(());

fn open_or_fork() -> MutexGuard<'static, ()> {
    OPEN_OR_FORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the child, kills it after some reports; gives the highest operation reported done.
fn killed(dir: &Path, from: u64, after: u64, documents: bool) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if documents {
        command.env("STORE_CRASH_DOCUMENTS", "1");
    }
    let forking = open_or_fork();
    let mut child = command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("STORE_CRASH_DIR", dir)
        .env("STORE_CRASH_FROM", from.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(forking);
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut highest = None;
    let mut reports = 0;
    for line in lines {
        let line = line.unwrap();
        // The last line may have been cut short by the kill; a shorter number only weakens it.
        let Some(n) = line.strip_prefix("done ").and_then(|n| n.parse().ok()) else {
            assert!(!line.contains("panicked"), "{line}");
            continue;
        };
        highest = highest.max(Some(n));
        reports += 1;
        if reports == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    highest
}

#[test]
fn sigkill_loses_nothing_that_was_reported_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut applied = 0; // operations 1..=applied are in `model`
    let mut x = 42;
    for round in 0..25 {
        let done =
            killed(dir.path(), applied + 1, 1 + random(&mut x) % 300, false).unwrap_or(applied);
        let _open = open_or_fork();
        let (store, opened) = common::open(dir.path());
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let found = Model::read(dir.path(), &store, &opened);
        while applied < done {
            applied += 1;
            model.apply(&op(applied));
        }
        // What was handed in but not reported may be there too, in order.
        let limit = done + 100_000;
        while model != found {
            assert!(
                applied < limit,
                "round {round}: no prefix of at least {done} operations"
            );
            applied += 1;
            model.apply(&op(applied));
        }
        drop(store);
    }
    assert!(applied > 1000, "only {applied} operations were tried");
}

#[test]
fn sigkill_loses_no_document_that_was_reported_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut x = 7;
    let mut applied = 0;
    let mut model = Changed::default();
    for round in 0..10 {
        let reports = 1 + random(&mut x) % 200;
        let done = killed(dir.path(), applied + 1, reports, true).unwrap_or(applied);
        let _open = open_or_fork();
        let (store, _) = common::open(dir.path());
        let found: BTreeMap<_, _> = store
            .documents("crash")
            .scan()
            .unwrap()
            .into_iter()
            .map(|(key, d)| {
                (
                    key,
                    (d.version, String::from_utf8(d.body.to_vec()).unwrap()),
                )
            })
            .collect();
        while applied < done || model.there() != found {
            assert!(
                applied < done + 10_000,
                "round {round}: no prefix of at least {done} changes"
            );
            applied += 1;
            model.apply(applied);
        }
    }
    assert!(applied > 300, "only {applied} changes were tried");
}
