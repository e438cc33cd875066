//! The configuration: one TOML file with `conf.d/*.toml` beside it, checked whole.
//!
//! [`load`] gives a [`Config`] of plain values that were all checked, or everything that is wrong,
//! each with file, line and key. What a room is told is made from it where the rooms are put
//! together; no room knows the file.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use iotedge_model::{ArnScope, ThingName};
use iotedge_telemetry::LogFormat;

mod broker;
mod devices;
mod listener;
mod principals;
mod problem;
mod rules;
mod section;
mod sections;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod upstream;

pub use broker::{BrokerConfig, Profile};
pub use iotedge_devices::SerialConfig;
pub use listener::{ListenerAddress, ListenerAuth, ListenerConfig, ListenerProtocol};
pub use principals::{AuthorizerCall, AuthorizerConfig, PasswordSource, UserConfig};
pub use problem::{ConfigErrors, Place, Problem};
pub use rules::RulesConfig;
pub use upstream::{RouteConfig, UpstreamConfig};

/// Where the daemon looks without `--config`.
pub const DEFAULT_FILE: &str = "/etc/iotedge/iotedge.toml";
/// Where the control socket is by default.
pub const DEFAULT_SOCKET: &str = "/run/iotedge/control.sock";
/// The admin address by default.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9883);
/// The policy of the open listener of [`Config::dev`]; the daemon gives it its text.
pub const DEV_POLICY: &str = "dev-open";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it came from; `None` for [`Config::dev`].
    pub file: Option<PathBuf>,
    /// All that the daemon writes.
    pub data_dir: PathBuf,
    /// `policies.d`; need not be there.
    pub policies_dir: PathBuf,
    /// `rules.d`; need not be there.
    pub rules_dir: PathBuf,
    /// The gateway itself.
    pub gateway: GatewayConfig,
    /// Listeners.
    pub listeners: Vec<ListenerConfig>,
    /// Users with passwords.
    pub users: Vec<UserConfig>,
    /// Custom authorizers.
    pub authorizers: Vec<AuthorizerConfig>,
    /// The broker's limits.
    pub broker: BrokerConfig,
    /// Admin address and control socket.
    pub admin: AdminConfig,
    /// The store.
    pub store: StoreConfig,
    /// Shadows.
    pub shadow: ShadowConfig,
    /// The actions of rules.
    pub rules: RulesConfig,
    /// The log.
    pub log: LogConfig,
    /// Upstream brokers.
    pub upstreams: Vec<UpstreamConfig>,
    /// Serial ports.
    pub serial: Vec<SerialConfig>,
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// This gateway as a thing.
    pub thing_name: ThingName,
    /// Region and account in ARNs.
    pub arn: ArnScope,
    /// Names and addresses beside the host's own, for the server certificate.
    pub names: Vec<String>,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Metrics and health.
    pub address: SocketAddr,
    /// The control socket.
    pub socket: PathBuf,
}

/// `[shadow]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowConfig {
    /// Bytes of a shadow's state.
    pub max_document_bytes: usize,
    /// Levels of a section.
    pub max_depth: usize,
    /// Bytes of a client token.
    pub max_client_token_bytes: usize,
    /// Bytes of a thing's name.
    pub max_thing_name: usize,
    /// Bytes of a shadow's name.
    pub max_shadow_name: usize,
    /// Unanswered requests for one thing.
    pub max_in_flight: usize,
    /// After how long an unused shadow goes; never without.
    pub unused_lifetime: Option<Duration>,
}

