//! `[[listener]]`.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iotedge_model::QoS;

use super::BrokerConfig;
use super::problem::Place;
use super::section::Section;
use super::sections::{socket_address, socket_path};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// MQTT over a Unix socket.
    Unix,
}

impl ListenerProtocol {
    const ALL: [Self; 7] = [
        Self::Mqtt,
        Self::Mqtts,
        Self::Ws,
        Self::Wss,
        Self::Http,
        Self::Https,
        Self::Unix,
    ];

    /// As the file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
        }
    }

    /// Whether it is over TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Https)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.as_str() == text);
        found.ok_or_else(|| {
            let words: Vec<_> = Self::ALL
                .iter()
                .map(|p| format!("{:?}", p.as_str()))
                .collect();
            format!("{text:?} is not one of {}", words.join(", "))
        })
    }
}

/// How a listener's clients prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerAuth {
    /// By a client certificate. With a policy, one that is not registered and comes from `client_ca`
    /// may do what the policy allows.
    Certificate {
        /// The policy's name.
        policy: Option<String>,
    },
    /// By the kernel's word, which user of this machine they are; they may do what the policy
    /// allows.
    Peer {
        /// The policy's name.
        policy: String,
    },
    /// Not at all; they may do what the policy allows.
    Anonymous {
        /// The policy's name.
        policy: String,
    },
    /// By the name and password of a user.
    Password,
    /// By what a custom authorizer says of what they show.
    Custom {
        /// The authorizers, the first for clients that name none.
        authorizers: Vec<Arc<str>>,
    },
}

impl ListenerAuth {
    /// By a certificate that is registered.
    pub const CERTIFICATE: Self = Self::Certificate { policy: None };

    /// As the file spells it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Peer { .. } => "peer",
            Self::Anonymous { .. } => "anonymous",
            Self::Password => "password",
            Self::Custom { .. } => "custom",
        }
    }

    /// The policy of those who come by the listener and have none of their own.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Password | Self::Custom { .. } => None,
            Self::Certificate { policy } => policy.as_deref(),
            Self::Peer { policy } | Self::Anonymous { policy } => Some(policy),
        }
    }

    /// Forgets it: whether two listeners are the same but for that.
    pub fn without_policy(mut self) -> Self {
        match &mut self {
            Self::Password | Self::Custom { .. } => {}
            Self::Certificate { policy } => *policy = None,
            Self::Peer { policy } | Self::Anonymous { policy } => policy.clear(),
        }
        self
    }
}

/// Where a listener is. Written as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's permissions.
        mode: u32,
    },
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

/// `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// What it speaks: at least one, all of them with TLS or none.
    pub protocols: Vec<ListenerProtocol>,
    /// Where.
    pub address: ListenerAddress,
    /// Who may come.
    pub auth: ListenerAuth,
    /// PEM chain of the server; default: the gateway's own.
    pub certificate: Option<PathBuf>,
    /// PEM key of `certificate`; there when `certificate` is.
    pub key: Option<PathBuf>,
    /// PEM file of CAs that sign client certificates.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of the CAs that sign client certificates.
    pub crl: Vec<PathBuf>,
    /// Origins of web pages that may open a WebSocket beside the listener's own.
    pub allowed_origins: Vec<String>,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections in a second.
    pub max_connection_rate: Option<NonZeroU32>,
    /// The highest QoS, below the broker's.
    pub max_qos: Option<QoS>,
    /// The highest topic alias, below the broker's.
    pub max_topic_alias: Option<u16>,
    /// Whether a client may leave its id to the gateway.
    pub allow_empty_client_id: bool,
    /// Where it stands, for what shows only later (an address in use, an unknown policy).
    pub place: Option<Place>,
}

impl ListenerConfig {
    /// Whether it is over TLS.
    pub fn is_tls(&self) -> bool {
        self.protocols.iter().any(|p| p.is_tls())
    }

    /// Its protocols as one text: `mqtts, https, wss`.
    pub fn protocols_text(&self) -> String {
        let names: Vec<_> = self.protocols.iter().map(|p| p.as_str()).collect();
        names.join(", ")
    }
}

