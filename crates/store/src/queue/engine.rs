//! What the writer thread of `queue.db` does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iotedge_model::DropReason;
use iotedge_telemetry::METRICS;
use rusqlite::{Connection, OptionalExtension};

use super::batch::{Batch, release};
use super::memory::Memory;
use super::mirror::{Mirror, Tallies, signed};
use super::parcel;
use super::parcels;
use super::spare;
use super::waiting;
use super::{Op, Settled};
use crate::space::Space;
use crate::writer::{Engine, Job, Waiting};
use crate::{StoreError, TakerId, file};

/// Rows of removed takers cleared away in one step.
const STEP: usize = 500;
/// Pause between probes of a full disk.
const PROBE: Duration = Duration::from_secs(1);

pub(crate) struct QueueEngine {
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) mirror: Arc<Mutex<Mirror>>,
    pub(crate) space: Arc<Space>,
    pub(crate) memory: Memory,
    pub(crate) lag: Duration,
    pub(crate) max_dead_bytes: u64,
    pub(crate) full: bool,
    pub(crate) journal: file::Journal,
}

impl QueueEngine {
    fn transaction(&mut self, batch: &[Job<Op>]) -> rusqlite::Result<Tallies> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut inside = Batch::new(&self.connection, &mut self.memory, self.max_dead_bytes);
        for job in batch {
            inside.apply(&job.op)?;
        }
        let booked = inside.finish()?;
        self.connection.execute_batch("COMMIT")?;
        self.memory.owed.clear();
        Ok(booked)
    }

    /// After an error: nothing of the transaction stays, here or in the file.
    fn roll_back(&mut self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.memory.known = super::load::known(&self.connection)?;
        self.memory.reserved = super::load::reserved(&self.connection)?;
        self.memory.last.clear();
        Ok(())
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        self.space.error(&self.path, error)
    }

    fn settle<'a>(&self, jobs: impl Iterator<Item = &'a Job<Op>> + Clone, booked: &Tallies) {
        let expected = expected(jobs.clone());
        let mut mirror = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        mirror.settle(&expected, booked);
        for job in jobs {
            if let Op::Settle { taker, ids, .. } | Op::Bury { taker, ids, .. } = &job.op {
                mirror.settled(*taker, ids);
            }
        }
    }

    /// Clears some rows of removed takers; `false` when there are none left.
    fn clear_garbage(&mut self) -> rusqlite::Result<bool> {
        let taker: Option<i64> = self
            .connection
            .prepare_cached("SELECT taker FROM garbage LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(taker) = taker else {
            return Ok(false);
        };
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let ids: Vec<i64> = self
            .connection
            .prepare_cached("SELECT message FROM queue WHERE taker = ?1 ORDER BY message LIMIT ?2")?
            .query_map([taker, i64::try_from(STEP).unwrap_or(500)], |row| {
                row.get(0)
            })?
            .collect::<Result<_, _>>()?;
        for id in &ids {
            self.connection
                .prepare_cached("DELETE FROM queue WHERE taker = ?1 AND message = ?2")?
                .execute([taker, *id])?;
            release(&self.connection, *id, 1)?;
        }
        let parcels = parcels::clear(&self.connection, taker, STEP / parcel::MOST + 1)?;
        if ids.len() < STEP && parcels == 0 {
            self.connection
                .prepare_cached("DELETE FROM garbage WHERE taker = ?1")?
                .execute([taker])?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(true)
    }
}

impl Engine for QueueEngine {
    type Op = Op;

    fn commit(&mut self, batch: &[Job<Op>]) -> Result<(), StoreError> {
        match self.transaction(batch) {
            Ok(booked) => {
                self.settle(batch.iter(), &booked);
                match messages(batch) {
                    0 => {}
                    n => METRICS.committed(n),
                }
                self.space.took(queued(batch));
                self.full = false;
                self.space.committed(&self.connection, &self.path);
                self.journal.bound(&self.connection, &self.path);
                Ok(())
            }
            Err(error) => {
                let error = self.error(&error);
                self.roll_back().map_err(|e| self.error(&e))?;
                self.full = matches!(error, StoreError::DiskFull { .. });
                Err(error)
            }
        }
    }

    fn keeps(&self, job: &Job<Op>) -> bool {
        match job.op {
            Op::Append(_) | Op::Bury { .. } | Op::Revive { .. } => false,
            // It is in memory as well, and every connection may bring one.
            Op::PutWill(_) => false,
            Op::PutSession(_) | Op::PutSubscription { .. } => job.done.is_none(),
            _ => true,
        }
    }

