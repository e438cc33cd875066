//! Opening a file, and what happens when it is damaged: every row that still reads is brought over
//! into a new one, which then takes its place.
//!
//! A kill at any moment of it loses nothing, because each step leaves what the next start needs:
//!
//! 1. The new file is built as `queue.db.salvage`, from the damaged one where it lies, which is read
//!    and not touched. A start that finds it without a report removes it and begins again.
//! 2. When it is complete and on the disk, `queue.db.salvaged.json` is written: the report, with
//!    the name under which the damaged file will lie. From here on a start only goes on.
//! 3. The damaged file is renamed aside with its journal (a journal left behind would be played
//!    into the new file), then the new file into its place.
//! 4. When the new file is open and read, the report is renamed too: it stays beside the damaged
//!    file.

use std::path::Path;

use iotedge_telemetry::event;
use rusqlite::Connection;

use crate::queue::{batch, load};
use crate::schema::{QUEUE, STATE, Schema};
use crate::{Account, Opened, Salvage, StoreError, file};

mod carve;
mod cells;
mod journal;
mod pages;
mod place;
mod repair;

use carve::{Carved, Tables};
use pages::Pages;
use place::Place;

/// What the queue's file says beside [`Opened`].
pub(crate) struct Found {
    pub(crate) removed: Account,
    pub(crate) next_taker: u64,
    pub(crate) next_message_id: u64,
}

/// Whether the data directory has been in use, so that an empty file in it has lost what it held:
/// SQLite would take it for a new one. (A first start that is killed between the two files leaves
/// the same traces: then a file that never held anything is reported.)
pub(crate) fn was_used(dir: &Path) -> bool {
    let filled = |path: &Path| path.metadata().is_ok_and(|found| found.len() > 0);
    let files = [QUEUE.file, STATE.file];
    let traces = |file: &str| filled(&dir.join(file)) || dir.join(format!("{file}-wal")).exists();
    // The gateway's CA is made when the store has been opened.
    files.into_iter().any(traces) || dir.join("ca").exists()
}

/// Why a file is not the new one that SQLite would take it for.
fn emptied(path: &Path, used: bool) -> Option<StoreError> {
    let empty = path.metadata().is_ok_and(|found| found.len() == 0);
    (used && empty).then(|| StoreError::Damaged {
        path: path.to_path_buf(),
        reason: "the file is empty, and its directory was in use".into(),
    })
}

/// Before SQLite opens the file: it would go on without what it can not read, and clear the journal.
fn broken_journal(path: &Path) -> Option<StoreError> {
    let reason = journal::damage(path)?.to_owned();
    let path = path.to_path_buf();
    Some(StoreError::Damaged { path, reason })
}

/// Opens `queue.db` and reads what is needed from the start. `used`: [`was_used`].
pub(crate) fn open_queue(
    path: &Path,
    used: bool,
    opened: &mut Opened,
) -> Result<(Connection, Found), StoreError> {
    open_queue_by_steps(path, used, opened, &|_| {})
}

