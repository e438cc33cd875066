//! Opening a file, and what happens when it is damaged: it is set aside and every row that still
//! reads is brought over into a new one.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use iotedge_telemetry::event;
use rusqlite::Connection;

use crate::queue::{batch, load};
use crate::schema::{QUEUE, STATE, Schema};
use crate::{Account, Opened, Salvage, StoreError, file};

mod copy;
mod repair;

use copy::{Copied, Table};

/// What the queue's file says beside [`Opened`].
pub(crate) struct Found {
    pub(crate) removed: Account,
    pub(crate) next_taker: u64,
    pub(crate) next_message_id: u64,
}

/// Opens `queue.db` and reads what is needed from the start.
pub(crate) fn open_queue(
    path: &Path,
    opened: &mut Opened,
) -> Result<(Connection, Found), StoreError> {
    let (connection, (part, found), salvage) = open(path, &QUEUE, copy::QUEUE, read_queue)?;
    opened.takers = part.takers;
    opened.sessions = part.sessions;
    opened.retained = part.retained;
    opened.unreadable = part.unreadable;
    opened.damaged.extend(salvage);
    // Ids up to the next block's end may be given away before the next commit that counts them.
    let reserved = found.next_message_id.saturating_add(batch::ID_BLOCK);
    batch::write_reserved(&connection, reserved).map_err(|e| StoreError::sqlite(path, &e))?;
    Ok((connection, found))
}

/// Opens `state.db`.
pub(crate) fn open_state(path: &Path, opened: &mut Opened) -> Result<Connection, StoreError> {
    let look = |connection: &Connection| {
        connection
            .prepare("SELECT id, collection, key, version, body, updated_at FROM documents")
            .map(drop)
    };
    let (connection, (), salvage) = open(path, &STATE, copy::STATE, look)?;
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
    path: &Path,
    schema: &Schema,
    tables: &'static [Table],
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T, Option<Salvage>), StoreError> {
    let reason = match open_and_read(path, schema, &read) {
        Ok((connection, found)) => return Ok((connection, found, None)),
        Err(StoreError::Damaged { reason, .. }) => reason,
        Err(error) => return Err(error),
    };
    tracing::error!(event = event::STORE, path = %path.display(), reason, "a damaged file is set aside");
    let aside = set_aside(path)?;
    let connection = file::open(path, schema)?;
    let salvage = salvage(&connection, path, schema.file, tables, &aside, reason)?;
    let found = read(&connection).map_err(|e| StoreError::sqlite(path, &e))?;
    Ok((connection, found, Some(salvage)))
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
    Ok((connection, found))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames the file with its journal, so that SQLite still finds one by the other.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let mut aside = suffixed(path, &format!(".damaged-{millis}"));
    // A clock that starts in 1970 at each boot comes by the same number again.
    let mut again = 0u32;
    while aside.exists() {
        again += 1;
        aside = suffixed(path, &format!(".damaged-{millis}-{again}"));
    }
    std::fs::rename(path, &aside).map_err(|e| StoreError::io(path, &e))?;
    for suffix in ["-wal", "-shm"] {
        let from = suffixed(path, suffix);
        if from.exists() {
            std::fs::rename(&from, suffixed(&aside, suffix))
                .map_err(|e| StoreError::io(&from, &e))?;
        }
    }
    let marker = suffixed(path, ".suspect");
    if marker.exists() {
        std::fs::remove_file(&marker).map_err(|e| StoreError::io(&marker, &e))?;
    }
    Ok(aside)
}

fn salvage(
    fresh: &Connection,
    path: &Path,
    file: &'static str,
    tables: &'static [Table],
    aside: &Path,
    reason: String,
) -> Result<Salvage, StoreError> {
    let sql = |e: rusqlite::Error| StoreError::sqlite(path, &e);
    let mut report = Salvage {
        file,
        set_aside: aside.to_path_buf(),
        reason,
        recovered: std::collections::BTreeMap::new(),
        incomplete: Vec::new(),
        lost_rows: 0,
    };
    fresh.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    // Not even opened: then nothing of it can be read.
    let old = Connection::open(aside).ok();
    for table in tables {
        let Copied { rows, complete } = match &old {
            Some(old) => copy::copy(old, fresh, table).map_err(sql)?,
            None => Copied::default(),
        };
        report.recovered.insert(table.name, rows);
        if !complete {
            report.incomplete.push(table.name);
        }
    }
    if file == QUEUE.file {
        report.lost_rows = repair::repair(fresh).map_err(sql)?;
    }
    fresh.execute_batch("COMMIT").map_err(sql)?;
    tracing::error!(
        event = event::STORE,
        file,
        aside = %aside.display(),
        recovered = ?report.recovered,
        incomplete = ?report.incomplete,
        lost_rows = report.lost_rows,
        "a damaged file was salvaged"
    );
    Ok(report)
}
