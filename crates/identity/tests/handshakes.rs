//! Real handshakes in memory: who gets in, and with which words the others are refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{ForeignCa, Gateway, NEW_YEAR_2026, Pair, client, gateway, handshake};
use iotedge_identity::{CertificateStatus, ClientAuth, TlsOptions, principal_of};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error, ServerConfig, SupportedProtocolVersion};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn server(gateway: &Gateway) -> Arc<ServerConfig> {
    gateway
        .identity
        .server_config(&TlsOptions::default())
        .unwrap()
}

fn server_with_ca(gateway: &Gateway, ca: &ForeignCa) -> Arc<ServerConfig> {
    let path = gateway.directory.path().join("clients.pem");
    std::fs::write(&path, &ca.pem).unwrap();
    gateway
        .identity
        .server_config(&TlsOptions {
            client_ca: Some(path),
            ..TlsOptions::default()
        })
        .unwrap()
}

fn connect(gateway: &Gateway, server: &Arc<ServerConfig>, pair: &Pair) -> Result<String, Error> {
    let mut ids = Vec::new();
    for version in VERSIONS {
        let config = client(&gateway.identity.ca_pem(), Some(pair), &[version]);
        let connection = handshake(server, config)?;
        ids.push(principal_of(&connection.peer_certificates().unwrap()[0]).to_string());
    }
    assert_eq!(ids[0], ids[1]);
    Ok(ids.swap_remove(0))
}

fn refusal(gateway: &Gateway, server: &Arc<ServerConfig>, pair: &Pair) -> CertificateError {
    let mut errors = Vec::new();
    for version in VERSIONS {
        let config = client(&gateway.identity.ca_pem(), Some(pair), &[version]);
        match handshake(server, config) {
            Err(Error::InvalidCertificate(error)) => errors.push(error),
            other => panic!("{version:?}: {other:?}"),
        }
    }
    assert_eq!(errors[0], errors[1]);
    errors.swap_remove(0)
}

#[test]
fn a_certificate_made_here_is_let_in_and_gives_its_id() {
    let gateway = gateway();
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    let id = connect(&gateway, &server(&gateway), &pair).unwrap();
    assert_eq!(id, made.id.as_str());
}

#[test]
fn without_a_certificate_only_an_optional_listener_goes_on() {
    let gateway = gateway();
    for version in VERSIONS {
        for (asked, let_in) in [
            (ClientAuth::Required, false),
            (ClientAuth::Optional, true),
            (ClientAuth::None, true),
        ] {
            let server = gateway
                .identity
                .server_config(&TlsOptions {
                    client_auth: asked,
                    ..TlsOptions::default()
                })
                .unwrap();
            let config = client(&gateway.identity.ca_pem(), None, &[version]);
            let outcome = handshake(&server, config);
            assert_eq!(outcome.is_ok(), let_in, "{asked:?}");
            if let Err(error) = outcome {
                assert_eq!(error, Error::NoCertificatesPresented);
            }
        }
    }
}

#[test]
fn a_foreign_ca_is_refused_until_its_certificate_is_registered() {
    let gateway = gateway();
    let server = server(&gateway);
    let pair = ForeignCa::new("elsewhere").sign(|_| {});
    assert_eq!(
        refusal(&gateway, &server, &pair),
        CertificateError::UnknownIssuer
    );
    gateway
        .identity
        .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
        .unwrap();
    connect(&gateway, &server, &pair).unwrap();
}

#[test]
fn a_client_ca_lets_in_what_it_signed_unregistered() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let server = server_with_ca(&gateway, &ca);
    connect(&gateway, &server, &ca.sign(|_| {})).unwrap();
    // Another CA of the same name does not help.
    let impostor = ForeignCa::new("fleet").sign(|_| {});
    assert_eq!(
        refusal(&gateway, &server, &impostor),
        CertificateError::BadSignature
    );
}

#[test]
fn version_1_is_let_in_when_registered_or_signed_by_a_known_ca() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let stranger = ForeignCa::new("elsewhere").sign_version_1();
    let plain = server(&gateway);
    assert_eq!(
        refusal(&gateway, &plain, &stranger),
        CertificateError::UnknownIssuer
    );
    gateway
        .identity
        .register_certificate(&stranger.certificate, None, CertificateStatus::Active, &[])
        .unwrap();
    connect(&gateway, &plain, &stranger).unwrap();

    let server = server_with_ca(&gateway, &ca);
    connect(&gateway, &server, &ca.sign_version_1()).unwrap();
    let impostor = ForeignCa::new("fleet").sign_version_1();
    assert_eq!(
        refusal(&gateway, &server, &impostor),
        CertificateError::BadSignature
    );
}

