//! A socket that never blocks, and waiting for it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use crate::error::{Error, Result};

/// What waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// There is something to read.
    ToRead,
    /// There is room to write, and nothing to read.
    ToWrite,
    /// Another thread has something to send.
    Woken,
    /// Nothing in time.
    Nothing,
}

pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn tcp(stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(true).map_err(Error::Socket)?;
        Ok(Self(stream.into()))
    }

    /// Connects to a Unix socket; a server that accepts nobody lets it wait until the time is over.
    pub(super) fn unix(path: &Path, timeout: Duration) -> Result<Self> {
        let address = SocketAddrUnix::new(path).map_err(|e| Error::Connect(e.into()))?;
        let made = |e: Errno| Error::Socket(e.into());
        let family = AddressFamily::UNIX;
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(made)?;
        // For a Unix socket this is the time-out of connecting, too.
        let timeout = timeout.max(super::SHORTEST);
        set_socket_timeout(&socket, Timeout::Send, Some(timeout)).map_err(made)?;
        connect(&socket, &address).map_err(|e| match e {
            Errno::AGAIN => Error::Connect(io::ErrorKind::TimedOut.into()),
            other => Error::Connect(other.into()),
        })?;
        ioctl_fionbio(&socket, true).map_err(made)?;
        Ok(Self(socket))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits for bytes to read, with `unsent` for room to write too, and for `wake`.
    pub(super) fn wait(
        &self,
        unsent: bool,
        wake: Option<BorrowedFd<'_>>,
        time: Duration,
    ) -> io::Result<Ready> {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, unsent);
        let mut fds = [
            PollFd::new(&self.0, wanted),
            // The socket once more stands for none.
            PollFd::from_borrowed_fd(wake.unwrap_or(self.0.as_fd()), PollFlags::IN),
        ];
        let asked = if wake.is_some() { 2 } else { 1 };
        wait_for(fds.get_mut(..asked).unwrap_or_default(), time)?;
        let [socket, waker] = fds.map(|fd| fd.revents());
        // An error or an end shows by reading.
        let to_read = PollFlags::IN | PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        Ok(if socket.intersects(to_read) {
            Ready::ToRead
        } else if socket.contains(PollFlags::OUT) {
            Ready::ToWrite
        } else if wake.is_some() && !waker.is_empty() {
            Ready::Woken
        } else {
            Ready::Nothing
        })
    }

    /// Waits for room to write; returns when there is some or the time is over.
    pub(super) fn wait_for_room(&self, time: Duration) -> io::Result<()> {
        wait_for(&mut [PollFd::new(&self.0, PollFlags::OUT)], time)
    }
}

/// A signal ends the wait early, with nothing.
fn wait_for(fds: &mut [PollFd<'_>], time: Duration) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    match poll(fds, Some(&time)) {
        Ok(_) => Ok(()),
        Err(Errno::INTR) => {
            for fd in fds {
                fd.clear_revents();
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (count, _) = recv(&self.0, buf, RecvFlags::empty())?;
        Ok(count)
    }
}

/// Writes with MSG_NOSIGNAL: a closed socket is an error here, not the end of the program that
/// uses the library.
impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, buf, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
