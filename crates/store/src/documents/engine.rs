//! What the writer thread of `state.db` does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iotedge_telemetry::METRICS;
use rusqlite::Connection;

use super::{Change, Overlay, write};
use crate::space::Space;
use crate::writer::{Engine, Job, Waiting};
use crate::{StoreError, file};

/// Pause between probes of a full disk.
const PROBE: Duration = Duration::from_secs(1);

pub(crate) struct StateEngine {
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) overlay: Arc<Mutex<Overlay>>,
    pub(crate) space: Arc<Space>,
    pub(crate) full: bool,
    pub(crate) journal: file::Journal,
}

impl StateEngine {
    fn transaction(&self, batch: &[Job<Change>]) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for job in batch {
            write(&self.connection, &job.op)?;
        }
        self.connection.execute_batch("COMMIT")
    }

    fn committed(&self, batch: &[Job<Change>]) {
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|job| overlay.committed(&job.op));
    }
}

impl Engine for StateEngine {
    type Op = Change;

    fn commit(&mut self, batch: &[Job<Change>]) -> Result<(), StoreError> {
        let Err(error) = self.transaction(batch) else {
            self.committed(batch);
            self.full = false;
            METRICS.committed_documents(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            self.space.committed(&self.connection, &self.path);
            self.journal.bound(&self.connection, &self.path);
            return Ok(());
        };
        let error = self.space.error(&self.path, &error);
        self.full = matches!(error, StoreError::DiskFull { .. });
        if !self.connection.is_autocommit() {
            self.connection
                .execute_batch("ROLLBACK")
                .map_err(|e| self.space.error(&self.path, &e))?;
        }
        Err(error)
    }

    /// A change that someone waits for fails; the others are tried again.
    fn keeps(&self, job: &Job<Change>) -> bool {
        job.done.is_none()
    }

    /// A change was made from the one before it, which readers saw: when that is given up, so are
    /// all later ones of the document. Under the overlay's lock, so that none comes in between.
    fn undo(
        &mut self,
        given_up: &mut Vec<Job<Change>>,
        kept: &mut Vec<Job<Change>>,
        waiting: &Waiting<'_, Change>,
    ) {
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = HashMap::new();
        for job in given_up.iter() {
            let document = (job.op.collection, job.op.key.clone());
            first.entry(document).or_insert(job.op.sequence);
        }
        let rests = |change: &Change| {
            first
                .get(&(change.collection, change.key.clone()))
                .is_some_and(|sequence| change.sequence > *sequence)
        };
        let (later, rest) = std::mem::take(kept)
            .into_iter()
            .partition(|job| rests(&job.op));
        *kept = rest;
        let later: Vec<Job<Change>> = later;
        given_up.extend(later);
        given_up.extend(waiting.take(rests));
        given_up.sort_by_key(|job| job.op.sequence);
        for job in given_up.iter() {
            overlay.given_up(&job.op);
        }
        for job in kept.iter() {
            overlay.restore(&job.op);
        }
    }

    fn chore(&mut self) -> Result<Option<Duration>, StoreError> {
        let outcome = if self.full {
            file::probe(&self.connection).map(|()| Some(Duration::ZERO))
        } else {
            file::vacuum_step(&self.connection)
        };
        match outcome.map_err(|e| self.space.error(&self.path, &e)) {
            Ok(pause) => {
                self.full = false;
                self.space.committed(&self.connection, &self.path);
                Ok(pause)
            }
            Err(StoreError::DiskFull { .. }) => {
                self.full = true;
                Ok(Some(PROBE))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
