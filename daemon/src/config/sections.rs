//! From the merged tree to a [`Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{ArnScope, ThingName};
use iotedge_telemetry::LogFormat;

use super::problem::{Place, Problem};
use super::section::{Problems, Section};
use super::tree::Table;
use super::{
    AdminConfig, Config, ConfigErrors, DEFAULT_ADMIN, DEFAULT_SOCKET, GatewayConfig,
    ListenerAddress, ListenerConfig, LogConfig, ShadowConfig, StoreConfig, broker, devices,
    listener, principals, rules, units, upstream,
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
            let config = listener::read(&section, &broker);
            if let (Some(config), Some(data_dir)) = (&config, &data_dir) {
                listener::check_policy(&section, config, &policies_dir, data_dir);
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
    let rules_section = root.table("rules");
    let rules = rules::read(&rules_section, data_dir.as_deref());
    rules_section.finish();
    let log = log(root.table("log"));
    let upstreams = upstream::read(root, &gateway, &broker);
    let serial = devices::read(root);
    let users = match &data_dir {
        Some(data_dir) => principals::users(root, &policies_dir, data_dir),
        None => principals::users(root, &policies_dir, Path::new("")),
    };
    let authorizers = principals::authorizers(root);
    principals::check(root, &listeners, &users, &authorizers);
    for later in ["modbus", "gpio"] {
        root.not_yet(later);
    }
    Some(Config {
        file: Some(file.to_owned()),
        data_dir: data_dir?,
        policies_dir,
        rules_dir: file.with_file_name("rules.d"),
        gateway,
        listeners,
        users,
        authorizers,
        broker,
        admin,
        store,
        shadow,
        rules,
        log,
        upstreams,
        serial,
    })
}

pub(super) fn default_gateway() -> GatewayConfig {
    GatewayConfig {
        // A constant that keeps the rules of thing names.
        #[allow(clippy::expect_used)]
        thing_name: ThingName::new("gateway").expect("\"gateway\" is a thing name"),
        arn: ArnScope {
            region: Arc::from("local"),
            account_id: Arc::from("000000000000"),
        },
        names: Vec::new(),
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
    for name in section.texts("names").unwrap_or_default() {
        match iotedge_identity::check_host_name(name) {
            Ok(()) => gateway.names.push(name.to_owned()),
            Err(error) => section.wrong("names", error.to_string()),
        }
    }
    section.finish();
    gateway
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address with port, like \"0.0.0.0:8883\" or \"[::]:8883\"")
    })
}

fn admin(section: &Section<'_>) -> AdminConfig {
    AdminConfig {
        address: section
            .parsed("address", socket_address)
            .unwrap_or(DEFAULT_ADMIN),
        socket: socket_path(section, "socket").unwrap_or_else(|| DEFAULT_SOCKET.into()),
    }
}

/// The kernel's `sun_path` holds 108 bytes with the zero at its end (unix(7)); the socket is made
/// under a name that is four bytes longer and moved into place.
const MAX_SOCKET_PATH: usize = 103;

pub(super) fn socket_path(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = section.path(key)?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let reason = format!(
            "{} has {length} bytes; a socket's path has at most {MAX_SOCKET_PATH}",
            path.display()
        );
        section.wrong(key, reason);
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
    for (key, most, place) in [
        (
            "max_client_token_bytes",
            1024,
            &mut shadow.max_client_token_bytes,
        ),
        ("max_thing_name", 128, &mut shadow.max_thing_name),
        ("max_shadow_name", 64, &mut shadow.max_shadow_name),
        ("max_in_flight", 1_000, &mut shadow.max_in_flight),
    ] {
        if let Some(n) = section.number(key, 1..=most).and_then(number) {
            *place = n;
        }
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
    check_sockets(root, listeners, admin);
    let mut taken: BTreeMap<u16, Vec<(SocketAddr, String)>> = BTreeMap::new();
    let named = listeners.iter().filter_map(|l| {
        let ListenerAddress::Tcp(address) = l.address else {
            return None;
        };
        Some((address, place_of(root, l), "listener.address"))
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

fn place_of(root: &Section<'_>, listener: &ListenerConfig) -> Place {
    let place = listener.place.clone();
    place.unwrap_or_else(|| root.place().clone())
}

/// No two sockets of one name either.
fn check_sockets(root: &Section<'_>, listeners: &[ListenerConfig], admin: &AdminConfig) {
    let mut taken = vec![(admin.socket.as_path(), "admin.socket".to_owned())];
    for listener in listeners {
        let ListenerAddress::Unix { path, .. } = &listener.address else {
            continue;
        };
        let place = place_of(root, listener);
        if let Some((_, at)) = taken.iter().find(|(other, _)| other == path) {
            let reason = format!("{} is already used ({at})", path.display());
            root.note(&place, "listener.address", reason);
        }
        taken.push((path, place.to_string()));
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()))
}
