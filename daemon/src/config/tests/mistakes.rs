//! What is wrong is told, by file, line and key.

use super::*;

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
        (
            replaced("mqtts", "https") + "max_topic_alias = 1\nallow_empty_client_id = false",
            "listener.max_topic_alias",
            "only for listeners that speak MQTT",
        ),
        (replaced("mqtts", "wss") + "allowed_origins = [\"page.example\"]", "listener.allowed_origins", "neither an origin"),
        (replaced("certificate", "trust"), "listener.auth", "\"trust\" is not one of"),
        (replaced("certificate", "custom"), "listener.authorizer", "is missing"),
        (listener("authorizer = \"a\""), "listener.authorizer", "only for auth = \"custom\""),
        (
            replaced("certificate", "custom") + "authorizer = \"a\"\n",
            "listener.authorizer",
            "no [[authorizer]] with the name \"a\"",
        ),
        (
            replaced("certificate", "password") + "policy = \"open\"\n",
            "listener.policy",
            "has no use",
        ),
        (replaced("mqtts", "mqtt"), "listener.auth", "needs TLS"),
        (replaced("mqtts", "http"), "listener.auth", "needs TLS"),
        (
            replaced("mqtts", "https").replace("\"certificate\"", "\"anonymous\"\npolicy = \"open\""),
            "listener.auth",
            "https listener must have",
        ),
        (listener("policy = \"open\""), "listener.policy", "needs `client_ca`"),
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
        ("[[user]]\nname = \"x\"".into(), "user.policy", "is missing"),
        ("[[user]]\nname = \"x\"\npolicy = \"p\"".into(), "user.name", "needs one of"),
        ("[[user]]\npassword = \"x\"".into(), "user.password", "is no argon2 hash"),
        ("[[user]]\npassword_command = []".into(), "user.password_command", "absolute path"),
        ("[[authorizer]]\nname = \"a b\"".into(), "authorizer.name", "letters, digits"),
        ("[[authorizer]]\nname = \"a\"".into(), "authorizer.name", "needs one of"),
        ("[[authorizer]]\nurl = \"ftp://h\"".into(), "authorizer.url", "neither http"),
        ("[[authorizer]]\ntimeout = \"2m\"".into(), "authorizer.timeout", "10ms to 1m"),
        ("[shadow]\nmax_document_bytes = \"1MiB\"".into(), "shadow.max_document_bytes", "120KiB"),
        ("[shadow]\nunused_lifetime = \"1h\"".into(), "shadow.unused_lifetime", "1d"),
        ("[log]\nformat = \"xml\"".into(), "log.format", "\"text\", \"json\""),
        (format!("[admin]\nsocket = \"/{}\"", "x".repeat(107)), "admin.socket", "at most 103"),
        (upstream("url = \"cloud.example\"", ""), "upstream.url", "no scheme"),
        (upstream("url = \"ftp://host:1\"", ""), "upstream.url", "none of mqtt://, mqtts://, ws:// and wss://"),
        (upstream("url = \"mqtt://u:p@host\"", ""), "upstream.url", "not supported"),
        (upstream("url = \"mqtt://host:0\"", ""), "upstream.url", "no valid port"),
        (upstream("url = \"mqtt://h\"\nkind = \"aws-iot-core\"", ""), "upstream.url", "AWS IoT Core speaks"),
        (upstream("url = \"mqtts://h\"\nkind = \"aws-iot-core\"", ""), "upstream.kind", "wants `certificate`"),
        (
            upstream("url = \"mqtt://h\"\nkind = \"nats\"\nmqtt_version = \"5\"", ""),
            "upstream.mqtt_version",
            "3.1.1 only",
        ),
        (upstream("url = \"mqtt://h\"\nwindow = [\"22-06\"]", ""), "upstream.window", "22:00-06:00"),
        (upstream("url = \"mqtt://h\"\ndaily_bytes = 10", ""), "upstream.daily_bytes", "to"),
        (upstream("url = \"mqtt://h\"\nkind = \"hivemq\"", ""), "upstream.kind", "\"nats\""),
        (upstream("url = \"mqtt://h\"\nmax_rate = 0", ""), "upstream.max_rate", "1 to"),
        (upstream("url = \"mqtts://h/path\"", ""), "upstream.url", "more than a host"),
        (upstream("url = \"mqtt://h\"\npassword_file = \"p\"", ""), "upstream.password_file", "needs `username`"),
        (upstream("url = \"mqtt://h\"\nproxy = \"https://p\"", ""), "upstream.proxy", "neither http:// nor socks5://"),
        (upstream("url = \"mqtt://h\"\nproxy = \"http://u:p@p\"", ""), "upstream.proxy", "keys"),
        (
            upstream("url = \"mqtt://h\"\nproxy = \"http://p\"\nproxy_username = \"u\"", ""),
            "upstream.proxy_username",
            "needs `proxy_password_file`",
        ),
        (upstream("url = \"mqtt://h\"\nproxy_username = \"u\"", ""), "upstream.proxy_username", "needs `proxy`"),
        (upstream("url = \"mqtts://h\"\nca = \"iotedge.toml\"", ""), "upstream.ca", "no PEM block"),
        (listener("certificate = \"iotedge.toml\"\nkey = \"iotedge.toml\""), "listener.key", "private key"),
        (upstream("url = \"mqtt://:1\"", ""), "upstream.url", "no valid host"),
        (upstream("url = \"mqtts://h\"\nca = \"/no/such/ca.pem\"", ""), "upstream.ca", "/no/such/ca.pem"),
        (upstream("url = \"mqtt://h\"\nca = \"iotedge.toml\"", ""), "upstream.ca", "only for mqtts"),
        (
            upstream("url = \"mqtt://h\"\nmqtt_version = \"5\"\nkeep_alive = \"4s\"", ""),
            "upstream.keep_alive",
            "at least 5 s",
        ),
        (upstream("url = \"mqtt://h\"\nmqtt_version = \"4\"", ""), "upstream.mqtt_version", "\"3.1.1\""),
        (upstream(url, "qos = 3"), "upstream.route.qos", "0 to 1"),
        (upstream(url, "on_full = \"panic\""), "upstream.route.on_full", "\"reject\""),
        (upstream(url, "ttl = \"0s\""), "upstream.route.ttl", "1s"),
        (upstream(url, "priority = 10"), "upstream.route.priority", "0 to 9"),
        (upstream(url, "order = \"fifo\""), "upstream.route.order", "\"topic\""),
        (upstream(url, "fresh_share = 20"), "upstream.route.fresh_share", "needs order"),
        (upstream(url, "order = \"none\"\nfresh_share = 100"), "upstream.route.fresh_share", "1 to 99"),
        (upstream(url, "qos = 0\nraise_qos = true"), "upstream.route.raise_qos", "needs qos = 1"),
        (upstream(url, "remote_topic = \"x/${topic(0)}\""), "upstream.route.remote_topic", "levels begin at 1"),
        (upstream(url, "remote_topic = \"x\"\nremote_prefix = \"y/\""), "upstream.route.remote_topic", "one of the two"),
        (upstream(url, "local_topic = \"x\""), "upstream.route.local_topic", "only for routes with direction = \"in\""),
        (upstream(url, "decompress = true"), "upstream.route.decompress", "only for routes with direction = \"in\""),
        (upstream(url, "compress = \"zstd\""), "upstream.route.compress", "\"gzip\""),
        (upstream(url, "idempotency_key = \"id\""), "upstream.route.idempotency_key", "json:NAME"),
        (upstream(url, "retain = true"), "upstream.route.retain", "must be a string"),
        (upstream(url, "ttl = \"5s\"").replace("\"out\"", "\"in\""), "upstream.route.ttl", "only for routes with direction = \"out\""),
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
