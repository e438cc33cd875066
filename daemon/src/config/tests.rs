#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use super::*;

mod limits;
mod mistakes;
mod nonsense;
mod upstreams;

const GOOD: &str = r#"
data_dir = "data"
[[listener]]
protocol = "mqtt"
address = "127.0.0.1:1883"
auth = "anonymous"
policy = "open"
[[listener]]
protocol = "mqtts"
address = "127.0.0.1:8883"
auth = "certificate"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(main: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("policies.d/open.json", "{}");
        folder.put("iotedge.toml", main);
        folder
    }
    fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    /// `ca.pem`, `c.pem` and its `c.key`.
    fn put_keys(&self) {
        let made = tempfile::tempdir().unwrap();
        iotedge_identity::CertificateAuthority::open(made.path()).unwrap();
        for (from, to) in [
            ("ca.pem", "ca.pem"),
            ("ca.pem", "c.pem"),
            ("ca.key", "c.key"),
        ] {
            self.put(to, &fs::read_to_string(made.path().join(from)).unwrap());
        }
    }
    fn load(&self) -> Result<Config, ConfigErrors> {
        load(&self.0.path().join("iotedge.toml"))
    }
    /// The problems, each as `FILE:LINE: KEY: REASON` with the folder taken away.
    fn problems(&self) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        match self.load() {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .to_string()
                .replace(&folder, "")
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }
}

fn problems_of(more: &str) -> Vec<String> {
    Folder::new(&format!("{GOOD}{more}")).problems()
}

#[test]
fn what_is_left_out_has_its_default() {
    let folder = Folder::new(GOOD);
    let config = folder.load().unwrap();
    assert_eq!(config.data_dir, folder.0.path().join("data"));
    assert_eq!(config.policies_dir, folder.0.path().join("policies.d"));
    assert_eq!(config.gateway.thing_name.as_str(), "gateway");
    assert_eq!(&*config.gateway.arn.account_id, "000000000000");
    assert_eq!(config.broker, BrokerConfig::default());
    assert_eq!(config.store, StoreConfig::default());
    assert_eq!(config.admin.address, DEFAULT_ADMIN);
    assert_eq!(config.admin.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(
        config.listeners[0].auth,
        ListenerAuth::Anonymous {
            policy: "open".into()
        }
    );
}

#[test]
fn every_table_of_the_contract_is_read() {
    let folder = Folder::new(&format!(
        r#"{GOOD}
[gateway]
thing_name = "edge-7"
region = "eu-central-1"
account_id = "123456789012"
[broker]
profile = "standard"
max_payload_bytes = "128KiB"
max_packet_bytes = "256KiB"
max_inflight = 20
max_inflight_bytes = "2MiB"
max_queued_messages = 500
max_queued_bytes = "8MiB"
session_expiry = "7d"
retained_max = 10
connect_timeout = "5s"
max_connections = 99
max_topic_levels = 8
max_subscriptions = 50
reserved_wills = "ignore"
[admin]
address = "127.0.0.1:9999"
socket = "control.sock"
[store]
sync = "50ms"
max_bytes = "2GiB"
min_free_disk = "1MiB"
[shadow]
max_document_bytes = "16KiB"
max_depth = 8
max_in_flight = 20
max_client_token_bytes = 128
max_thing_name = 100
max_shadow_name = 32
unused_lifetime = "365d"
[log]
format = "json"
level = "debug"
[[upstream]]
name = "cloud"
url = "mqtts://cloud.example"
ca = "ca.pem"
certificate = "c.pem"
key = "c.key"
alpn = ["x-amzn-mqtt-ca"]
keep_alive = "30s"
[[upstream.route]]
direction = "out"
filter = "t/#"
qos = 0
local_prefix = "house/"
remote_prefix = "site/7/"
on_full = "drop-oldest"
max_bytes = "10MiB"
max_messages = 1000
[[upstream.route]]
name = "commands"
direction = "in"
filter = "cmd/#"
[[serial]]
name = "meter"
path = "/dev/ttyUSB0"
baud = 9600
format = "csv"
columns = ["time", "value"]
topic = "sensors/${{name}}"
"#
    ));
    folder.put_keys();
    let config = folder.load().unwrap();
    assert_eq!(config.gateway.thing_name.as_str(), "edge-7");
    assert_eq!(config.broker.max_payload_bytes, 128 << 10);
    assert_eq!(config.broker.session_expiry, 7 * 86_400);
    assert!(!config.broker.reserved_wills);
    assert_eq!(config.broker.connect_timeout, Duration::from_secs(5));
    assert_eq!(config.listeners[1].max_connections, 99);
    assert_eq!(config.store.linger, Duration::from_millis(50));
    let year = Duration::from_secs(365 * 24 * 3600);
    let shadow = ShadowConfig {
        max_document_bytes: 16 << 10,
        max_depth: 8,
        max_client_token_bytes: 128,
        max_thing_name: 100,
        max_shadow_name: 32,
        max_in_flight: 20,
        unused_lifetime: Some(year),
    };
    assert_eq!(config.shadow, shadow);
    assert_eq!(config.admin.socket, folder.0.path().join("control.sock"));
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.url.to_string(), "mqtts://cloud.example:8883");
    assert_eq!(upstream.client_id.as_str(), "edge-7");
    assert_eq!(upstream.routes[0].name, "out:house/t/#");
    assert_eq!(upstream.routes[0].max_bytes, 10 << 20);
    assert_eq!(upstream.routes[1].name, "commands");
    assert_eq!(upstream.routes[1].direction, iotedge_bridge::Direction::In);
    assert_eq!(config.serial[0].baud, 9600);
    assert_eq!(config.serial[0].format, iotedge_devices::Format::Csv);
}

