//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::Principal;
use iotedge_telemetry::event;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::config::{Auth, Listener, ListenerProtocol};
use crate::connection::{Peer, Remote};
use crate::{Context, certificate_id, connection, http};

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
                        let task = serve(
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

async fn serve(
    socket: TcpStream,
    remote: SocketAddr,
    config: Arc<Listener>,
    context: Arc<Context>,
    stopped: watch::Receiver<bool>,
) {
    let remote = Remote(Some(remote));
    // Small packets must not wait for the peer's delayed acknowledgement.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%remote, %error, "TCP_NODELAY could not be set");
    }
    let deadline = Instant::now() + context.limits.connect_timeout;
    let Some(tls) = &config.tls else {
        let Auth::Anonymous(principal) = &config.auth else {
            tracing::error!(listener = %config.name, "certificates need TLS");
            return;
        };
        let principal = principal.clone();
        let peer = Peer::new(remote, principal, config, deadline);
        return speak(socket, peer, context, stopped).await;
    };
    let acceptor = TlsAcceptor::from(tls());
    let handshake = acceptor.accept(socket);
    let mut stop = stopped.clone();
    let handshake = tokio::select! {
        outcome = tokio::time::timeout_at(deadline, handshake) => outcome,
        _ = stop.changed() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED, %remote, listener = %config.name,
                "TLS handshake failed: {error}"
            );
            return;
        }
        Err(_) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED, %remote, listener = %config.name,
                "no TLS handshake within {:?}", context.limits.connect_timeout
            );
            return;
        }
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let principal = match (&config.auth, certificate) {
        (Auth::Certificate, Some(der)) => Arc::new(Principal::certificate(certificate_id(der))),
        (Auth::Certificate, None) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED, %remote, listener = %config.name,
                "no client certificate"
            );
            return;
        }
        (Auth::Anonymous(principal), _) => principal.clone(),
    };
    let peer = Peer::new(remote, principal, config, deadline);
    speak(stream, peer, context, stopped).await;
}

async fn speak<S>(stream: S, peer: Peer, context: Arc<Context>, stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match peer.listener.protocol {
        ListenerProtocol::Mqtt => connection::run(stream, peer, context, stopped).await,
        ListenerProtocol::Http => http::run(stream, peer, context, stopped).await,
    }
}
