//! `[[upstream]]` and its routes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use iotedge_bridge::Version;
use iotedge_model::{ClientId, QoS, Topic, TopicFilter};
use iotedge_ports::OnFull;

use super::section::Section;
use super::{GatewayConfig, Place};

/// `[[upstream]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// Its name; queues live under it.
    pub name: String,
    /// Where it is.
    pub url: UpstreamUrl,
    /// The version of MQTT.
    pub version: Version,
    /// The client id there; default: the gateway's thing name.
    pub client_id: ClientId,
    /// PEM file of the CAs that may have signed the upstream's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM chain that the gateway shows.
    pub certificate: Option<PathBuf>,
    /// PEM key of `certificate`; there when `certificate` is.
    pub key: Option<PathBuf>,
    /// ALPN protocols offered; empty: none.
    pub alpn: Vec<String>,
    /// Keep alive.
    pub keep_alive: Duration,
    /// Routes, in the order of the file.
    pub routes: Vec<RouteConfig>,
}

/// `mqtt://host:port` or `mqtts://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Over TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Which way a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From here to the upstream.
    Out,
    /// From the upstream to here.
    In,
}

impl Direction {
    /// As the file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// `[[upstream.route]]`. Topics lose the prefix of the side they come from and get the other's; the
/// filter is what is between.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// Its name within the upstream; default: direction, local prefix and filter. Its queue lives
    /// under it.
    pub name: String,
    /// Which way.
    pub direction: Direction,
    /// What it carries, without prefixes.
    pub filter: TopicFilter,
    /// Highest QoS.
    pub qos: QoS,
    /// Put before topics here.
    pub local_prefix: String,
    /// Put before topics there.
    pub remote_prefix: String,
    /// What happens when the queue is full.
    pub on_full: OnFull,
    /// Byte limit of the queue (`out`).
    pub max_bytes: u64,
    /// Message limit of the queue (`out`).
    pub max_messages: u64,
}

pub(super) fn read(root: &Section<'_>, gateway: &GatewayConfig) -> Vec<UpstreamConfig> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut upstreams = Vec::new();
    for section in root.tables("upstream") {
        let read = upstream(&section, gateway);
        if let Some(name) = section.text("name") {
            let place = section.place_of("name");
            if let Some(first) = names.get(name) {
                section.wrong(
                    "name",
                    format!("two upstreams are called {name:?}; the first is at {first}"),
                );
            }
            names.insert(name.to_owned(), place);
        }
        section.finish();
        upstreams.extend(read);
    }
    upstreams
}

fn upstream(section: &Section<'_>, gateway: &GatewayConfig) -> Option<UpstreamConfig> {
    section.need("name");
    section.need("url");
    let name = section.parsed("name", plain_name);
    let url = section.parsed("url", url);
    let version = section
        .choice(
            "mqtt_version",
            &[("3.1.1", Version::V3), ("5", Version::V5)],
        )
        .unwrap_or_default();
    let client_id = match section.has("client_id") {
        true => section.parsed("client_id", ClientId::new),
        false => ClientId::new(gateway.thing_name.as_str()).ok(),
    };
    let ca = section.certificates("ca");
    let (certificate, key) = section.certificate_and_key();
    let tls = url.as_ref().is_none_or(|u| u.tls);
    if !tls {
        for key in ["ca", "certificate", "key", "alpn"] {
            if section.has(key) {
                section.wrong(key, "is only for mqtts:// upstreams");
            }
        }
    }
    let alpn = section.texts("alpn").unwrap_or_default();
    if alpn.iter().any(|p| p.is_empty() || p.len() > 255) {
        section.wrong("alpn", "a protocol's name has 1 to 255 bytes");
    }
    let keep_alive = section
        .duration(
            "keep_alive",
            Duration::from_secs(1)..=Duration::from_secs(65_535),
        )
        .unwrap_or(Duration::from_secs(60));
    if version == Version::V5 && keep_alive < Duration::from_secs(5) {
        section.wrong("keep_alive", "is at least 5 s with mqtt_version = \"5\"");
    }
    let routes = routes(section);
    Some(UpstreamConfig {
        name: name?,
        url: url?,
        version,
        client_id: client_id?,
        ca,
        certificate,
        key,
        alpn: alpn.into_iter().map(str::to_owned).collect(),
        keep_alive,
        routes,
    })
}

