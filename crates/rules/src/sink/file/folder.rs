//! A folder by its descriptor: nothing below it is reached by a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};

/// Name of what is not whole yet; no path of a message begins with a dot.
const UNFINISHED: &str = ".iotedge-unfinished";

pub(super) struct Folder(OwnedFd);

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Folder {
    /// The configured one: links on the way to it are the operator's.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, FOLDER, Mode::empty())?))
    }

    /// The folder that `path` lies in, made where it is not there, and the name in it.
    pub(super) fn parent(self, path: &str) -> io::Result<(Self, String)> {
        let Some((folders, name)) = path.rsplit_once('/') else {
            return Ok((self, path.to_owned()));
        };
        let mut at = self;
        for part in folders.split('/') {
            at = at.child(part)?;
        }
        Ok((at, name.to_owned()))
    }

    fn child(&self, name: &str) -> io::Result<Self> {
        let flags = FOLDER | OFlags::NOFOLLOW;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(found) => return Ok(Self(found)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match mkdirat(&self.0, name, Mode::from_raw_mode(0o750)) {
            Ok(()) => self.sync()?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes new names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(self.0.as_fd())?)
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Not blocking: a pipe without a reader would be waited for.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.0, name, flags, Mode::from_raw_mode(0o640))?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            let text = "there is something that is no regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(file)
    }

    /// The file to append to, and whether it is new.
    pub(super) fn append(&self, name: &str) -> io::Result<(File, bool)> {
        let flags = OFlags::WRONLY | OFlags::APPEND;
        match self.file(name, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((self.file(name, flags | OFlags::CREATE)?, true))
            }
            found => found.map(|file| (file, false)),
        }
    }

    /// The file to read; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<File>> {
        match self.file(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Writes a file that is there whole or not at all.
    pub(super) fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let unfinished = format!("{UNFINISHED}-{:x}", std::process::id());
        // Of this process alone, and of this thread: another has the name's lock or another name.
        let unfinished = format!("{unfinished}-{:?}", std::thread::current().id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.file(&unfinished, flags)?;
        let written = write(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&self.0, &*unfinished, &self.0, name)?));
        if written.is_err() {
            // It may be gone already.
            let _ = self.remove(&unfinished);
        }
        written?;
        self.sync()
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// The names in it that begin with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            names.extend(
                name.to_str()
                    .filter(|name| name.starts_with(prefix))
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }
}
