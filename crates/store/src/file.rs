//! One SQLite file: how it is opened, marked, migrated and kept small.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use iotedge_telemetry::event;
use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::schema::Schema;

/// Bytes of free pages above which the file gives some back to the file system.
const SLACK: i64 = 4 << 20;
/// Bytes given back in one step.
const STEP: i64 = 1 << 20;
/// KB of pages that a writer keeps. What goes out of a queue or into it is touched once; what every
/// commit touches is a few pages.
const CACHE: i64 = 1024;
/// KB of pages that a reader keeps: they are of no use after the next commit.
const READER_CACHE: i64 = 256;
/// Bytes of the journal at which its pages go into the file. Those that every commit writes do it
/// once for all.
const CHECKPOINT: i64 = 4 << 20;
/// And pages: with 4,062 the journal's index outgrows its first block of 32 KiB (SQLite, "WAL-mode
/// File Format", 2.2), which a full disk would not let it. A commit's worth below that.
const CHECKPOINT_PAGES: i64 = 3_500;

/// Holds the data directory: nobody else opens it while this lives.
pub(crate) struct DirectoryLock(#[expect(dead_code)] File);

impl DirectoryLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("store.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| StoreError::io(&path, &e))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy { path }),
            Err(error) => Err(StoreError::io(&path, &error)),
        }
    }
}

pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn marker(path: &Path) -> PathBuf {
    suffixed(path, ".suspect")
}

/// Notes that SQLite called the file broken, so that the next start examines it whole.
pub(crate) fn suspect(path: &Path) {
    if let Err(error) = File::create(marker(path)) {
        tracing::error!(event = event::STORE, %error, path = %path.display(), "can not note that the file is damaged");
    }
}

/// Opens the file for writing, makes it when it is not there, and brings it up to date.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let sql = |e: rusqlite::Error| StoreError::sqlite(path, &e);
    // One thread writes: SQLite needs no mutex for each call.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection.busy_timeout(BUSY).map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    let version = version(&connection, path, schema)?;
    if version == 0 {
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {}; PRAGMA auto_vacuum = INCREMENTAL;",
                schema.page_size
            ))
            .map_err(sql)?;
    }
    let page_size: i64 = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(sql)?;
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = 8388608; PRAGMA cell_size_check = ON;
             PRAGMA wal_autocheckpoint = {}; PRAGMA cache_size = -{CACHE};",
            (CHECKPOINT / page_size.max(512)).min(CHECKPOINT_PAGES)
        ))
        .map_err(sql)?;
    migrate(&connection, schema, version).map_err(sql)?;
    let marker = marker(path);
    if marker.exists() {
        // What is in the journal was read from memory, and may not be on the disk after an error of
        // it: written into the file it is, or says so.
        checkpoint(&connection).map_err(sql)?;
        examine(&connection, path)?;
        std::fs::remove_file(&marker).map_err(|e| StoreError::io(&marker, &e))?;
    }
    Ok(connection)
}

pub(crate) fn version(
    connection: &Connection,
    path: &Path,
    schema: &Schema,
) -> Result<usize, StoreError> {
    let number = |sql: &str| -> Result<i64, StoreError> {
        connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|e| StoreError::sqlite(path, &e))
    };
    let found = number("PRAGMA user_version")?;
    let mark = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let ours = mark == schema.application_id && found > 0;
    let empty = mark == 0 && found == 0 && tables == 0;
    if !ours && !empty {
        return Err(StoreError::Foreign {
            path: path.to_path_buf(),
        });
    }
    match usize::try_from(found) {
        Ok(version) if version <= schema.migrations.len() => Ok(version),
        _ => Err(StoreError::Newer {
            path: path.to_path_buf(),
            found,
            known: i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX),
        }),
    }
}

pub(crate) fn migrate(
    connection: &Connection,
    schema: &Schema,
    from: usize,
) -> rusqlite::Result<()> {
    for (at, migration) in schema.migrations.iter().enumerate().skip(from) {
        let version = at + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration}
             PRAGMA application_id = {}; PRAGMA user_version = {version}; COMMIT;",
            schema.application_id
        ))?;
    }
    Ok(())
}

/// SQLite's own examination of the whole file.
pub(crate) fn examine(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let answer: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| StoreError::sqlite(path, &e))?;
    let reason = match answer.as_str() {
        "ok" => examine_bodies(connection).map_err(|e| StoreError::sqlite(path, &e))?,
        _ => Some(answer),
    };
    match reason {
        None => Ok(()),
        Some(reason) => Err(StoreError::Damaged {
            path: path.to_path_buf(),
            reason,
        }),
    }
}

/// Whether parcels are as they were written, where there are any: SQLite looks at the shape of its
/// pages only.
fn examine_bodies(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let tables: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'bodies'",
        [],
        |row| row.get(0),
    )?;
    if tables == 0 {
        return Ok(None);
    }
    let mut statement = connection.prepare("SELECT id, body FROM bodies")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(1)?.as_blob().unwrap_or_default();
        if !crate::queue::parcel::is_whole(body) {
            let id: i64 = row.get(0)?;
            return Ok(Some(format!("body {id} is not as it was written")));
        }
    }
    Ok(None)
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let sql = |e: rusqlite::Error| StoreError::sqlite(path, &e);
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(sql)?;
    connection.busy_timeout(BUSY).map_err(sql)?;
    connection
        .execute_batch(&format!(
            "PRAGMA query_only = ON; PRAGMA cell_size_check = ON;
             PRAGMA cache_size = -{READER_CACHE};"
        ))
        .map_err(sql)?;
    Ok(connection)
}

