//! A connection: TLS over TCP, or a Unix socket as it is; with a deadline for everything.
//! The socket never blocks: waiting is done here, for bytes to read, for room to write
//! and for other threads that have something to send.

mod resolve;
mod socket;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use self::socket::{Ready, Socket};
use crate::client::Endpoint;
use crate::error::{Error, Result};

/// What waiting for bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There are more bytes.
    Data,
    /// None until the deadline.
    Nothing,
    /// Another thread has something to send.
    Woken,
    /// The deadline has passed, and the look beyond it found something, but nothing whole.
    Late,
}

/// Until when to wait for bytes. One look at the socket beyond it is granted, since a program that
/// comes late shall find what came in time; not more, or a server that drips bytes would hold the
/// caller as long as it likes.
pub(crate) struct Patience<'a> {
    deadline: Instant,
    looked_late: bool,
    /// Becomes readable when another thread has something to send.
    wake: Option<BorrowedFd<'a>>,
}

impl<'a> Patience<'a> {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self::until_woken(deadline, None)
    }

    /// Ends early when `wake` becomes readable.
    pub(crate) fn until_woken(deadline: Instant, wake: Option<BorrowedFd<'a>>) -> Self {
        Self {
            deadline,
            looked_late: false,
            wake,
        }
    }

    /// How long the next look may take, if there may be one.
    fn next_look(&mut self) -> Option<Duration> {
        let left = left(self.deadline);
        if left.is_none() && !self.looked_late {
            self.looked_late = true;
            return Some(Duration::ZERO);
        }
        left
    }
}

/// A socket's time-out cannot be shorter.
const SHORTEST: Duration = Duration::from_millis(1);

/// What is between MQTT and the socket.
enum Layer {
    Tls(Box<ClientConnection>),
    /// Nothing; what the socket has not taken yet.
    Plain(BytesMut),
}

