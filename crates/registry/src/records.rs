//! Records in one collection of the store.

use std::sync::mpsc;

use iotedge_store::{Documents, Expect, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::RegistryError;

/// A collection whose changes are waited for.
pub(crate) struct Records {
    name: &'static str,
    documents: Documents,
}

type Committed = mpsc::Receiver<Result<(), StoreError>>;
type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

fn channel() -> (Done, Committed) {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The receiver waits below: it cannot have gone.
    let done = move |outcome| drop(sender.send(outcome));
    (Box::new(done), receiver)
}

fn wait(committed: &Committed) -> Result<(), RegistryError> {
    match committed.recv() {
        Ok(outcome) => outcome.map_err(failed),
        Err(_) => Err(failed("the writer gave no answer")),
    }
}

fn failed(error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Store(error.to_string())
}

impl Records {
    pub(crate) fn new(store: &Store, name: &'static str) -> Self {
        Self {
            name,
            documents: store.documents(name),
        }
    }

    pub(crate) fn all<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, RegistryError> {
        let documents = self.documents.scan().map_err(failed)?;
        documents
            .into_iter()
            .map(
                |(key, document)| match serde_json::from_slice(&document.body) {
                    Ok(record) => Ok((key, record)),
                    Err(e) => Err(self.damaged(key, e.to_string())),
                },
            )
            .collect()
    }

    /// Returns when it is committed.
    pub(crate) fn put<T: Serialize>(&self, key: &str, record: &T) -> Result<(), RegistryError> {
        let body = serde_json::to_vec(record).map_err(failed)?;
        let (done, committed) = channel();
        self.documents
            .put(key, body, Expect::Any, Some(done))
            .map_err(failed)?;
        wait(&committed)
    }

    /// Returns when it is committed.
    pub(crate) fn delete(&self, key: &str) -> Result<(), RegistryError> {
        let (done, committed) = channel();
        self.documents
            .delete(key, Expect::Any, Some(done))
            .map_err(failed)?;
        wait(&committed)
    }

    /// Deletes without waiting: on a full disk it is done when there is room, before any later
    /// change of the collection.
    pub(crate) fn delete_lazily(&self, key: &str) -> Result<(), RegistryError> {
        self.documents
            .delete(key, Expect::Any, None)
            .map_err(failed)?;
        Ok(())
    }

    pub(crate) fn damaged(&self, key: String, reason: String) -> RegistryError {
        RegistryError::DamagedRecord {
            collection: self.name,
            key,
            reason,
        }
    }
}