#[test]
fn drop_in_files_are_laid_over_in_the_order_of_their_names() {
    let folder = Folder::new(&format!(
        "{GOOD}[broker]\nmax_inflight = 1\nretained_max = 1\n"
    ));
    folder.put("conf.d/20.toml", "[broker]\nmax_inflight = 20\n");
    folder.put(
        "conf.d/10.toml",
        "[broker]\nmax_inflight = 10\nmax_subscriptions = 10\n",
    );
    folder.put("conf.d/10.toml~", "nonsense");
    folder.put(
        "conf.d/30.toml",
        "[[listener]]\nprotocol = \"https\"\naddress = \"[::1]:8443\"\nauth = \"certificate\"\n",
    );
    let config = folder.load().unwrap();
    assert_eq!(config.broker.max_inflight, 20);
    assert_eq!(config.broker.max_subscriptions, 10);
    assert_eq!(config.broker.retained_max, 1);
    assert_eq!(config.listeners.len(), 3);

    folder.put("conf.d/40.toml", "\n[broker]\nmax_inflite = 1\n");
    let found = folder.problems();
    assert!(
        found[0].starts_with("conf.d/40.toml:3: broker.max_inflite: "),
        "{found:?}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = Folder::new(GOOD);
    fs::remove_file(folder.0.path().join("iotedge.toml")).unwrap();
    let found = folder.problems();
    assert!(
        found[0].starts_with("iotedge.toml: No such file"),
        "{found:?}"
    );
    fs::write(
        folder.0.path().join("iotedge.toml"),
        b"a = 1\nb = \"\xff\"\n",
    )
    .unwrap();
    assert_eq!(folder.problems(), ["iotedge.toml:2: is not UTF-8 here"]);
    let big = "#".repeat(5 << 20);
    folder.put("iotedge.toml", &big);
    let found = folder.problems();
    assert!(found[0].contains("at most"), "{found:?}");
}

#[test]
fn a_policy_made_by_command_may_be_named_once_there_is_a_store() {
    let folder = Folder::new(&GOOD.replace("\"open\"", "\"made-by-command\""));
    assert_eq!(folder.problems().len(), 1);
    folder.put("data/state.db", "");
    assert_eq!(folder.problems(), Vec::<String>::new());
}

#[test]
fn loading_writes_nothing() {
    let folder = Folder::new(GOOD);
    folder.load().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.0.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["iotedge.toml", "policies.d"]);
}

#[test]
fn dev_stays_on_the_loopback_and_in_its_folder() {
    let config = Config::dev(Path::new("iotedge-data"));
    assert!(
        config
            .listeners
            .iter()
            .all(|l| l.address.to_string().starts_with("127.0.0.1:"))
    );
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        ["127.0.0.1:1883", "127.0.0.1:8883", "127.0.0.1:8443"]
    );
    assert!(config.admin.address.ip().is_loopback());
    for path in [
        &config.admin.socket,
        &config.policies_dir,
        &config.rules_dir,
    ] {
        assert!(path.starts_with("iotedge-data"));
    }
}
