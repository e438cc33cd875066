//! Tables of an operator's own: SQLite files that rules write rows to and people read.
//!
//! Apart from the two files of the data directory: a table file has no writer thread and no quota
//! of the store's. What always holds:
//!
//! 1. **A row is written once.** The numbers of the last batch of each outbox are kept in the
//!    transaction that writes it; rows of that batch that come again are passed over. The caller
//!    hands no next batch in before the last one can not come again.
//! 2. **A row that cannot be written stops its batch**: what was before it is committed, what comes
//!    after it is not tried.
//! 3. **No clock that cannot be believed deletes anything.**

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use iotedge_model::{MessageId, TraceId, UnixMillis};
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, TransactionBehavior};
use thiserror::Error;

/// Most columns of a table: what a payload can make of one.
const MAX_COLUMNS: usize = 100;
/// Most tables of a file.
const MAX_TABLES: i64 = 1_000;
/// Longest name, in bytes.
const MAX_NAME: usize = 128;
/// How long to wait for someone else's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Rows that one batch removes at most for their age, so that no batch takes for ever.
const MAX_REMOVED: u32 = 10_000;
/// The column of every table that says when the row's message was accepted.
pub const ACCEPTED_AT: &str = "_accepted_at";
/// What was written last, by outbox.
const BATCHES: &str = "_iotedge_batches";

/// Why a row was not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TableError {
    /// The file cannot be used now: locked, full, or not to be opened.
    #[error("{0}")]
    Unavailable(String),
    /// The row can never be written.
    #[error("{0}")]
    Refused(String),
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum TableValue {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Any other.
    Real(f64),
    /// Text; the column's type may make a number of it, as SQLite does.
    Text(String),
}

impl ToSql for TableValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(ToSqlOutput::from(rusqlite::types::Null)),
            Self::Integer(n) => Ok(ToSqlOutput::from(*n)),
            Self::Real(n) => Ok(ToSqlOutput::from(*n)),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// What it is, for ever.
    pub key: (MessageId, TraceId),
    /// The table; made when there is none.
    pub table: String,
    /// Name, declared type (may be empty) and value; made when the table has none of that name.
    pub columns: Vec<(String, String, TableValue)>,
    /// When its message was accepted, if the clock could be believed.
    pub accepted_at: Option<UnixMillis>,
    /// Rows of the table that are older go.
    pub max_age: Option<Duration>,
    /// Above so many bytes of the file the table's oldest rows go.
    pub max_bytes: Option<u64>,
}

/// A file with tables, open to write.
pub struct TableFile {
    connection: Connection,
}

type Sql<T> = rusqlite::Result<T>;

fn error(error: rusqlite::Error) -> TableError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::Unknown,
        )
        | None => TableError::Refused(text),
        Some(_) => TableError::Unavailable(text),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn check_name(what: &str, name: &str) -> Result<(), TableError> {
    let lower = name.to_ascii_lowercase();
    let taken = lower.starts_with("sqlite_") || lower == BATCHES || lower == ACCEPTED_AT;
    if name.is_empty() || name.len() > MAX_NAME || name.contains(|c: char| c.is_control()) || taken
    {
        return Err(TableError::Refused(format!(
            "{name:?} is no {what}'s name: 1 to {MAX_NAME} bytes, no control characters, \
             not sqlite_…, {BATCHES} or {ACCEPTED_AT}"
        )));
    }
    Ok(())
}

