//! Where shadows are kept.

use bytes::Bytes;
use iotedge_store::{Documents, Expect};
use thiserror::Error;

/// The store could not read or write. The text is for the log; clients hear of an internal failure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct StorageFailure(pub String);

/// Is told how a commit ended; from any thread. Must not block.
pub type CommitDone = Box<dyn FnOnce(Result<(), StorageFailure>) + Send>;

/// A shadow to be kept.
pub struct Put {
    /// Its key.
    pub key: String,
    /// Its bytes, in place of those that are there.
    pub body: Bytes,
    /// Whether the shadow is deleted by it, which is possible without room.
    pub deletes: bool,
    /// Says when it is durable.
    pub done: CommitDone,
}

/// Keys to bytes. What was put is seen by the next reader at once.
pub trait ShadowStore: Send + Sync {
    /// What stands under the key.
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure>;

    /// Puts all, in one commit. `done` calls come in the order of the puts. With an error those that
    /// were not taken are dropped with their `done`.
    fn put(&self, puts: Vec<Put>) -> Result<(), StorageFailure>;

    /// Removes it without waiting.
    fn forget(&self, key: &str) -> Result<(), StorageFailure>;

    /// At most `limit` entries whose key begins with `prefix`, after the key `after`, by key.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StorageFailure>;
}

fn failure(error: impl std::fmt::Display) -> StorageFailure {
    StorageFailure(error.to_string())
}

impl ShadowStore for Documents {
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure> {
        let document = Documents::get(self, key).map_err(failure)?;
        Ok(document.map(|d| d.body))
    }

    fn put(&self, puts: Vec<Put>) -> Result<(), StorageFailure> {
        let puts = puts.into_iter().map(|put| {
            let done = put.done;
            iotedge_store::Put {
                key: put.key,
                body: put.body,
                deletes: put.deletes,
                done: Some(Box::new(
                    move |outcome: Result<(), iotedge_store::StoreError>| {
                        done(outcome.map_err(failure));
                    },
                )),
            }
        });
        self.put_all(puts.collect()).map_err(failure)
    }

    fn forget(&self, key: &str) -> Result<(), StorageFailure> {
        self.delete(key, Expect::Any, None).map_err(failure)?;
        Ok(())
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StorageFailure> {
        let found = Documents::list(self, prefix, after, limit).map_err(failure)?;
        Ok(found.into_iter().map(|(k, d)| (k, d.body)).collect())
    }
}