pub(super) fn read(section: &Section<'_>, broker: &BrokerConfig) -> Option<ListenerConfig> {
    section.need("address");
    section.need("protocol");
    section.need("auth");
    let protocols = protocols(section);
    let address = address(section, protocols.as_deref());
    let auth = auth(section, protocols.as_deref());
    let speaks = |wanted: &[ListenerProtocol]| {
        let found = protocols.as_deref();
        found.is_none_or(|found| found.iter().any(|p| wanted.contains(p)))
    };
    let tls = [
        ListenerProtocol::Mqtts,
        ListenerProtocol::Wss,
        ListenerProtocol::Https,
    ];
    if !speaks(&tls) {
        for key in ["certificate", "key", "client_ca", "crl"] {
            if section.has(key) {
                section.wrong(key, "is only for listeners with TLS");
            }
        }
    }
    let (certificate, key) = section.certificate_and_key();
    let client_ca = section.certificates("client_ca");
    if section.has("allowed_origins") && !speaks(&[ListenerProtocol::Ws, ListenerProtocol::Wss]) {
        section.wrong("allowed_origins", "is only for ws and wss");
    }
    let allowed_origins = origins(section);
    let mqtt = [
        ListenerProtocol::Mqtt,
        ListenerProtocol::Mqtts,
        ListenerProtocol::Ws,
        ListenerProtocol::Wss,
        ListenerProtocol::Unix,
    ];
    if !speaks(&mqtt) {
        for key in ["max_topic_alias", "allow_empty_client_id"] {
            if section.has(key) {
                section.wrong(key, "is only for listeners that speak MQTT");
            }
        }
    }
    let crl = crl(section);
    let max_connections = section
        .number("max_connections", 1..=1_000_000)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(broker.max_connections);
    Some(ListenerConfig {
        protocols: protocols?,
        address: address?,
        auth: auth?,
        certificate,
        key,
        client_ca,
        crl,
        allowed_origins,
        max_connections,
        max_connection_rate: section
            .number("max_connection_rate", 1..=1_000_000)
            .and_then(|n| NonZeroU32::new(u32::try_from(n).ok()?)),
        max_qos: max_qos(section, broker),
        max_topic_alias: max_topic_alias(section, broker),
        allow_empty_client_id: section.flag("allow_empty_client_id").unwrap_or(true),
        place: Some(section.place().clone()),
    })
}

/// Revocation lists, each of which can be read.
fn crl(section: &Section<'_>) -> Vec<PathBuf> {
    let mut lists = section.paths("crl");
    lists.retain(|path| {
        let read = iotedge_identity::Crls::read(std::slice::from_ref(path), &[]);
        match read {
            Ok(_) => true,
            Err(error) => {
                section.wrong("crl", error.to_string());
                false
            }
        }
    });
    lists
}

/// A port, or a path for `unix`.
fn address(
    section: &Section<'_>,
    protocols: Option<&[ListenerProtocol]>,
) -> Option<ListenerAddress> {
    let text = section.text("address")?;
    // Without a protocol nobody knows what an address is; most are with a port.
    let unix = protocols.map_or(text.contains('/'), |p| p == [ListenerProtocol::Unix]);
    if !unix {
        if section.text("mode").is_some() {
            section.wrong("mode", "is only for unix");
        }
        return section
            .parsed("address", socket_address)
            .map(ListenerAddress::Tcp);
    }
    let mode = section.parsed("mode", |text| match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.len() >= 3 => Ok(mode),
        _ => Err(format!("{text:?} is no mode of a file, like \"0660\"")),
    });
    Some(ListenerAddress::Unix {
        path: socket_path(section, "address")?,
        mode: mode.unwrap_or(SOCKET_MODE),
    })
}

/// For the daemon's user and group.
const SOCKET_MODE: u32 = 0o660;

/// One word, or a list of those that share the port.
fn protocols(section: &Section<'_>) -> Option<Vec<ListenerProtocol>> {
    const KEY: &str = "protocol";
    if !section.is_list(KEY) {
        return Some(vec![section.parsed(KEY, ListenerProtocol::parse)?]);
    }
    let mut found = Vec::new();
    let mut good = true;
    for word in section.texts(KEY)? {
        match ListenerProtocol::parse(word) {
            Ok(protocol) if found.contains(&protocol) => {
                section.wrong(KEY, format!("has {word:?} twice"));
                good = false;
            }
            Ok(protocol) => found.push(protocol),
            Err(reason) => {
                section.wrong(KEY, reason);
                good = false;
            }
        }
    }
    if found.is_empty() && good {
        section.wrong(KEY, "has no protocol in it");
        good = false;
    }
    if found.len() > 1 && found.contains(&ListenerProtocol::Unix) {
        section.wrong(
            KEY,
            "has \"unix\", which shares its socket with nothing else",
        );
        return None;
    }
    let tls = found.iter().find(|p| p.is_tls());
    let plain = found.iter().find(|p| !p.is_tls());
    if let (Some(tls), Some(plain)) = (tls, plain) {
        let (tls, plain) = (tls.as_str(), plain.as_str());
        let reason = format!(
            "has {tls:?}, which is over TLS, and {plain:?}, which is not: one port is either"
        );
        section.wrong(KEY, reason);
        good = false;
    }
    good.then_some(found)
}

/// A listener may have less than the broker, not more.
fn max_qos(section: &Section<'_>, broker: &BrokerConfig) -> Option<QoS> {
    const KEY: &str = "max_qos";
    let number = section.number(KEY, 0..=2)?;
    let qos = u8::try_from(number)
        .ok()
        .and_then(|n| QoS::try_from(n).ok())?;
    if qos > broker.max_qos {
        let reason = format!("is more than broker.max_qos ({})", u8::from(broker.max_qos));
        section.wrong(KEY, reason);
    }
    Some(qos)
}

