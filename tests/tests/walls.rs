//! Holds the architecture's table of rooms: who may use whom, and who must not know what.
//!
//! It reads manifests only (`cargo metadata --no-deps`), so it needs no build of the rooms. Each
//! wall stands below as data with its reason; a wrong wall fails with a sentence. Dev-dependencies
//! are free: a test may know everything.
#![forbid(unsafe_code)]
// The helpers of a test fail as the test does.
#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What every room but the pure ones may use beside its own row.
const TELEMETRY: &str = "telemetry";

/// A row of the table: a room, and the rooms it may use.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    /// Without I/O, a clock or logging: not even `telemetry`.
    pure: bool,
    why: &'static str,
}

const fn pure(name: &'static str, may_use: &'static [&'static str], why: &'static str) -> Room {
    Room {
        name,
        may_use,
        pure: true,
        why,
    }
}

const fn room(name: &'static str, may_use: &'static [&'static str], why: &'static str) -> Room {
    Room {
        name,
        may_use,
        pure: false,
        why,
    }
}

/// The rooms, as the architecture's table has them.
const ROOMS: &[Room] = &[
    pure("model", &[], "it is the words all others share"),
    pure(
        "mqtt",
        &["model"],
        "it is sans I/O and serves the C library too",
    ),
    pure("policy", &["model"], "it decides without store or tokio"),
    pure("ports", &["model"], "it is traits between rooms, no logic"),
    pure("sql", &["model"], "it is parse and evaluate, nothing else"),
    room("telemetry", &["model"], "it must not know services"),
    room("store", &["model"], "it must not know MQTT or AWS"),
    room(
        "shadow",
        &["model", "ports", "store"],
        "it must not know the bridge: it reaches the cloud through UpstreamPort",
    ),
    room(
        "identity",
        &["model", "ports", "store"],
        "it must not know the broker",
    ),
    room(
        "registry",
        &["model", "ports", "store"],
        "it must not know gateway and bridge",
    ),
    room(
        "broker",
        &["model", "mqtt", "ports", "store"],
        "it must not know services or sockets",
    ),
    room(
        "gateway",
        &["model", "mqtt", "ports"],
        "it must not know shadow, rules and bridge: services mount their routes through HttpMount",
    ),
    room(
        "rules",
        &["model", "sql", "ports", "store"],
        "it must not know gateway and bridge",
    ),
    room(
        "bridge",
        &["model", "mqtt", "ports", "store"],
        "it must not know shadow and rules",
    ),
    room(
        "devices",
        &["model", "ports"],
        "it must not know the bridge",
    ),
    Room {
        name: "ffi",
        may_use: &["model", "mqtt"],
        pure: true,
        why: "it is the C border, without services, store and tokio",
    },
    room(
        "benches",
        &["model", "mqtt", "policy"],
        "it drives brokers from outside, and measures decisions alone",
    ),
    room("pages", &[], "it is one call of the kernel"),
    room("tests", &[], "it drives the real binaries from outside"),
    room(
        "daemon",
        &[
            "model", "mqtt", "policy", "ports", "sql", "store", "shadow", "identity", "registry",
            "broker", "gateway", "rules", "bridge", "devices", "pages",
        ],
        "it is the only one that names all rooms",
    ),
];

/// Who of the rooms may use a crate from outside.
enum Who {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// Walls around crates from outside, by their names on the registry.
const OUTSIDE: &[(&str, Who, &str)] = &[
    (
        "rusqlite",
        // The benches measure what SQLite does alone.
        Who::Only(&["store", "benches"]),
        "rooms write no SQL: the store offers logs with takers, and versioned documents",
    ),
    (
        "rumqttc",
        Who::Only(&[]),
        "the bridge speaks MQTT by the room of that name (docs/decisions/0010)",
    ),
    (
        "rumqttd",
        Who::Only(&["benches"]),
        "rumqttd is not the device-facing broker (docs/decisions/0001)",
    ),
    (
        "tokio",
        Who::AllBut(&[
            "model", "mqtt", "policy", "ports", "sql", "shadow", "store", "broker", "registry",
            "ffi",
        ]),
        "decisions are pure and I/O is a shell: this room has no sockets and no runtime",
    ),
    (
        "rustls",
        Who::Only(&["identity", "gateway", "bridge", "ffi", "daemon"]),
        "TLS is for the rooms that hold keys or sockets",
    ),
    (
        "tokio-rustls",
        Who::Only(&["gateway", "bridge", "daemon"]),
        "TLS is for the rooms that hold keys or sockets",
    ),
    (
        "hyper",
        Who::Only(&["gateway", "daemon"]),
        "services answer HTTP through HttpMount",
    ),
    (
        "tokio-serial",
        Who::Only(&["devices"]),
        "serial lines belong to devices",
    ),
    ("openssl", Who::Only(&[]), "TLS is rustls with ring"),
    ("openssl-sys", Who::Only(&[]), "TLS is rustls with ring"),
    ("native-tls", Who::Only(&[]), "TLS is rustls with ring"),
    ("aws-lc-rs", Who::Only(&[]), "TLS is rustls with ring"),
];

/// The rooms with `unsafe` in them: the C border, and one call of the kernel (decision 9).
const UNSAFE_ALLOWED: &[&str] = &["ffi", "pages"];

/// A dependency of a crate that ends in what is shipped: not a dev-dependency.
struct Use {
    user: String,
    used: String,
    inside: bool,
}

/// The room a package is: `iotedge-store` is `store`, `iotedge` itself is the daemon.
fn room_of(package: &str) -> &str {
    match package {
        "iotedge" => "daemon",
        other => other.strip_prefix("iotedge-").unwrap_or(other),
    }
}

/// What is wrong with one dependency, as a sentence.
fn wrong(dependency: &Use) -> Option<String> {
    let user = room_of(&dependency.user);
    let Some(room) = ROOMS.iter().find(|r| r.name == user) else {
        return Some(format!(
            "`{user}` is no room of the architecture's table: add a row with its reason"
        ));
    };
    if dependency.inside {
        let used = room_of(&dependency.used);
        let allowed =
            room.may_use.contains(&used) || (used == TELEMETRY && !room.pure && user != TELEMETRY);
        return (!allowed).then(|| {
            format!(
                "`{user}` must not use `{used}`: {}; it may use {:?}",
                room.why, room.may_use
            )
        });
    }
    let (name, who, why) = OUTSIDE.iter().find(|(n, ..)| *n == dependency.used)?;
    let allowed = match who {
        Who::Only(rooms) => rooms.contains(&user),
        Who::AllBut(rooms) => !rooms.contains(&user),
    };
    (!allowed).then(|| format!("`{user}` must not use the crate `{name}`: {why}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_path_buf()
}

/// The workspace's packages, from `cargo metadata`.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    assert!(
        packages.len() >= ROOMS.len(),
        "cargo metadata names {} packages, the table has {} rooms",
        packages.len(),
        ROOMS.len()
    );
    packages
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// What a package uses beside its dev-dependencies; build and optional dependencies count.
fn uses(package: &Value) -> Vec<Use> {
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    dependencies
        .iter()
        .filter(|d| text(d, "kind") != "dev")
        .map(|d| Use {
            user: text(package, "name").to_owned(),
            used: text(d, "name").to_owned(),
            inside: d["path"].is_string(),
        })
        .collect()
}

fn none_wrong(sentences: &[String]) {
    assert!(sentences.is_empty(), "\n  {}\n", sentences.join("\n  "));
}

#[test]
fn every_dependency_is_allowed_by_the_table_of_rooms() {
    let sentences: Vec<String> = packages()
        .iter()
        .flat_map(uses)
        .filter_map(|u| wrong(&u))
        .collect();
    none_wrong(&sentences);
}

#[test]
fn every_crate_is_a_room_and_every_room_a_crate() {
    let packages = packages();
    let names: Vec<&str> = packages.iter().map(|p| room_of(text(p, "name"))).collect();
    let mut sentences = Vec::new();
    for room in ROOMS {
        if !names.contains(&room.name) {
            sentences.push(format!("the room `{}` has no crate", room.name));
        }
    }
    for name in names {
        if !ROOMS.iter().any(|r| r.name == name) {
            sentences.push(format!("the crate `{name}` is no room of the table"));
        }
    }
    none_wrong(&sentences);
}

#[test]
fn unsafe_code_is_forbidden_outside_the_c_border_and_one_call() {
    let mut sentences = Vec::new();
    for package in packages() {
        let name = room_of(text(&package, "name"));
        if UNSAFE_ALLOWED.contains(&name) {
            continue;
        }
        for target in package["targets"].as_array().expect("targets") {
            let shipped = target["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|k| k == "lib" || k == "bin"));
            let source = text(target, "src_path");
            let code = std::fs::read_to_string(source).expect("a target's source is there");
            if shipped && !code.lines().any(|l| l == "#![forbid(unsafe_code)]") {
                sentences.push(format!("{source} lacks #![forbid(unsafe_code)]"));
            }
        }
    }
    none_wrong(&sentences);
}

#[test]
fn every_crate_takes_its_rust_version_and_lints_from_the_workspace() {
    let mut sentences = Vec::new();
    for package in packages() {
        let path = text(&package, "manifest_path");
        let manifest: toml::Value =
            toml::from_str(&std::fs::read_to_string(path).expect("a manifest is readable"))
                .expect("a manifest is TOML");
        for (key, value) in [
            ("package.rust-version", &["package", "rust-version"][..]),
            ("package.edition", &["package", "edition"]),
            ("package.version", &["package", "version"]),
            ("package.license", &["package", "license"]),
            ("lints", &["lints"]),
        ] {
            let found = value
                .iter()
                .try_fold(&manifest, |table, step| table.get(step))
                .and_then(|table| table.get("workspace"))
                .and_then(toml::Value::as_bool);
            if found != Some(true) {
                sentences.push(format!("{path}: `{key}` must be `workspace = true`"));
            }
        }
    }
    none_wrong(&sentences);
}

#[test]
fn a_wrong_wall_is_found_and_told() {
    let case = |user: &str, used: &str, inside| {
        wrong(&Use {
            user: user.to_owned(),
            used: used.to_owned(),
            inside,
        })
    };
    for (user, used, inside) in [
        ("iotedge-gateway", "iotedge-shadow", true),
        ("iotedge-store", "iotedge-mqtt", true),
        ("iotedge-mqtt", "iotedge-telemetry", true),
        ("iotedge-ffi", "iotedge-store", true),
        ("iotedge-model", "iotedge", true),
        ("iotedge-newcomer", "iotedge-model", true),
        ("iotedge-mqtt", "tokio", false),
        ("iotedge-ffi", "tokio", false),
        ("iotedge", "rusqlite", false),
        ("iotedge-rules", "rumqttc", false),
        ("iotedge", "rumqttd", false),
        ("iotedge-gateway", "aws-lc-rs", false),
    ] {
        let sentence = case(user, used, inside);
        assert!(
            sentence
                .as_deref()
                .is_some_and(|s| s.contains(room_of(user))),
            "{user} -> {used} went through: {sentence:?}"
        );
    }
    for (user, used, inside) in [
        ("iotedge", "iotedge-bridge", true),
        ("iotedge-broker", "iotedge-telemetry", true),
        ("iotedge-store", "rusqlite", false),
        ("iotedge-gateway", "tokio", false),
        ("iotedge-policy", "serde_json", false),
    ] {
        assert_eq!(case(user, used, inside), None, "{user} -> {used}");
    }
}
