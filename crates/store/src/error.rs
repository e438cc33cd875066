use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
    /// SQLite found the file broken, or the disk does not give a part of it back. The next start sets it aside and salvages it.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// Less disk is free than `store.min_free_disk`, or a write found none at all.
    #[error("disk full: {} has {free} bytes free, store.min_free_disk is {floor}", path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        floor: u64,
    },
    /// The store has reached `store.max_bytes`.
    #[error("the store holds {used} bytes, store.max_bytes is {limit}")]
    QuotaExceeded {
        /// Bytes used, those waiting to be written included.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// A newer version of the daemon wrote the file.
    #[error("{} has schema version {found}, this version knows up to {known}: install the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// A SQLite database of another program lies where ours should be.
    #[error("{} is the database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the data directory open.
    #[error("{} is in use by another process", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// Any other answer of SQLite: a mistake in this program or its environment.
    #[error("{}: {reason}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The writer of this file came to its end after an error or a panic; nothing is written any more.
    #[error("the writer of {} has stopped: {reason}", path.display())]
    WriterStopped {
        /// The file.
        path: PathBuf,
        /// What ended it.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// From SQLite's error about `path`. Free space is filled in by the caller that knows it.
    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let reason = error.to_string();
        if is_unreadable(error) {
            return Self::Damaged { path, reason };
        }
        if is_full(error) {
            let (free, floor) = (0, 0);
            return Self::DiskFull { path, free, floor };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, reason }
            }
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied,
            ) => Self::Io { path, reason },
            _ => Self::Sqlite { path, reason },
        }
    }

    pub(crate) fn io(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            reason: error.to_string(),
        }
    }
}

/// No room. SQLite calls it an I/O error where it is the index of the journal that can not grow.
fn is_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|e| e.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// The disk has the bytes no more (a dying card answers EIO, file systems with checksums their own
/// error): for the file that is damage like any other, and the rest of it can still be saved.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi;
    let code = error.sqlite_error().map(|e| e.extended_code);
    matches!(
        code,
        Some(
            ffi::SQLITE_IOERR_READ
                | ffi::SQLITE_IOERR_SHORT_READ
                | ffi::SQLITE_IOERR_CORRUPTFS
                | ffi::SQLITE_IOERR_DATA
        )
    )
}
