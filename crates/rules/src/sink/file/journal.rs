//! What is about to be appended, on disk before it is.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) path: String,
    device: u64,
    inode: u64,
    start: u64,
    /// Of each message: its number, its trace in hex, and where in the file it ends.
    ends: Vec<(u64, String, u64)>,
}

impl Note {
    /// `ends`: number, trace, and the bytes of the batch up to the message's end.
    pub(super) fn new(path: &str, file: &Metadata, start: u64, ends: &[(u64, u128, u64)]) -> Self {
        let end = |(id, trace, end): &(u64, u128, u64)| (*id, format!("{trace:x}"), start + end);
        Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
            start,
            ends: ends.iter().map(end).collect(),
        }
    }

    /// Whether it is about this very file.
    pub(super) fn is_of(&self, file: &Metadata) -> bool {
        (self.device, self.inode) == (file.dev(), file.ino())
    }

    /// Where the batch would end.
    pub(super) fn end(&self) -> u64 {
        self.ends.last().map_or(self.start, |(_, _, end)| *end)
    }

    /// The messages that are whole in a file of `length` bytes, and where the last of them ends.
    pub(super) fn whole(&self, length: u64) -> (HashSet<(u64, u128)>, u64) {
        let whole = self.ends.iter().take_while(|(_, _, end)| *end <= length);
        let end = whole.clone().last().map_or(self.start, |(_, _, end)| *end);
        let parse = |(id, trace, _): &(u64, String, u64)| {
            Some((*id, u128::from_str_radix(trace, 16).ok()?))
        };
        (whole.filter_map(parse).collect(), end)
    }
}

pub(super) struct Journal {
    folder: PathBuf,
}

impl Journal {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, outbox: &str) -> PathBuf {
        // Rule names have no '/', and no name is "." or "..".
        self.folder.join(outbox.replace('/', "."))
    }

    /// Durable when it returns.
    pub(super) fn write(&self, outbox: &str, note: &Note) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.file(outbox);
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// The last note, if there is one that can be read.
    pub(super) fn read(&self, outbox: &str) -> Option<Note> {
        let text = fs::read(self.file(outbox)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}
