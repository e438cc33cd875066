//! One accepted connection: TLS, who it is, and which protocol it speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use iotedge_model::{Principal, PrincipalKind, Protocol};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::rewind::Rewind;
use crate::authenticate::GrantSlot;
use crate::config::{ALPN_MQTT, Auth, Listener, Tls};
use crate::connection::{Peer, Remote};
use crate::stage::Stage;
use crate::{Context, certificate_id, connection, http, websocket};

/// Messages of WebSocket are not collected, so that one may hold many packets.
const PACKETS_IN_MESSAGE: u64 = 16;

/// A connection over TCP.
pub(super) async fn tcp(
    socket: TcpStream,
    remote: SocketAddr,
    config: Arc<Listener>,
    context: Arc<Context>,
    stopped: watch::Receiver<bool>,
) -> Option<Stage> {
    let remote = Remote::Network(remote);
    // Small packets must not wait for the peer's delayed acknowledgement.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%remote, %error, "TCP_NODELAY could not be set");
    }
    let deadline = Instant::now() + context.limits.connect_timeout;
    let Some(tls) = &config.tls else {
        let principal = match &config.auth {
            Auth::Anonymous(principal) => principal.clone(),
            Auth::Credentials(_) => nobody(&config),
            Auth::Certificate | Auth::Peer => {
                refused(remote, &config, "certificates need TLS");
                return None;
            }
        };
        let peer = Peer::new(remote, principal, config);
        return Some(Stage::new(speak(
            socket, None, peer, deadline, context, stopped,
        )));
    };
    let stream = handshake(socket, tls, remote, deadline, &config, &context, &stopped).await?;
    let welcome = introduce(&config, &context, &stream);
    let Some(principal) = principal(&config, &stream) else {
        refused(remote, &config, "no client certificate");
        return None;
    };
    let session = stream.get_ref().1;
    let chosen = session.alpn_protocol().map(protocol_of);
    let server_name = session.server_name().map(Arc::from);
    let mut peer = Peer::new(remote, principal, config);
    peer.server_name = server_name;
    peer.grant = welcome;
    Some(Stage::new(speak(
        stream, chosen, peer, deadline, context, stopped,
    )))
}

/// A connection of a process of this machine.
pub(super) async fn local(
    socket: UnixStream,
    config: Arc<Listener>,
    context: Arc<Context>,
    stopped: watch::Receiver<bool>,
) -> Option<Stage> {
    let deadline = Instant::now() + context.limits.connect_timeout;
    let remote = Remote::of(&socket);
    let principal = match (&config.auth, socket.peer_cred()) {
        (Auth::Anonymous(principal), _) => principal.clone(),
        (Auth::Credentials(_), _) => nobody(&config),
        (Auth::Peer, Ok(peer)) => Arc::new(Principal {
            kind: PrincipalKind::LocalUser {
                uid: peer.uid(),
                listener: Some(config.name.clone()),
            },
        }),
        (Auth::Peer, Err(error)) => {
            let why = format!("the kernel does not say who it is: {error}");
            refused(remote, &config, &why);
            return None;
        }
        (Auth::Certificate, _) => {
            refused(remote, &config, "certificates need TLS");
            return None;
        }
    };
    let peer = Peer::new(remote, principal, config);
    Some(Stage::new(speak(
        socket, None, peer, deadline, context, stopped,
    )))
}

/// Who a client is that has not shown its credentials yet. Nothing is asked of the policies for it.
fn nobody(config: &Listener) -> Arc<Principal> {
    Arc::new(Principal {
        kind: PrincipalKind::Anonymous {
            listener: config.name.clone(),
        },
    })
}

fn refused(remote: Remote, config: &Listener, why: &str) {
    METRICS.count(Metric::ConnectClientError, config.speaks.protocol());
    tracing::warn!(event = event::CONNECT_REFUSED, %remote, listener = %config.name, "{why}");
}

async fn handshake(
    socket: TcpStream,
    tls: &Tls,
    remote: Remote,
    deadline: Instant,
    config: &Listener,
    context: &Context,
    stopped: &watch::Receiver<bool>,
) -> Option<Box<TlsStream<TcpStream>>> {
    let mut stop = stopped.clone();
    let handshake = TlsAcceptor::from(tls()).accept(socket);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout_at(deadline, handshake) => outcome,
        _ = stop.changed() => return None,
    };
    match outcome {
        // Large, and handed on from stage to stage.
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => refused(remote, config, &format!("TLS handshake failed: {error}")),
        Err(_) => {
            let timeout = context.limits.connect_timeout;
            refused(
                remote,
                config,
                &format!("no TLS handshake within {timeout:?}"),
            );
        }
    }
    None
}

/// The certificates that the handshake has shown, for who may register them; what the listener lets
/// one do that is not registered.
fn introduce(
    config: &Listener,
    context: &Context,
    stream: &TlsStream<TcpStream>,
) -> Option<Arc<GrantSlot>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    context.authorizer.introduce(&chain);
    let Auth::Certificate = &config.auth else {
        return None;
    };
    let grant = context.authorizer.welcome(&config.name, &chain)?;
    Some(Arc::new(GrantSlot::new(grant)))
}

