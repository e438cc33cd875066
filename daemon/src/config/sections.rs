//! From the merged tree to a [`Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{ArnScope, ThingName};
use iotedge_telemetry::LogFormat;

use super::problem::Problem;
use super::section::{Problems, Section};
use super::tree::Table;
use super::{
    AdminConfig, BrokerConfig, Config, ConfigErrors, DEFAULT_ADMIN, DEFAULT_SOCKET, GatewayConfig,
    ListenerAuth, ListenerConfig, ListenerProtocol, LogConfig, ShadowConfig, StoreConfig, broker,
    devices, units, upstream,
};

pub(super) fn read(file: &Path, whole: &Table) -> Result<Config, ConfigErrors> {
    let problems = Problems::default();
    let root = Section::root(&problems, file, whole);
    let config = root_table(file, &root);
    root.finish();
    let problems = problems.into_inner();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        // A value is only missing when a problem says why; this is for the case of a mistake here.
        _ if problems.is_empty() => Err(ConfigErrors::new(vec![Problem::in_file(
            file,
            "cannot be used, for a reason that was not noted",
        )])),
        _ => Err(ConfigErrors::new(problems)),
    }
}

fn root_table(file: &Path, root: &Section<'_>) -> Option<Config> {
    root.need("data_dir");
    let data_dir = root.path("data_dir");
    let gateway = gateway(root.table("gateway"));
    let broker = broker::read(root.table("broker"));
    let policies_dir = file.with_file_name("policies.d");
    let listeners: Vec<_> = root
        .tables("listener")
        .into_iter()
        .filter_map(|section| {
            let config = listener(&section, &broker);
            if let (Some(config), Some(data_dir)) = (&config, &data_dir) {
                check_policy(&section, config, &policies_dir, data_dir);
            }
            section.finish();
            config
        })
        .collect();
    let admin_section = root.table("admin");
    let admin = admin(&admin_section);
    check_addresses(root, &listeners, &admin_section, &admin);
    admin_section.finish();
    let store = store(root.table("store"));
    let shadow = shadow(root.table("shadow"));
    let log = log(root.table("log"));
    let upstreams = upstream::read(root, &gateway);
    let serial = devices::read(root);
    for later in ["modbus", "gpio", "user"] {
        root.not_yet(later);
    }
    Some(Config {
        file: Some(file.to_owned()),
        data_dir: data_dir?,
        policies_dir,
        rules_dir: file.with_file_name("rules.d"),
        gateway,
        listeners,
        broker,
        admin,
        store,
        shadow,
        log,
        upstreams,
        serial,
    })
}

pub(super) fn default_gateway() -> GatewayConfig {
    GatewayConfig {
        // A constant that keeps the rules of thing names.
        #[allow(clippy::expect_used)]
        thing_name: ThingName::new("gateway").expect("a thing name"),
        arn: ArnScope {
            region: Arc::from("local"),
            account_id: Arc::from("000000000000"),
        },
    }
}

fn gateway(section: Section<'_>) -> GatewayConfig {
    let mut gateway = default_gateway();
    if let Some(name) = section.parsed("thing_name", ThingName::new) {
        gateway.thing_name = name;
    }
    let region = section.parsed("region", |text| {
        let good = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if good {
            Ok(Arc::from(text))
        } else {
            Err("must be 1 to 32 letters, digits and hyphens")
        }
    });
    if let Some(region) = region {
        gateway.arn.region = region;
    }
    let account = section.parsed("account_id", |text| {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Arc::from(text))
        } else {
            Err("must be 12 digits")
        }
    });
    if let Some(account) = account {
        gateway.arn.account_id = account;
    }
    section.finish();
    gateway
}

