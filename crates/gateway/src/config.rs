//! What the gateway is told; parsing is the daemon's.

use std::net::SocketAddr;
use std::sync::Arc;

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
