//! `state.db`: versioned documents in collections.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iotedge_model::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Row, params};
use thiserror::Error;

use crate::queue::mirror::signed;
use crate::queue::read::Readers;
use crate::space::Space;
use crate::writer::{Job, Operation, Writer};
use crate::{Done, StoreError};
use recent::Recent;

pub(crate) mod engine;
mod recent;
#[cfg(test)]
mod tests;

/// A document as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// 1 at the first put, one more at each put after it, deletions in between or not.
    pub version: u64,
    /// Its bytes.
    pub body: Bytes,
    /// When it was put, by the wall clock.
    pub updated_at: UnixMillis,
}

/// A document to put with others.
pub struct Put {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub body: Bytes,
    /// It stands for a deletion, which makes room sooner or later: it is taken where there is none.
    pub deletes: bool,
    /// Called after the commit.
    pub done: Option<Done>,
}

/// What must be there for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// The document, in this version.
    Version(u64),
    /// No document (or a deleted one).
    Absent,
}

/// Why a document was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Something else is there than was expected.
    #[error("the document's version is not the one expected; it is {current:?}")]
    Conflict {
        /// The version that is there; `None` when there is no document.
        current: Option<u64>,
    },
    /// The present version could not be read, or nothing can be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change on its way.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) collection: &'static str,
    pub(crate) key: Arc<str>,
    pub(crate) version: u64,
    /// `None`: deleted.
    pub(crate) body: Option<Bytes>,
    pub(crate) updated_at: UnixMillis,
    /// Tells changes of one document apart: a deletion keeps the version.
    pub(crate) sequence: u64,
}

/// No change may be left out: each has its version.
impl Operation for Change {
    type Key = std::convert::Infallible;

    fn key(&self) -> Option<Self::Key> {
        None
    }

    fn absorb(&mut self, _other: Self) {}
}

impl Change {
    fn document(&self) -> Option<Document> {
        self.body.as_ref().map(|body| Document {
            version: self.version,
            body: body.clone(),
            updated_at: self.updated_at,
        })
    }
}

/// Changes that are not committed yet; every reader sees them. And what was committed or read of
/// late.
#[derive(Default)]
pub(crate) struct Overlay {
    changes: HashMap<&'static str, BTreeMap<Arc<str>, Change>>,
    recent: Recent,
    sequence: u64,
}

impl Overlay {
    fn get(&self, collection: &str, key: &str) -> Option<&Change> {
        self.changes.get(collection)?.get(key)
    }

    /// A change that waits, the newest of its document.
    fn add(&mut self, change: Change) {
        let changes = self.changes.entry(change.collection).or_default();
        changes.insert(change.key.clone(), change);
    }

    /// A change that waits is the newest again, when those after it were given up.
    pub(crate) fn restore(&mut self, change: &Change) {
        let changes = self.changes.entry(change.collection).or_default();
        let newest = changes
            .get(&change.key)
            .is_none_or(|c| c.sequence < change.sequence);
        if newest {
            changes.insert(change.key.clone(), change.clone());
        }
    }

    /// The change is in the file.
    pub(crate) fn committed(&mut self, change: &Change) {
        // Later changes of the document are in `changes`, which is asked first.
        self.recent.put(change.clone());
        self.remove(change);
    }

    /// The change was given up.
    pub(crate) fn given_up(&mut self, change: &Change) {
        self.remove(change);
    }

    fn remove(&mut self, change: &Change) {
        let Some(changes) = self.changes.get_mut(change.collection) else {
            return;
        };
        let same = changes
            .get(&change.key)
            .is_some_and(|c| c.sequence == change.sequence);
        if same {
            changes.remove(&change.key);
        }
    }
}

/// What all collections share.
pub(crate) struct StateFile {
    pub(crate) writer: Writer<Change>,
    pub(crate) readers: Readers,
    pub(crate) overlay: Arc<Mutex<Overlay>>,
    pub(crate) space: Arc<Space>,
}

