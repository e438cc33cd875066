//! Files that hold keys and certificates: read whole, written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::CaError;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(crate) enum Secrecy {
    /// Everyone: certificates.
    Public,
    /// The daemon's user alone: keys.
    Private,
}

/// Reads a text file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(path, e)),
    }
}

/// Takes a key's file from everyone but its owner, and says so: keys that were copied into place often
/// come with the mode of a text.
pub(crate) fn keep_private(path: &Path) -> Result<(), CaError> {
    let mode = fs::metadata(path)
        .map_err(|e| io(path, e))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    tracing::warn!(
        file = %path.display(),
        "others could read this key (mode {:o}); it is the owner's alone now",
        mode & 0o777
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|e| io(path, e))
}

/// Renames a file for good; nothing happens when it is not there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), CaError> {
    match fs::rename(from, to) {
        Ok(()) => sync_directory(to),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(from, e)),
    }
}

/// Removes a file for good; nothing happens when it is not there.
pub(crate) fn remove(path: &Path) -> Result<(), CaError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(path, e)),
    }
}

/// Writes a file so that after a power cut either the old or the new one is there. A private file
/// never exists with wider permissions, not even for a moment.
pub(crate) fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), CaError> {
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Private => 0o600,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // A left-over of an interrupted write keeps the mode it was made with.
    remove(&temporary)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(|e| io(&temporary, e))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| io(&temporary, e))?;
    fs::rename(&temporary, path).map_err(|e| io(path, e))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), CaError> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| io(directory, e))
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> CaError {
    CaError::Io {
        path: path.to_owned(),
        source,
    }
}
