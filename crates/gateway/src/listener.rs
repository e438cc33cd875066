//! Accepting connections.

mod rate;
mod rewind;
mod serve;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iotedge_telemetry::{METRICS, Metric, Traffic, event};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::rate::{Bucket, Complaints};
use crate::config::{Address, Listener};
use crate::connection::Remote;
use crate::stage::Stage;
use crate::{Context, Limits};

/// Why a listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// Where.
    pub address: Address,
    /// What the system says.
    pub reason: io::Error,
}

pub(crate) struct Bound {
    socket: Socket,
    config: Arc<Listener>,
}

enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(unix::Socket),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Local(UnixStream),
}

/// How long to wait when the system has no more file descriptors, or no more memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Bound {
    pub(crate) async fn new(config: Listener) -> Result<Self, BindError> {
        let socket = match &config.address {
            Address::Tcp(address) => match TcpListener::bind(address).await {
                Ok(listener) => listener.local_addr().map(|at| Socket::Tcp(listener, at)),
                Err(error) => Err(error),
            },
            Address::Unix { path, mode } => unix::Socket::bind(path, *mode).await.map(Socket::Unix),
        };
        match socket {
            Ok(socket) => Ok(Self {
                socket,
                config: Arc::new(config),
            }),
            Err(reason) => Err(BindError {
                address: config.address,
                reason,
            }),
        }
    }

    pub(crate) fn limits(&self, everywhere: &Limits) -> Limits {
        self.config.limits(everywhere)
    }

    /// Where clients find it; a Unix socket has no such address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.socket {
            Socket::Tcp(_, address) => Some(address),
            Socket::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener, _) => {
                let (socket, remote) = listener.accept().await?;
                Ok(Accepted::Tcp(socket, remote))
            }
            Socket::Unix(socket) => socket.accept().await.map(Accepted::Local),
        }
    }

    pub(crate) async fn run(self, context: Arc<Context>, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut door = Door::new(self.config.clone());
        loop {
            tokio::select! {
                accepted = self.accept() => match accepted {
                    Ok(accepted) if door.lets_in(&accepted, connections.len()) => {
                        let (config, context) = (self.config.clone(), context.clone());
                        let stopped = stopped.clone();
                        let first = match accepted {
                            Accepted::Tcp(socket, remote) => {
                                Stage::new(serve::tcp(socket, remote, config, context, stopped))
                            }
                            Accepted::Local(socket) => {
                                Stage::new(serve::local(socket, config, context, stopped))
                            }
                        };
                        connections.spawn(first);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        door.failed(&error);
                        tokio::select! {
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                            _ = stopped.changed() => break,
                        }
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    report(ended);
                }
                _ = stopped.changed() => break,
            }
        }
        drop(self.socket);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

/// Who may come in at all, before a word is said.
struct Door {
    config: Arc<Listener>,
    bucket: Option<Bucket>,
    complaints: Complaints,
    failures: Complaints,
}

impl Door {
    fn new(config: Arc<Listener>) -> Self {
        let now = Instant::now();
        Self {
            bucket: config
                .max_connection_rate
                .map(|rate| Bucket::new(rate.get(), now)),
            config,
            complaints: Complaints::default(),
            failures: Complaints::default(),
        }
    }

    /// `connections` are there already. Whoever may not come in is closed with the answer.
    fn lets_in(&mut self, accepted: &Accepted, connections: usize) -> bool {
        METRICS.passed(Traffic::Sockets, 1);
        let now = Instant::now();
        if self.bucket.as_mut().is_some_and(|bucket| !bucket.take(now)) {
            self.turn_away(
                accepted,
                now,
                Metric::ConnectThrottle,
                "max_connection_rate",
            );
            return false;
        }
        if connections >= self.config.max_connections {
            self.turn_away(accepted, now, Metric::ConnectServerError, "max_connections");
            return false;
        }
        true
    }

    fn turn_away(&mut self, accepted: &Accepted, now: Instant, metric: Metric, limit: &str) {
        METRICS.count(metric, self.config.speaks.protocol());
        if let Some(silent) = self.complaints.tell(now) {
            let remote = match accepted {
                Accepted::Tcp(_, remote) => Remote::Network(*remote),
                Accepted::Local(socket) => Remote::of(socket),
            };
            tracing::warn!(
                event = event::CONNECT_REFUSED, %remote, listener = %self.config.name,
                "closed at once, and {silent} others since the last time this was said: more than \
                 {limit} of the listener"
            );
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if let Some(silent) = self.failures.tell(Instant::now()) {
            tracing::warn!(
                listener = %self.config.name, %error,
                "accept failed, and {silent} times more since this was last said"
            );
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a panic; others are not touched");
    }
}
