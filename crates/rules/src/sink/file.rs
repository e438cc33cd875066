//! Files below a configured folder.
//!
//! Whatever a message says, nothing outside the folder is touched: paths are opened part by part
//! from the folder on, and no link is followed.
//!
//! Appending is exactly once, a crash included: before a batch is written, a note says where in
//! which file each of its messages will end. When messages come again after a crash, those that are
//! whole in the file are passed over, and half a message is cut off.

mod folder;
mod journal;
mod rotate;

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use iotedge_ports::BoxFuture;

use super::{Item, Progress, Sink, SinkError, blocking};
use crate::work::{FileTask, Task};
use folder::Folder;
use journal::{Journal, Note};

/// Writers of one file wait for each other; of others only now and then.
const LOCKS: usize = 64;

/// Writes files.
pub struct FileSink(Arc<Inner>);

struct Inner {
    root: PathBuf,
    journal: Journal,
    locks: [Mutex<()>; LOCKS],
    /// Outboxes that were looked at since the start.
    seen: Mutex<HashSet<String>>,
}

impl FileSink {
    /// `root` holds the files, and is made when it is first needed; `state` is the sink's own
    /// folder.
    pub fn new(root: PathBuf, state: PathBuf) -> Self {
        Self(Arc::new(Inner {
            root,
            journal: Journal::new(state),
            locks: [const { Mutex::new(()) }; LOCKS],
            seen: Mutex::default(),
        }))
    }
}

impl Sink for FileSink {
    fn run<'a>(&'a self, outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        let (inner, outbox, items) = (self.0.clone(), outbox.to_owned(), items.to_vec());
        Box::pin(async move {
            blocking::run(move || inner.run(&outbox, &items))
                .await
                .unwrap_or_else(|e| Progress::until(0, SinkError::Failed(e)))
        })
    }
}

fn task(item: &Item) -> Option<&FileTask> {
    match &item.task {
        Task::File(task) => Some(task),
        _ => None,
    }
}

/// What the operating system says: a full disk passes, a folder in the place of a file does not.
fn failure(path: &str, error: &io::Error) -> SinkError {
    use rustix::io::Errno;
    let text = format!("{path}: {error}");
    // LOOP: a link stands in the way.
    let by_its_name = [
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::INVAL,
        Errno::NAMETOOLONG,
        Errno::LOOP,
    ];
    let number = error.raw_os_error();
    let refused = error.kind() == io::ErrorKind::InvalidInput
        || by_its_name.iter().any(|e| Some(e.raw_os_error()) == number);
    if refused {
        SinkError::Refused(text)
    } else {
        SinkError::Unavailable(text)
    }
}

impl Inner {
    /// Does the first items that go the same way; the rest comes with the next call.
    fn run(&self, outbox: &str, items: &[Item]) -> Progress {
        let Some(task) = items.first().and_then(task) else {
            return Progress::until(0, SinkError::Refused("this is no file action".into()));
        };
        if let Some(problem) = crate::path::problem(&task.path) {
            let text = format!("{:?}: {problem}", task.path);
            return Progress::until(0, SinkError::Refused(text));
        }
        let same = items.iter().take_while(|i| self::task(i) == Some(task));
        let items: Vec<&Item> = same.collect();
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let shard = hasher.hash_one(&task.path) as usize % LOCKS;
        let lock = self.locks.get(shard).map(Mutex::lock);
        let _alone = lock.map(|l| l.unwrap_or_else(PoisonError::into_inner));
        let done = if task.replace {
            self.replace(task, &items)
        } else {
            self.append(outbox, task, &items)
        };
        match done {
            Ok(()) => Progress {
                done: items.len(),
                error: None,
            },
            Err(error) => Progress::until(0, failure(&task.path, &error)),
        }
    }

    fn folder(&self, path: &str) -> io::Result<(Folder, String)> {
        std::fs::create_dir_all(&self.root)?;
        Folder::open(&self.root)?.parent(path)
    }

    /// The file is the last of the messages, whole at every moment.
    fn replace(&self, task: &FileTask, items: &[&Item]) -> io::Result<()> {
        let Some(last) = items.last() else {
            return Ok(());
        };
        let (folder, name) = self.folder(&task.path)?;
        folder.replace(&name, |file| file.write_all(&last.body))
    }

    fn append(&self, outbox: &str, task: &FileTask, items: &[&Item]) -> io::Result<()> {
        let (folder, name) = self.folder(&task.path)?;
        let first = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(outbox.to_owned())
        };
        let passed = match first {
            true => self.recover(outbox, task, &folder, &name)?,
            false => HashSet::new(),
        };
        let is_new = |item: &&&Item| !passed.contains(&(item.id.0, item.trace.0));
        let items: Vec<&Item> = items.iter().filter(is_new).copied().collect();
        if items.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(items.len());
        for item in &items {
            bytes.extend_from_slice(&item.body);
            bytes.extend_from_slice(task.separator.as_bytes());
            ends.push((item.id.0, item.trace.0, bytes.len() as u64));
        }
        rotate::rotate(&folder, &name, task, bytes.len() as u64)?;
        let (file, made) = folder.append(&name)?;
        let metadata = file.metadata()?;
        let start = metadata.len();
        self.journal
            .write(outbox, &Note::new(&task.path, &metadata, start, &ends))?;
        if made {
            folder.sync()?;
        }
        self.write(file, start, &bytes)
    }

    /// All of it or nothing.
    fn write(&self, mut file: File, start: u64, bytes: &[u8]) -> io::Result<()> {
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            if let Err(worse) = file.set_len(start) {
                tracing::error!(error = %worse, "half a message could not be cut off");
            }
            return Err(error);
        }
        Ok(())
    }

    /// Looks at what the last process was about to write: which messages are in the file.
    fn recover(
        &self,
        outbox: &str,
        task: &FileTask,
        folder: &Folder,
        name: &str,
    ) -> io::Result<HashSet<(u64, u128)>> {
        let Some(note) = self.journal.read(outbox) else {
            return Ok(HashSet::new());
        };
        if note.path != task.path {
            return Ok(HashSet::new());
        }
        let (file, _) = folder.append(name)?;
        let metadata = file.metadata()?;
        if !note.is_of(&metadata) {
            return Ok(HashSet::new());
        }
        let (whole, end) = note.whole(metadata.len());
        if end < metadata.len() && metadata.len() < note.end() {
            file.set_len(end)?;
            file.sync_data()?;
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests;