impl TableFile {
    /// Opens a file, or makes it. No part of `path` may be a link.
    ///
    /// # Errors
    /// [`TableError::Unavailable`].
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let open = || -> Sql<Self> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NOFOLLOW
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.execute_batch(&format!(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL; PRAGMA cache_size = -256;
                 PRAGMA journal_size_limit = 1048576; PRAGMA trusted_schema = OFF;
                 CREATE TABLE IF NOT EXISTS {BATCHES}(outbox TEXT PRIMARY KEY, keys BLOB NOT NULL)
                 STRICT, WITHOUT ROWID;"
            ))?;
            Ok(Self { connection })
        };
        open().map_err(|e| TableError::Unavailable(format!("{}: {e}", path.display())))
    }

    /// Writes the rows of one outbox in order, in one transaction. How many are in the file, and
    /// why the next is not. `now` is `None` where the clock cannot be believed.
    pub fn insert(
        &mut self,
        outbox: &str,
        rows: &[TableRow],
        now: Option<UnixMillis>,
    ) -> (usize, Option<TableError>) {
        let written = self.write(outbox, rows);
        let (done, stopped) = match written {
            Ok(written) => written,
            // Nothing of it is there.
            Err(e) => return (0, Some(TableError::Unavailable(e.to_string()))),
        };
        if let Some(row) = rows.get(..done).and_then(<[TableRow]>::last) {
            if let Err(error) = self.retain(row, now) {
                tracing::warn!(%error, table = row.table, "old rows could not be removed");
            }
        }
        (done, stopped)
    }

    fn write(&mut self, outbox: &str, rows: &[TableRow]) -> Sql<(usize, Option<TableError>)> {
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = last_batch(&transaction, outbox)?;
        let mut done = 0;
        let mut stopped = None;
        for row in rows {
            if !written.contains(&row.key) {
                let point = transaction.savepoint()?;
                if let Err(error) = put(&point, row) {
                    stopped = Some(error);
                    break;
                }
                point.commit()?;
            }
            done += 1;
        }
        let mut keys = Vec::with_capacity(done * 24);
        for row in rows.iter().take(done) {
            keys.extend(row.key.0.0.to_be_bytes());
            keys.extend(row.key.1.0.to_be_bytes());
        }
        if done > 0 {
            transaction
                .prepare_cached(&format!(
                    "INSERT OR REPLACE INTO {BATCHES}(outbox, keys) VALUES (?1, ?2)"
                ))?
                .execute((outbox, keys))?;
        }
        transaction.commit()?;
        Ok((done, stopped))
    }

    /// Removes what is too old and what makes the file too large.
    fn retain(&mut self, row: &TableRow, now: Option<UnixMillis>) -> Sql<()> {
        let table = quoted(&row.table);
        if let (Some(age), Some(now)) = (row.max_age, now) {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let oldest = i64::try_from(now.0.saturating_sub(age)).unwrap_or(i64::MAX);
            let index = quoted(&format!("{}_{ACCEPTED_AT}", row.table));
            self.connection.execute_batch(&format!(
                "CREATE INDEX IF NOT EXISTS {index} ON {table}({ACCEPTED_AT})"
            ))?;
            self.connection
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}
                     WHERE {ACCEPTED_AT} < ?1 ORDER BY {ACCEPTED_AT} LIMIT {MAX_REMOVED})"
                ))?
                .execute([oldest])?;
        }
        if let Some(most) = row.max_bytes {
            self.shrink(&table, most)?;
        }
        Ok(())
    }

    fn used(&self) -> Sql<u64> {
        let number = |name: &str| -> Sql<u64> {
            let value: i64 = self
                .connection
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
            Ok(u64::try_from(value).unwrap_or(0))
        };
        let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
        Ok(pages.saturating_mul(number("page_size")?))
    }

    /// The oldest rows go until the file's content is a tenth below `most`.
    fn shrink(&mut self, table: &str, most: u64) -> Sql<()> {
        let mut used = self.used()?;
        if used <= most {
            return Ok(());
        }
        let goal = most - most / 10;
        while used > goal {
            let rows: i64 = self.connection.query_row(
                &format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {MAX_REMOVED})"),
                [],
                |row| row.get(0),
            )?;
            // The last row stays: it is the one that was written now.
            if rows <= 1 {
                break;
            }
            let some = (rows / 10).max(1);
            self.connection
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE rowid IN
                     (SELECT rowid FROM {table} ORDER BY rowid LIMIT ?1)"
                ))?
                .execute([some])?;
            used = self.used()?;
        }
        self.connection.execute_batch("PRAGMA incremental_vacuum")
    }
}

