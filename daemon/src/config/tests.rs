#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use proptest::prelude::*;

use super::*;

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
    assert_eq!(upstream.routes[1].direction, Direction::In);
    assert_eq!(config.serial[0].baud, 9600);
    assert_eq!(config.serial[0].format, iotedge_devices::Format::Csv);
}

#[test]
fn a_profile_gives_the_defaults_and_an_explicit_key_wins() {
    let broker = |keys: &str| {
        let folder = Folder::new(&format!("{GOOD}[broker]\n{keys}"));
        folder.load().unwrap().broker
    };
    assert_eq!(broker(""), BrokerConfig::of(Profile::Standard));
    assert_eq!(broker("profile = \"standard\""), BrokerConfig::default());
    let aws = broker("profile = \"aws-iot\"");
    assert_eq!(aws, BrokerConfig::of(Profile::AwsIot));
    assert_eq!(
        (aws.max_payload_bytes, aws.max_packet_bytes),
        (131_072, 149_504)
    );
    assert_eq!((aws.max_subscriptions, aws.max_topic_levels), (50, 8));
    let mixed = broker(
        "profile = \"aws-iot\"\nmax_payload_bytes = \"1MiB\"\nmax_keep_alive = \"unlimited\"\n\
         max_session_expiry = \"7d\"\nmax_message_expiry = \"unlimited\"\nmax_qos = 2\n\
         subscription_identifiers = true",
    );
    let expected = BrokerConfig {
        max_payload_bytes: 1 << 20,
        max_packet_bytes: (1 << 20) + (18 << 10),
        max_keep_alive: None,
        max_session_expiry: 7 * 86_400,
        max_message_expiry: None,
        max_qos: iotedge_model::QoS::ExactlyOnce,
        subscription_identifiers: true,
        ..BrokerConfig::of(Profile::AwsIot)
    };
    assert_eq!(mixed, expected);
}

const HANDBOOK: &str = include_str!("../../../docs/configuration.md");

/// The rows of the handbook's table of limits: key and both defaults.
fn documented_limits() -> Vec<[&'static str; 3]> {
    let (_, section) = HANDBOOK.split_once("\n## `[broker]`\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.strip_suffix('`')?;
        let [standard, aws] = [cells.next()?, cells.next()?].map(|c| c.trim_matches('`'));
        // Other tables of the section have no column of their own for each profile.
        cells.next().map(|_| [key, standard, aws])
    });
    rows.collect()
}

#[test]
fn the_handbook_tells_the_defaults_of_both_profiles() {
    let rows = documented_limits();
    assert!(rows.len() > 30, "{rows:?}");
    for [key, standard, aws] in rows {
        for (name, profile, value) in [
            ("standard", Profile::Standard, standard),
            ("aws-iot", Profile::AwsIot, aws),
        ] {
            if key == "max_packet_bytes" {
                let default = BrokerConfig::of(profile);
                let around = default.max_packet_bytes - default.max_payload_bytes;
                let around = format!("payload + `\"{}\"", units::size_text(around as u64));
                assert_eq!(value, around);
                continue;
            }
            let value = value.replace(',', "");
            let line = format!("[broker]\nprofile = \"{name}\"\n{key} = {value}");
            let folder = Folder::new(&format!("{GOOD}{line}"));
            let broker = folder
                .load()
                .unwrap_or_else(|e| panic!("{line}: {e}"))
                .broker;
            assert_eq!(broker, BrokerConfig::of(profile), "{line}");
        }
    }
}

