//! Rows in SQLite files below a configured folder. The store writes them: rooms write no SQL.
//!
//! A row is written once, a crash included: each transaction keeps the numbers of the batch that it
//! wrote, and what of it comes again is passed over.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iotedge_ports::{BoxFuture, Clock};
use iotedge_store::{TableError, TableFile, TableRow, TableValue};

use super::{Item, Progress, Sink, SinkError, blocking};
use crate::work::{Cell, SqliteTask, Task};

/// A file that is not written to is closed after this.
const IDLE: Duration = Duration::from_secs(10);

/// Writes rows.
pub struct SqliteSink(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    files: Mutex<HashMap<String, Opened>>,
}

struct Opened {
    file: Arc<Mutex<TableFile>>,
    used: Instant,
}

impl SqliteSink {
    /// `folder` holds the files, and is made when it is first needed.
    pub fn new(folder: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            folder,
            clock,
            files: Mutex::default(),
        }))
    }
}

impl Sink for SqliteSink {
    fn run<'a>(&'a self, outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        let (inner, outbox, items) = (self.0.clone(), outbox.to_owned(), items.to_vec());
        Box::pin(async move {
            blocking::run(move || inner.run(&outbox, &items))
                .await
                .unwrap_or_else(|e| Progress::until(0, SinkError::Failed(e)))
        })
    }

    fn tidy(&self) {
        let mut files = self.0.files();
        files.retain(|_, opened| opened.used.elapsed() < IDLE);
    }
}

fn task(item: &Item) -> Option<&SqliteTask> {
    match &item.task {
        Task::Sqlite(task) => Some(task),
        _ => None,
    }
}

fn failure(error: TableError) -> SinkError {
    match error {
        TableError::Refused(reason) => SinkError::Refused(reason),
        other => SinkError::Unavailable(other.to_string()),
    }
}

impl Inner {
    fn files(&self) -> MutexGuard<'_, HashMap<String, Opened>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the first items that go to one file; the rest comes with the next call.
    fn run(&self, outbox: &str, items: &[Item]) -> Progress {
        let Some(first) = items.first().and_then(task) else {
            return Progress::until(0, SinkError::Refused("this is no sqlite action".into()));
        };
        let file = match self.open(&first.file) {
            Ok(file) => file,
            Err(error) => return Progress::until(0, error),
        };
        let same = items.iter().map_while(|item| {
            let task = task(item).filter(|task| task.file == first.file)?;
            Some(row(item, task))
        });
        let rows: Vec<TableRow> = same.collect();
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let (done, error) = file.insert(outbox, &rows, now.trusted.then_some(now.wall));
        match error {
            None => Progress { done, error: None },
            Some(error) => Progress::until(done, failure(error)),
        }
    }

    fn open(&self, name: &str) -> Result<Arc<Mutex<TableFile>>, SinkError> {
        let problem = crate::path::problem(name)
            .or_else(|| name.contains('/').then_some("a file's name has no '/'"));
        if let Some(problem) = problem {
            return Err(SinkError::Refused(format!("{name:?}: {problem}")));
        }
        if let Some(opened) = self.files().get_mut(name) {
            opened.used = Instant::now();
            return Ok(opened.file.clone());
        }
        let path = std::fs::create_dir_all(&self.folder)
            .and_then(|()| self.folder.canonicalize())
            .map_err(|e| SinkError::Unavailable(format!("{}: {e}", self.folder.display())))?;
        let file = TableFile::open(&path.join(name)).map_err(failure)?;
        let file = Arc::new(Mutex::new(file));
        // Another outbox may have opened it meanwhile: SQLite lets both write in turn.
        let opened = Opened {
            file: file.clone(),
            used: Instant::now(),
        };
        self.files().insert(name.to_owned(), opened);
        Ok(file)
    }
}

fn row(item: &Item, task: &SqliteTask) -> TableRow {
    let columns = task.columns.iter().map(|column| {
        let value = match &column.value {
            Cell::Null => TableValue::Null,
            Cell::Integer(n) => TableValue::Integer(*n),
            Cell::Real(n) => TableValue::Real(*n),
            Cell::Text(text) => TableValue::Text(text.clone()),
        };
        (column.name.clone(), column.kind.clone(), value)
    });
    TableRow {
        key: (item.id, item.trace),
        table: task.table.clone(),
        columns: columns.collect(),
        accepted_at: item.trusted.then_some(item.accepted_at),
        max_age: task.max_age_s.map(Duration::from_secs),
        max_bytes: task.max_bytes,
    }
}
