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

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use iotedge_model::{Principal, TraceId};
use iotedge_mqtt::{Decoder, Role};
use iotedge_telemetry::event;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Context;

/// Who is on the other end.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) principal: Arc<Principal>,
    pub(crate) listener: SocketAddr,
    /// When CONNECT must have come.
    pub(crate) deadline: Instant,
    /// Ties together what the log says of the connection.
    pub(crate) trace: TraceId,
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
    let mut decoder = Decoder::new(Role::Server, context.limits.max_packet_bytes);
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
            let terms = terms::Terms::unknown(decoder.version());
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