impl StateFile {
    fn lock(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One collection of versioned documents. Cheap to clone.
///
/// A reader sees every put at once, also one that is not committed yet; who must not act on what a
/// crash could take back waits for `done`.
#[derive(Clone)]
pub struct Documents {
    pub(crate) file: Arc<StateFile>,
    pub(crate) collection: &'static str,
}

impl Documents {
    /// The document, unless it is not there or deleted.
    pub fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        let mut overlay = self.file.lock();
        Ok(self.current(&mut overlay, key)?.and_then(|c| c.document()))
    }

    /// Puts a whole document; gives its new version. `done` is called after the commit; not called
    /// when this returns an error.
    pub fn put(
        &self,
        key: &str,
        body: impl Into<Bytes>,
        expected: Expect,
        done: Option<Done>,
    ) -> Result<u64, DocumentError> {
        let mut overlay = self.file.lock();
        let current = self.current(&mut overlay, key)?;
        check(current.as_ref(), expected)?;
        let version = current.map_or(0, |c| c.version) + 1;
        self.change(&mut overlay, key, version, Some(body.into()), done)?;
        Ok(version)
    }

    /// Puts many documents, whatever is there, in one commit. Where there is no room, only those are
    /// taken that delete or become smaller: the others hear it at once, and so does what was made from them,
    /// later puts of the same document. When this returns an error, the `done` of those that were
    /// not put is dropped.
    pub fn put_all(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        let room = self.file.space.check(self.file.writer.pending_bytes());
        let mut overlay = self.file.lock();
        let mut jobs = Vec::with_capacity(puts.len());
        let mut refused: Vec<Put> = Vec::new();
        let mut outcome = Ok(());
        for put in puts {
            let current = match self.current(&mut overlay, &put.key) {
                Ok(current) => current,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            if room.is_err() {
                let body = current.as_ref().and_then(|c| c.body.as_ref());
                let smaller = body.is_some_and(|body| put.body.len() < body.len());
                if !(smaller || put.deletes) || refused.iter().any(|r| r.key == put.key) {
                    refused.push(put);
                    continue;
                }
            }
            let version = current.map_or(0, |c| c.version) + 1;
            let (job, pending) =
                self.job(&mut overlay, &put.key, version, Some(put.body), put.done);
            overlay.add(pending);
            jobs.push(job);
        }
        if let Err((jobs, error)) = self.file.writer.push_all(jobs) {
            for job in &jobs {
                overlay.given_up(&job.op);
            }
            outcome = Err(error);
        }
        drop(overlay);
        if let Err(error) = room {
            for done in refused.into_iter().filter_map(|put| put.done) {
                done(Err(error.clone()));
            }
        }
        outcome
    }

    /// Deletes; gives the version that was deleted, `None` when there was nothing (`done` is called
    /// in either case). The version goes on when the document is put again.
    pub fn delete(
        &self,
        key: &str,
        expected: Expect,
        done: Option<Done>,
    ) -> Result<Option<u64>, DocumentError> {
        let mut overlay = self.file.lock();
        let current = self.current(&mut overlay, key)?;
        check(current.as_ref(), expected)?;
        match current.and_then(|c| c.document()) {
            Some(document) => {
                self.change(&mut overlay, key, document.version, None, done)?;
                Ok(Some(document.version))
            }
            None => {
                drop(overlay);
                if let Some(done) = done {
                    done(Ok(()));
                }
                Ok(None)
            }
        }
    }

    /// Documents whose key begins with `prefix`, after the key `after`, in the order of keys.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, StoreError> {
        let overlay = self.file.lock();
        let from = lower_bound(prefix, after);
        let pending: Vec<_> = overlay
            .changes
            .get(self.collection)
            .into_iter()
            .flat_map(|changes| changes.range::<str, _>((from, Bound::Unbounded)))
            .take_while(|(key, _)| key.starts_with(prefix))
            .collect();
        // Each pending deletion can take one of the rows read away.
        let rows = limit.saturating_add(pending.len());
        let mut found = self
            .file
            .readers
            .with(|c| list(c, self.collection, prefix, from, rows))?;
        for (key, change) in pending {
            match change.document() {
                Some(document) => {
                    found.insert(key.to_string(), document);
                }
                None => {
                    found.remove(&**key);
                }
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Every document of the collection, for rooms that load themselves at start.
    pub fn scan(&self) -> Result<Vec<(String, Document)>, StoreError> {
        self.list("", None, usize::MAX)
    }

    fn current(&self, overlay: &mut Overlay, key: &str) -> Result<Option<Change>, StoreError> {
        let collection = self.collection;
        if let Some(change) = overlay.get(collection, key) {
            return Ok(Some(change.clone()));
        }
        if let Some(change) = overlay.recent.get(collection, key) {
            return Ok(Some(change));
        }
        let found = self.file.readers.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT key, version, body, updated_at FROM documents
                     WHERE collection = ?1 AND key = ?2",
                )?
                .query_row([collection, key], |row| read(row, collection))
                .optional()
        })?;
        if let Some(change) = &found {
            overlay.recent.put(change.clone());
        }
        Ok(found)
    }

    /// What the writer is given, and the same for the readers.
    fn job(
        &self,
        overlay: &mut Overlay,
        key: &str,
        version: u64,
        body: Option<Bytes>,
        done: Option<Done>,
    ) -> (Job<Change>, Change) {
        overlay.sequence += 1;
        let change = Change {
            collection: self.collection,
            key: Arc::from(key),
            version,
            body,
            updated_at: wall(),
            sequence: overlay.sequence,
        };
        let size = change.body.as_ref().map_or(0, Bytes::len) + key.len() + 128;
        let pending = change.clone();
        let job = Job {
            at: std::time::Instant::now(),
            op: change,
            urgent: done.is_some(),
            done,
            cost: u64::try_from(size).unwrap_or(u64::MAX),
        };
        (job, pending)
    }

    fn change(
        &self,
        overlay: &mut Overlay,
        key: &str,
        version: u64,
        body: Option<Bytes>,
        done: Option<Done>,
    ) -> Result<(), StoreError> {
        let (job, pending) = self.job(overlay, key, version, body, done);
        // Under the overlay's lock, so that the writer gets changes in the order of versions.
        self.file
            .writer
            .push(job)
            .map_err(|refused| refused.error)?;
        overlay.add(pending);
        Ok(())
    }
}

fn check(current: Option<&Change>, expected: Expect) -> Result<(), DocumentError> {
    let current = current.filter(|c| c.body.is_some()).map(|c| c.version);
    let fits = match expected {
        Expect::Any => true,
        Expect::Version(version) => current == Some(version),
        Expect::Absent => current.is_none(),
    };
    if fits {
        Ok(())
    } else {
        Err(DocumentError::Conflict { current })
    }
}

fn wall() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn read(row: &Row<'_>, collection: &'static str) -> rusqlite::Result<Change> {
    let key: String = row.get(0)?;
    let version: i64 = row.get(1)?;
    let body: Option<Vec<u8>> = row.get(2)?;
    let updated_at: i64 = row.get(3)?;
    Ok(Change {
        collection,
        key: Arc::from(key),
        version: version.unsigned_abs(),
        body: body.map(Bytes::from),
        updated_at: UnixMillis(updated_at.unsigned_abs()),
        sequence: 0,
    })
}

/// Where a list begins: a page begins behind the page before it, not at the prefix again.
fn lower_bound<'a>(prefix: &'a str, after: Option<&'a str>) -> Bound<&'a str> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

const LIST_FROM: &str = "SELECT key, version, body, updated_at FROM documents
    WHERE collection = ?1 AND key >= ?2 AND body IS NOT NULL ORDER BY key";
const LIST_AFTER: &str = "SELECT key, version, body, updated_at FROM documents
    WHERE collection = ?1 AND key > ?2 AND body IS NOT NULL ORDER BY key";

fn list(
    connection: &Connection,
    collection: &'static str,
    prefix: &str,
    from: Bound<&str>,
    limit: usize,
) -> rusqlite::Result<BTreeMap<String, Document>> {
    let (sql, from) = match from {
        Bound::Included(from) => (LIST_FROM, from),
        Bound::Excluded(after) => (LIST_AFTER, after),
        Bound::Unbounded => (LIST_FROM, ""),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([collection, from])?;
    let mut found = BTreeMap::new();
    while found.len() < limit {
        let Some(row) = rows.next()? else { break };
        let change = read(row, collection)?;
        if !change.key.starts_with(prefix) {
            break;
        }
        if let Some(document) = change.document() {
            found.insert(change.key.to_string(), document);
        }
    }
    Ok(found)
}

/// One change as a row.
pub(crate) fn write(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO documents(collection, key, version, body, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(collection, key) DO UPDATE SET
             version = excluded.version, body = excluded.body, updated_at = excluded.updated_at",
        )?
        .execute(params![
            change.collection,
            &*change.key,
            signed(change.version),
            change.body.as_deref(),
            signed(change.updated_at.0),
        ])?;
    Ok(())
}
