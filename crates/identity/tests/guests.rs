//! Certificates that nobody has registered, on a listener that has a policy for them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ForeignCa, Gateway, Pair, gateway};
use iotedge_identity::{CertificateStatus, ClientCas, Guest, certificate_of_pem};
use iotedge_ports::PrincipalStatus;

fn cas(gateway: &Gateway, ca: &ForeignCa) -> ClientCas {
    let path = gateway.directory.path().join("clients.pem");
    std::fs::write(&path, &ca.pem).unwrap();
    ClientCas::read(&path).unwrap()
}

fn guest(gateway: &Gateway, cas: &ClientCas, pair: &Pair) -> Option<Guest> {
    let der = certificate_of_pem(&pair.certificate).unwrap();
    gateway.identity.guest(cas, &[&der])
}

#[test]
fn what_a_client_ca_has_signed_is_a_guest_until_it_is_registered() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let cas = cas(&gateway, &ca);
    for pair in [ca.sign(|_| {}), ca.sign_version_1()] {
        let guest = guest(&gateway, &cas, &pair).unwrap();
        let status = || gateway.identity.guest_status(&guest);
        assert_eq!(status(), PrincipalStatus::Active);
        gateway
            .identity
            .register_certificate(&pair.certificate, None, CertificateStatus::Inactive, &[])
            .unwrap();
        assert_eq!(status(), PrincipalStatus::Inactive);
        assert!(self::guest(&gateway, &cas, &pair).is_none());
    }
}

#[test]
fn strangers_and_what_the_gateway_itself_has_signed_are_no_guests() {
    let gateway = gateway();
    let cas = cas(&gateway, &ForeignCa::new("fleet"));
    // Another CA of the same name.
    let impostor = ForeignCa::new("fleet");
    for pair in [impostor.sign(|_| {}), impostor.sign_version_1()] {
        assert!(guest(&gateway, &cas, &pair).is_none());
    }
    // Deleted, it is a certificate that nobody has registered.
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let status = CertificateStatus::Inactive;
    gateway.identity.set_status(&made.id, status).unwrap();
    gateway.identity.delete_certificate(&made.id).unwrap();
    let pair = Pair {
        certificate: made.certificate_pem,
        key: made.key_pem.unwrap(),
    };
    assert!(guest(&gateway, &cas, &pair).is_none());
}