#[test]
fn the_commands_of_the_guide_make_a_certificate_that_is_let_in() {
    let gateway = gateway();
    let directory = gateway.directory.path();
    openssl(directory, "genrsa -out root.key 2048");
    openssl(
        directory,
        "req -x509 -new -nodes -key root.key -sha256 -days 3650 -subj /CN=fleet -out root.pem",
    );
    openssl(directory, "genrsa -out device.key 2048");
    openssl(
        directory,
        "req -new -key device.key -subj /CN=device -out device.csr",
    );
    openssl(
        directory,
        "x509 -req -in device.csr -CA root.pem -CAkey root.key -CAcreateserial -out device.pem -days 3650 -sha256",
    );
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let pair = Pair {
        certificate: read("device.pem"),
        key: read("device.key"),
    };
    // openssl took the machine's clock for the begin of the validity.
    gateway.clock.set(NEW_YEAR_2026, false);
    let known_ca = gateway
        .identity
        .server_config(&TlsOptions {
            client_ca: Some(directory.join("root.pem")),
            ..TlsOptions::default()
        })
        .unwrap();
    connect(&gateway, &known_ca, &pair).unwrap();

    let plain = server(&gateway);
    assert_eq!(
        refusal(&gateway, &plain, &pair),
        CertificateError::UnknownIssuer
    );
    gateway
        .identity
        .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
        .unwrap();
    connect(&gateway, &plain, &pair).unwrap();
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .expect("openssl is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_server_certificate_of_version_1_can_be_used_by_a_listener() {
    let gateway = gateway();
    let pair = ForeignCa::new("elsewhere").sign_version_1();
    let directory = gateway.directory.path();
    std::fs::write(directory.join("s.pem"), &pair.certificate).unwrap();
    std::fs::write(directory.join("s.key"), &pair.key).unwrap();
    let server = gateway
        .identity
        .server_config(&TlsOptions {
            certificate: Some(directory.join("s.pem")),
            key: Some(directory.join("s.key")),
            client_auth: ClientAuth::None,
            ..TlsOptions::default()
        })
        .unwrap();
    let mut config = client(&gateway.identity.ca_pem(), None, &[&TLS13]);
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(common::Credulous));
    // rustls clients refuse version 1 when they verify the handshake, this one does not look.
    handshake(&server, config).unwrap();
}

#[test]
fn expired_and_not_yet_valid_are_told_apart_when_the_clock_is_trusted() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let server = server_with_ca(&gateway, &ca);
    let old = ca.sign(|p| p.not_after = rcgen::date_time_ymd(2025, 1, 1));
    let young = ca.sign(|p| p.not_before = rcgen::date_time_ymd(2030, 1, 1));
    for registered in [false, true] {
        if registered {
            for pair in [&old, &young] {
                gateway
                    .identity
                    .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
                    .unwrap();
            }
        }
        assert!(matches!(
            refusal(&gateway, &server, &old),
            CertificateError::ExpiredContext { .. }
        ));
        assert!(matches!(
            refusal(&gateway, &server, &young),
            CertificateError::NotValidYetContext { .. }
        ));
    }
}

#[test]
fn a_clock_that_is_not_trusted_refuses_nobody() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let server = server_with_ca(&gateway, &ca);
    gateway.clock.set(0, false);
    for pair in [
        ca.sign(|p| p.not_after = rcgen::date_time_ymd(2025, 1, 1)),
        ca.sign(|p| p.not_before = rcgen::date_time_ymd(2030, 1, 1)),
        ca.sign_version_1(),
    ] {
        connect(&gateway, &server, &pair).unwrap();
    }
}

#[test]
fn a_certificate_for_servers_is_of_the_wrong_purpose() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let server = server_with_ca(&gateway, &ca);
    let pair =
        ca.sign(|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(
        refusal(&gateway, &server, &pair),
        CertificateError::InvalidPurpose
    );
    gateway
        .identity
        .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
        .unwrap();
    assert_eq!(
        refusal(&gateway, &server, &pair),
        CertificateError::InvalidPurpose
    );
}

#[test]
fn revoked_is_refused_at_once_though_the_ca_signed_it() {
    let gateway = gateway();
    let server = server(&gateway);
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    connect(&gateway, &server, &pair).unwrap();
    gateway
        .identity
        .set_status(&made.id, CertificateStatus::Revoked)
        .unwrap();
    assert_eq!(refusal(&gateway, &server, &pair), CertificateError::Revoked);
}

#[test]
fn a_copied_certificate_without_its_key_is_worth_nothing() {
    let gateway = gateway();
    let server = server(&gateway);
    for thief_key in [
        ForeignCa::new("x").sign(|_| {}).key,
        gateway
            .identity
            .create_certificate("other", &[])
            .unwrap()
            .key_pem
            .unwrap(),
    ] {
        let made = gateway.identity.create_certificate("pump", &[]).unwrap();
        let pair = Pair {
            certificate: made.certificate_pem,
            key: thief_key,
        };
        assert_eq!(
            refusal(&gateway, &server, &pair),
            CertificateError::BadSignature
        );
    }
    // Nor is one of version 1, which webpki never looks at.
    let stranger = ForeignCa::new("elsewhere").sign_version_1();
    gateway
        .identity
        .register_certificate(&stranger.certificate, None, CertificateStatus::Active, &[])
        .unwrap();
    let pair = Pair {
        certificate: stranger.certificate,
        key: ForeignCa::new("x").sign(|_| {}).key,
    };
    assert_eq!(
        refusal(&gateway, &server, &pair),
        CertificateError::BadSignature
    );
}

#[test]
fn alpn_is_answered_with_the_listeners_protocol() {
    let gateway = gateway();
    let server = gateway
        .identity
        .server_config(&TlsOptions {
            client_auth: ClientAuth::None,
            alpn: vec![b"x-amzn-mqtt-ca".to_vec(), b"mqtt".to_vec()],
            ..TlsOptions::default()
        })
        .unwrap();
    let mut config = client(&gateway.identity.ca_pem(), None, &VERSIONS);
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let connection = handshake(&server, config).unwrap();
    assert_eq!(connection.alpn_protocol(), Some(b"mqtt".as_slice()));
}
