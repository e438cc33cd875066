//! How much room there is: the file's size, the disk's floor.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::StoreError;

/// How long an answer of the file system is believed.
const FRESH: Duration = Duration::from_secs(1);

/// The room of one data directory, shared by both files.
pub(crate) struct Space {
    dir: PathBuf,
    max_bytes: u64,
    min_free: u64,
    free: AtomicU64,
    asked: Mutex<Option<Instant>>,
    used: Mutex<Vec<(PathBuf, u64)>>,
    sum: AtomicU64,
    written: AtomicU64,
    messages: AtomicU64,
    /// Files whose last commit found the disk full.
    full: Mutex<Vec<PathBuf>>,
}

impl Space {
    pub(crate) fn new(dir: &Path, max_bytes: u64, min_free: u64) -> Self {
        Self {
            dir: dir.to_path_buf(),
            max_bytes,
            min_free,
            free: AtomicU64::new(u64::MAX),
            asked: Mutex::new(None),
            used: Mutex::new(Vec::new()),
            sum: AtomicU64::new(0),
            written: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            full: Mutex::new(Vec::new()),
        }
    }

    /// A commit went through: notes how large the file is.
    pub(crate) fn committed(&self, connection: &Connection, path: &Path) {
        lock(&self.full).retain(|p| p != path);
        self.written
            .fetch_add(written_since(FRESH), Ordering::Relaxed);
        let number = |sql: &str| -> rusqlite::Result<u64> {
            let value: i64 = connection
                .prepare_cached(sql)?
                .query_row([], |r| r.get(0))?;
            Ok(value.unsigned_abs())
        };
        let used = (|| {
            let pages = number("PRAGMA page_count")?;
            let unused = number("PRAGMA freelist_count")?;
            Ok::<_, rusqlite::Error>(pages.saturating_sub(unused) * number("PRAGMA page_size")?)
        })();
        // The quota keeps its last figure when SQLite can not say; the next commit will.
        let Ok(bytes) = used else { return };
        let mut used = lock(&self.used);
        match used.iter_mut().find(|(p, _)| p == path) {
            Some((_, known)) => *known = bytes,
            None => used.push((path.to_path_buf(), bytes)),
        }
        self.sum
            .store(used.iter().map(|(_, b)| b).sum(), Ordering::Relaxed);
    }

    /// Names an error; remembers a full disk.
    pub(crate) fn error(&self, path: &Path, error: &rusqlite::Error) -> StoreError {
        match StoreError::sqlite(path, error) {
            StoreError::DiskFull { .. } => {
                let mut full = lock(&self.full);
                if !full.iter().any(|p| p == path) {
                    full.push(path.to_path_buf());
                }
                drop(full);
                self.ask();
                self.disk_full()
            }
            damaged @ StoreError::Damaged { .. } => {
                crate::file::suspect(path);
                damaged
            }
            failed @ StoreError::Io { .. } => {
                // What the kernel could not write it may call clean all the same.
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) {
                    crate::file::suspect(path);
                }
                failed
            }
            other => other,
        }
    }

    fn disk_full(&self) -> StoreError {
        StoreError::DiskFull {
            path: self.dir.clone(),
            free: self.free.load(Ordering::Relaxed),
            floor: self.min_free,
        }
    }

    fn ask(&self) {
        if let Ok(stat) = rustix::fs::statvfs(&self.dir) {
            self.free.store(
                stat.f_bavail.saturating_mul(stat.f_frsize),
                Ordering::Relaxed,
            );
        }
        *lock(&self.asked) = Some(Instant::now());
    }

    /// Bytes that the threads that write have sent to the disk.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Messages are stored, or were spared.
    pub(crate) fn took(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages since the start.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Bytes in both files.
    pub(crate) fn used(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Whether there is room for more; `pending` bytes are on their way.
    pub(crate) fn check(&self, pending: u64) -> Result<(), StoreError> {
        let stale = lock(&self.asked).is_none_or(|at| at.elapsed() > FRESH);
        if stale {
            self.ask();
        }
        if self.free.load(Ordering::Relaxed) < self.min_free || !lock(&self.full).is_empty() {
            return Err(self.disk_full());
        }
        let used = self.used().saturating_add(pending);
        if used >= self.max_bytes {
            return Err(StoreError::QuotaExceeded {
                used,
                limit: self.max_bytes,
            });
        }
        Ok(())
    }
}

/// Bytes that this thread has sent to the disk since it was asked last; none when that is not
/// longer ago than `pause`, or when the kernel keeps no such books.
fn written_since(pause: Duration) -> u64 {
    thread_local! {
        static LAST: Cell<(Option<Instant>, u64)> = const { Cell::new((None, 0)) };
    }
    let (asked, known) = LAST.get();
    if asked.is_some_and(|at| at.elapsed() < pause) {
        return 0;
    }
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("write_bytes: "));
    let written = line.and_then(|n| n.parse().ok()).unwrap_or(known);
    LAST.set((Some(Instant::now()), written));
    written.saturating_sub(known)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
