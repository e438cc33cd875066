//! Accepting connections.

mod rewind;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iotedge_telemetry::event;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Listener;
use crate::{Context, Limits};

/// Why a listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    pub reason: io::Error,
}

pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    socket: TcpListener,
    config: Arc<Listener>,
}

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Bound {
    pub(crate) async fn new(config: Listener) -> Result<Self, BindError> {
        let address = config.address;
        let failed = |reason| BindError { address, reason };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            address,
            socket,
            config: Arc::new(config),
        })
    }

    pub(crate) fn limits(&self, everywhere: &Limits) -> Limits {
        self.config.limits(everywhere)
    }

    pub(crate) async fn run(self, context: Arc<Context>, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, remote)) => {
                        if connections.len() >= self.config.max_connections {
                            tracing::warn!(
                                event = event::CONNECT_REFUSED, %remote, listener = %self.address,
                                "closed at once: the listener has {} connections",
                                connections.len()
                            );
                            continue;
                        }
                        let task = serve::tcp(
                            socket,
                            remote,
                            self.config.clone(),
                            context.clone(),
                            stopped.clone(),
                        );
                        connections.spawn(task);
                    }
                    Err(error) => {
                        tracing::warn!(listener = %self.address, %error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
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

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a panic; others are not touched");
    }
}
