//! One MQTT connection.

mod alias;
mod auth;
mod connack;
mod decisions;
mod drive;
mod end;
mod handle;
mod live;
mod open;
mod outgoing;
mod output;
mod packets;
mod publish;
mod pump;
mod rates;
mod subscribe;
mod terms;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::BytesMut;
use iotedge_model::{Principal, Protocol, Source, TraceId};
use iotedge_mqtt::{Decoder, Role};
use iotedge_ports::{HttpCredentials, PrincipalStatus};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use open::FIRST_READ;
pub use open::standing_text;

use self::end::Detach;
use self::live::Live;
use self::pump::Pump;
use crate::authenticate::GrantSlot;
use crate::stage::Stage;
use crate::{Context, Listener};

/// How long a connection that is closed may take to say its last words and to hear the other end's.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Says that nothing more comes, and hears what does until the other end closes, too: a socket that
/// is closed while bytes come is reset, and what was said last may be lost with it. To be given up
/// after [`LAST_WORDS`].
pub(crate) async fn hang_up<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.shutdown().await?;
    let mut unheard = [0; 256];
    while stream.read(&mut unheard).await? > 0 {}
    Ok(())
}

/// Who is on the other end.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) remote: Remote,
    pub(crate) principal: Arc<Principal>,
    pub(crate) listener: Arc<Listener>,
    /// The label of metrics.
    pub(crate) protocol: Protocol,
    /// Ties together what the log says of the connection.
    pub(crate) trace: TraceId,
    /// The server name of the TLS handshake.
    pub(crate) server_name: Option<Arc<str>>,
    /// What an authenticator has granted, and may grant anew while the connection lasts; or what the
    /// listener lets certificates do that are not registered.
    pub(crate) grant: Option<Arc<GrantSlot>>,
    /// The request that became the WebSocket, until CONNECT has come.
    pub(crate) upgrade: Option<Arc<HttpCredentials>>,
}

impl Peer {
    pub(crate) fn new(remote: Remote, principal: Arc<Principal>, listener: Arc<Listener>) -> Self {
        Self {
            remote,
            principal,
            listener,
            protocol: Protocol::Mqtt,
            trace: TraceId::unique(),
            server_name: None,
            grant: None,
            upgrade: None,
        }
    }

    /// Whether it came over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.listener.tls.is_some()
    }

    /// Where its certificate stands. One without a certificate has none that could be switched off.
    pub(crate) fn standing(&self, context: &Context) -> PrincipalStatus {
        if self.principal.certificate_id().is_none() {
            return PrincipalStatus::Active;
        }
        let grant = self.grant.as_ref().map(|slot| slot.current());
        context.authorizer.status(&self.principal, grant.as_ref())
    }

    /// Where its messages come from.
    pub(crate) fn source(&self) -> Source {
        match self.protocol {
            Protocol::WebSocket => Source::WebSocket,
            _ => Source::Mqtt,
        }
    }
}

/// The other end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Remote {
    /// An address.
    Network(SocketAddr),
    /// A process of this machine, by its number where the kernel says it.
    Local(Option<i32>),
}

impl Remote {
    pub(crate) fn of(socket: &UnixStream) -> Self {
        Self::Local(socket.peer_cred().ok().and_then(|peer| peer.pid()))
    }

    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Network(address) => Some(address),
            Self::Local(_) => None,
        }
    }

    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.address().map(|address| address.ip())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Local(Some(pid)) => write!(f, "pid {pid}"),
            Self::Local(None) => f.write_str("local"),
        }
    }
}

/// Up to CONNACK; `buffer` is what has been read already, and CONNECT must have come by `deadline`.
pub(crate) async fn open<S>(
    mut stream: S,
    mut buffer: BytesMut,
    mut peer: Peer,
    deadline: Instant,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) -> Option<Stage>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let mut decoder = Decoder::new(Role::Server, limits.max_packet_bytes)
        .with_max_user_property_bytes(limits.max_user_property_bytes);
    let timeout = context.limits.connect_timeout;
    let first = tokio::select! {
        first = tokio::time::timeout_at(
            deadline,
            open::read_connect(&mut stream, &mut decoder, &mut buffer),
        ) => first,
        _ = stopped.changed() => return None,
    };
    let connect = match first {
        Ok(Ok(connect)) => connect,
        Ok(Err(refusal)) => {
            let terms = terms::Terms::unknown(decoder.version(), decoder.receiver_limit());
            open::refuse(&mut stream, &peer, &refusal, &terms).await;
            return None;
        }
        Err(_) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED, remote = %peer.remote, listener = %peer.listener.name,
                "no CONNECT within {timeout:?}"
            );
            METRICS.count(Metric::ConnectClientError, peer.protocol);
            let _ = tokio::time::timeout(LAST_WORDS, stream.shutdown()).await;
            return None;
        }
    };
    let terms = terms::Terms::of(&connect, &context.limits);
    match open::attach(connect, terms, &mut peer, &context).await {
        Ok(attached) => {
            if let Err(refusal) = open::promise_is_kept(&attached, deadline).await {
                drop(Detach::lost(&attached, &context));
                open::refuse(&mut stream, &peer, &refusal, &terms).await;
                return None;
            }
            // As a rule empty: its memory must not be held by a client that has come to wait.
            let input = BytesMut::from(&buffer[..]);
            let pump = Pump::new(attached, peer, context, decoder, input);
            Some(Stage::new(Live::new(pump, stream)))
        }
        Err(refusal) => {
            open::refuse(&mut stream, &peer, &refusal, &terms).await;
            None
        }
    }
}
