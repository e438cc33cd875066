//! `[[upstream]]`.

mod identity;
mod shadows;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use iotedge_bridge::{Direction, KINDS, Kind, Proxy, TimeWindow, Version};
use iotedge_model::ClientId;

use super::section::Section;
use super::{BrokerConfig, GatewayConfig, Place};
use route::routes;

mod route;

pub use route::RouteConfig;

pub use shadows::ShadowsConfig;

/// `[[upstream]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// Where its keys stand; under the empty one where it begins.
    pub places: BTreeMap<String, Place>,
    /// Its name; queues live under it.
    pub name: String,
    /// Where it is.
    pub url: UpstreamUrl,
    /// What is at the other end.
    pub kind: Kind,
    /// When the link may be up.
    pub windows: Vec<TimeWindow>,
    /// Bytes of a day.
    pub daily_bytes: Option<u64>,
    /// Messages in a second.
    pub max_rate: Option<u64>,
    /// Bytes in a second.
    pub max_byte_rate: Option<u64>,
    /// Largest payload.
    pub max_payload_bytes: Option<u64>,
    /// Messages without PUBACK.
    pub max_inflight: Option<u64>,
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
    /// User name.
    pub username: Option<String>,
    /// File of its password, read at each try.
    pub password_file: Option<PathBuf>,
    /// The proxy on the way.
    pub proxy: Option<Proxy>,
    /// Routes, in the order of the file.
    pub routes: Vec<RouteConfig>,
    /// Shadows that are kept together with its own.
    pub shadows: Option<ShadowsConfig>,
}

/// `mqtt://host:port`, `mqtts://host:port`, `ws://host:port/path` or `wss://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub scheme: &'static str,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of a WebSocket, else empty.
    pub path: String,
}

impl UpstreamUrl {
    /// Whether it is over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, "mqtts" | "wss")
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            host,
            port,
            path,
        } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

pub(super) fn read(
    root: &Section<'_>,
    gateway: &GatewayConfig,
    broker: &BrokerConfig,
) -> Vec<UpstreamConfig> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut upstreams: Vec<UpstreamConfig> = Vec::new();
    for section in root.tables("upstream") {
        let read = upstream(&section, gateway, broker);
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
        if let Some(read) = &read {
            check_client_id(&section, read, &upstreams);
        }
        section.finish();
        upstreams.extend(read);
    }
    shadows::check(root, &upstreams);
    upstreams
}

/// Two links with one client id at one broker push each other out for ever (MQTT 3.1.1, 3.1.4).
fn check_client_id(section: &Section<'_>, new: &UpstreamConfig, upstreams: &[UpstreamConfig]) {
    let same = |old: &&UpstreamConfig| {
        old.url.host.eq_ignore_ascii_case(&new.url.host)
            && old.url.port == new.url.port
            && old.client_id == new.client_id
    };
    if let Some(old) = upstreams.iter().find(same) {
        let reason = format!(
            "{:?} is the client id of the upstream {:?} too, at the same broker: they would push each \
             other out for ever; give one a `client_id` of its own",
            new.client_id.as_str(),
            old.name
        );
        section.wrong("client_id", reason);
    }
}