/// Names of upstreams, routes and devices: in metrics, in `upstream/route`, on the command line.
pub(super) fn plain_name(text: &str) -> Result<String, &'static str> {
    let good = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 64 letters, digits and characters of `._-`")
    }
}

fn url(text: &str) -> Result<UpstreamUrl, String> {
    let wrong = |why: &str| format!("{text:?} {why}; write it like \"mqtts://host:8883\"");
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| wrong("has no scheme"))?;
    let tls = match scheme {
        "mqtt" => false,
        "mqtts" => true,
        "ws" | "wss" => return Err(format!("{text:?}: {scheme}:// is not supported yet")),
        _ => return Err(wrong("is neither mqtt:// nor mqtts://")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("a user and password in the URL are not supported".into());
    }
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has more than a host and a port"));
    }
    let (host, port) = host_and_port(rest).ok_or_else(|| wrong("has no valid host"))?;
    if tls && host.contains(':') {
        return Err(wrong("is TLS to an IPv6 address, which is not supported"));
    }
    let port = match port {
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("has no valid port"))?,
        None if tls => 8883,
        None => 1883,
    };
    Ok(UpstreamUrl {
        tls,
        host: host.to_owned(),
        port,
    })
}

fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let name = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (name || host.parse::<IpAddr>().is_ok()).then_some((host, port))
}

fn routes(upstream: &Section<'_>) -> Vec<RouteConfig> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut routes = Vec::new();
    for section in upstream.tables("route") {
        if let Some(route) = route(&section) {
            if let Some(first) = names.get(&route.name) {
                let key = if section.has("name") {
                    "name"
                } else {
                    "filter"
                };
                let reason = format!(
                    "two routes are called {:?}, the first at {first}; give one a `name` of its own",
                    route.name
                );
                section.wrong(key, reason);
            }
            names.insert(route.name.clone(), section.place().clone());
            routes.push(route);
        }
        section.finish();
    }
    routes
}

fn route(section: &Section<'_>) -> Option<RouteConfig> {
    section.need("direction");
    section.need("filter");
    let directions = [("out", Direction::Out), ("in", Direction::In)];
    let direction = section.choice("direction", &directions);
    let filter = section.parsed("filter", TopicFilter::new);
    let qos = match section.has("qos") {
        true => section.number("qos", 0..=1).map(|n| {
            if n == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            }
        }),
        false => Some(QoS::AtLeastOnce),
    };
    let local_prefix = prefix(section, "local_prefix");
    let remote_prefix = prefix(section, "remote_prefix");
    let on_full = section.choice(
        "on_full",
        &[
            ("reject", OnFull::Reject),
            ("drop-oldest", OnFull::DropOldest),
            ("drop-new", OnFull::DropNew),
        ],
    );
    let max_bytes = section.size("max_bytes", 1 << 16..=1 << 50);
    let max_messages = section.number("max_messages", 1..=1 << 40);
    if direction == Some(Direction::In) {
        for key in ["on_full", "max_bytes", "max_messages"] {
            if section.has(key) {
                section.wrong(key, "is only for routes with direction = \"out\"");
            }
        }
    }
    for later in ["priority", "ttl"] {
        section.not_yet(later);
    }
    let given = section.parsed("name", plain_name);
    let (direction, filter) = (direction?, filter?);
    let name = given.unwrap_or_else(|| format!("{}:{local_prefix}{filter}", direction.as_str()));
    Some(RouteConfig {
        name,
        direction,
        filter,
        qos: qos?,
        local_prefix,
        remote_prefix,
        on_full: on_full.unwrap_or_default(),
        max_bytes: max_bytes.unwrap_or(1 << 30),
        max_messages: max_messages.unwrap_or(10_000_000),
    })
}

/// A prefix is the beginning of topics: no wildcards.
fn prefix(section: &Section<'_>, key: &'static str) -> String {
    section
        .parsed(key, |text| match text.is_empty() {
            true => Ok(String::new()),
            false => Topic::check(text).map(|()| text.to_owned()),
        })
        .unwrap_or_default()
}
