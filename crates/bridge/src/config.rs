use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::TopicError;
use rustls::sign::SigningKey;
use thiserror::Error;

use crate::Route;
use crate::endpoint::{Endpoint, Proxy};
use crate::gate::TimeWindow;
use crate::preset::Kind;

/// One upstream.
#[derive(Clone)]
pub struct Config {
    /// Its name: in route names, logs and [`iotedge_model::Source::Upstream`].
    pub name: String,
    /// `mqtt://host[:1883]`, `mqtts://host[:8883]`, `ws://host[:80]/path` or `wss://host[:443]/path`;
    /// without a path `/mqtt`.
    pub url: String,
    /// What is at the other end.
    pub kind: Kind,
    /// The version of MQTT that is spoken.
    pub version: Version,
    /// The client id there.
    pub client_id: String,
    /// PEM file of the CAs that the server's certificate is checked with; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate, its chain behind it.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// The key itself, where it is not in a file but in a token.
    pub signing_key: Option<Arc<dyn SigningKey>>,
    /// ALPN names offered (`x-amzn-mqtt-ca` for AWS IoT on port 443).
    pub alpn: Vec<String>,
    /// User name.
    pub username: Option<String>,
    /// File of the password, read anew for each try; a line's end at its end is none of it.
    pub password_file: Option<PathBuf>,
    /// The proxy that the connection goes through.
    pub proxy: Option<Proxy>,
    /// Longest silence on the link in seconds before a ping. A dead link is noticed after twice
    /// this time. 1 to 65,535.
    pub keep_alive: u16,
    /// `false`: the upstream keeps our subscriptions and what comes for them while we are away.
    pub clean_session: bool,
    /// How many messages may wait for their PUBACK.
    pub max_in_flight: u16,
    /// When the link may be up, in local time; empty: always.
    pub windows: Vec<TimeWindow>,
    /// Bytes of a local day, both ways, without TCP's and IP's headers; `None`: no limit.
    pub daily_bytes: Option<u64>,
    /// Messages sent in a second at most; `None`: no limit.
    pub max_rate: Option<u64>,
    /// Bytes of packets sent in a second at most; `None`: no limit.
    pub max_byte_rate: Option<u64>,
    /// Largest payload that the upstream takes, in bytes; `None`: no limit of its own.
    pub max_payload_bytes: Option<usize>,
    /// Largest packet in bytes, both ways; a larger one is dropped with the reason `too-large`
    /// (and acknowledged, when it came in).
    /// AWS IoT takes payloads of 131,072 bytes.
    pub max_packet_bytes: usize,
    /// How long name resolution, TCP, TLS and CONNACK may take together; whole seconds.
    pub connect_timeout: Duration,
    /// When to try again.
    pub backoff: Backoff,
    /// What goes over the link.
    pub routes: Vec<Route>,
    /// What no other gateway is called: in hop lists and in keys of messages. Empty: none are made.
    pub gateway_id: Arc<str>,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 3.1.1.
    #[default]
    V3,
    /// 5.
    V5,
}

impl Version {
    /// `3.1.1` or `5`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// Decorrelated jitter: each pause is between `base` and three times the one before, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest pause.
    pub base: Duration,
    /// Longest pause.
    pub max: Duration,
    /// A connection that held this long begins at `base` again when it is lost.
    pub stable: Duration,
    /// Shortest pause after the upstream said no (CONNACK or SUBACK); the longest is twice it.
    pub refused: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            stable: Duration::from_secs(30),
            refused: Duration::from_secs(60),
        }
    }
}

