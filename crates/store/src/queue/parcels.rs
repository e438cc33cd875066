//! Parcels ([`super::parcel`]) in the file: written whole, read message by message, and gone when
//! the last of their messages is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use iotedge_model::{DropReason, MessageId};
use iotedge_telemetry::event;
use rusqlite::{Connection, OptionalExtension, params};

use super::Settled;
use super::batch::{Batch, Staged, StagedRow, cost, write_tally};
use super::checked::{COLUMNS, Content, Parcel, body};
use super::mirror::signed;
use super::parcel::{self, Index, Packer};
use super::read::Read;
use super::recount;
use super::rows::Decoder;
use crate::types::id_column;
use crate::{QueuedRow, RowState, TakerId, TakerRow};

type Sql<T> = rusqlite::Result<T>;

/// A message that costs more has a row of its own.
const LARGE: i64 = 16 << 10;

/// The last message of each taker that was ever put into the file, where that is known: behind it
/// nothing can be there twice.
pub(crate) type Last = HashMap<TakerId, u64>;

/// A parcel of the file that a transaction takes messages out of.
pub(super) struct Open {
    body: i64,
    index: Index,
    gone: u64,
    bytes: i64,
    changed: bool,
    /// An index to be written in the place of one that has changed.
    ids: Option<Vec<u8>>,
}

impl Open {
    /// Takes a message out, if it is there; its bytes.
    fn take(&mut self, id: u64) -> Option<i64> {
        let (at, cost) = self.find(id)?;
        self.gone |= 1 << at;
        self.bytes = self.bytes.saturating_sub(cost);
        self.changed = true;
        Some(cost)
    }

    fn find(&self, id: u64) -> Option<(usize, i64)> {
        let at = self.index.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, cost) = self.index.get(at)?;
        (self.gone & (1 << at) == 0).then_some((at, *cost))
    }

    fn live(&self) -> i64 {
        let there = i64::try_from(self.index.len()).unwrap_or(0);
        there - i64::from(self.gone.count_ones())
    }
}

/// Those that a transaction has opened.
pub(super) type Opened = BTreeMap<(TakerId, u64), Open>;

/// Messages of one taker on their way into parcels.
#[derive(Default)]
pub(super) struct Packing(BTreeMap<TakerId, Vec<Staged>>);

impl Packing {
    /// Keeps those that go into a parcel; gives back the others.
    pub(super) fn add(&mut self, staged: Staged, last: &Last) -> Option<Staged> {
        let taker = match staged.rows.as_slice() {
            [one] if is_plain(one) && cost(&staged.message) <= LARGE => one.row.taker,
            _ => return Some(staged),
        };
        // One that is behind another of its taker might be there already.
        if last
            .get(&taker)
            .is_none_or(|last| staged.message.id.0 <= *last)
        {
            return Some(staged);
        }
        self.0.entry(taker).or_default().push(staged);
        None
    }
}

/// What neither waits for an answer nor belongs to someone else.
fn is_plain(staged: &StagedRow) -> bool {
    u8::from(staged.row.qos) < 2
        && staged.state == RowState::Queued
        && staged.packet_id.is_none()
        && staged.claimant.is_none()
}

