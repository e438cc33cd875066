//! Copies of both files while they are in use.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::schema::{QUEUE, STATE, Schema};
use crate::{StoreError, file};

/// Copies both files of `dir` into `to`, which must not be there yet.
///
/// It appears whole or not at all: it is made beside its place under a name that ends in `.part`,
/// and a `.part` that an interrupted copy left is removed first.
pub(crate) fn backup(dir: &Path, to: &Path) -> Result<(), StoreError> {
    let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    if to.exists() {
        return Err(StoreError::io(to, &taken));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(|e| StoreError::io(&part, &e))?;
    }
    // As private as what is in it: payloads and principals.
    let private = DirBuilder::new().mode(0o700).create(&part);
    private.map_err(|e| StoreError::io(&part, &e))?;
    let made = [STATE, QUEUE]
        .iter()
        .try_for_each(|schema| copy(dir, &part, schema))
        .and_then(|()| sync(&part))
        .and_then(|()| std::fs::rename(&part, to).map_err(|e| StoreError::io(to, &e)));
    if let Err(error) = made {
        // What is left of it would only take room; the error that matters is the first one.
        let _ = std::fs::remove_dir_all(&part);
        return Err(error);
    }
    sync(
        to.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )
}

/// `VACUUM INTO` copies what one read transaction sees: writers go on, free pages stay behind.
fn copy(dir: &Path, part: &Path, schema: &Schema) -> Result<(), StoreError> {
    let from = dir.join(schema.file);
    let to = part.join(schema.file);
    let text = to
        .to_str()
        .ok_or_else(|| StoreError::io(&to, &"not a name in UTF-8"))?;
    let connection = file::reader(&from)?;
    connection
        .execute_batch("PRAGMA query_only = OFF")
        .and_then(|()| connection.execute("VACUUM INTO ?1", [text]))
        .map_err(|e| match StoreError::sqlite(&from, &e) {
            // The copy's disk, which need not be the store's.
            StoreError::DiskFull { .. } => StoreError::io(&to, &e),
            other => other,
        })?;
    drop(connection);
    check(&to, schema)?;
    sync(&to)
}

/// The copy is one of ours, and whole.
fn check(copy: &Path, schema: &Schema) -> Result<(), StoreError> {
    let connection = Connection::open(copy).map_err(|e| StoreError::sqlite(copy, &e))?;
    file::version(&connection, copy, schema)?;
    file::examine(&connection, copy)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|f| f.sync_all());
    synced.map_err(|e| StoreError::io(path, &e))
}