/// Why a configuration can not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not `SCHEME://HOST[:PORT]`.
    #[error("url {url:?}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value outside its range.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A route's filter or prefix.
    #[error("route {route:?}, {key}: {reason}")]
    Filter {
        /// The route's name.
        route: String,
        /// The key.
        key: &'static str,
        /// Why it is none.
        reason: TopicError,
    },
    /// QoS 2 over the link.
    #[error("route {route:?}, qos: 0 or 1 (the link carries at least once, not exactly once)")]
    Qos {
        /// The route's name.
        route: String,
    },
    /// Rules of a route that can not be.
    #[error("route {route:?}, {key}: {reason}")]
    Rule {
        /// The route's name.
        route: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two inbound routes for one topic: only one of them could have its messages.
    #[error("routes {route:?} and {other:?}: both take some of the same topics of the upstream")]
    Overlap {
        /// A route's name.
        route: String,
        /// The other's.
        other: String,
    },
    /// Two routes or two upstreams of one name.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// `route` or `upstream`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Config {
    /// An upstream without routes, everything else as it is where nothing is said.
    pub fn new(name: &str, url: &str, client_id: &str) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            kind: Kind::default(),
            version: Version::default(),
            client_id: client_id.into(),
            ca: None,
            certificate: None,
            key: None,
            signing_key: None,
            alpn: Vec::new(),
            username: None,
            password_file: None,
            proxy: None,
            keep_alive: 60,
            clean_session: false,
            max_in_flight: 100,
            windows: Vec::new(),
            daily_bytes: None,
            max_rate: None,
            max_byte_rate: None,
            max_payload_bytes: None,
            max_packet_bytes: 262_144,
            connect_timeout: Duration::from_secs(10),
            backoff: Backoff::default(),
            routes: Vec::new(),
            gateway_id: Arc::from(""),
        }
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> String {
        match Endpoint::parse(&self.url) {
            Ok(endpoint) => endpoint.authority(),
            Err(_) => self.url.clone(),
        }
    }

    /// Says what is wrong, before anything starts.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, reason| Err(ConfigError::Value { key, reason });
        let endpoint = Endpoint::parse(&self.url)?;
        if self.name.is_empty() || self.name.contains('/') {
            return value("name", "has at least one character and no '/'");
        }
        if self.client_id.is_empty() {
            return value("client_id", "has at least one character");
        }
        if self.keep_alive == 0 {
            return value("keep_alive", "1 to 65535 seconds");
        }
        if self.version == Version::V5 && self.keep_alive < 5 {
            return value("keep_alive", "at least 5 seconds with MQTT 5");
        }
        if self.max_in_flight == 0 || self.max_in_flight > 10_000 {
            return value("max_in_flight", "1 to 10000");
        }
        if self.max_packet_bytes < 128 || self.max_packet_bytes > 268_435_455 {
            return value("max_packet_bytes", "128 to 268435455");
        }
        let has_key = self.key.is_some() || self.signing_key.is_some();
        if self.certificate.is_some() != has_key {
            return value("certificate", "stands together with key");
        }
        if self.max_rate == Some(0) || self.max_byte_rate.is_some_and(|rate| rate < 1024) {
            return value("max_rate", "at least 1 message and 1024 bytes a second");
        }
        if self.password_file.is_some() && self.username.is_none() {
            return value("password_file", "needs a username");
        }
        let tls = endpoint.scheme.is_tls();
        if !tls && (self.ca.is_some() || self.certificate.is_some()) {
            return value("url", "ca and certificate need mqtts:// or wss://");
        }
        if !tls && !self.alpn.is_empty() {
            return value("alpn", "needs mqtts:// or wss://");
        }
        if let Some(proxy) = &self.proxy {
            proxy.check()?;
        }
        self.check_kind(tls)?;
        if self.connect_timeout < Duration::from_secs(1) {
            return value("connect_timeout", "at least 1 s");
        }
        if self.backoff.base.is_zero() || self.backoff.max < self.backoff.base {
            return value(
                "backoff",
                "the longest pause is not below the shortest, above zero",
            );
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.check()?;
            if self
                .routes
                .iter()
                .skip(at + 1)
                .any(|r| r.name == route.name)
            {
                return Err(ConfigError::Twice {
                    what: "route",
                    name: route.name.clone(),
                });
            }
        }
        crate::route::check_overlap(&self.routes)
    }
}

impl std::fmt::Debug for Config {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}