/// A key that is read and put nowhere would be ignored silently: each one changes the
/// configuration, whatever the profile.
#[test]
fn every_limit_of_the_broker_is_read() {
    let keys = [
        "max_connections = 7",
        "max_connects_per_client = 7",
        "max_websocket_duration = \"7s\"",
        "connect_timeout = \"7s\"",
        "write_timeout = \"7s\"",
        "max_client_id_bytes = 7",
        "min_keep_alive = \"7s\"",
        "max_keep_alive = \"77s\"",
        "max_payload_bytes = 700",
        "max_packet_bytes = 700",
        "max_user_property_bytes = 7",
        "max_inflight = 7",
        "max_inflight_bytes = 7000",
        "max_topic_bytes = 7",
        "max_topic_levels = 7",
        "max_qos = 0",
        "max_topic_alias = 7",
        "max_publish_rate = 7",
        "max_delivery_rate = 7",
        "max_bytes_rate = 7000",
        "max_message_expiry = \"7s\"",
        "retain_available = false",
        "retained_max = 7",
        "retained_max_bytes = 7000",
        "max_filters_per_subscribe = 7",
        "max_subscriptions = 7",
        "session_expiry = \"7s\"",
        "max_session_expiry = \"7s\"",
        "max_sessions = 7",
        "max_queued_messages = 7",
        "max_queued_bytes = 7000",
        "max_outbox_messages = 7",
        "max_outbox_bytes = 7000",
        "max_hops = 7",
        "reserved_wills = \"ignore\"",
        "lifecycle_events = false",
        "sys_interval = \"0s\"",
    ];
    let name = |key: &'static str| key.split_once(' ').unwrap().0;
    for key in keys {
        assert!(
            HANDBOOK.contains(&format!("\n| `{}` |", name(key))),
            "{key}"
        );
    }
    let identifiers = [
        "subscription_identifiers = false",
        "subscription_identifiers = true",
    ];
    for [key, ..] in documented_limits() {
        let known = keys.iter().chain(&identifiers);
        assert!(known.into_iter().any(|known| name(known) == key), "{key}");
    }
    let mut seen = Vec::new();
    for profile in [Profile::Standard, Profile::AwsIot] {
        let name = match profile {
            Profile::Standard => "standard",
            Profile::AwsIot => "aws-iot",
        };
        // Every other value would be a profile's own.
        let other = match profile {
            Profile::Standard => identifiers[0],
            Profile::AwsIot => identifiers[1],
        };
        for key in keys.into_iter().chain([other]) {
            let folder = Folder::new(&format!("{GOOD}[broker]\nprofile = \"{name}\"\n{key}"));
            let broker = folder.load().unwrap().broker;
            assert_ne!(broker, BrokerConfig::of(profile), "{key}");
            assert!(!seen.contains(&broker), "{key} is another key's value");
            seen.push(broker);
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_file_line_and_key() {
    let found = problems_of(
        r#"[broker]
max_inflite = 5
max_inflight = "many"
retained_max = -1
[brokr]
x = 1
[store]
sync = "sometimes"
max_bytes = "1 elephant"
"#,
    );
    let expected = [
        "iotedge.toml:13: broker.max_inflite: is not a known key; is \"max_inflight\" meant?",
        "iotedge.toml:14: broker.max_inflight: must be an integer, not a string",
        "iotedge.toml:15: broker.retained_max: must be 1 to 100000000",
        "iotedge.toml:16: brokr: is not a known key; is \"broker\" meant?",
        "iotedge.toml:19: store.sync: \"sometimes\" is neither \"full\" nor a duration like \"50ms\"",
        "iotedge.toml:20: store.max_bytes: \"1 elephant\" is not a size; write it like \"256MiB\", \"64kB\" or 4096",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_missing_key_is_told_at_its_table() {
    let found = problems_of("\n[[listener]]\nprotocol = \"mqtt\"\nauth = \"anonymous\"\n");
    assert_eq!(
        found,
        [
            "iotedge.toml:13: listener.address: this key is missing and has no default",
            "iotedge.toml:15: listener.auth: \"anonymous\" needs `policy`: the name of a policy that says what everyone may do",
        ]
    );
}

#[test]
fn each_wrong_value_is_told_with_its_key() {
    let listener = |keys: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:7\"\nprotocol = \"mqtts\"\nauth = \"certificate\"\n{keys}"
        )
    };
    let unix = |keys: &str| {
        format!(
            "[[listener]]\naddress = \"/run/iotedge/mqtt.sock\"\nprotocol = \"unix\"\nauth = \"peer\"\npolicy = \"open\"\n{keys}"
        )
    };
    let replaced = |from: &str, to: &str| listener("").replace(from, to);
    let upstream = |keys: &str, route: &str| {
        format!(
            "[[upstream]]\nname = \"c\"\n{keys}\n[[upstream.route]]\ndirection = \"out\"\nfilter = \"a\"\n{route}"
        )
    };
    let url = "url = \"mqtt://h\"";
    let serial = |keys: &str| format!("[[serial]]\nname = \"m\"\npath = \"/dev/x\"\n{keys}");
    let cases: Vec<(String, &str, &str)> = vec![
        (replaced("127.0.0.1:7", "localhost"), "listener.address", "address with port"),
        (replaced("mqtts", "mqqt"), "listener.protocol", "\"mqqt\" is not one of"),
        (replaced("\"mqtts\"", "[\"mqtts\", \"ws\"]"), "listener.protocol", "has \"mqtts\", which is over TLS, and \"ws\", which is not"),
        (replaced("\"mqtts\"", "[\"wss\", \"wss\"]"), "listener.protocol", "twice"),
        (replaced("\"mqtts\"", "[]"), "listener.protocol", "has no protocol"),
        (replaced("\"mqtts\"", "[\"mqtts\", \"h2\"]"), "listener.protocol", "\"h2\" is not one of"),
        (replaced("\"mqtts\"", "[\"http\", \"ws\"]"), "listener.auth", "needs TLS"),
        (listener("allowed_origins = [\"*\"]"), "listener.allowed_origins", "only for ws and wss"),
        (replaced("mqtts", "wss") + "allowed_origins = [\"page.example\"]", "listener.allowed_origins", "neither an origin"),
        (replaced("certificate", "trust"), "listener.auth", "\"trust\" is not one of"),
        (replaced("certificate", "password"), "listener.auth", "not supported yet"),
        (replaced("mqtts", "mqtt"), "listener.auth", "needs TLS"),
        (replaced("mqtts", "http"), "listener.auth", "needs TLS"),
        (
            replaced("mqtts", "https").replace("\"certificate\"", "\"anonymous\"\npolicy = \"open\""),
            "listener.auth",
            "https listener must have",
        ),
        (listener("policy = \"open\""), "listener.policy", "not supported yet"),
        (replaced("mqtts", "unix"), "listener.auth", "\"certificate\" needs TLS; unix has none"),
        (replaced("certificate", "peer"), "listener.auth", "\"peer\" is for unix"),
        (replaced("\"mqtts\"", "[\"unix\", \"mqtt\"]"), "listener.protocol", "shares its socket with nothing"),
        (listener("mode = \"0600\""), "listener.mode", "only for unix"),
        (unix("mode = \"rw-rw----\""), "listener.mode", "no mode of a file"),
        (unix("mode = \"1777\""), "listener.mode", "no mode of a file"),
        (unix("").replace("policy = \"open\"", ""), "listener.auth", "\"peer\" needs `policy`"),
        (unix("").replace("mqtt.sock", &"x".repeat(104)), "listener.address", "at most 103"),
        (unix("").replace("/run/iotedge/mqtt.sock", DEFAULT_SOCKET), "listener.address", "already used"),
        (unix("max_connection_rate = 0"), "listener.max_connection_rate", "must be 1 to"),
        (listener("max_qos = 3"), "listener.max_qos", "must be 0 to 2"),
        (listener("max_qos = 2\n[broker]\nmax_qos = 1"), "listener.max_qos", "is more than broker.max_qos (1)"),
        (listener("max_topic_alias = 33"), "listener.max_topic_alias", "more than broker.max_topic_alias (32)"),
        (listener("crl = \"x\""), "listener.crl", "No such file"),
        (listener("certificate = \"no.pem\"\nkey = \"iotedge.toml\""), "listener.certificate", "no.pem"),
        (listener("key = \"iotedge.toml\""), "listener.key", "goes together"),
        (listener("client_ca = \"policies.d\""), "listener.client_ca", "is no file"),
        (replaced("127.0.0.1:7", "127.0.0.1:8883"), "listener.address", "already used"),
        (replaced("127.0.0.1:7", "0.0.0.0:8883"), "listener.address", "already used"),
        ("[admin]\naddress = \"127.0.0.1:1883\"".into(), "admin.address", "already used"),
        (
            "[[listener]]\nprotocol = \"mqtt\"\naddress = \"127.0.0.1:7\"\nauth = \"anonymous\"\npolicy = \"none\"".into(),
            "listener.policy",
            "there is no policy \"none\"",
        ),
        ("[broker]\nprofile = \"azure\"".into(), "broker.profile", "\"standard\", \"aws-iot\""),
        ("[broker]\nmax_qos = 3".into(), "broker.max_qos", "0 to 2"),
        ("[broker]\nmax_keep_alive = \"1ms\"".into(), "broker.max_keep_alive", "1s to"),
        ("[broker]\nmax_keep_alive = \"1500ms\"".into(), "broker.max_keep_alive", "whole seconds"),
        ("[broker]\nmin_keep_alive = \"1d\"".into(), "broker.min_keep_alive", "0ms to"),
        (
            "[broker]\nmin_keep_alive = \"10s\"\nmax_keep_alive = \"5s\"".into(),
            "broker.min_keep_alive",
            "the longest 5 s",
        ),
        (
            "[broker]\nprofile = \"aws-iot\"\nmax_keep_alive = \"5s\"".into(),
            "broker.max_keep_alive",
            "the least keep-alive is 30 s",
        ),
        ("[broker]\nmax_connections = \"unlimited\"".into(), "broker.max_connections", "integer"),
        ("[broker]\nmax_topic_bytes = 0".into(), "broker.max_topic_bytes", "1B to"),
        ("[broker]\nmax_topic_alias = 65536".into(), "broker.max_topic_alias", "0 to 65535"),
        ("[broker]\nretain_available = 1".into(), "broker.retain_available", "true or false"),
        ("[broker]\nmax_hops = 101".into(), "broker.max_hops", "0 to 100"),
        (
            "[broker]\nmax_payload_bytes = \"2MiB\"\nmax_packet_bytes = \"1MiB\"".into(),
            "broker.max_payload_bytes",
            "1MiB",
        ),
        ("[store]\nsync = \"11s\"".into(), "store.sync", "at most 10s"),
        ("[gateway]\naccount_id = \"1\"".into(), "gateway.account_id", "12 digits"),
        ("[gateway]\nthing_name = \"a/b\"".into(), "gateway.thing_name", "'/'"),
        ("[[modbus]]\nname = \"x\"".into(), "modbus", "not supported yet"),
        ("[[gpio]]\nname = \"x\"".into(), "gpio", "not supported yet"),
        ("[[user]]\nname = \"x\"".into(), "user", "not supported yet"),
        ("[shadow]\nmax_document_bytes = \"1MiB\"".into(), "shadow.max_document_bytes", "120KiB"),
        ("[shadow]\nunused_lifetime = \"1h\"".into(), "shadow.unused_lifetime", "1d"),
        ("[log]\nformat = \"xml\"".into(), "log.format", "\"text\", \"json\""),
        (format!("[admin]\nsocket = \"/{}\"", "x".repeat(107)), "admin.socket", "at most 103"),
        (upstream("url = \"cloud.example\"", ""), "upstream.url", "no scheme"),
        (upstream("url = \"ftp://host:1\"", ""), "upstream.url", "neither mqtt:// nor mqtts://"),
        (upstream("url = \"mqtt://u:p@host\"", ""), "upstream.url", "not supported"),
        (upstream("url = \"mqtt://host:0\"", ""), "upstream.url", "no valid port"),
        (upstream("url = \"mqtts://[::1]\"", ""), "upstream.url", "IPv6"),
        (upstream("url = \"mqtts://h\"\nca = \"iotedge.toml\"", ""), "upstream.ca", "no PEM block"),
        (listener("certificate = \"iotedge.toml\"\nkey = \"iotedge.toml\""), "listener.key", "private key"),
        (upstream("url = \"mqtt://:1\"", ""), "upstream.url", "no valid host"),
        (upstream("url = \"mqtts://h\"\nca = \"/no/such/ca.pem\"", ""), "upstream.ca", "/no/such/ca.pem"),
        (upstream("url = \"mqtt://h\"\nca = \"iotedge.toml\"", ""), "upstream.ca", "only for mqtts"),
        (upstream(url, "qos = 3"), "upstream.route.qos", "0 to 1"),
        (upstream(url, "on_full = \"panic\""), "upstream.route.on_full", "\"reject\""),
        (upstream(url, "ttl = 5"), "upstream.route.ttl", "not supported yet"),
        (upstream(url, "remote_prefix = \"a/+/\""), "upstream.route.remote_prefix", "wildcards"),
        (
            upstream(url, "[[upstream.route]]\ndirection = \"out\"\nfilter = \"a\""),
            "upstream.route.filter",
            "two routes are called",
        ),
        (upstream(url, "").replace("\"out\"", "\"up\""), "upstream.route.direction", "\"out\", \"in\""),
        (upstream(url, "").replace("\"a\"", "\"a/#/b\""), "upstream.route.filter", "'#'"),
        (
            upstream(url, "on_full = \"reject\"").replace("\"out\"", "\"in\""),
            "upstream.route.on_full",
            "only for routes",
        ),
        (format!("{}\n{}", upstream(url, ""), upstream(url, "")), "upstream.name", "two upstreams"),
        (serial("topic = \"a/#\""), "serial.topic", "wildcards"),
        (serial("topic = \"a/${time}\""), "serial.topic", "${name}"),
        (serial("topic = \"a\"\nformat = \"xml\""), "serial.format", "\"csv\""),
        (serial("topic = \"a\"\nformat = \"csv\""), "serial.columns", "must name the columns"),
        (serial("topic = \"a\"\nformat = \"csv\"\ncolumns = [\"a\", \"a\"]"), "serial.columns", "stand twice"),
        (serial("topic = \"a\"\ncolumns = [\"a\"]"), "serial.columns", "only for"),
        (format!("{}\n{}", serial("topic = \"a\""), serial("topic = \"a\"")), "serial.name", "two ports"),
        (serial(""), "serial.topic", "missing"),
        ("listener = 5".into(), "", "duplicate key"),
        ("store = 5".into(), "store", "must be a table"),
    ];
    for (text, key, words) in cases {
        // Keys of the root table must stand before the first table.
        let found = match text.starts_with('[') {
            true => problems_of(&text),
            false => Folder::new(&format!("{text}\n{GOOD}")).problems(),
        };
        let key = if key.is_empty() {
            String::new()
        } else {
            format!(": {key}: ")
        };
        assert!(
            found.iter().any(|p| p.contains(&key) && p.contains(words)),
            "{key}{words}\nis not in\n{found:#?}\nof\n{text}"
        );
    }
}

#[test]
fn syntax_errors_name_their_line() {
    for (text, line) in [
        ("data_dir = \"d\"\n[broker\nx = 1\n", 2),
        ("data_dir = \"d\"\n\nx = = 1\n", 3),
        ("data_dir = \"d\"\ny = \"open\n", 2),
        ("data_dir = \"d\"\ndata_dir = \"e\"\n", 2),
    ] {
        let found = Folder::new(text).problems();
        let place = format!("iotedge.toml:{line}: ");
        assert!(
            found.iter().any(|p| p.starts_with(&place)),
            "{text:?}: {found:#?}"
        );
    }
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

/// Lines that make sense often enough to get deep, and nonsense.
fn line() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("data_dir"),
        Just("protocol"),
        Just("address"),
        Just("auth"),
        Just("policy"),
        Just("listener"),
        Just("max_bytes"),
        Just("sync"),
        Just("name"),
        Just("url"),
        Just("filter"),
        Just("qos"),
        Just("columns"),
        Just("format"),
        Just("topic"),
        Just("certificate"),
        Just("é"),
        Just("\"\""),
    ];
    let value = prop_oneof![
        Just("\"mqtt\"".to_owned()),
        Just("\"127.0.0.1:1\"".to_owned()),
        Just("\"anonymous\"".to_owned()),
        Just("[]".to_owned()),
        Just("[1, {a = 2}]".to_owned()),
        Just("{}".to_owned()),
        Just("nan".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("0xffff_ffff_ffff_ffff".to_owned()),
        Just("\"mqtt://[::\"".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        "[ -~é€\\n]{0,12}".prop_map(|s| format!("{s:?}")),
    ];
    let table = prop_oneof![
        Just("[[listener]]"),
        Just("[broker]"),
        Just("[store]"),
        Just("[admin]"),
        Just("[[upstream]]"),
        Just("[[upstream.route]]"),
        Just("[[serial]]"),
        Just("[gateway]"),
        Just("[listener.x]"),
        Just("[a.b]"),
        Just("[log]"),
    ];
    prop_oneof![
        (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        table.prop_map(str::to_owned),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(lines in prop::collection::vec(line(), 0..24)) {
        let _ = Folder::new(&lines.join("\n")).load();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = Folder::new("");
        fs::write(folder.0.path().join("iotedge.toml"), bytes).unwrap();
        let _ = folder.load();
    }

    #[test]
    fn a_wrong_file_always_says_why(lines in prop::collection::vec(line(), 0..24)) {
        if let Err(errors) = Folder::new(&lines.join("\n")).load() {
            prop_assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                prop_assert!(!problem.reason.is_empty());
            }
        }
    }
}