/// Readers that overlap keep SQLite from beginning its journal anew, so that it grows without end:
/// above this many bytes new readers are turned to the file and those in the journal waited for.
const JOURNAL: u64 = 16 << 20;

/// How long those are waited for: commits wait meanwhile.
const READERS: Duration = Duration::from_millis(200);
/// How long a reader that did not end is left alone (a backup may take minutes).
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// How long anything else is waited for that holds the file.
const BUSY: Duration = Duration::from_secs(5);

/// The journal's pages go into the file and it begins anew; `false`: a reader did not let it.
fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let busy: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(busy == 0)
}

/// Keeps a file's journal to a size.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    not_before: Option<Instant>,
}

impl Journal {
    /// To be called after a commit, whose outcome it does not touch: what is wrong with the file the
    /// next commit will say.
    pub(crate) fn bound(&mut self, connection: &Connection, path: &Path) {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let journal = std::fs::metadata(suffixed(path, "-wal"));
        if journal.map_or(0, |found| found.len()) <= JOURNAL {
            return;
        }
        let outcome = connection
            .busy_timeout(READERS)
            .and_then(|()| checkpoint(connection));
        match outcome.and_then(|begun| connection.busy_timeout(BUSY).map(|()| begun)) {
            Ok(true) => self.not_before = None,
            Ok(false) => self.not_before = Some(Instant::now() + LEFT_ALONE),
            Err(error) => {
                tracing::warn!(event = event::STORE, path = %path.display(), %error, "the journal could not be begun anew");
            }
        }
    }
}

/// A commit of nothing much, to see whether there is room again.
pub(crate) fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.execute_batch(&format!("PRAGMA user_version = {version}"))
}

/// Gives some free pages back to the file system; says how long until there is more to do.
pub(crate) fn vacuum_step(connection: &Connection) -> rusqlite::Result<Option<Duration>> {
    let number = |sql| -> rusqlite::Result<i64> {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([], |row| row.get(0))
    };
    let page_size = number("PRAGMA page_size")?.max(512);
    if number("PRAGMA freelist_count")? * page_size <= SLACK {
        return Ok(None);
    }
    // The pragma frees one page a step: all rows have to be taken.
    let mut statement =
        connection.prepare(&format!("PRAGMA incremental_vacuum({})", STEP / page_size))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(Some(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn readers_that_overlap_do_not_let_the_journal_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.db");
        let writer = open(&path, &schema::QUEUE).unwrap();
        writer
            .execute_batch("CREATE TABLE filler(x); INSERT INTO filler VALUES (zeroblob(1000000))")
            .unwrap();
        let journal = suffixed(&path, "-wal");
        let begin = |at: usize| {
            let reader = reader(&path).unwrap();
            let look = "BEGIN; SELECT count(*) FROM filler";
            reader.execute_batch(look).unwrap();
            (at, reader)
        };
        let mut last = begin(0);
        for round in 1..80 {
            writer
                .execute_batch("UPDATE filler SET x = zeroblob(1000000)")
                .unwrap();
            // The next one begins before the last one ends.
            let next = begin(round);
            last.1.execute_batch("COMMIT").unwrap();
            last = next;
            if round % 10 == 0 {
                last.1.execute_batch("COMMIT").unwrap();
                Journal::default().bound(&writer, &path);
                last = begin(round);
            }
        }
        let size = journal.metadata().unwrap().len();
        assert!(size < JOURNAL + (11 << 20), "{size} bytes");
    }

    #[test]
    fn a_reader_that_does_not_end_holds_up_one_commit_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.db");
        let writer = open(&path, &schema::QUEUE).unwrap();
        writer
            .execute_batch("CREATE TABLE filler(x); INSERT INTO filler VALUES (zeroblob(20000000))")
            .unwrap();
        let reader = reader(&path).unwrap();
        let look = "BEGIN; SELECT count(*) FROM filler";
        reader.execute_batch(look).unwrap();
        let change = "UPDATE filler SET x = randomblob(20000000)";
        writer.execute_batch(change).unwrap();
        let mut journal = Journal::default();
        journal.bound(&writer, &path);
        let left_alone = journal.not_before;
        assert!(left_alone.is_some(), "it was waited for");
        for _ in 0..100 {
            journal.bound(&writer, &path);
        }
        assert_eq!(journal.not_before, left_alone, "and not again at once");
        reader.execute_batch("COMMIT").unwrap();
        journal.not_before = Some(Instant::now());
        journal.bound(&writer, &path);
        let size = suffixed(&path, "-wal").metadata().unwrap().len();
        assert_eq!((journal.not_before, size), (None, 0));
    }

    #[test]
    fn the_index_of_the_journal_keeps_to_its_first_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.db");
        let writer = open(&path, &schema::QUEUE).unwrap();
        writer
            .execute_batch("CREATE TABLE filler(x); PRAGMA synchronous = OFF")
            .unwrap();
        for _ in 0..10_000 {
            writer
                .execute_batch("INSERT INTO filler VALUES (zeroblob(900))")
                .unwrap();
        }
        let index = suffixed(&path, "-shm").metadata().unwrap().len();
        assert_eq!(index, 32 << 10, "it grows with page 4,063 of the journal");
    }

    #[test]
    fn after_an_error_of_the_disk_nothing_is_left_to_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.db");
        let writer = open(&path, &schema::QUEUE).unwrap();
        let space = crate::space::Space::new(dir.path(), u64::MAX, 0);
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        let failed = space.error(&path, &rusqlite::Error::SqliteFailure(code, None));
        assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
        // Held on to: the last one that closes would empty the journal too.
        let _again = open(&path, &schema::QUEUE).unwrap();
        let journal = suffixed(&path, "-wal").metadata().unwrap().len();
        assert_eq!(journal, 0);
        drop(writer);
    }
}
