//! Where actions are carried out: the trait that a kind of action plugs in with, and the sinks that
//! are here.
//!
//! A sink gets what an outbox holds, oldest first, and says how far it came. It knows nothing of
//! rules, retries and dead letters. A new kind of action (one of AWS's, a local function) is a
//! [`crate::Task`] with a sink of its own.

pub mod blocking;
mod exec;
mod file;
mod sqlite;

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{MessageId, TraceId, UnixMillis};
use iotedge_ports::BoxFuture;
use thiserror::Error;

use crate::work::Task;

pub use exec::ExecSink;
pub use file::FileSink;
pub use sqlite::SqliteSink;

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Item {
    /// The row's number: grows within an outbox, and is the same when the item comes again.
    pub id: MessageId,
    /// The message's trace: with [`Item::id`] it names the item for ever.
    pub trace: TraceId,
    /// The rule.
    pub rule: Arc<str>,
    /// The message's topic.
    pub topic: Arc<str>,
    /// When the message was accepted.
    pub accepted_at: UnixMillis,
    /// Whether the clock could be believed then.
    pub trusted: bool,
    /// What to do.
    pub task: Task,
    /// With what.
    pub body: Bytes,
}

/// Why an item could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SinkError {
    /// The sink is not there, or overloaded: nothing that this item could help. Tried again until
    /// the deadline.
    #[error("{0}")]
    Unavailable(String),
    /// It failed with this item; the item may be the reason. Tried again a few times.
    #[error("{0}")]
    Failed(String),
    /// It will never take this item.
    #[error("{0}")]
    Refused(String),
}

/// How far a sink came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Items done, from the first on, for good: what is on disk is synchronised.
    pub done: usize,
    /// Why the next one is not; `None` when all are done.
    pub error: Option<SinkError>,
}

impl Progress {
    /// Everything is done.
    pub fn all(items: &[Item]) -> Self {
        Self {
            done: items.len(),
            error: None,
        }
    }

    /// So many are done, and then this.
    pub fn until(done: usize, error: SinkError) -> Self {
        Self {
            done,
            error: Some(error),
        }
    }
}

/// Carries out one kind of action.
pub trait Sink: Send + Sync {
    /// Does the items of one outbox in order, and stops at the first that it cannot do. After a
    /// crash an item may come again that was done: a sink that can, does it once.
    fn run<'a>(&'a self, outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress>;

    /// Called every few seconds: what is held open for speed may be closed.
    fn tidy(&self) {}
}

/// The sinks, by kind of action.
#[derive(Clone)]
pub struct Sinks {
    /// Tables.
    pub sqlite: Arc<dyn Sink>,
    /// Files.
    pub file: Arc<dyn Sink>,
    /// Requests.
    pub http: Arc<dyn Sink>,
    /// Programs.
    pub exec: Arc<dyn Sink>,
    /// Functions.
    pub lambda: Arc<dyn Sink>,
}

impl Sinks {
    pub(crate) fn of(&self, task: &Task) -> &Arc<dyn Sink> {
        match task {
            Task::Sqlite(_) => &self.sqlite,
            Task::File(_) => &self.file,
            Task::Http(_) => &self.http,
            Task::Exec(_) => &self.exec,
            Task::Lambda { .. } => &self.lambda,
        }
    }

    pub(crate) fn all(&self) -> [&Arc<dyn Sink>; 5] {
        [
            &self.sqlite,
            &self.file,
            &self.http,
            &self.exec,
            &self.lambda,
        ]
    }
}

/// Functions until there are any: there is none of any name.
pub struct NoFunctions;

impl Sink for NoFunctions {
    fn run<'a>(&'a self, _: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        let name = items.first().map(|item| item.task.resource());
        let error = SinkError::Refused(format!("no such function: {}", name.unwrap_or_default()));
        Box::pin(async move { Progress::until(0, error) })
    }
}
