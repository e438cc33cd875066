//! The gateway's CA and server certificate through first start, restarts and accidents.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{NEW_YEAR_2026, Pair, TestClock, client, gateway, handshake, open};
use iotedge_identity::{
    CaError, CertificateAuthority, ClientAuth, TlsOptions, certificate_of_pem, facts, host_names,
    principal_of,
};
use rustls::version::{TLS12, TLS13};

const CENTURY: u64 = 3_155_695_200;

fn server_certificate(directory: &Path) -> String {
    fs::read_to_string(directory.join("ca/server.pem")).unwrap()
}

#[test]
fn the_first_start_makes_a_ca_whose_key_only_the_daemon_can_read() {
    let gateway = gateway();
    gateway
        .identity
        .server_config(&TlsOptions::default())
        .unwrap();
    for (name, mode) in [
        ("ca.key", 0o600),
        ("server.key", 0o600),
        ("ca.pem", 0o644),
        ("server.pem", 0o644),
    ] {
        let path = gateway.directory.path().join("ca").join(name);
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn a_restart_keeps_ca_and_server_certificate() {
    let gateway = gateway();
    gateway
        .identity
        .server_config(&TlsOptions::default())
        .unwrap();
    let (ca, server) = (
        gateway.identity.ca_pem().to_owned(),
        server_certificate(gateway.directory.path()),
    );
    drop(gateway.identity);
    let again = open(gateway.directory.path(), gateway.clock);
    again.server_config(&TlsOptions::default()).unwrap();
    assert_eq!(again.ca_pem(), ca);
    assert_eq!(server_certificate(gateway.directory.path()), server);
}

#[test]
fn clients_that_trust_the_ca_find_the_gateway_by_each_of_its_names() {
    let gateway = gateway();
    let server = gateway
        .identity
        .server_config(&TlsOptions {
            client_auth: ClientAuth::None,
            ..TlsOptions::default()
        })
        .unwrap();
    for version in [&TLS12, &TLS13] {
        let config = client(&gateway.identity.ca_pem(), None, &[version]);
        handshake(&server, config).unwrap();
    }
    let der = certificate_of_pem(&server_certificate(gateway.directory.path())).unwrap();
    let facts = facts(&der).unwrap();
    let mut held: Vec<_> = facts.subject["AlternativeName.DNSName"].clone();
    held.extend(facts.subject["AlternativeName.IPAddress"].clone());
    held.sort();
    let expected: Vec<_> = host_names(&[]).into_iter().collect();
    assert_eq!(held, expected);
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(held.iter().any(|n| n == name), "{name}");
    }
}

#[test]
fn another_name_or_the_coming_end_renews_the_server_certificate() {
    let gateway = gateway();
    let directory = gateway.directory.path();
    let plain = TlsOptions::default();
    gateway.identity.server_config(&plain).unwrap();
    let first = server_certificate(directory);

    let named = TlsOptions {
        names: vec!["edge.example.com".into(), "192.0.2.7".into()],
        ..TlsOptions::default()
    };
    gateway.identity.server_config(&named).unwrap();
    let second = server_certificate(directory);
    assert_ne!(first, second);

    // A hundred years on: by a clock that means nothing, all stays; by a trusted one, it is made
    // again, and then lives.
    gateway.clock.set(NEW_YEAR_2026 + CENTURY, false);
    gateway.identity.server_config(&named).unwrap();
    assert_eq!(server_certificate(directory), second);
    gateway.clock.set(NEW_YEAR_2026 + CENTURY, true);
    gateway.identity.server_config(&named).unwrap();
    let third = server_certificate(directory);
    assert_ne!(third, second);
    gateway.identity.server_config(&named).unwrap();
    assert_eq!(server_certificate(directory), third);
}

#[test]
fn what_a_pi_in_1970_makes_is_valid_today() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::at(0, false);
    let identity = open(directory.path(), clock.clone());
    let made = identity.create_certificate("pump", &[]).unwrap();
    let server = identity.server_config(&TlsOptions::default()).unwrap();
    clock.set(NEW_YEAR_2026, true);
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    // The client's clock is the machine's, which is later than 2020.
    let config = client(&identity.ca_pem(), Some(&pair), &[&TLS13]);
    handshake(&server, config).unwrap();
}

#[test]
fn a_lost_ca_key_is_an_error_and_nothing_is_overwritten() {
    let gateway = gateway();
    let ca = gateway.directory.path().join("ca");
    fs::remove_file(ca.join("ca.key")).unwrap();
    let before = fs::read(ca.join("ca.pem")).unwrap();
    let error = CertificateAuthority::open(&ca).unwrap_err();
    assert!(matches!(error, CaError::KeyMissing(_)), "{error}");
    assert_eq!(fs::read(ca.join("ca.pem")).unwrap(), before);
    assert!(!ca.join("ca.key").exists());
}

#[test]
fn a_lost_ca_certificate_is_made_again_and_old_clients_still_verify() {
    let gateway = gateway();
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let old_ca = gateway.identity.ca_pem().to_owned();
    fs::remove_file(gateway.directory.path().join("ca/ca.pem")).unwrap();
    // A gateway that has lost its store too: the certificate is only signed, not registered.
    fs::create_dir(gateway.directory.path().join("new")).unwrap();
    fs::rename(
        gateway.directory.path().join("ca"),
        gateway.directory.path().join("new/ca"),
    )
    .unwrap();
    let again = open(&gateway.directory.path().join("new"), gateway.clock);
    let server = again.server_config(&TlsOptions::default()).unwrap();
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    for ca in [&*old_ca, &*again.ca_pem()] {
        handshake(&server, client(ca, Some(&pair), &[&TLS13])).unwrap();
    }
}

#[test]
fn a_foreign_or_broken_ca_key_is_named() {
    let gateway = gateway();
    let ca = gateway.directory.path().join("ca");
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(ca.join("ca.key"), other).unwrap();
    let error = CertificateAuthority::open(&ca).unwrap_err();
    assert!(matches!(error, CaError::KeyMismatch { .. }), "{error}");
    fs::write(ca.join("ca.key"), "nothing").unwrap();
    let error = CertificateAuthority::open(&ca).unwrap_err();
    assert!(matches!(error, CaError::BadKey { .. }), "{error}");
}

#[test]
fn the_id_is_the_digest_that_openssl_prints() {
    let gateway = gateway();
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let path = gateway.directory.path().join("pump.pem");
    fs::write(&path, &made.certificate_pem).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&path)
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, digest) = text.trim().split_once('=').unwrap();
    assert_eq!(digest.replace(':', "").to_lowercase(), made.id.as_str());
    let der = certificate_of_pem(&made.certificate_pem).unwrap();
    assert_eq!(principal_of(&der), made.id);
}
