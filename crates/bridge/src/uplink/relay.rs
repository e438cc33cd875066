//! Between the client library and the upstream. The library knows neither proxies nor why TLS
//! failed, so it speaks plain MQTT to a socket of this process, and what is behind it is ours:
//! [`super::dial`]. What the library writes packet by packet leaves in as few records as there can
//! be.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::dial::{Stream, tls_ended};
use super::{Ended, Layer};

/// How much is carried at once.
const BUFFER: usize = 16 * 1024;
/// How long what was written last may take to leave.
const FAREWELL: Duration = Duration::from_secs(3);

/// The carrying task. When it is dropped, what the library has written still leaves.
pub(super) struct Relay {
    ended: Arc<Mutex<Option<Ended>>>,
    /// Dropped with this.
    _let_go: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A socket that waits for the library.
pub(super) struct Door {
    listener: UnixListener,
    /// For the library, which connects to it by name: an abstract one (unix(7)), which no file
    /// system sees and nobody guesses.
    pub(super) name: String,
}

impl Door {
    pub(super) fn open(random: [u64; 2]) -> Result<Self, Ended> {
        let name = format!("iotedge-upstream-{:016x}{:016x}", random[0], random[1]);
        let open = || {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
            let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        let listener = open().map_err(|e: io::Error| {
            Ended::lost(Layer::Settings, format!("no socket for the relay: {e}"))
        })?;
        Ok(Self {
            listener,
            name: format!("\0{name}"),
        })
    }

    /// Carries for the library, and for nobody else who finds the door.
    pub(super) fn carry(self, wire: Box<dyn Stream>, clock_trusted: bool) -> Relay {
        let ended = Arc::new(Mutex::new(None));
        let (let_go, gone) = oneshot::channel::<()>();
        let reason = ended.clone();
        let task = tokio::spawn(async move {
            let Some(library) = self.library().await else {
                return;
            };
            let (mut from, mut to) = library.into_split();
            let outcome = tokio::select! {
                outcome = both(&mut from, &mut to, wire) => outcome,
                () = late(gone) => Ok(()),
            };
            if let Err(error) = outcome {
                let why = tls_ended(&error, clock_trusted)
                    .unwrap_or_else(|| Ended::lost(Layer::Tcp, error.to_string()));
                // Before the library's socket closes: who sees that, finds the reason.
                *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        });
        Relay {
            ended,
            _let_go: let_go,
            task,
        }
    }

    async fn library(self) -> Option<UnixStream> {
        let own = i32::try_from(std::process::id()).ok();
        loop {
            let (stream, _) = self.listener.accept().await.ok()?;
            if stream.peer_cred().ok()?.pid() == own {
                return Some(stream);
            }
        }
    }
}

impl Relay {
    /// Why the way to the upstream ended.
    pub(super) fn reason(&self) -> Option<Ended> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    /// All that was written has left, or never will.
    pub(super) async fn finished(self) {
        let Self { _let_go, task, .. } = self;
        drop(_let_go);
        let _ = task.await;
    }
}

/// A while after the library's side was let go.
async fn late(gone: oneshot::Receiver<()>) {
    let _ = gone.await;
    tokio::time::sleep(FAREWELL).await;
}

async fn both(
    library_in: &mut OwnedReadHalf,
    library_out: &mut OwnedWriteHalf,
    wire: Box<dyn Stream>,
) -> io::Result<()> {
    let (wire_in, wire_out) = tokio::io::split(wire);
    // Who ends first ends both: MQTT knows no half-closed connection.
    tokio::select! {
        done = carry(library_in, wire_out) => done,
        done = carry(wire_in, library_out) => done,
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(data).await?;
        to.flush().await?;
    }
}
