//! What the gateway is told; parsing is the daemon's.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use iotedge_model::{Principal, Protocol, QoS};
use iotedge_ports::Authenticator;

use crate::Limits;

/// What a listener speaks. Where it is more than one, a connection's ALPN says which it is, or its
/// first bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speaks {
    /// MQTT.
    pub mqtt: bool,
    /// MQTT over WebSocket.
    pub websocket: bool,
    /// HTTP/1.1: publish and mounted services.
    pub http: bool,
}

impl Speaks {
    /// The ALPN protocols of a TLS listener, best first: AWS IoT's own names among them.
    pub fn alpn(self) -> Vec<Vec<u8>> {
        let mut all: Vec<&[u8]> = Vec::new();
        if self.mqtt {
            all.extend(ALPN_MQTT);
        }
        if self.http {
            all.push(ALPN_HTTP_CA);
        }
        if self.http || self.websocket {
            all.push(ALPN_HTTP);
        }
        all.into_iter().map(<[u8]>::to_vec).collect()
    }

    /// The label of what is counted before a connection has shown what it speaks.
    pub(crate) fn protocol(self) -> Protocol {
        if self.mqtt {
            Protocol::Mqtt
        } else if self.websocket {
            Protocol::WebSocket
        } else {
            Protocol::Http
        }
    }

    /// Whether HTTP requests come, if only to become WebSockets.
    pub(crate) fn any_http(self) -> bool {
        self.http || self.websocket
    }
}

pub(crate) const ALPN_MQTT: [&[u8]; 2] = [b"x-amzn-mqtt-ca", b"mqtt"];
const ALPN_HTTP_CA: &[u8] = b"x-amzn-http-ca";
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Gives the TLS configuration for each new connection, so that certificates can be replaced while
/// connections live.
pub type Tls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// How clients of a listener prove themselves.
#[derive(Clone)]
pub enum Auth {
    /// A client certificate; TLS listeners only.
    Certificate,
    /// The kernel's word about a process of this machine; Unix sockets only.
    Peer,
    /// Nothing: everyone is this principal.
    Anonymous(Arc<Principal>),
    /// What CONNECT or the HTTP request shows: user name and password, headers, a token.
    Credentials(Arc<dyn Authenticator>),
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port.
    Tcp(SocketAddr),
    /// A socket in the file system: for processes of this machine, in MQTT alone.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's permissions.
        mode: u32,
    },
}

impl Address {
    /// Whether it is reached from this machine alone.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

/// One listener.
pub struct Listener {
    /// The address as configured: its name in logs, events and policies.
    pub name: Arc<str>,
    /// Where.
    pub address: Address,
    /// What it speaks.
    pub speaks: Speaks,
    /// TLS, where it has it.
    pub tls: Option<Tls>,
    /// Who its clients are.
    pub auth: Auth,
    /// Origins of web pages that may open a WebSocket beside the listener's own host and port;
    /// `*` for all.
    pub allowed_origins: Vec<String>,
    /// Connections at once; the next one is closed when it comes.
    pub max_connections: usize,
    /// Connections in a second; the next one is closed when it comes.
    pub max_connection_rate: Option<NonZeroU32>,
    /// The highest QoS of its clients, where that is less than everywhere.
    pub max_qos: Option<QoS>,
    /// The highest topic alias in each direction (MQTT 5), where that is less than everywhere.
    pub max_topic_alias: Option<u16>,
    /// Whether a client may leave its id to the server.
    pub allow_empty_client_id: bool,
}

impl Listener {
    /// The limits of its connections.
    pub(crate) fn limits(&self, everywhere: &Limits) -> Limits {
        Limits {
            max_qos: self
                .max_qos
                .map_or(everywhere.max_qos, |qos| qos.min(everywhere.max_qos)),
            max_topic_alias: self
                .max_topic_alias
                .map_or(everywhere.max_topic_alias, |most| {
                    most.min(everywhere.max_topic_alias)
                }),
            allow_empty_client_id: self.allow_empty_client_id,
            ..everywhere.clone()
        }
    }
}
