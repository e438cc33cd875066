//! Reading committed rows, from any thread.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use iotedge_model::MessageId;
use iotedge_telemetry::event;
use rusqlite::{Connection, Row, Rows};

use super::mirror::signed;
use super::parcels;
use super::rows::{Bad, COLUMNS, Decoder, ENVELOPE, identifiers, qos, sum};
use crate::{OnFatal, QueuedRow, RowState, StoreError, TakerId, file};

/// Connections kept open for readers.
const POOL: usize = 2;

/// A few connections that only read.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// The damage that a reader met first.
    damaged: OnceLock<StoreError>,
    on_fatal: Option<OnFatal>,
}

impl Readers {
    pub(crate) fn new(path: &Path, on_fatal: Option<OnFatal>) -> Self {
        Self {
            path: path.to_path_buf(),
            idle: Mutex::new(Vec::new()),
            damaged: OnceLock::new(),
            on_fatal,
        }
    }

    /// The damage that a reader met, if one did.
    pub(crate) fn damaged(&self) -> Option<StoreError> {
        self.damaged.get().cloned()
    }

    /// A reader met damage: the next start salvages; whoever runs the store is told once.
    fn meet(&self, error: &StoreError) {
        file::suspect(&self.path);
        if self.damaged.set(error.clone()).is_ok() {
            tracing::error!(event = event::STORE, %error, "a reader met damage");
            if let Some(on_fatal) = &self.on_fatal {
                on_fatal(error);
            }
        }
    }

    /// Runs `work` on a connection of the pool, or on a new one when all are out.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let taken = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match taken {
            Some(connection) => connection,
            None => file::reader(&self.path)?,
        };
        let outcome = work(&connection).map_err(|e| StoreError::sqlite(&self.path, &e));
        if let Err(error @ StoreError::Damaged { .. }) = &outcome {
            self.meet(error);
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < POOL {
            idle.push(connection);
        }
        outcome
    }
}

/// What one read gives: rows, and ids of rows that are no messages.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) rows: Vec<QueuedRow>,
    pub(crate) unreadable: Vec<MessageId>,
    /// The first that was left out for a limit: all before it is here. `None`: all is.
    pub(crate) next: Option<MessageId>,
}

/// Rows of `taker` after `after`, at most `max_rows`, and at most `max_bytes` but at least one.
pub(crate) fn read(
    connection: &Connection,
    taker: TakerId,
    after: Option<MessageId>,
    max_rows: usize,
    max_bytes: usize,
    passed_over: &HashSet<MessageId>,
) -> rusqlite::Result<Read> {
    // What moves out of a parcel is seen in one place.
    let _moment = connection.unchecked_transaction()?;
    let after = after.map_or(-1, |id| signed(id.0));
    let limits = (max_rows, max_bytes);
    let parcels = parcels::read(connection, taker, after, limits, passed_over)?;
    let mut statement = connection.prepare_cached(select())?;
    let found = statement.query([signed(taker.0), after])?;
    let rows = collect(found, max_rows, max_bytes, passed_over)?;
    Ok(parcels.merge(rows, max_rows, max_bytes))
}

impl Read {
    /// Whether the limit of rows is reached.
    pub(super) fn is_full(&self, max_rows: usize) -> bool {
        self.rows.len() + self.unreadable.len() >= max_rows
    }

    /// Both in the order of their ids, within the limits. Where one of them stops, what the other has
    /// behind that is for the next read: who reads on does so behind the last row.
    fn merge(mut self, mut other: Self, max_rows: usize, max_bytes: usize) -> Self {
        self.next = [self.next, other.next].into_iter().flatten().min();
        self.unreadable.append(&mut other.unreadable);
        if let Some(next) = self.next {
            self.unreadable.retain(|id| *id < next);
        }
        let both = !self.rows.is_empty() && !other.rows.is_empty();
        self.rows.append(&mut other.rows);
        if both {
            self.rows.sort_by_key(|row| row.message.id);
        }
        if let Some(next) = self.next {
            let before = self.rows.partition_point(|row| row.message.id < next);
            self.rows.truncate(before);
        }
        let mut bytes = 0usize;
        let fitting = self.rows.iter().take_while(|row| {
            bytes = bytes.saturating_add(row.message.cost());
            bytes <= max_bytes
        });
        let fitting = fitting.count().max(1).min(max_rows);
        if let Some(left_out) = self.rows.get(fitting) {
            self.next = Some(left_out.message.id);
            self.rows.truncate(fitting);
        }
        self
    }
}

/// All rows of `taker` that are in flight ([`RowState::Sent`], [`RowState::Received`]).
pub(crate) fn in_flight(
    connection: &Connection,
    taker: TakerId,
    passed_over: &HashSet<MessageId>,
) -> rusqlite::Result<Read> {
    let mut statement = connection.prepare_cached(select_in_flight())?;
    let found = statement.query([signed(taker.0)])?;
    collect(found, usize::MAX, usize::MAX, passed_over)
}

/// Rows of other queues that were sent to a session, each with its queue.
#[derive(Default)]
pub(crate) struct Claimed {
    pub(crate) rows: Vec<(TakerId, QueuedRow)>,
    pub(crate) unreadable: Vec<(TakerId, MessageId)>,
}