pub(crate) struct Wire {
    layer: Layer,
    socket: Socket,
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
        let addresses = resolve::addresses(&endpoint.host, endpoint.port, connect_timeout)
            .map_err(|e| unknown(e.to_string()))?;
        let socket = connect_any(&addresses, connect_timeout)?;
        socket.set_nodelay(true).map_err(Error::Socket)?;
        let mut tls =
            ClientConnection::new(Arc::new(config), name).map_err(|e| Error::Tls(e.to_string()))?;
        // Who sends looks first whether there is something unsent.
        tls.set_buffer_limit(None);
        let mut wire = Self {
            layer: Layer::Tls(Box::new(tls)),
            socket: Socket::tcp(socket)?,
        };
        wire.shake_hands(Instant::now() + handshake_timeout)?;
        Ok(wire)
    }

    /// Connects to a Unix socket.
    pub(crate) fn connect_local(path: &Path, timeout: Duration) -> Result<Self> {
        Ok(Self {
            layer: Layer::Plain(BytesMut::new()),
            socket: Socket::unix(path, timeout)?,
        })
    }

    /// The socket's descriptor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.descriptor()
    }

    fn is_handshaking(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.is_handshaking())
    }

    /// Whether the socket has not taken everything yet.
    pub(crate) fn has_unsent(&self) -> bool {
        match &self.layer {
            Layer::Tls(tls) => tls.wants_write(),
            Layer::Plain(unsent) => !unsent.is_empty(),
        }
    }

    fn shake_hands(&mut self, deadline: Instant) -> Result<()> {
        let failed = |e: Error| match e {
            Error::Tls(_) => e,
            other => Error::Tls(format!("handshake: {other}")),
        };
        let mut patience = Patience::until(deadline);
        while self.is_handshaking() {
            self.flush(deadline).map_err(failed)?;
            if self.is_handshaking()
                && self.read_tls(&mut patience).map_err(failed)? != Filled::Data
            {
                return Err(Error::Tls("handshake: no answer in time".into()));
            }
        }
        self.flush(deadline).map_err(failed)
    }

    /// Writes all of `bytes` to the socket, behind what it has not taken yet.
    pub(crate) fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> Result<()> {
        self.queue(bytes)?;
        self.flush(deadline)
    }

    /// Writes what the socket takes now; the rest goes when it takes more.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> Result<()> {
        self.queue(bytes)?;
        self.flush_now()
    }

    fn queue(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.layer {
            Layer::Tls(tls) => tls
                .writer()
                .write_all(bytes)
                .map_err(|e| Error::Write(e.to_string())),
            Layer::Plain(unsent) => {
                unsent.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Puts what comes behind `buf`, and returns as soon as something has. Calls that go on to
    /// fill do so with the same `patience`.
    pub(crate) fn fill(
        &mut self,
        buf: &mut BytesMut,
        patience: &mut Patience<'_>,
    ) -> Result<Filled> {
        loop {
            if self.take_decrypted(buf)? {
                return Ok(Filled::Data);
            }
            let before = buf.len();
            match self.read(buf, patience)? {
                Filled::Data if buf.len() > before => return Ok(Filled::Data),
                Filled::Data => {}
                other => return Ok(other),
            }
        }
    }

    /// What TLS has already taken apart.
    fn take_decrypted(&mut self, buf: &mut BytesMut) -> Result<bool> {
        let Layer::Tls(tls) = &mut self.layer else {
            return Ok(false);
        };
        let mut chunk = [0_u8; 4096];
        match tls.reader().read(&mut chunk) {
            Ok(0) => Err(Error::Read("closed by the server".into())),
            Ok(count) => {
                buf.extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => Err(Error::Read("closed by the server".into())),
        }
    }

    /// Says goodbye to the TLS layer, as far as the peer listens.
    pub(crate) fn close(mut self, deadline: Instant) {
        if let Layer::Tls(tls) = &mut self.layer {
            tls.send_close_notify();
        }
        // The connection ends either way.
        let _ = self.flush(deadline);
    }

    fn flush(&mut self, deadline: Instant) -> Result<()> {
        loop {
            self.flush_now()?;
            if !self.has_unsent() {
                return Ok(());
            }
            let left = left(deadline).ok_or(Error::WriteTimeout)?;
            self.socket
                .wait_for_room(left)
                .map_err(|e| Error::Write(e.to_string()))?;
        }
    }

    /// Writes what the socket takes now.
    fn flush_now(&mut self) -> Result<()> {
        while self.has_unsent() {
            let written = match &mut self.layer {
                Layer::Tls(tls) => tls.write_tls(&mut self.socket),
                Layer::Plain(unsent) => self.socket.write(unsent).inspect(|count| {
                    unsent.advance(*count);
                }),
            };
            match written {
                Ok(0) => return Err(Error::Write("closed by the server".into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Write(e.to_string())),
            }
        }
        Ok(())
    }

    /// For the handshake: reads once from the socket.
    fn read_tls(&mut self, patience: &mut Patience<'_>) -> Result<Filled> {
        self.read(&mut BytesMut::new(), patience)
    }

    /// Reads once from the socket: into `buf`, or into the TLS layer.
    fn read(&mut self, buf: &mut BytesMut, patience: &mut Patience<'_>) -> Result<Filled> {
        let failed = |e: io::Error| Error::Read(e.to_string());
        loop {
            let Some(wait) = patience.next_look() else {
                return Ok(Filled::Late);
            };
            let ready = self.socket.wait(self.has_unsent(), patience.wake, wait);
            match ready.map_err(failed)? {
                Ready::Nothing => return Ok(Filled::Nothing),
                Ready::Woken => return Ok(Filled::Woken),
                Ready::ToWrite => {
                    self.flush_now()?;
                    continue;
                }
                Ready::ToRead => {}
            }
            match self.read_now(buf) {
                Ok(0) => return Err(Error::Read("closed by the server".into())),
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let Layer::Tls(tls) = &mut self.layer else {
            return Ok(Filled::Data);
        };
        if let Err(error) = tls.process_new_packets() {
            // An alert for the peer may be waiting; the connection ends either way.
            let _ = self.flush(patience.deadline);
            return Err(Error::Tls(error.to_string()));
        }
        Ok(Filled::Data)
    }

    fn read_now(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Tls(tls) => {
                let count = tls.read_tls(&mut self.socket)?;
                // The end of a stream that TLS has something left of is told by its reader.
                if count == 0 && !tls.is_handshaking() {
                    return Ok(1);
                }
                Ok(count)
            }
            Layer::Plain(_) => {
                let mut chunk = [0_u8; 4096];
                let count = self.socket.read(&mut chunk)?;
                buf.extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(count)
            }
        }
    }
}

/// What is left until `deadline`, not less than a socket's time-out can be.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.max(SHORTEST))
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

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