impl Default for ShadowConfig {
    /// AWS IoT's limits; nothing is deleted unasked.
    fn default() -> Self {
        Self {
            max_document_bytes: 8 * 1024,
            max_depth: 6,
            max_client_token_bytes: 64,
            max_thing_name: 128,
            max_shadow_name: 64,
            max_in_flight: 10,
            unused_lifetime: None,
        }
    }
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// How long a commit may wait for others: zero for `sync = "full"`.
    pub linger: Duration,
    /// Bytes of both files above which nothing is accepted.
    pub max_bytes: u64,
    /// Free bytes of the file system below which nothing is accepted.
    pub min_free_disk: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            max_bytes: 1 << 30,
            min_free_disk: 256 << 20,
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level, or a filter like `info,iotedge_bridge=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

impl Config {
    /// What `iotedged --dev` runs with: an open listener for MQTT, over WebSocket too, with the
    /// policy [`DEV_POLICY`]; MQTT, HTTPS and WebSocket with client certificates; all on the
    /// loopback; everything else in `data_dir`.
    pub fn dev(data_dir: &Path) -> Self {
        let broker = BrokerConfig::default();
        let listener = |protocols: &[ListenerProtocol], port, auth| ListenerConfig {
            protocols: protocols.to_vec(),
            address: ListenerAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            auth,
            certificate: None,
            key: None,
            client_ca: None,
            crl: Vec::new(),
            allowed_origins: Vec::new(),
            max_connections: broker.max_connections,
            max_connection_rate: None,
            max_qos: None,
            max_topic_alias: None,
            allow_empty_client_id: true,
            place: None,
        };
        let open = ListenerAuth::Anonymous {
            policy: DEV_POLICY.into(),
        };
        Self {
            file: None,
            data_dir: data_dir.to_owned(),
            policies_dir: data_dir.join("policies.d"),
            rules_dir: data_dir.join("rules.d"),
            gateway: sections::default_gateway(),
            listeners: vec![
                listener(&[ListenerProtocol::Mqtt, ListenerProtocol::Ws], 1883, open),
                listener(&[ListenerProtocol::Mqtts], 8883, ListenerAuth::CERTIFICATE),
                listener(
                    &[ListenerProtocol::Https, ListenerProtocol::Wss],
                    8443,
                    ListenerAuth::CERTIFICATE,
                ),
            ],
            users: Vec::new(),
            authorizers: Vec::new(),
            broker,
            admin: AdminConfig {
                address: DEFAULT_ADMIN,
                socket: data_dir.join("control.sock"),
            },
            store: StoreConfig::default(),
            shadow: ShadowConfig::default(),
            rules: RulesConfig::new(data_dir),
            log: LogConfig::default(),
            upstreams: Vec::new(),
            serial: Vec::new(),
        }
    }
}

/// A policy that is named must be a file of `policies.d`, or could have been made by command, which
/// only a daemon that has run before can know.
fn policy_may_exist(policy: &str, policies_dir: &Path, data_dir: &Path) -> bool {
    let plain = !policy.is_empty() && !policy.contains(['/', '\0']);
    let there = plain && policies_dir.join(format!("{policy}.json")).is_file();
    there || (plain && data_dir.join("state.db").exists())
}

fn no_policy(policy: &str, policies_dir: &Path) -> String {
    format!(
        "there is no policy {policy:?}; put it into {}",
        policies_dir.join("NAME.json").display()
    )
}

/// Reads `file` and, merged into it in the order of their names, the files of `conf.d` beside it.
///
/// Writes nothing. Files that the configuration names (keys, CAs) are looked for; ports and devices
/// are not opened.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(file: &Path) -> Result<Config, ConfigErrors> {
    let mut problems = Vec::new();
    let mut whole = BTreeMap::new();
    for path in files(file, &mut problems) {
        let read = read(&path).and_then(|text| tree::parse(&path, &text));
        match read {
            Ok(table) => tree::merge(&mut whole, table),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigErrors::new(problems));
    }
    sections::read(file, &whole)
}

/// More than any configuration; a device or a log given by mistake is not read into memory.
const MAX_FILE_BYTES: u64 = 4 << 20;

fn read(path: &Path) -> Result<String, Vec<Problem>> {
    let whole = |reason: String| vec![Problem::in_file(path, reason)];
    let size = fs::metadata(path).map_err(|e| whole(e.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(whole(format!(
            "has {size} bytes; at most {MAX_FILE_BYTES} are read"
        )));
    }
    let bytes = fs::read(path).map_err(|e| whole(e.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        let line = before.filter(|b| **b == b'\n').count() + 1;
        vec![Problem {
            place: Place {
                file: path.into(),
                line,
            },
            key: String::new(),
            reason: "is not UTF-8 here".into(),
        }]
    })
}

/// The file itself, then those of `conf.d` in the order of their names.
fn files(file: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut all = vec![file.to_owned()];
    let folder = file.with_file_name("conf.d");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return all,
        Err(e) => {
            problems.push(Problem::in_file(&folder, e.to_string()));
            return all;
        }
    };
    let mut more = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => more.push(entry.path()),
            Err(e) => problems.push(Problem::in_file(&folder, e.to_string())),
        }
    }
    more.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    more.sort();
    all.extend(more);
    all
}
