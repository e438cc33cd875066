//! A TLS connection over a blocking socket, with a deadline for everything but the resolver.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use crate::client::Endpoint;
use crate::error::{Error, Result};

/// What waiting for bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There are more bytes.
    Data,
    /// None until the deadline.
    Nothing,
    /// The deadline has passed, and the look beyond it found something, but nothing whole.
    Late,
}

/// Until when to wait for bytes. One look at the socket beyond it is granted, since a program that
/// comes late shall find what came in time; not more, or a server that drips bytes would hold the
/// caller as long as it likes.
pub(crate) struct Patience {
    deadline: Instant,
    looked_late: bool,
}

impl Patience {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            looked_late: false,
        }
    }

    /// How long the next look may take, if there may be one.
    fn next_look(&mut self) -> Option<Duration> {
        let left = left(self.deadline);
        if left.is_none() && !self.looked_late {
            self.looked_late = true;
            return Some(SHORTEST);
        }
        left
    }
}

/// A socket's time-out cannot be shorter.
const SHORTEST: Duration = Duration::from_millis(1);

pub(crate) struct Wire {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Wire {
    /// Connects and shakes hands.
    pub(crate) fn connect(
        endpoint: &Endpoint,
        config: ClientConfig,
        connect_timeout: Duration,
        handshake_timeout: Duration,
    ) -> Result<Self> {
        let unknown = |reason: String| Error::UnknownHost {
            host: endpoint.host.clone(),
            reason,
        };
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|e| unknown(e.to_string()))?;
        let addresses: Vec<_> = (endpoint.host.as_str(), endpoint.port)
            .to_socket_addrs()
            .map_err(|e| unknown(e.to_string()))?
            .collect();
        let socket = connect_any(&addresses, connect_timeout)?;
        socket.set_nodelay(true).map_err(Error::Socket)?;
        let tls =
            ClientConnection::new(Arc::new(config), name).map_err(|e| Error::Tls(e.to_string()))?;
        let mut wire = Self { tls, socket };
        wire.shake_hands(Instant::now() + handshake_timeout)?;
        Ok(wire)
    }

    fn shake_hands(&mut self, deadline: Instant) -> Result<()> {
        let failed = |e: Error| match e {
            Error::Tls(_) => e,
            other => Error::Tls(format!("handshake: {other}")),
        };
        let mut patience = Patience::until(deadline);
        while self.tls.is_handshaking() {
            self.flush(deadline).map_err(failed)?;
            if self.tls.is_handshaking()
                && self.read_tls(&mut patience).map_err(failed)? != Filled::Data
            {
                return Err(Error::Tls("handshake: no answer in time".into()));
            }
        }
        self.flush(deadline).map_err(failed)
    }

    /// Writes all of `bytes` to the socket.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<()> {
        while !bytes.is_empty() {
            let count = self
                .tls
                .writer()
                .write(bytes)
                .map_err(|e| Error::Write(e.to_string()))?;
            bytes = bytes.get(count..).unwrap_or_default();
            self.flush(deadline)?;
        }
        Ok(())
    }

    /// Puts what comes behind `buf`, and returns as soon as something has. Calls that go on to
    /// fill do so with the same `patience`.
    pub(crate) fn fill(&mut self, buf: &mut BytesMut, patience: &mut Patience) -> Result<Filled> {
        let mut chunk = [0_u8; 4096];
        loop {
            match self.tls.reader().read(&mut chunk) {
                Ok(0) => return Err(Error::Read("closed by the server".into())),
                Ok(count) => {
                    buf.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(Filled::Data);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Error::Read("closed by the server".into())),
            }
            if self.tls.wants_write() {
                self.flush(patience.deadline)?;
            }
            match self.read_tls(patience)? {
                Filled::Data => {}
                other => return Ok(other),
            }
        }
    }

    /// Says goodbye to the TLS layer, as far as the peer listens.
    pub(crate) fn close(mut self, deadline: Instant) {
        self.tls.send_close_notify();
        // The connection ends either way.
        let _ = self.flush(deadline);
    }

    fn flush(&mut self, deadline: Instant) -> Result<()> {
        while self.tls.wants_write() {
            let Some(left) = left(deadline) else {
                return Err(Error::WriteTimeout);
            };
            self.socket
                .set_write_timeout(Some(left))
                .map_err(|e| Error::Write(e.to_string()))?;
            match self.tls.write_tls(&mut NoSignal(&self.socket)) {
                Ok(0) => return Err(Error::Write("closed by the server".into())),
                Ok(_) => {}
                Err(e) if is_timeout(&e) => return Err(Error::WriteTimeout),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Write(e.to_string())),
            }
        }
        Ok(())
    }

    /// Reads once from the socket.
    fn read_tls(&mut self, patience: &mut Patience) -> Result<Filled> {
        loop {
            let Some(wait) = patience.next_look() else {
                return Ok(Filled::Late);
            };
            self.socket
                .set_read_timeout(Some(wait))
                .map_err(|e| Error::Read(e.to_string()))?;
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) if self.tls.is_handshaking() => {
                    return Err(Error::Read("closed by the server".into()));
                }
                Ok(_) => break,
                Err(e) if is_timeout(&e) => return Ok(Filled::Nothing),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Read(e.to_string())),
            }
        }
        if let Err(error) = self.tls.process_new_packets() {
            // An alert for the peer may be waiting; the connection ends either way.
            let _ = self.flush(patience.deadline);
            return Err(Error::Tls(error.to_string()));
        }
        Ok(Filled::Data)
    }
}

/// What is left until `deadline`, not less than a socket's time-out can be.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.max(SHORTEST))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Tries one address after the other. `timeout` is for all: an address may take its equal share of
/// what is left, so that one that does not answer leaves time for those behind it.
fn connect_any(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for (address, to_try) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(to_try).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(SHORTEST)) {
            Ok(socket) => return Ok(socket),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(Error::Socket(e));
            }
            Err(e) => last = e,
        }
    }
    Err(Error::Connect(last))
}

/// Writes with MSG_NOSIGNAL: a closed socket is an error here, not the end of the program that
/// uses the library.
struct NoSignal<'a>(&'a TcpStream);

impl Write for NoSignal<'_> {
    #[allow(unsafe_code)]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of `buf`, and the descriptor is open as long
        // as the socket is borrowed.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                buf.as_ptr().cast(),
                buf.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener that answers nobody: its queue is full. The stream is what fills it.
    #[allow(unsafe_code)]
    fn deaf() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: the descriptor is open, and listening already; its queue becomes short.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener, first)
    }

    #[test]
    fn all_addresses_of_a_host_share_one_time_out() {
        let (deaf, _first) = deaf();
        let deaf = deaf.local_addr().unwrap();
        let start = Instant::now();
        let timeout = Duration::from_millis(400);
        assert!(connect_any(&[deaf; 4], timeout).is_err());
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout, "{elapsed:?}");
        assert!(elapsed < 2 * timeout, "{elapsed:?}");
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let (deaf, _first) = deaf();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [deaf.local_addr().unwrap(), listener.local_addr().unwrap()];
        let socket = connect_any(&addresses, Duration::from_millis(400)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), addresses[1]);
    }
}
