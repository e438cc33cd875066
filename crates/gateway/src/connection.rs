//! One MQTT connection.

mod alias;
mod auth;
mod connack;
mod end;
mod handle;
mod open;
mod outgoing;
mod packets;
mod publish;
mod pump;
mod subscribe;
mod terms;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use iotedge_model::{Principal, Protocol, Source, TraceId};
use iotedge_mqtt::{Decoder, Role};
use iotedge_telemetry::event;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Context, Listener};

/// Who is on the other end.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) remote: Remote,
    pub(crate) principal: Arc<Principal>,
    pub(crate) listener: Arc<Listener>,
    /// The label of metrics.
    pub(crate) protocol: Protocol,
    /// When CONNECT must have come.
    pub(crate) deadline: Instant,
    /// Ties together what the log says of the connection.
    pub(crate) trace: TraceId,
}

impl Peer {
    pub(crate) fn new(
        remote: Remote,
        principal: Arc<Principal>,
        listener: Arc<Listener>,
        deadline: Instant,
    ) -> Self {
        Self {
            remote,
            principal,
            listener,
            protocol: Protocol::Mqtt,
            deadline,
            trace: TraceId::unique(),
        }
    }

    /// Where its messages come from.
    pub(crate) fn source(&self) -> Source {
        match self.protocol {
            Protocol::WebSocket => Source::WebSocket,
            _ => Source::Mqtt,
        }
    }
}

/// The other end's address; a process of this machine has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote(pub(crate) Option<SocketAddr>);

impl Remote {
    pub(crate) fn address(self) -> Option<SocketAddr> {
        self.0
    }

    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

/// From the first byte to the last.
pub(crate) async fn run<S>(
    stream: S,
    peer: Peer,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let limits = &context.limits;
    let mut decoder = Decoder::new(Role::Server, limits.max_packet_bytes)
        .with_max_user_property_bytes(limits.max_user_property_bytes);
    let mut buffer = BytesMut::new();
    let timeout = context.limits.connect_timeout;
    let first = tokio::select! {
        first = tokio::time::timeout_at(
            peer.deadline,
            open::read_connect(&mut reader, &mut decoder, &mut buffer),
        ) => first,
        _ = stopped.changed() => return,
    };
    let connect = match first {
        Ok(Ok(connect)) => connect,
        Ok(Err(refusal)) => {
            let terms = terms::Terms::unknown(decoder.version(), decoder.receiver_limit());
            open::refuse(&mut writer, &peer, &refusal, &terms).await;
            return;
        }
        Err(_) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED, remote = %peer.remote,
                "no CONNECT within {timeout:?}"
            );
            return;
        }
    };
    let terms = terms::Terms::of(&connect, &context.limits);
    match open::attach(connect, terms, &peer, &context) {
        Ok(attached) => {
            let mut pump = pump::Pump::new(attached, peer, context, decoder, buffer);
            pump.run(&mut reader, &mut writer).await;
        }
        Err(refusal) => open::refuse(&mut writer, &peer, &refusal, &terms).await,
    }
}