fn upstream(
    section: &Section<'_>,
    gateway: &GatewayConfig,
    broker: &BrokerConfig,
) -> Option<UpstreamConfig> {
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
    if let (Some(certificate), Some(key)) = (&certificate, &key) {
        if let Err(reason) = identity::check(certificate, key) {
            section.wrong("key", reason);
        }
    }
    let tls = url.as_ref().is_none_or(UpstreamUrl::is_tls);
    if !tls {
        for key in ["ca", "certificate", "key", "alpn"] {
            if section.has(key) {
                section.wrong(key, "is only for mqtts:// and wss:// upstreams");
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
    let kind = section.choice("kind", KINDS).unwrap_or_default();
    if kind == Kind::Nats && version == Version::V5 {
        section.wrong("mqtt_version", "NATS speaks MQTT 3.1.1 only");
    }
    if kind == Kind::AwsIotCore {
        if !tls {
            section.wrong("url", "AWS IoT Core speaks mqtts:// and wss:// only");
        }
        if !section.has("certificate") && !section.has("username") {
            section.wrong(
                "kind",
                "AWS IoT Core wants `certificate` and `key`, or a `username` for a custom authorizer",
            );
        }
    }
    let mut windows = Vec::new();
    let texts = section.texts("window");
    if texts.as_ref().is_some_and(Vec::is_empty) {
        let reason = "has no window; leave the key out for a link that may always be up";
        section.wrong("window", reason);
    }
    for text in texts.unwrap_or_default() {
        match text.parse() {
            Ok(window) => windows.push(window),
            Err(reason) => section.wrong("window", format!("{text:?}: {reason}")),
        }
    }
    let daily_bytes = section.size("daily_bytes", 65_536..=1 << 50);
    let max_rate = section.number("max_rate", 1..=1_000_000);
    let max_byte_rate = section.size("max_byte_rate", 1024..=1 << 40);
    let max_payload_bytes = section.size("max_payload_bytes", 1..=268_435_455);
    let most = broker.max_packet_bytes as u64;
    if max_payload_bytes.is_some_and(|bytes| bytes > most) {
        let reason =
            format!("is more than broker.max_packet_bytes ({most}), which holds for links too");
        section.wrong("max_payload_bytes", reason);
    }
    let max_inflight = section.number("max_inflight", 1..=10_000);
    let username = section.text("username").map(str::to_owned);
    let password_file = section.secret_file("password_file");
    if username.as_ref().is_some_and(String::is_empty) {
        section.wrong("username", "has at least one character");
    }
    if section.has("password_file") && !section.has("username") {
        section.wrong("password_file", "needs `username`");
    }
    let proxy = proxy(section);
    let routes = routes(section, version);
    let shadows = shadows::read(section, &routes);
    let inbound = routes.iter().filter(|r| r.direction == Direction::In);
    let inbound = inbound.count();
    let of_shadows = shadows.as_ref().map_or(0, ShadowsConfig::subscriptions);
    if kind == Kind::AwsIotCore && inbound + of_shadows > shadows::SUBSCRIPTIONS {
        let of_shadows = match of_shadows {
            0 => String::new(),
            count => format!(" and those of shadows {count}"),
        };
        section.wrong(
            "kind",
            format!(
                "AWS IoT Core takes 50 subscriptions of a connection; \
                 inbound routes need {inbound}{of_shadows}"
            ),
        );
    }
    let (name, url) = (name?, url?);
    let shadows = shadows.map(|shadows| shadows.of(&name, &url.host));
    Some(UpstreamConfig {
        places: section.places(),
        name,
        url,
        shadows,
        kind,
        windows,
        daily_bytes,
        max_rate,
        max_byte_rate,
        max_payload_bytes,
        max_inflight,
        version,
        client_id: client_id?,
        ca,
        certificate,
        key,
        alpn: alpn.into_iter().map(str::to_owned).collect(),
        keep_alive,
        username,
        password_file,
        proxy,
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
    let (scheme, default) = [("mqtt", 1883), ("mqtts", 8883), ("ws", 80), ("wss", 443)]
        .into_iter()
        .find(|(name, _)| *name == scheme)
        .ok_or_else(|| wrong("is none of mqtt://, mqtts://, ws:// and wss://"))?;
    let (rest, path) = match rest.split_once('/') {
        Some((rest, path)) => (rest, path),
        None => (rest, ""),
    };
    if rest.contains('@') {
        return Err("a user and password in the URL are not supported: they have keys".into());
    }
    let web_socket = matches!(scheme, "ws" | "wss");
    let bad = |b: u8| !b.is_ascii_graphic() || b == b'#';
    if rest.contains(['?', '#']) || (!web_socket && !path.is_empty()) || path.bytes().any(bad) {
        return Err(wrong("has more than a host and a port"));
    }
    let (host, port) = host_and_port(rest).ok_or_else(|| wrong("has no valid host"))?;
    let port = match port {
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("has no valid port"))?,
        None => default,
    };
    let path = match (web_socket, path) {
        (false, _) => String::new(),
        (true, "") => "/mqtt".into(),
        (true, path) => format!("/{path}"),
    };
    Ok(UpstreamUrl {
        scheme,
        host: host.to_owned(),
        port,
        path,
    })
}

/// `http://host:port` or `socks5://host:port`.
fn proxy_url(text: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("{text:?} {why}; write it like \"socks5://host:1080\"");
    let rest = ["http://", "socks5://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or_else(|| wrong("is neither http:// nor socks5://"))?;
    if rest.contains('@') {
        return Err("a user and password in the URL are not supported: they have keys".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (_, port) = host_and_port(rest).ok_or_else(|| wrong("has no valid host"))?;
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(text.to_owned()),
        Some(_) => Err(wrong("has no valid port")),
    }
}

/// `proxy` and its keys.
fn proxy(section: &Section<'_>) -> Option<Proxy> {
    let url = section.parsed("proxy", proxy_url);
    let username = section.text("proxy_username").map(str::to_owned);
    let password_file = section.secret_file("proxy_password_file");
    for (key, other) in [
        ("proxy_username", "proxy"),
        ("proxy_password_file", "proxy_username"),
        ("proxy_username", "proxy_password_file"),
    ] {
        if section.has(key) && !section.has(other) {
            section.wrong(key, format!("needs `{other}`"));
        }
    }
    let good = |name: &String| (1..=255).contains(&name.len()) && !name.contains([':', '\r', '\n']);
    if username.as_ref().is_some_and(|name| !good(name)) {
        section.wrong("proxy_username", "has 1 to 255 bytes and no colon");
    }
    Some(Proxy {
        url: url?,
        username,
        password_file,
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