impl Batch<'_> {
    /// Looks up what [`Packing::add`] needs to know of these takers.
    pub(super) fn know_last(&mut self, staged: &[Staged]) -> Sql<()> {
        for row in staged.iter().flat_map(|s| &s.rows) {
            let taker = row.row.taker;
            if !self.last.contains_key(&taker) {
                let last = self.last_of(taker)?;
                self.last.insert(taker, last);
            }
        }
        Ok(())
    }

    fn last_of(&self, taker: TakerId) -> Sql<u64> {
        let highest: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(message) FROM queue WHERE taker = ?1")?
            .query_row([signed(taker.0)], |row| row.get(0))?;
        let row = highest.map_or(0, i64::unsigned_abs);
        let parcel = find(self.connection, taker, u64::MAX)?;
        let parcel = parcel.and_then(|(_, open)| open.index.last().map(|(id, _)| *id));
        Ok(row.max(parcel.unwrap_or(0)))
    }

    /// Writes parcels.
    pub(super) fn write_parcels(&mut self, packing: Packing) -> Sql<()> {
        let mut packer = Packer::default();
        for (taker, all) in packing.0 {
            let origin = self.name_of(taker)?;
            packer.clear();
            for Staged { message, rows } in &all {
                let Some(StagedRow { row, .. }) = rows.first() else {
                    continue;
                };
                packer.push(self.encoder, message, row, cost(message))?;
                if packer.is_full() {
                    self.write_parcel(taker, &origin, &mut packer)?;
                    packer.clear();
                }
            }
            if packer.count > 0 {
                self.write_parcel(taker, &origin, &mut packer)?;
            }
            if let Some(last) = all.last() {
                self.last.insert(taker, last.message.id.0);
            }
        }
        Ok(())
    }

    /// Kind and name of a taker.
    fn name_of(&self, taker: TakerId) -> Sql<(String, String)> {
        let found = self
            .connection
            .prepare_cached("SELECT kind, name FROM takers WHERE id = ?1")?
            .query_row([signed(taker.0)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    fn write_parcel(
        &mut self,
        taker: TakerId,
        (kind, name): &(String, String),
        packer: &mut Packer,
    ) -> Sql<()> {
        let (first, live, bytes) = (packer.first, packer.count as u64, packer.bytes);
        let (index, body) = packer.finish((taker.0, kind, name));
        self.connection
            .prepare_cached("INSERT INTO bodies(body) VALUES (?1)")?
            .execute([body])?;
        let number = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached(
                "INSERT INTO parcels(taker, first, live, bytes, gone, body, ids)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
            )?
            .execute(params![
                signed(taker.0),
                signed(first),
                signed(live),
                bytes,
                number,
                index
            ])?;
        Ok(())
    }

    /// The parcel that may have the message.
    fn parcel_of(&mut self, taker: TakerId, id: u64) -> Sql<Option<&mut Open>> {
        let nearest = |opened: &Opened| {
            let near = opened.range((taker, 0)..=(taker, id)).next_back()?;
            let (last, _) = near.1.index.last()?;
            (*last >= id).then_some(*near.0)
        };
        if let Some(key) = nearest(&self.parcels) {
            return Ok(self.parcels.get_mut(&key));
        }
        let Some((first, open)) = find(self.connection, taker, id)? else {
            return Ok(None);
        };
        if open.changed {
            self.crooked.insert(taker);
        }
        // One that is open is as the file has it, or newer.
        Ok(Some(self.parcels.entry((taker, first)).or_insert(open)))
    }

    /// A message goes out of its parcel; its bytes, when it was there.
    pub(super) fn take_parceled(&mut self, taker: TakerId, id: u64) -> Sql<Option<i64>> {
        Ok(self.parcel_of(taker, id)?.and_then(|open| open.take(id)))
    }

    /// Whether a parcel has the message.
    pub(super) fn is_parceled(&mut self, taker: TakerId, id: u64) -> Sql<bool> {
        Ok(self
            .parcel_of(taker, id)?
            .is_some_and(|open| open.find(id).is_some()))
    }

    /// The message itself, out of its parcel. One that can not be read is counted as lost.
    pub(super) fn unpack(&mut self, taker: TakerId, id: u64) -> Sql<Option<QueuedRow>> {
        let Some(open) = self.parcel_of(taker, id)? else {
            return Ok(None);
        };
        let Some(cost) = open.take(id) else {
            return Ok(None);
        };
        let (number, index) = (open.body, open.index.clone());
        let body = body(self.connection, number)?;
        let mut found = None;
        let wants = |_, of: MessageId| of.0 == id;
        parcel::each(&mut Decoder::default(), &index, &body, wants, |row| {
            found = Some(row);
            false
        });
        if found.is_none() {
            self.count_settled(taker, cost, Settled::Dropped(DropReason::Damaged));
        }
        Ok(found)
    }

    /// A message gets a row of its own, where more can be written about it.
    pub(super) fn unpack_row(&mut self, taker: TakerId, id: u64) -> Sql<bool> {
        let Some(found) = self.unpack(taker, id)? else {
            return Ok(false);
        };
        let row = StagedRow {
            row: TakerRow {
                taker,
                qos: found.qos,
                retain: found.retain,
                identifiers: found.identifiers,
            },
            state: RowState::Queued,
            packet_id: None,
            claimant: None,
        };
        let staged = self.staged.entry(id).or_insert_with(|| Staged {
            message: std::sync::Arc::new(found.message),
            rows: Vec::new(),
        });
        staged.rows.push(row);
        Ok(true)
    }

    /// Writes down what was taken out of parcels.
    pub(super) fn write_taken(&mut self) -> Sql<()> {
        for ((taker, first), open) in std::mem::take(&mut self.parcels) {
            if !open.changed {
                continue;
            }
            let key = [signed(taker.0), signed(first)];
            if open.live() == 0 {
                remove(self.connection, key, open.body)?;
                continue;
            }
            self.connection
                .prepare_cached(
                    "UPDATE parcels SET live = ?3, bytes = ?4, gone = ?5
                     WHERE taker = ?1 AND first = ?2",
                )?
                .execute([key[0], key[1], open.live(), open.bytes, open.gone as i64])?;
            if let Some(ids) = open.ids {
                self.connection
                    .prepare_cached("UPDATE parcels SET ids = ?3 WHERE taker = ?1 AND first = ?2")?
                    .execute(params![key[0], key[1], ids])?;
            }
        }
        Ok(())
    }

    /// A parcel of which is not known what it has: its messages are lost, and counted when the
    /// transaction ends.
    pub(super) fn drop_unreadable(&mut self, taker: TakerId, first: u64) -> Sql<bool> {
        let found = nearest(self.connection, taker, first)?;
        let Some(found) = found.filter(|found| found.first == first && found.content.is_none())
        else {
            return Ok(false);
        };
        let key = [signed(taker.0), signed(first)];
        remove(self.connection, key, found.body)?;
        self.crooked.insert(taker);
        Ok(true)
    }

    /// Counts what waits for takers of which a parcel was not as it was written.
    pub(super) fn recount(&mut self) -> Sql<()> {
        for taker in std::mem::take(&mut self.crooked) {
            let tally = recount::recount(self.connection, signed(taker.0))?;
            write_tally(self.connection, taker, &tally)?;
            self.tallies.entry(taker).or_default().add(&tally, 1);
        }
        Ok(())
    }
}

fn remove(connection: &Connection, [taker, first]: [i64; 2], body: i64) -> Sql<()> {
    connection
        .prepare_cached("DELETE FROM parcels WHERE taker = ?1 AND first = ?2")?
        .execute([taker, first])?;
    connection
        .prepare_cached("DELETE FROM bodies WHERE id = ?1")?
        .execute([body])?;
    Ok(())
}

/// Removes parcels of a taker that is gone, at most `most`; how many.
pub(super) fn clear(connection: &Connection, taker: i64, most: usize) -> Sql<usize> {
    let found: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT first, body FROM parcels WHERE taker = ?1 LIMIT ?2")?
        .query_map([taker, i64::try_from(most).unwrap_or(1)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Sql<_>>()?;
    for (first, body) in &found {
        remove(connection, [taker, *first], *body)?;
    }
    Ok(found.len())
}

/// The last parcel of the taker that begins at `id` or before it.
fn nearest(connection: &Connection, taker: TakerId, id: u64) -> Sql<Option<Parcel>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| {
        format!(
            "SELECT {COLUMNS} FROM parcels p WHERE p.taker = ?1 AND p.first <= ?2
             ORDER BY p.first DESC LIMIT 1"
        )
    });
    connection
        .prepare_cached(sql)?
        .query_row([signed(taker.0), signed(id)], |row| {
            Parcel::of(connection, taker, row)
        })
        .optional()
}

/// The same to take messages out of. One whose index can not be read has nothing.
fn find(connection: &Connection, taker: TakerId, id: u64) -> Sql<Option<(u64, Open)>> {
    let found = nearest(connection, taker, id)?;
    Ok(found.map(|found| {
        let mut open = Open {
            body: found.body,
            index: Index::new(),
            gone: 0,
            bytes: 0,
            changed: false,
            ids: None,
        };
        if let Some(content) = found.content {
            open.index = content.index;
            open.gone = content.gone;
            open.bytes = content.bytes;
            open.changed = content.mended;
            open.ids = content.ids;
        }
        (found.first, open)
    }))
}

/// Parcels of a taker from the one on that may have the message after `?2`.
const FROM: &str = "FROM parcels p WHERE p.taker = ?1 AND p.first >= ifnull((SELECT max(first) \
     FROM parcels WHERE taker = ?1 AND first <= ?2), 0) ORDER BY p.first";

/// The body in [`read`]: behind the [`COLUMNS`].
const BODY: usize = 7;

/// Messages of parcels, within the limits of [`super::read::read`].
pub(super) fn read(
    connection: &Connection,
    taker: TakerId,
    after: i64,
    (max_rows, max_bytes): (usize, usize),
    passed_over: &HashSet<MessageId>,
) -> Sql<Read> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, (SELECT body FROM bodies WHERE id = p.body) {FROM}"
    ))?;
    let mut found = statement.query([signed(taker.0), after])?;
    let mut decoder = Decoder::default();
    let mut read = Read::default();
    let mut bytes = 0usize;
    while let Some(row) = found.next()? {
        if read.is_full(max_rows) {
            read.next = Some(MessageId(row.get::<_, i64>(0)?.unsigned_abs()));
            break;
        }
        let Parcel { first, content, .. } = Parcel::of(connection, taker, row)?;
        let Some(Content { index, gone, .. }) = content else {
            unreadable(first, "its index");
            if signed(first) > after {
                read.unreadable.push(MessageId(first));
            }
            continue;
        };
        let body = row.get_ref(BODY)?.as_blob().unwrap_or_default();
        let wants = |at: usize, id: MessageId| {
            id_column(id) > after && gone & (1 << at) == 0 && !passed_over.contains(&id)
        };
        let whole = parcel::each(&mut decoder, &index, body, wants, |row| {
            bytes = bytes.saturating_add(row.message.cost());
            if read.is_full(max_rows) || (bytes > max_bytes && !read.rows.is_empty()) {
                read.next = Some(row.message.id);
                return false;
            }
            read.rows.push(row);
            true
        });
        if whole.is_none() {
            unreadable(first, "its body");
            let ids = index.iter().enumerate();
            let lost = ids.filter(|(at, (id, _))| wants(*at, MessageId(*id)));
            let there: HashSet<_> = read.rows.iter().map(|row| row.message.id).collect();
            let lost = lost.map(|(_, (id, _))| MessageId(*id));
            read.unreadable
                .extend(lost.filter(|id| !there.contains(id)));
        }
        if read.next.is_some() {
            break;
        }
    }
    Ok(read)
}

fn unreadable(first: u64, what: &str) {
    tracing::error!(
        event = event::STORE,
        message = first,
        what,
        "a parcel of stored messages can not be read"
    );
}

/// Ids of the oldest `n` messages in parcels.
pub(super) fn oldest(
    connection: &Connection,
    taker: TakerId,
    n: usize,
    passed_over: &HashSet<MessageId>,
) -> Sql<Vec<MessageId>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} {FROM}"))?;
    let mut found = statement.query([signed(taker.0), -1])?;
    let mut ids = Vec::new();
    while ids.len() < n {
        let Some(row) = found.next()? else { break };
        let found = Parcel::of(connection, taker, row)?.content;
        let Some(Content { index, gone, .. }) = found else {
            continue;
        };
        let there = index.iter().enumerate();
        let there = there.filter(|(at, _)| gone & (1 << at) == 0);
        ids.extend(
            there
                .map(|(_, (id, _))| MessageId(*id))
                .filter(|id| !passed_over.contains(id)),
        );
    }
    ids.truncate(n);
    Ok(ids)
}