/// What a listener's `protocol` says.
fn protocol(text: &str) -> Result<ListenerProtocol, String> {
    let known = [
        ListenerProtocol::Mqtt,
        ListenerProtocol::Mqtts,
        ListenerProtocol::Http,
        ListenerProtocol::Https,
    ];
    if let Some(protocol) = known.into_iter().find(|p| p.as_str() == text) {
        return Ok(protocol);
    }
    Err(match text {
        "ws" | "wss" | "unix" => format!("{text:?} is not supported yet"),
        _ => format!("{text:?} is not one of \"mqtt\", \"mqtts\", \"http\", \"https\""),
    })
}

fn listener(section: &Section<'_>, broker: &BrokerConfig) -> Option<ListenerConfig> {
    section.need("address");
    section.need("protocol");
    section.need("auth");
    let address = section.parsed("address", socket_address);
    let protocol = if section.is_list("protocol") {
        section.not_yet_as(
            "protocol",
            "several protocols on one port are not supported yet",
        );
        None
    } else {
        section.parsed("protocol", protocol)
    };
    let auth = auth(section, protocol);
    let tls = protocol.is_none_or(ListenerProtocol::is_tls);
    if !tls {
        for key in ["certificate", "key", "client_ca"] {
            if section.has(key) {
                section.wrong(key, "is only for listeners with TLS");
            }
        }
    }
    let certificate = section.certificates("certificate");
    let key = section.private_key("key");
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if section.has(one) && !section.has(other) {
            section.wrong(
                one,
                format!("goes together with `{other}`, which is missing"),
            );
        }
    }
    let client_ca = section.certificates("client_ca");
    for later in ["crl", "max_qos", "max_topic_alias", "allow_empty_client_id"] {
        section.not_yet(later);
    }
    let max_connections = section
        .number("max_connections", 1..=1_000_000)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(broker.max_connections);
    Some(ListenerConfig {
        protocol: protocol?,
        address: address?,
        auth: auth?,
        certificate,
        key,
        client_ca,
        max_connections,
        place: Some(section.place().clone()),
    })
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address with port, like \"0.0.0.0:8883\" or \"[::]:8883\"")
    })
}

#[derive(Clone, Copy)]
enum AuthWord {
    Certificate,
    Anonymous,
}

