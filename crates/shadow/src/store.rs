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

/// Keys to bytes. What was put is seen by the next reader at once; `done` says when it is durable.
pub trait ShadowStore: Send + Sync {
    /// What stands under the key.
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure>;

    /// Replaces it. `done` calls come in the order of the puts; none when this returns an error.
    fn put(&self, key: &str, body: Bytes, done: CommitDone) -> Result<(), StorageFailure>;

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

    fn put(&self, key: &str, body: Bytes, done: CommitDone) -> Result<(), StorageFailure> {
        let done = Box::new(move |outcome: Result<(), iotedge_store::StoreError>| {
            done(outcome.map_err(failure));
        });
        Documents::put(self, key, body, Expect::Any, Some(done)).map_err(failure)?;
        Ok(())
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