fn max_topic_alias(section: &Section<'_>, broker: &BrokerConfig) -> Option<u16> {
    const KEY: &str = "max_topic_alias";
    let most = u16::try_from(section.number(KEY, 0..=65_535)?).ok()?;
    if most > broker.max_topic_alias {
        let reason = format!(
            "is more than broker.max_topic_alias ({})",
            broker.max_topic_alias
        );
        section.wrong(KEY, reason);
    }
    Some(most)
}

fn origins(section: &Section<'_>) -> Vec<String> {
    const KEY: &str = "allowed_origins";
    let mut origins = Vec::new();
    for text in section.texts(KEY).unwrap_or_default() {
        let authority = text.split_once("://").map(|(_, authority)| authority);
        let good = matches!(text, "*" | "null")
            || authority.is_some_and(|a| !a.is_empty() && !a.contains(['/', '?', '#', ' ']));
        if good {
            origins.push(text.to_owned());
        } else {
            let reason = format!(
                "{text:?} is neither an origin, like \"https://page.example\" or \"null\", nor \"*\""
            );
            section.wrong(KEY, reason);
        }
    }
    origins
}

/// One name, or a list of them.
fn authorizers(section: &Section<'_>) -> Vec<Arc<str>> {
    const KEY: &str = "authorizer";
    if !section.is_list(KEY) {
        return section.text(KEY).map(Arc::from).into_iter().collect();
    }
    let names = section.texts(KEY).unwrap_or_default();
    if names.is_empty() {
        section.wrong(KEY, "has no authorizer in it");
    }
    names.into_iter().map(Arc::from).collect()
}

#[derive(Clone, Copy)]
enum AuthWord {
    Certificate,
    Peer,
    Anonymous,
    Password,
    Custom,
}

fn auth(section: &Section<'_>, protocols: Option<&[ListenerProtocol]>) -> Option<ListenerAuth> {
    let policy = section.text("policy");
    let word = section.parsed("auth", |text| match text {
        "certificate" => Ok(AuthWord::Certificate),
        "peer" => Ok(AuthWord::Peer),
        "anonymous" => Ok(AuthWord::Anonymous),
        "password" => Ok(AuthWord::Password),
        "custom" => Ok(AuthWord::Custom),
        _ => Err(format!(
            "{text:?} is not one of \"certificate\", \"password\", \"custom\", \"peer\", \
             \"anonymous\""
        )),
    })?;
    let protocols = protocols.unwrap_or_default();
    let authorizers = authorizers(section);
    if section.has("authorizer") && !matches!(word, AuthWord::Custom) {
        section.wrong("authorizer", "is only for auth = \"custom\"");
    }
    if matches!(word, AuthWord::Password | AuthWord::Custom) {
        for key in ["policy", "client_ca"] {
            if section.has(key) {
                section.wrong(key, "has no use with auth = \"password\" or \"custom\"");
            }
        }
    }
    match word {
        AuthWord::Password => Some(ListenerAuth::Password),
        AuthWord::Custom => {
            section.need("authorizer");
            Some(ListenerAuth::Custom { authorizers })
        }
        AuthWord::Certificate => {
            if let Some(plain) = protocols.iter().find(|p| !p.is_tls()) {
                let reason = format!("\"certificate\" needs TLS; {} has none", plain.as_str());
                section.wrong("auth", reason);
            }
            if section.has("policy") && !section.has("client_ca") {
                let reason = "needs `client_ca`: it is for certificates of these CAs that are not registered";
                section.wrong("policy", reason);
            }
            Some(ListenerAuth::Certificate {
                policy: policy.map(str::to_owned),
            })
        }
        AuthWord::Peer => {
            if let Some(other) = protocols.iter().find(|p| **p != ListenerProtocol::Unix) {
                let reason = format!("\"peer\" is for unix; {} has none", other.as_str());
                section.wrong("auth", reason);
            }
            if !section.has("policy") {
                let reason = "\"peer\" needs `policy`: the name of a policy that says what local users may do";
                section.wrong("auth", reason);
            }
            Some(ListenerAuth::Peer {
                policy: policy?.to_owned(),
            })
        }
        AuthWord::Anonymous => {
            if protocols.contains(&ListenerProtocol::Https) {
                let reason = "an https listener must have auth = \"certificate\"; use http";
                section.wrong("auth", reason);
            }
            if section.has("client_ca") {
                let reason = "has no use with auth = \"anonymous\"";
                section.wrong("client_ca", reason);
            }
            if !section.has("policy") {
                let reason = "\"anonymous\" needs `policy`: the name of a policy that says what everyone may do";
                section.wrong("auth", reason);
            }
            Some(ListenerAuth::Anonymous {
                policy: policy?.to_owned(),
            })
        }
    }
}

/// A policy that a listener names must be there.
pub(super) fn check_policy(
    section: &Section<'_>,
    listener: &ListenerConfig,
    policies_dir: &Path,
    data_dir: &Path,
) {
    let Some(policy) = listener.auth.policy() else {
        return;
    };
    if !super::policy_may_exist(policy, policies_dir, data_dir) {
        section.wrong("policy", super::no_policy(policy, policies_dir));
    }
}