fn auth(section: &Section<'_>, protocol: Option<ListenerProtocol>) -> Option<ListenerAuth> {
    let policy = section.text("policy");
    let word = section.parsed("auth", |text| match text {
        "certificate" => Ok(AuthWord::Certificate),
        "anonymous" => Ok(AuthWord::Anonymous),
        "password" | "custom" | "peer" => Err(format!("{text:?} is not supported yet")),
        _ => Err(format!(
            "{text:?} is not one of \"certificate\", \"anonymous\""
        )),
    })?;
    match word {
        AuthWord::Certificate => {
            if let Some(protocol) = protocol.filter(|p| !p.is_tls()) {
                let reason = format!("\"certificate\" needs TLS; {} has none", protocol.as_str());
                section.wrong("auth", reason);
            }
            if section.has("policy") {
                let reason = "a policy for unregistered certificates is not supported yet";
                section.wrong("policy", reason);
            }
            Some(ListenerAuth::Certificate)
        }
        AuthWord::Anonymous => {
            if protocol == Some(ListenerProtocol::Https) {
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

/// A policy that a listener names must be a file of `policies.d`, or could have been made by
/// command, which only a daemon that has run before can know.
fn check_policy(
    section: &Section<'_>,
    listener: &ListenerConfig,
    policies_dir: &Path,
    data_dir: &Path,
) {
    let ListenerAuth::Anonymous { policy } = &listener.auth else {
        return;
    };
    let plain = !policy.is_empty() && !policy.contains(['/', '\0']);
    let there = plain && policies_dir.join(format!("{policy}.json")).is_file();
    let may_be_stored = plain && data_dir.join("state.db").exists();
    if !there && !may_be_stored {
        let reason = format!(
            "there is no policy {policy:?}; put it into {}",
            policies_dir.join("NAME.json").display()
        );
        section.wrong("policy", reason);
    }
}

fn admin(section: &Section<'_>) -> AdminConfig {
    AdminConfig {
        address: section
            .parsed("address", socket_address)
            .unwrap_or(DEFAULT_ADMIN),
        socket: socket(section).unwrap_or_else(|| DEFAULT_SOCKET.into()),
    }
}

/// The kernel's `sun_path` holds 108 bytes with the zero at its end (unix(7)); the socket is made
/// under a name that is four bytes longer and moved into place.
const MAX_SOCKET_PATH: usize = 103;

fn socket(section: &Section<'_>) -> Option<std::path::PathBuf> {
    let path = section.path("socket")?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let reason = format!(
            "{} has {length} bytes; a socket's path has at most {MAX_SOCKET_PATH}",
            path.display()
        );
        section.wrong("socket", reason);
        return None;
    }
    Some(path)
}

fn store(section: Section<'_>) -> StoreConfig {
    let mut store = StoreConfig::default();
    let linger = section.parsed("sync", |text| match text {
        "full" => Ok(Duration::ZERO),
        _ => match units::duration(text) {
            Ok(linger) if linger <= Duration::from_secs(10) => Ok(linger),
            Ok(_) => Err("must be \"full\" or a duration of at most 10s".to_owned()),
            Err(_) => Err(format!(
                "{text:?} is neither \"full\" nor a duration like \"50ms\""
            )),
        },
    });
    if let Some(linger) = linger {
        store.linger = linger;
    }
    if let Some(bytes) = section.size("max_bytes", 1 << 20..=1 << 50) {
        store.max_bytes = bytes;
    }
    if let Some(bytes) = section.size("min_free_disk", 0..=1 << 50) {
        store.min_free_disk = bytes;
    }
    section.finish();
    store
}

fn shadow(section: Section<'_>) -> ShadowConfig {
    let mut shadow = ShadowConfig::default();
    let number = |n: u64| usize::try_from(n).ok();
    if let Some(bytes) = section
        .size("max_document_bytes", 64..=120 << 10)
        .and_then(number)
    {
        shadow.max_document_bytes = bytes;
    }
    if let Some(depth) = section.number("max_depth", 1..=64).and_then(number) {
        shadow.max_depth = depth;
    }
    if let Some(n) = section.number("max_in_flight", 1..=1_000).and_then(number) {
        shadow.max_in_flight = n;
    }
    if !section.is_unlimited("unused_lifetime") {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        shadow.unused_lifetime = section.duration("unused_lifetime", days(1)..=days(36_500));
    }
    section.finish();
    shadow
}

fn log(section: Section<'_>) -> LogConfig {
    let mut log = LogConfig::default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = section.choice("format", &formats) {
        log.format = format;
    }
    if let Some(level) = section.text("level") {
        if let Err(error) = iotedge_telemetry::check_log_level(level) {
            section.wrong("level", error.to_string());
        }
        level.clone_into(&mut log.level);
    }
    section.finish();
    log
}

/// No two sockets on one address: the second could not be opened, and which one that is would be
/// chance.
fn check_addresses(
    root: &Section<'_>,
    listeners: &[ListenerConfig],
    admin_section: &Section<'_>,
    admin: &AdminConfig,
) {
    let mut taken: BTreeMap<u16, Vec<(SocketAddr, String)>> = BTreeMap::new();
    let named = listeners.iter().map(|l| {
        let place = l.place.clone().unwrap_or_else(|| root.place().clone());
        (l.address, place, "listener.address")
    });
    let admin = (
        admin.address,
        admin_section.place_of("address"),
        "admin.address",
    );
    for (address, place, key) in named.chain([admin]) {
        // Port 0 asks for any free one.
        if address.port() == 0 {
            continue;
        }
        let others = taken.entry(address.port()).or_default();
        if let Some((other, at)) = others.iter().find(|(other, _)| overlap(*other, address)) {
            let reason = format!("{address} is already used by {other} ({at})");
            root.note(&place, key, reason);
        }
        others.push((address, place.to_string()));
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()))
}