/// All rows that were sent to the session of `claimant`. `passed_over` says what is settled, queue
/// by queue.
pub(crate) fn claimed(
    connection: &Connection,
    claimant: TakerId,
    passed_over: &HashMap<TakerId, HashSet<MessageId>>,
) -> rusqlite::Result<Claimed> {
    let mut statement = connection.prepare_cached(select_claimed())?;
    let mut found = statement.query([signed(claimant.0)])?;
    let mut decoder = Decoder::default();
    let mut claimed = Claimed::default();
    while let Some(row) = found.next()? {
        let id = MessageId(row.get::<_, i64>(0)?.unsigned_abs());
        let queue = TakerId(row.get::<_, i64>(7)?.unsigned_abs());
        if passed_over.get(&queue).is_some_and(|ids| ids.contains(&id)) {
            continue;
        }
        match readable(id, decode(&mut decoder, row))? {
            Some(queued) => claimed.rows.push((queue, queued)),
            None => claimed.unreadable.push((queue, id)),
        }
    }
    Ok(claimed)
}

fn select_claimed() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| select_from("queue q INDEXED BY queue_claimed", "q.claimed_by = ?1"))
}

fn collect(
    mut found: Rows<'_>,
    max_rows: usize,
    max_bytes: usize,
    passed_over: &HashSet<MessageId>,
) -> rusqlite::Result<Read> {
    let mut decoder = Decoder::default();
    let mut read = Read::default();
    let mut bytes = 0usize;
    while let Some(row) = found.next()? {
        let id: i64 = row.get(0)?;
        let id = MessageId(id.unsigned_abs());
        if passed_over.contains(&id) {
            continue;
        }
        if read.is_full(max_rows) {
            read.next = Some(id);
            break;
        }
        match readable(id, decode(&mut decoder, row))? {
            Some(queued) => {
                bytes = bytes.saturating_add(queued.message.cost());
                if bytes > max_bytes && !read.rows.is_empty() {
                    read.next = Some(id);
                    break;
                }
                read.rows.push(queued);
            }
            None => read.unreadable.push(id),
        }
    }
    Ok(read)
}

/// `None`, told in the log: a row that is no message.
fn readable(id: MessageId, row: Result<QueuedRow, Bad>) -> rusqlite::Result<Option<QueuedRow>> {
    match row {
        Ok(queued) => Ok(Some(queued)),
        Err(Bad::Sqlite(error)) => Err(error),
        Err(Bad::Content(what)) => {
            tracing::error!(
                event = event::STORE,
                message = id.0,
                what,
                "a stored message can not be read"
            );
            Ok(None)
        }
    }
}

fn select() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| select_from("queue q", "q.taker = ?1 AND q.message > ?2"))
}

/// By the index of rows in flight, however many others there are.
fn select_in_flight() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| {
        let which = "q.taker = ?1 AND q.state > 0";
        select_from("queue q INDEXED BY queue_in_flight", which)
    })
}

fn select_from(queue: &str, which: &str) -> String {
    format!(
        "SELECT q.message, q.qos, q.retain, q.identifiers, q.state, q.packet_id, q.claimed_by,
         q.taker, m.* FROM {queue} LEFT JOIN
         (SELECT id, {COLUMNS}, sum FROM messages) m ON m.id = q.message
         WHERE {which} ORDER BY q.message"
    )
}

fn decode(decoder: &mut Decoder, row: &Row<'_>) -> Result<QueuedRow, Bad> {
    let id: Option<i64> = row.get(8)?;
    if id.is_none() {
        return Err(Bad::Content("its message is gone"));
    }
    let message = decoder.message(row, 8)?;
    // Those of older versions have none.
    let written: Option<i64> = row.get(8 + 1 + ENVELOPE)?;
    if written.is_some_and(|written| written != sum(&message)) {
        return Err(Bad::Content("not what was written"));
    }
    Ok(QueuedRow {
        qos: qos(row, 1)?,
        retain: row.get(2)?,
        identifiers: identifiers(row, 3)?,
        state: state(row, 4)?,
        packet_id: row.get::<_, Option<u16>>(5)?.and_then(NonZeroU16::new),
        claimant: row.get(6).map(taker)?,
        message,
    })
}

fn taker(id: Option<i64>) -> Option<TakerId> {
    id.map(|id| TakerId(id.unsigned_abs()))
}

fn state(row: &Row<'_>, at: usize) -> Result<RowState, Bad> {
    let value: u8 = row.get(at)?;
    RowState::from_column(value).ok_or(Bad::Content("the state of a delivery"))
}

/// The oldest `n` committed rows.
pub(crate) fn oldest(
    connection: &Connection,
    taker: TakerId,
    n: usize,
    passed_over: &HashSet<MessageId>,
) -> rusqlite::Result<Vec<MessageId>> {
    let _moment = connection.unchecked_transaction()?;
    let mut all = parcels::oldest(connection, taker, n, passed_over)?;
    let mut statement =
        connection.prepare_cached("SELECT message FROM queue WHERE taker = ?1 ORDER BY message")?;
    let ids = statement.query_map([signed(taker.0)], |row| {
        row.get(0).map(|id: i64| MessageId(id.unsigned_abs()))
    })?;
    for id in ids
        .filter(|id| !matches!(id, Ok(id) if passed_over.contains(id)))
        .take(n)
    {
        all.push(id?);
    }
    all.sort_unstable();
    all.truncate(n);
    Ok(all)
}