/// Who it is by what the handshake has shown.
fn principal(config: &Listener, stream: &TlsStream<TcpStream>) -> Option<Arc<Principal>> {
    let chain = stream.get_ref().1.peer_certificates();
    match (&config.auth, chain.and_then(|chain| chain.first())) {
        (Auth::Certificate, Some(der)) => {
            Some(Arc::new(Principal::certificate(certificate_id(der))))
        }
        (Auth::Certificate, None) | (Auth::Peer, _) => None,
        (Auth::Anonymous(principal), _) => Some(principal.clone()),
        (Auth::Credentials(_), _) => Some(nobody(config)),
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Mqtt,
    Http,
}

fn protocol_of(alpn: &[u8]) -> First {
    if ALPN_MQTT.contains(&alpn) {
        First::Mqtt
    } else {
        First::Http
    }
}

/// A CONNECT begins with its packet type, 1, and no flags (MQTT, 2.1); an HTTP request with a method, which is
/// written in capitals (RFC 9110, 9.1).
fn protocol_of_first(byte: u8) -> Option<First> {
    match byte {
        0x10 => Some(First::Mqtt),
        b'A'..=b'Z' => Some(First::Http),
        _ => None,
    }
}

async fn speak<S>(
    mut stream: S,
    chosen: Option<First>,
    peer: Peer,
    deadline: Instant,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) -> Option<Stage>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let speaks = peer.listener.speaks;
    let mut read = BytesMut::new();
    let first = match chosen {
        Some(first) => first,
        None if !speaks.any_http() => First::Mqtt,
        None if !speaks.mqtt => First::Http,
        None => {
            let bytes = first_bytes(&mut stream, &mut read);
            let outcome = tokio::select! {
                outcome = tokio::time::timeout_at(deadline, bytes) => outcome,
                _ = stopped.changed() => return None,
            };
            let why = match outcome {
                Ok(Ok(Some(first))) => {
                    return Some(first.stage(stream, read, peer, deadline, context, stopped));
                }
                Ok(Ok(None)) => "the connection begins with neither MQTT's CONNECT nor HTTP".into(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("nothing came within {:?}", context.limits.connect_timeout),
            };
            refused(peer.remote, &peer.listener, &why);
            return None;
        }
    };
    Some(first.stage(stream, read, peer, deadline, context, stopped))
}

impl First {
    /// What follows, once it is known what the connection speaks.
    fn stage<S>(
        self,
        stream: S,
        read: BytesMut,
        peer: Peer,
        deadline: Instant,
        context: Arc<Context>,
        stopped: watch::Receiver<bool>,
    ) -> Stage
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Self::Mqtt => Stage::new(connection::open(
                stream, read, peer, deadline, context, stopped,
            )),
            Self::Http => Stage::new(speak_http(
                stream,
                read.freeze(),
                peer,
                deadline,
                context,
                stopped,
            )),
        }
    }
}

/// Reads the beginning; `None` when no protocol begins like that.
async fn first_bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut BytesMut,
) -> io::Result<Option<First>> {
    read.reserve(connection::FIRST_READ);
    if stream.read_buf(read).await? == 0 {
        let reason = "the connection was closed before it began";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
    }
    Ok(read.first().and_then(|byte| protocol_of_first(*byte)))
}

/// HTTP, and MQTT behind it where the connection becomes a WebSocket.
async fn speak_http<S>(
    stream: S,
    read: Bytes,
    mut peer: Peer,
    mut deadline: Instant,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) -> Option<Stage>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Rewind::new(stream, read);
    let serving = Box::pin(http::run(stream, &peer, &context, &mut stopped));
    let served = if peer.listener.speaks.http {
        // Requests may come for as long as the client likes.
        let served = serving.await;
        deadline = Instant::now() + context.limits.connect_timeout;
        served
    } else if let Ok(served) = tokio::time::timeout_at(deadline, serving).await {
        served
    } else {
        let why = format!("no WebSocket within {:?}", context.limits.connect_timeout);
        refused(peer.remote, &peer.listener, &why);
        return None;
    };
    let (stream, early, request) = served?;
    if matches!(peer.listener.auth, Auth::Credentials(_)) {
        peer.upgrade = request;
    }
    let (stream, behind) = stream.into_parts();
    // As a rule both are empty: a client waits for the answer to its handshake.
    let early = match (early.is_empty(), behind.is_empty()) {
        (true, _) => behind,
        (false, true) => Bytes::copy_from_slice(&early),
        (false, false) => [early, behind].concat().into(),
    };
    peer.protocol = Protocol::WebSocket;
    let most = (context.limits.max_packet_bytes as u64).saturating_mul(PACKETS_IN_MESSAGE);
    let stream = websocket::Stream::new(stream, early, most);
    let read = BytesMut::new();
    Some(Stage::new(connection::open(
        stream, read, peer, deadline, context, stopped,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_the_protocol() {
        assert_eq!(protocol_of_first(0x10), Some(First::Mqtt));
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let first = method
                .as_bytes()
                .first()
                .copied()
                .and_then(protocol_of_first);
            assert_eq!(first, Some(First::Http), "{method}");
        }
        // A TLS ClientHello, and other packets of MQTT.
        for byte in [0x16, 0x00, 0x11, 0x20, 0x30, 0xc0, 0xff, b'g'] {
            assert_eq!(protocol_of_first(byte), None, "{byte:#x}");
        }
    }
}