/// `step` is told each time the directory has changed.
fn open_queue_by_steps(
    path: &Path,
    used: bool,
    opened: &mut Opened,
    step: &dyn Fn(&'static str),
) -> Result<(Connection, Found), StoreError> {
    let place = Place::new(path, used, step);
    let (connection, (part, found), salvage) = open(&place, &QUEUE, carve::QUEUE, read_queue)?;
    opened.takers = part.takers;
    opened.sessions = part.sessions;
    opened.retained = part.retained;
    opened.wills = part.wills;
    opened.unreadable = part.unreadable;
    opened.damaged.extend(salvage);
    // Ids up to the next block's end may be given away before the next commit that counts them.
    let reserved = found.next_message_id.saturating_add(batch::ID_BLOCK);
    batch::write_reserved(&connection, reserved).map_err(|e| StoreError::sqlite(path, &e))?;
    Ok((connection, found))
}

/// Opens `state.db`. `used`: [`was_used`].
pub(crate) fn open_state(
    path: &Path,
    used: bool,
    opened: &mut Opened,
) -> Result<Connection, StoreError> {
    let look = |connection: &Connection| {
        connection
            .prepare("SELECT id, collection, key, version, body, updated_at FROM documents")
            .map(drop)
    };
    let place = Place::new(path, used, &|_| {});
    let (connection, (), salvage) = open(&place, &STATE, carve::STATE, look)?;
    opened.damaged.extend(salvage);
    Ok(connection)
}

fn read_queue(connection: &Connection) -> rusqlite::Result<(Opened, Found)> {
    let mut part = Opened::default();
    let removed = load::load(connection, &mut part)?;
    let found = Found {
        removed,
        next_taker: load::next_taker(connection)?,
        next_message_id: load::reserved(connection)?,
    };
    Ok((part, found))
}

fn open<T>(
    place: &Place<'_>,
    schema: &Schema,
    tables: Tables,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T, Vec<Salvage>), StoreError> {
    // What an interrupted start left: a complete file takes its place, any other goes.
    let mut salvaged = Vec::from_iter(place.resume(schema.file, tables)?);
    let damage = emptied(place.path, place.used).or_else(|| broken_journal(place.path));
    let first = match damage {
        Some(damage) => Err(damage),
        None => open_and_read(place.path, schema, &read),
    };
    let outcome = match first {
        Err(StoreError::Damaged { reason, .. }) => {
            tracing::error!(event = event::STORE, path = %place.path.display(), reason, "a damaged file is set aside");
            let report = salvage(place, schema, tables, reason)?;
            salvaged.push(report);
            open_and_read(place.path, schema, &read)
        }
        other => other,
    };
    let (connection, found) = outcome?;
    for report in &salvaged {
        tracing::error!(
            event = event::STORE,
            file = report.file,
            aside = %report.set_aside.display(),
            recovered = ?report.recovered,
            incomplete = ?report.incomplete,
            lost_rows = report.lost_rows,
            "a damaged file was salvaged"
        );
        place.file_report(report)?;
    }
    Ok((connection, found, salvaged))
}

fn open_and_read<T>(
    path: &Path,
    schema: &Schema,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T), StoreError> {
    let connection = file::open(path, schema)?;
    let found = read(&connection).map_err(|e| match StoreError::sqlite(path, &e) {
        // The statements are right for this schema: what SQLite holds against them is the file's.
        StoreError::Sqlite { path, reason } => StoreError::Damaged { path, reason },
        other => other,
    })?;
    // What was read to begin with is not read again soon.
    connection
        .execute_batch("PRAGMA shrink_memory")
        .map_err(|error| StoreError::sqlite(path, &error))?;
    Ok((connection, found))
}

/// Builds the new file and puts it in the damaged one's place.
fn salvage(
    place: &Place<'_>,
    schema: &Schema,
    tables: Tables,
    reason: String,
) -> Result<Salvage, StoreError> {
    place.clear()?;
    let mut report = Salvage {
        file: schema.file,
        set_aside: place.free_aside(),
        reason,
        recovered: std::collections::BTreeMap::new(),
        incomplete: Vec::new(),
        lost_rows: 0,
    };
    build(place, schema, tables, &mut report)?;
    place.complete(&report)?;
    place.put(&report.set_aside)?;
    Ok(report)
}

fn build(
    place: &Place<'_>,
    schema: &Schema,
    tables: Tables,
    report: &mut Salvage,
) -> Result<(), StoreError> {
    let path = place.building();
    let sql = |e: rusqlite::Error| StoreError::sqlite(&path, &e);
    let fresh = file::open(&path, schema)?;
    place.step("a new file");
    // A kill begins it anew, so that it needs no journal on the disk, nor room for one.
    fresh
        .execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; BEGIN IMMEDIATE")
        .map_err(sql)?;
    let (carved, lost_rows) = read_over(place.path, &fresh, schema, tables).map_err(sql)?;
    report.lost_rows = lost_rows;
    report.recovered = carved.rows;
    report.incomplete = carved.incomplete.into_iter().collect();
    place.step("rows brought over");
    fresh.execute_batch("COMMIT").map_err(sql)?;
    fresh.close().map_err(|(_, e)| sql(e))?;
    place.step("a committed file");
    Ok(())
}

/// Brings over what there is, and makes one whole of it; the number of rows that are known to be lost.
fn read_over(
    path: &Path,
    fresh: &Connection,
    schema: &Schema,
    tables: Tables,
) -> rusqlite::Result<(Carved, u64)> {
    let pages = Pages::open(path, schema.page_size);
    let carved = carve::carve(pages.as_ref(), fresh, tables)?;
    let lost = match schema.file == QUEUE.file {
        true => repair::repair(fresh, &carved.incomplete)?,
        false => 0,
    };
    Ok((carved, lost))
}

/// The queue's part of it.
pub(crate) fn bring_over(path: &Path, fresh: &Connection) -> rusqlite::Result<()> {
    read_over(path, fresh, &QUEUE, carve::QUEUE).map(drop)
}

#[cfg(test)]
mod tests;
