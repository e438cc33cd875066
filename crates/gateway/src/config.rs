//! What the gateway is told; parsing is the daemon's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::Principal;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// MQTT.
    Mqtt,
    /// HTTP/1.1: publish and mounted services.
    Http,
}

/// Gives the TLS configuration for each new connection, so that certificates can be replaced while
/// connections live.
pub type Tls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// How clients of a listener prove themselves.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A client certificate; TLS listeners only.
    Certificate,
    /// Nothing: everyone is this principal.
    Anonymous(Arc<Principal>),
}

/// One listener.
pub struct Listener {
    /// The address as configured: its name in logs, events and policies.
    pub name: Arc<str>,
    /// Where.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// TLS, where it has it.
    pub tls: Option<Tls>,
    /// Who its clients are.
    pub auth: Auth,
    /// Connections at once; the next one is closed when it comes.
    pub max_connections: usize,
}

/// Limits of connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From accept to CONNECT, the TLS handshake included.
    pub connect_timeout: Duration,
    /// A whole MQTT packet or HTTP body.
    pub max_packet_bytes: usize,
    /// A PUBLISH payload.
    pub max_payload_bytes: usize,
    /// Publishes of a client that wait for their acknowledgement; the socket is not read beyond.
    pub max_inflight: usize,
    /// Their bytes.
    pub max_inflight_bytes: usize,
    /// Levels of a topic or filter.
    pub max_topic_levels: usize,
    /// Seconds that a persistent 3.1.1 session outlives its connection.
    pub session_expiry: u32,
    /// Seconds that a version 5 session may ask to outlive its connection; `u32::MAX` for ever.
    pub session_expiry_max: u32,
    /// How long a client may leave its socket full.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            max_packet_bytes: 1 << 20,
            max_payload_bytes: 1 << 20,
            max_inflight: 100,
            max_inflight_bytes: 1 << 20,
            max_topic_levels: 128,
            session_expiry: 3_600,
            session_expiry_max: u32::MAX,
            write_timeout: Duration::from_secs(60),
        }
    }
}
