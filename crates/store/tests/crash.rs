//! SIGKILL at random moments against a model: what the file holds afterwards is what the model
//! holds after some number of operations, and never fewer than were reported done.
//!
//! The operations are a function of their number, so that parent and child agree on them without
//! a word. The child is this test's own executable.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{message, row};
use iotedge_model::{ClientId, DropReason, MessageId};
use iotedge_store::{
    Account, Append, Done, Expect, Opened, Options, RetainedChange, RowState, Store, TakerId,
    TakerKind,
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug)]
enum Op {
    Append {
        id: u64,
        takers: Vec<usize>,
        retained: Option<RetainedChange>,
        inbound: Option<u16>,
    },
    MarkSent {
        taker: usize,
        sent: Vec<(u64, u16)>,
    },
    MarkReceived {
        taker: usize,
        id: u64,
    },
    Release {
        packet_id: u16,
    },
    Acknowledge {
        taker: usize,
        ids: Vec<u64>,
    },
    Discard {
        taker: usize,
        ids: Vec<u64>,
    },
    CountDrop {
        taker: usize,
        n: u64,
    },
    Remove {
        taker: usize,
    },
}

fn random(x: &mut u64) -> u64 {
    // splitmix64
    *x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *x;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Operation number `n`.
fn op(n: u64) -> Op {
    let mut x = n;
    let mut below = |limit: u64| random(&mut x) % limit;
    let taker = usize::try_from(below(4)).unwrap();
    let recent = |below: &mut dyn FnMut(u64) -> u64| -> Vec<u64> {
        (0..=below(12))
            .map(|_| n.saturating_sub(below(40)))
            .collect()
    };
    let packet = |below: &mut dyn FnMut(u64) -> u64| 1 + u16::try_from(below(9)).unwrap();
    match below(100) {
        0..=49 => Op::Append {
            id: n,
            takers: (0..4).filter(|_| below(2) == 0).collect(),
            retained: match below(8) {
                0 => Some(RetainedChange::Set),
                1 => Some(RetainedChange::Clear),
                _ => None,
            },
            inbound: (below(3) == 0).then(|| packet(&mut below)),
        },
        50..=57 => Op::MarkSent {
            taker,
            sent: recent(&mut below)
                .into_iter()
                .map(|id| (id, packet(&mut below)))
                .collect(),
        },
        58..=63 => Op::MarkReceived {
            taker,
            id: n.saturating_sub(below(40)),
        },
        64..=69 => Op::Release {
            packet_id: packet(&mut below),
        },
        70..=84 => Op::Acknowledge {
            taker,
            ids: recent(&mut below),
        },
        85..=94 => Op::Discard {
            taker,
            ids: recent(&mut below),
        },
        95..=98 => Op::CountDrop { taker, n: below(5) },
        _ => Op::Remove { taker },
    }
}

fn topic(id: u64) -> String {
    format!("t/{}", id % 3)
}

/// How far a row has come, and its packet id.
type Delivery = (RowState, Option<u16>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    takers: [(BTreeMap<u64, Delivery>, Account); 4],
    unreleased: BTreeSet<u16>,
    removed: Account,
    retained: BTreeMap<String, u64>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append {
                id,
                takers,
                retained,
                inbound,
            } => {
                self.unreleased.extend(inbound);
                for taker in takers {
                    let (rows, account) = &mut self.takers[*taker];
                    rows.insert(*id, Delivery::default());
                    account.accepted += 1;
                }
                match retained {
                    Some(RetainedChange::Set) => drop(self.retained.insert(topic(*id), *id)),
                    Some(RetainedChange::Clear) => drop(self.retained.remove(&topic(*id))),
                    None => {}
                }
            }
            Op::MarkSent { taker, sent } => {
                for (id, packet_id) in sent {
                    if let Some(row) = self.takers[*taker].0.get_mut(id) {
                        if row.0 != RowState::Received {
                            *row = (RowState::Sent, Some(*packet_id));
                        }
                    }
                }
            }
            Op::MarkReceived { taker, id } => {
                if let Some(row) = self.takers[*taker].0.get_mut(id) {
                    if row.0 == RowState::Sent {
                        row.0 = RowState::Received;
                    }
                }
            }
            Op::Release { packet_id } => drop(self.unreleased.remove(packet_id)),
            Op::Acknowledge { taker, ids } => {
                let (rows, account) = &mut self.takers[*taker];
                account.delivered += ids.iter().filter_map(|id| rows.remove(id)).count() as u64;
            }
            Op::Discard { taker, ids } => {
                let (rows, account) = &mut self.takers[*taker];
                let n = ids.iter().filter_map(|id| rows.remove(id)).count() as u64;
                add(account, DropReason::Expired, n);
            }
            Op::CountDrop { taker, n } => {
                let account = &mut self.takers[*taker].1;
                account.accepted += n;
                add(account, DropReason::QueueFull, *n);
            }
            Op::Remove { taker } => {
                let (rows, account) = std::mem::take(&mut self.takers[*taker]);
                self.removed.accepted += account.accepted;
                self.removed.delivered += account.delivered;
                for (reason, n) in account.dropped {
                    add(&mut self.removed, reason, n);
                }
                add(
                    &mut self.removed,
                    DropReason::TakerRemoved,
                    rows.len() as u64,
                );
            }
        }
    }

    fn read(store: &Store, opened: &Opened) -> Self {
        let mut model = Self::default();
        for (at, name) in NAMES.iter().enumerate() {
            let Some(taker) = store.find_taker(TakerKind::Route, name) else {
                continue;
            };
            let mut account = store.account(taker);
            assert!(account.balances(), "{account:?}");
            let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
            assert_eq!(rows.len() as u64, account.queued);
            let bytes: usize = rows.iter().map(|r| r.message.cost()).sum();
            assert_eq!(bytes as u64, account.queued_bytes);
            (account.queued, account.queued_bytes) = (0, 0);
            let rows = rows.iter().map(|r| {
                let packet_id = r.packet_id.map(NonZeroU16::get);
                (r.message.id.0, (r.state, packet_id))
            });
            model.takers[at] = (rows.collect(), account);
        }
        for session in &opened.sessions {
            model.unreleased.extend(&session.unreleased);
        }
        model.removed = store.removed_account();
        assert!(model.removed.balances());
        for message in &opened.retained {
            model
                .retained
                .insert(message.topic.to_string(), message.id.0);
        }
        model
    }
}

fn add(account: &mut Account, reason: DropReason, n: u64) {
    if n > 0 {
        *account.dropped.entry(reason).or_default() += n;
    }
}

/// Who publishes with QoS 2.
fn publisher() -> ClientId {
    ClientId::new("publisher").unwrap()
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
            store.mark_sent(taker(at), &sent, Some(done));
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

/// Starts the child, kills it after some reports; gives the highest operation reported done.
fn killed(dir: &Path, from: u64, after: u64, documents: bool) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if documents {
        command.env("STORE_CRASH_DOCUMENTS", "1");
    }
    let mut child = command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("STORE_CRASH_DIR", dir)
        .env("STORE_CRASH_FROM", from.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
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
        let (store, opened) = common::open(dir.path());
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let found = Model::read(&store, &opened);
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
