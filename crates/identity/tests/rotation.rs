//! A new CA takes over while clients of the old one stay.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{Gateway, Pair, client, gateway, handshake, open};
use iotedge_identity::{CaError, CertificateStatus, ClientAuth, IdentityError, TlsOptions};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

fn server(gateway: &Gateway) -> Arc<ServerConfig> {
    let options = TlsOptions {
        client_auth: ClientAuth::Required,
        ..TlsOptions::default()
    };
    gateway.identity.server_config(&options).unwrap()
}

fn made(gateway: &Gateway, name: &str) -> (iotedge_model::CertificateId, Pair) {
    let made = gateway.identity.create_certificate(name, &[]).unwrap();
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    (made.id, pair)
}

fn file(gateway: &Gateway, name: &str) -> std::path::PathBuf {
    gateway.directory.path().join("ca").join(name)
}

#[test]
fn clients_of_both_cas_connect_and_trust_the_server_until_the_old_one_is_dropped() {
    let gateway = gateway();
    let listener = server(&gateway);
    let old_ca = gateway.identity.ca_pem();
    let (old_id, old) = made(&gateway, "old");

    gateway.identity.rotate_ca().unwrap();
    let new_ca = gateway.identity.ca_pem();
    assert_ne!(old_ca, new_ca);
    let (_, new) = made(&gateway, "new");
    for ca in [&old_ca, &new_ca] {
        for pair in [&old, &new] {
            for version in [&TLS12, &TLS13] {
                // The listener is the one from before: nothing was restarted.
                handshake(&listener, client(ca, Some(pair), &[version])).unwrap();
            }
        }
    }
    let server = fs::read_to_string(file(&gateway, "server.pem")).unwrap();
    let facts = |pem: &str| {
        let der = iotedge_identity::certificate_of_pem(pem).unwrap();
        iotedge_identity::facts(&der).unwrap()
    };
    assert_eq!(facts(&server).issuer_line, facts(&new_ca).subject_line);

    // What it signed is in the way, until it is out.
    let refused = gateway.identity.drop_old_ca(false).unwrap_err();
    assert!(matches!(
        refused,
        IdentityError::OldCaInUse { count: 1, .. }
    ));
    assert_eq!(
        gateway.identity.drop_old_ca(true).unwrap(),
        std::slice::from_ref(&old_id)
    );
    let status = gateway
        .identity
        .snapshot()
        .certificate(&old_id)
        .unwrap()
        .status;
    assert_eq!(status, CertificateStatus::Revoked);
    handshake(&listener, client(&new_ca, Some(&new), &[&TLS13])).unwrap();
    assert!(handshake(&listener, client(&new_ca, Some(&old), &[&TLS13])).is_err());
    // Its clients do not find the way any more.
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = handshake(&listener, client(&old_ca, Some(&new), &[&TLS13]));
    }));
    assert!(lost.is_err());
    let none = gateway.identity.drop_old_ca(false).unwrap_err();
    assert!(matches!(none, IdentityError::Ca(CaError::NoOldCa)));
}

#[test]
fn a_restart_knows_both_and_one_rotation_waits_for_the_other() {
    let gateway = gateway();
    let old_ca = gateway.identity.ca_pem();
    let (_, old) = made(&gateway, "old");
    gateway.identity.rotate_ca().unwrap();
    let again = gateway.identity.rotate_ca().unwrap_err();
    assert!(matches!(again, IdentityError::Ca(CaError::OldCaThere(_))));
    let new_ca = gateway.identity.ca_pem();
    drop(gateway.identity);
    let identity = open(gateway.directory.path(), gateway.clock);
    assert_eq!(identity.ca_pem(), new_ca);
    let cas = identity.own_cas().unwrap();
    assert_eq!(cas.len(), 2);
    assert_eq!(cas[1].pem, *old_ca);
    let listener = identity.server_config(&TlsOptions::default()).unwrap();
    handshake(&listener, client(&old_ca, Some(&old), &[&TLS13])).unwrap();
    identity.drop_old_ca(true).unwrap();
    identity.rotate_ca().unwrap();
}

#[test]
fn an_interrupted_rotation_is_finished_or_undone_at_the_next_start() {
    // Every prefix of what a rotation writes, in its order; the fourth rename is the moment.
    let after = |steps: usize| {
        let gateway = gateway();
        let old_ca = gateway.identity.ca_pem();
        let folder = gateway.directory.path().join("ca");
        let saved = tempfile::tempdir().unwrap();
        copy(&folder, saved.path());
        gateway.identity.rotate_ca().unwrap();
        let new_ca = gateway.identity.ca_pem();
        drop(gateway.identity);
        let new = |name: &str| fs::read(folder.join(name)).unwrap();
        let contents = [
            ("next.key", new("ca.key")),
            ("next.pem", new("ca.pem")),
            ("next-cross.pem", new("old-cross.pem")),
            ("old.pem", new("old.pem")),
        ];
        // Back to before, then so many steps.
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        copy(saved.path(), &folder);
        for (name, bytes) in contents.iter().take(steps) {
            fs::write(folder.join(name), bytes).unwrap();
        }
        for (from, to) in [
            ("next.key", "ca.key"),
            ("next.pem", "ca.pem"),
            ("next-cross.pem", "old-cross.pem"),
        ]
        .iter()
        .take(steps.saturating_sub(4))
        {
            fs::rename(folder.join(from), folder.join(to)).unwrap();
        }
        let identity = open(gateway.directory.path(), gateway.clock);
        let left = fs::read_dir(&folder)
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("next")
            })
            .count();
        assert_eq!(left, 0, "after {steps} steps");
        let count = identity.own_cas().unwrap().len();
        let pem = identity.ca_pem();
        match pem == old_ca {
            true => assert_eq!(count, 1, "after {steps} steps"),
            false => assert_eq!((count, &pem), (2, &new_ca), "after {steps} steps"),
        }
        pem == old_ca
    };
    let undone: Vec<bool> = (0..=7).map(after).collect();
    let expected = [true, true, true, true, true, false, false, false];
    assert_eq!(undone, expected);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_key_that_others_can_read_is_taken_from_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let gateway = gateway();
    let path = file(&gateway, "ca.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(gateway.identity);
    let _again = open(gateway.directory.path(), gateway.clock);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
