//! A listener for processes of this machine: a Unix socket in the file system.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// An open socket. Its file goes with it.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: whether the file is still this one.
    file: (u64, u64),
}

impl Socket {
    /// Opens it with the permissions `mode`. What a killed daemon has left is replaced; a socket
    /// where somebody listens, or anything else, is not touched.
    pub(super) async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        remove_stale(path).await?;
        // Bound under another name and moved into place: whoever sees the path can use it, and
        // nobody before it has its permissions.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        remove_stale(&fresh).await?;
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
        let made = fs::symlink_metadata(&fresh)?;
        fs::rename(&fresh, path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: (made.dev(), made.ino()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.file => {
                if let Err(error) = fs::remove_file(&self.path) {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the socket's file could not be removed");
                }
            }
            // Somebody else's, or gone.
            _ => {}
        }
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::other("there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Another has removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Its queue is full: somebody listens, slowly.
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}
