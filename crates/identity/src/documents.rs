//! JSON records in one collection of the store.

use std::sync::mpsc;

use iotedge_store::{Documents, Expect, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::IdentityError;

/// A collection whose changes are waited for.
pub(crate) struct Collection {
    name: &'static str,
    documents: Documents,
}

impl Collection {
    pub(crate) fn new(store: &Store, name: &'static str) -> Self {
        Self {
            name,
            documents: store.documents(name),
        }
    }

    /// Every record with its key.
    pub(crate) fn all<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, IdentityError> {
        self.documents
            .scan()
            .map_err(failed)?
            .into_iter()
            .map(|(key, document)| {
                let record = self.parse(&key, &document.body)?;
                Ok((key, record))
            })
            .collect()
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, IdentityError> {
        self.documents
            .get(key)
            .map_err(failed)?
            .map(|document| self.parse(key, &document.body))
            .transpose()
    }

    /// Puts a record and returns when it is committed.
    pub(crate) fn put<T: Serialize>(&self, key: &str, record: &T) -> Result<(), IdentityError> {
        let body = serde_json::to_vec(record).map_err(failed)?;
        let (done, committed) = mpsc::sync_channel(1);
        let done = Box::new(move |outcome| drop(done.send(outcome)));
        self.documents
            .put(key, body, Expect::Any, Some(done))
            .map_err(failed)?;
        wait(&committed)
    }

    /// Puts a record without waiting: on a full disk it is written when there is room.
    pub(crate) fn put_lazily<T: Serialize>(
        &self,
        key: &str,
        record: &T,
    ) -> Result<(), IdentityError> {
        let body = serde_json::to_vec(record).map_err(failed)?;
        self.documents
            .put(key, body, Expect::Any, None)
            .map_err(failed)?;
        Ok(())
    }

    /// Deletes a record and returns when that is committed.
    pub(crate) fn delete(&self, key: &str) -> Result<(), IdentityError> {
        let (done, committed) = mpsc::sync_channel(1);
        let done = Box::new(move |outcome| drop(done.send(outcome)));
        self.documents
            .delete(key, Expect::Any, Some(done))
            .map_err(failed)?;
        wait(&committed)
    }

    pub(crate) fn damaged(&self, key: &str, reason: String) -> IdentityError {
        IdentityError::DamagedRecord {
            collection: self.name,
            key: key.to_owned(),
            reason,
        }
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, body: &[u8]) -> Result<T, IdentityError> {
        serde_json::from_slice(body).map_err(|e| self.damaged(key, e.to_string()))
    }
}

fn wait(
    committed: &mpsc::Receiver<Result<(), iotedge_store::StoreError>>,
) -> Result<(), IdentityError> {
    match committed.recv() {
        Ok(outcome) => outcome.map_err(failed),
        Err(_) => Err(IdentityError::Store("the writer gave no answer".into())),
    }
}

fn failed(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Store(error.to_string())
}
