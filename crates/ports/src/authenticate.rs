use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{Principal, TraceId};

use crate::BoxFuture;

/// What an authenticator allows a connection, policies of its own for example. Only the Authorizer
/// looks inside.
#[derive(Clone)]
pub struct Grant(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant")
    }
}

/// What a client shows to prove who it is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The address, as configured, of the listener that it came by.
    pub listener: Arc<str>,
    /// The peer.
    pub remote: Option<SocketAddr>,
    /// Ties together what the log says of the connection.
    pub trace: Option<TraceId>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The server name of its TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// CONNECT, for MQTT.
    pub mqtt: Option<MqttCredentials>,
    /// The request, for HTTP and for the request that became a WebSocket.
    pub http: Option<Arc<HttpCredentials>>,
}

/// What CONNECT has.
#[derive(Clone, Default)]
pub struct MqttCredentials {
    /// The client id, `""` where the client leaves it to the gateway.
    pub client_id: String,
    /// The user name.
    pub user_name: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
}

/// What an HTTP request has.
#[derive(Default)]
pub struct HttpCredentials {
    /// Headers with text in them, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The query as it was sent, without `?`.
    pub query: String,
}

impl HttpCredentials {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Credentials {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("listener", &self.listener)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// Who a client is.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The principal.
    pub principal: Arc<Principal>,
    /// What it may do beside that.
    pub grant: Option<Grant>,
    /// After how long the connection is closed.
    pub disconnect_after: Option<Duration>,
    /// After how long it is asked again.
    pub refresh_after: Option<Duration>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAuthenticated {
    /// It is not who it says, or says nothing; the text is for the log.
    Refused(String),
    /// Too many ask at once, or too often.
    Busy(String),
    /// Nobody can say who it is; the text is for the log.
    Unavailable(String),
}

impl fmt::Display for NotAuthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Busy(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// Finds out who a client without a certificate is. May take its time, and must not block.
pub trait Authenticator: Send + Sync {
    /// Decides for one client.
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Authenticated, NotAuthenticated>>;
}