    /// An operation rests on no other: what it needs is looked up when it is written.
    fn undo(
        &mut self,
        given_up: &mut Vec<Job<Op>>,
        kept: &mut Vec<Job<Op>>,
        _waiting: &Waiting<'_, Op>,
    ) {
        self.settle(given_up.iter(), &Tallies::new());
        *kept = waiting::compact(std::mem::take(kept), &self.connection, &self.memory.known);
    }

    fn spare(&mut self, batch: &mut Vec<Job<Op>>) -> Vec<Job<Op>> {
        if self.lag.is_zero() {
            return Vec::new();
        }
        let (done, booked) = spare::spare(batch, &self.memory.known, &mut self.memory.owed);
        if !done.is_empty() {
            self.settle(done.iter(), &booked);
            self.space.took(queued(&done));
        }
        done
    }

    fn close(&mut self) -> Result<(), StoreError> {
        match self.memory.owed.since {
            Some(_) => self.commit(&[]),
            None => Ok(()),
        }
    }

    fn chore(&mut self) -> Result<Option<Duration>, StoreError> {
        let Some(since) = self.memory.owed.since else {
            return self.clear_up();
        };
        let left = self.lag.saturating_sub(since.elapsed());
        if !left.is_zero() {
            let pause = self.clear_up()?;
            return Ok(Some(pause.map_or(left, |pause| pause.min(left))));
        }
        match self.commit(&[]) {
            Ok(()) => self.clear_up(),
            // They wait for room in memory.
            Err(StoreError::DiskFull { .. }) => self.clear_up().map(|p| p.or(Some(PROBE))),
            Err(error) => Err(error),
        }
    }
}

impl QueueEngine {
    /// Looks for room, clears away rows of removed takers, gives back pages.
    fn clear_up(&mut self) -> Result<Option<Duration>, StoreError> {
        if self.full {
            let probe = file::probe(&self.connection);
            return match probe.map_err(|e| self.error(&e)) {
                Ok(()) => {
                    self.full = false;
                    self.space.committed(&self.connection, &self.path);
                    Ok(Some(Duration::ZERO))
                }
                Err(StoreError::DiskFull { .. }) => Ok(Some(PROBE)),
                Err(error) => Err(error),
            };
        }
        let step = match self.clear_garbage() {
            Ok(true) => Ok(Some(Duration::ZERO)),
            Ok(false) => file::vacuum_step(&self.connection),
            Err(error) => Err(error),
        };
        self.space.committed(&self.connection, &self.path);
        match step.map_err(|e| self.error(&e)) {
            Ok(pause) => Ok(pause),
            Err(StoreError::DiskFull { .. }) => {
                self.roll_back().map_err(|e| self.error(&e))?;
                self.full = true;
                Ok(Some(PROBE))
            }
            Err(error) => Err(error),
        }
    }
}

fn appended(batch: &[Job<Op>]) -> impl Iterator<Item = &crate::Append> {
    let entries = batch.iter().filter_map(|job| match &job.op {
        Op::Append(entries) => Some(entries),
        _ => None,
    });
    entries.flatten()
}

/// Messages of one commit.
fn messages(batch: &[Job<Op>]) -> u64 {
    appended(batch).count() as u64
}

/// Those that had a taker.
fn queued(batch: &[Job<Op>]) -> u64 {
    let queued = appended(batch).filter(|entry| !entry.takers.is_empty());
    queued.count() as u64
}

/// What the mirror was told to expect of these jobs.
fn expected<'a>(jobs: impl Iterator<Item = &'a Job<Op>>) -> Tallies {
    let mut tallies = Tallies::new();
    for job in jobs {
        job.op
            .expect(|taker, change| change(tallies.entry(taker).or_default()));
    }
    tallies
}