fn last_batch(connection: &Connection, outbox: &str) -> Sql<HashSet<(MessageId, TraceId)>> {
    let keys: Option<Vec<u8>> = connection
        .prepare_cached(&format!("SELECT keys FROM {BATCHES} WHERE outbox = ?1"))?
        .query_row([outbox], |row| row.get(0))
        .optional()?;
    let key = |chunk: &[u8]| {
        let id = chunk.get(..8)?.try_into().ok()?;
        let trace = chunk.get(8..)?.try_into().ok()?;
        Some((
            MessageId(u64::from_be_bytes(id)),
            TraceId(u128::from_be_bytes(trace)),
        ))
    };
    let keys = keys.unwrap_or_default();
    Ok(keys.chunks_exact(24).filter_map(key).collect())
}

fn put(connection: &Connection, row: &TableRow) -> Result<(), TableError> {
    check_name("table", &row.table)?;
    let mut named = HashSet::new();
    for (name, ..) in &row.columns {
        check_name("column", name)?;
        if !named.insert(name.to_ascii_lowercase()) {
            let text =
                format!("there are two columns {name:?} (upper and lower case are the same)");
            return Err(TableError::Refused(text));
        }
    }
    prepare_table(connection, row)?;
    let mut names = ACCEPTED_AT.to_owned();
    let mut places = "?1".to_owned();
    for (n, (name, ..)) in row.columns.iter().enumerate() {
        names.push_str(&format!(", {}", quoted(name)));
        places.push_str(&format!(", ?{}", n + 2));
    }
    let sql = format!(
        "INSERT INTO {}({names}) VALUES ({places})",
        quoted(&row.table)
    );
    let accepted = row
        .accepted_at
        .map(|at| i64::try_from(at.0).unwrap_or(i64::MAX));
    let mut values: Vec<&dyn ToSql> = vec![&accepted];
    values.extend(
        row.columns
            .iter()
            .map(|(.., value)| -> &dyn ToSql { value }),
    );
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    statement.execute(&*values).map_err(error)?;
    Ok(())
}

/// Makes the table and the columns that are not there.
fn prepare_table(connection: &Connection, row: &TableRow) -> Result<(), TableError> {
    let known = columns(connection, &row.table).map_err(error)?;
    let declared = |(name, kind, _): &(String, String, TableValue)| {
        // The type is one of ours: it comes from a rule's document, not from a message.
        format!("{} {kind}", quoted(name))
    };
    let too_many = || TableError::Refused(format!("a table has at most {MAX_COLUMNS} columns"));
    if known.is_empty() {
        let tables: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
                [],
                |row| row.get(0),
            )
            .map_err(error)?;
        if tables >= MAX_TABLES {
            let text = format!("a file has at most {MAX_TABLES} tables");
            return Err(TableError::Refused(text));
        }
        if row.columns.len() > MAX_COLUMNS {
            return Err(too_many());
        }
        let mut all = vec![format!("{ACCEPTED_AT} INTEGER")];
        all.extend(row.columns.iter().map(declared));
        let sql = format!("CREATE TABLE {}({})", quoted(&row.table), all.join(", "));
        return connection.execute_batch(&sql).map_err(error);
    }
    let mut count = known.len();
    let new = row.columns.iter();
    for column in new.filter(|(name, ..)| !known.contains(&name.to_ascii_lowercase())) {
        count += 1;
        if count > MAX_COLUMNS {
            return Err(too_many());
        }
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(&row.table),
            declared(column)
        );
        connection.execute_batch(&sql).map_err(error)?;
    }
    Ok(())
}

/// The names of a table's columns in lower case; none when there is no table.
fn columns(connection: &Connection, table: &str) -> Sql<HashSet<String>> {
    let mut statement = connection.prepare_cached("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    names.map(|n| n.map(|n| n.to_ascii_lowercase())).collect()
}
