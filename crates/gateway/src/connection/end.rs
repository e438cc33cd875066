//! How a connection ends, and what a version 5 client is told of it.

use std::sync::Arc;

use iotedge_mqtt::{Disconnect, DisconnectProperties, Packet, ReasonCode, Str};
use iotedge_ports::{CloseReason, ConnectionId, Detached, DisconnectReason, EndKind};

use super::open::Opened;
use crate::Context;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: EndKind,
    /// For logs and lifecycle events.
    pub(super) reason: DisconnectReason,
    /// What version 5's DISCONNECT says (MQTT 5, 3.14.2.1); none is sent with what is no error.
    pub(super) code: ReasonCode,
    /// The client has changed how long its session lives.
    pub(super) session_expiry: Option<u32>,
}

impl End {
    /// The server ends it.
    pub(super) fn lost(reason: DisconnectReason, code: ReasonCode) -> Self {
        Self {
            kind: EndKind::Lost,
            reason,
            code,
            session_expiry: None,
        }
    }

    /// There is nobody left to tell.
    pub(super) fn broken() -> Self {
        Self::lost(DisconnectReason::ConnectionLost, ReasonCode::Success)
    }

    pub(super) fn closed(reason: CloseReason) -> Self {
        let (reason, code) = match reason {
            CloseReason::SessionTakenOver => (
                DisconnectReason::DuplicateClientId,
                ReasonCode::SessionTakenOver,
            ),
            CloseReason::SlowConsumer => {
                (DisconnectReason::SlowConsumer, ReasonCode::QuotaExceeded)
            }
            CloseReason::NotAuthorized => {
                (DisconnectReason::ForbiddenAccess, ReasonCode::NotAuthorized)
            }
            CloseReason::ServerShuttingDown => (
                DisconnectReason::ShuttingDown,
                ReasonCode::ServerShuttingDown,
            ),
            CloseReason::AdministrativeAction => (
                DisconnectReason::AdministrativeAction,
                ReasonCode::AdministrativeAction,
            ),
        };
        Self::lost(reason, code)
    }

    /// The DISCONNECT that goes before the connection is closed, where there is one.
    pub(super) fn disconnect(&self, explanation: Option<&str>) -> Option<Packet> {
        if !self.code.is_error() {
            return None;
        }
        let words = explanation.unwrap_or_else(|| words(self.reason));
        let properties = reason_string(words).map(|text| {
            Box::new(DisconnectProperties {
                reason_string: Some(text),
                ..DisconnectProperties::default()
            })
        });
        Some(Packet::Disconnect(Disconnect {
            reason: self.code,
            properties,
        }))
    }
}

/// What a reason says to people.
fn words(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::ClientInitiated => "the client has said goodbye",
        DisconnectReason::ClientError => "the client broke the protocol",
        DisconnectReason::ConnectionLost => "the connection is lost",
        DisconnectReason::DuplicateClientId => "another connection has taken the client id over",
        DisconnectReason::AuthError | DisconnectReason::ForbiddenAccess => "not authorized",
        DisconnectReason::KeepAliveTimeout => {
            "nothing has come for one and a half times the keep-alive"
        }
        DisconnectReason::WebSocketExpired => {
            "the WebSocket has lasted as long as broker.max_websocket_duration allows"
        }
        DisconnectReason::CustomAuthExpired => {
            "the connection has lasted as long as the authorizer allows"
        }
        DisconnectReason::SlowConsumer => {
            "the client does not take its messages and its buffer is full"
        }
        DisconnectReason::QuotaExceeded => "a queue that the message is bound for is full",
        DisconnectReason::StoreUnavailable => "the store takes nothing",
        DisconnectReason::ServerError => "an error of the gateway",
        DisconnectReason::ShuttingDown => "the gateway stops",
        DisconnectReason::AdministrativeAction => "an operator has closed the connection",
    }
}

/// Bytes of the longest reason string; what is behind them is left out.
const LONGEST: usize = 1_024;

pub(super) fn reason_string(what: &str) -> Option<Str> {
    let mut end = what.len().min(LONGEST);
    while !what.is_char_boundary(end) {
        end -= 1;
    }
    Str::new(what.get(..end)?).ok()
}

/// Gives the session back however the connection ends, a panic included.
pub(super) struct Detach {
    pub(super) context: Arc<Context>,
    pub(super) connection: ConnectionId,
    pub(super) end: End,
}

impl Detach {
    /// For a connection of which nobody has said yet how it ends.
    pub(super) fn lost(opened: &Opened, context: &Arc<Context>) -> Self {
        Self {
            context: context.clone(),
            connection: opened.connected.connection,
            end: End::lost(DisconnectReason::ServerError, ReasonCode::UnspecifiedError),
        }
    }
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.context.broker.detach(Detached {
            connection: self.connection,
            end: self.end.kind,
            session_expiry: self.end.session_expiry,
            reason: self.end.reason,
        });
    }
}