impl Op {
    /// Tells what this will do to the books if all goes well. Bytes of settled rows are known only
    /// to the file.
    pub(crate) fn expect(&self, mut tell: impl FnMut(TakerId, &dyn Fn(&mut super::mirror::Tally))) {
        match self {
            Self::Append(entries) => {
                for entry in entries {
                    let bytes = i64::try_from(entry.message.cost()).unwrap_or(i64::MAX);
                    for row in &entry.takers {
                        tell(row.taker, &|t| {
                            t.accepted += 1;
                            t.rows += 1;
                            t.bytes += bytes;
                        });
                    }
                }
            }
            Self::Settle {
                taker,
                ids,
                how,
                bytes,
            } => {
                let n = i64::try_from(ids.len()).unwrap_or(i64::MAX);
                tell(*taker, &|t| {
                    t.rows -= n;
                    t.bytes -= bytes;
                    match how {
                        Settled::Delivered => t.delivered += n,
                        Settled::Dropped(reason) => t.drop(*reason, n),
                    }
                });
            }
            Self::Bury { taker, ids, .. } => {
                let n = i64::try_from(ids.len()).unwrap_or(i64::MAX);
                tell(*taker, &|t| {
                    t.rows -= n;
                    t.drop(DropReason::UpstreamRefused, n);
                });
            }
            Self::Revive { taker, bytes, .. } => tell(*taker, &|t| {
                t.accepted += 1;
                t.rows += 1;
                t.bytes += bytes;
            }),
            Self::CountDrop { taker, reason, n } => tell(*taker, &|t| {
                t.accepted += signed(*n);
                t.drop(*reason, signed(*n));
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use bytes::Bytes;
    use iotedge_model::{Message, MessageId, QoS, SubscriptionIds, Topic};

    use super::*;
    use crate::writer::Writer;
    use crate::{Account, Append, TakerKind, TakerRow, schema};

    struct Bench {
        writer: Writer<Op>,
        mirror: Arc<Mutex<Mirror>>,
        space: Arc<Space>,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        /// A store whose file can not grow above `pages`.
        fn new(pages: u32) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("queue.db");
            let connection = file::open(&path, &schema::QUEUE).unwrap();
            connection
                .execute_batch(&format!("PRAGMA max_page_count = {pages}"))
                .unwrap();
            let mirror = Arc::new(Mutex::new(Mirror::new(&[], &Account::default(), 1)));
            let space = Arc::new(Space::new(dir.path(), u64::MAX, 0));
            let engine = QueueEngine {
                path: path.clone(),
                connection,
                mirror: mirror.clone(),
                space: space.clone(),
                memory: Memory::default(),
                lag: Duration::ZERO,
                max_dead_bytes: 0,
                full: false,
                journal: file::Journal::default(),
            };
            let writer =
                Writer::start(&path, (Duration::ZERO, Duration::ZERO), None, engine).unwrap();
            Self {
                writer,
                mirror,
                space,
                _dir: dir,
            }
        }

        fn push(&self, op: Op, wait: bool) -> Option<Result<(), StoreError>> {
            let (tell, told) = mpsc::sync_channel(1);
            {
                let mut mirror = self.mirror.lock().unwrap();
                op.expect(|taker, change| mirror.expect(taker, |t| change(t)));
            }
            let job = Job {
                at: Instant::now(),
                urgent: wait,
                cost: op.cost(),
                op,
                done: wait.then(|| -> crate::Done { Box::new(move |o| tell.send(o).unwrap()) }),
            };
            assert!(self.writer.push(job).is_ok());
            wait.then(|| told.recv().unwrap())
        }

        fn append(&self, taker: TakerId, id: u64) -> Result<(), StoreError> {
            let topic = Topic::new("t").unwrap();
            let payload = Bytes::from(vec![7; 50_000]);
            let mut message = Message::internal("test", topic, payload, QoS::AtLeastOnce);
            message.id = MessageId(id);
            let row = TakerRow {
                taker,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: SubscriptionIds::NONE,
            };
            let entry = Append::new(Arc::new(message), vec![row], None);
            self.push(Op::Append(vec![entry]), true).unwrap()
        }
    }

    #[test]
    fn a_full_disk_fails_appends_keeps_acknowledgements_and_recovers() {
        let bench = Bench::new(100);
        let id = bench.mirror.lock().unwrap().create(TakerKind::Route, "r");
        let name = Arc::from("r");
        let kind = TakerKind::Route;
        bench.push(Op::CreateTaker { id, kind, name }, false);
        let mut stored = Vec::new();
        let error = loop {
            let next = stored.len() as u64 + 1;
            match bench.append(id, next) {
                Ok(()) => stored.push(MessageId(next)),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(!stored.is_empty());
        let books = bench.mirror.lock().unwrap().account(id);
        assert_eq!(
            books.accepted,
            stored.len() as u64,
            "the failed one is undone"
        );
        assert!(books.balances());

        let how = Settled::Delivered;
        let taker = id;
        bench.push(
            Op::Settle {
                taker,
                ids: stored.clone(),
                how,
                bytes: 0,
            },
            false,
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        let next = stored.len() as u64 + 2;
        while bench.space.check(0).is_err() || bench.append(id, next).is_err() {
            assert!(Instant::now() < deadline, "it did not recover");
            std::thread::yield_now();
        }
        let books = bench.mirror.lock().unwrap().account(id);
        assert_eq!(books.delivered, stored.len() as u64);
        assert_eq!(books.queued, 1);
        assert!(books.balances());
    }
}
