//! Foreign CAs: registered with a proof, what they let in, revocation lists, requests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{ForeignCa, Gateway, NEW_YEAR_2026, Pair, client, gateway, handshake, open};
use iotedge_identity::{
    CaStatus, CertificateError, CertificateOrigin, CertificateStatus, Crls, IdentityError,
    TlsOptions, certificate_of_pem, facts, principal_of,
};
use iotedge_model::CertificateId;
use iotedge_ports::PrincipalStatus;
use rcgen::DnType;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError as TlsCertificateError, Error, ServerConfig};

fn listener(gateway: &Gateway) -> Arc<ServerConfig> {
    gateway
        .identity
        .server_config(&TlsOptions::default())
        .unwrap()
}

fn outcome(gateway: &Gateway, server: &Arc<ServerConfig>, pair: &Pair) -> Result<(), Error> {
    for version in [&TLS12, &TLS13] {
        let ca = gateway.identity.ca_pem();
        handshake(server, client(&ca, Some(pair), &[version]))?;
    }
    Ok(())
}

fn proof(gateway: &Gateway, ca: &ForeignCa) -> String {
    let code = gateway.identity.registration_code(false).unwrap();
    named(ca, &code).certificate
}

fn named(ca: &ForeignCa, name: &str) -> Pair {
    ca.sign(|p| {
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, name);
    })
}

fn register(gateway: &Gateway, ca: &ForeignCa, status: CaStatus, auto: bool) -> CertificateId {
    let proof = proof(gateway, ca);
    gateway
        .identity
        .register_ca(&ca.pem, &proof, status, auto)
        .unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    certificate_of_pem(pem).unwrap().to_vec()
}

fn introduce(gateway: &Gateway, pair: &Pair) -> Option<iotedge_identity::Introduced> {
    gateway
        .identity
        .introduce(&[&der(&pair.certificate)])
        .unwrap()
}

#[test]
fn the_registration_code_is_one_and_stays() {
    let gateway = gateway();
    let code = gateway.identity.registration_code(false).unwrap();
    assert_eq!(code.len(), 64);
    assert_eq!(gateway.identity.registration_code(false).unwrap(), code);
    drop(gateway.identity);
    let again = open(gateway.directory.path(), gateway.clock);
    assert_eq!(again.registration_code(false).unwrap(), code);
    assert_ne!(again.registration_code(true).unwrap(), code);
}

#[test]
fn a_ca_is_registered_only_with_a_proof_of_its_key() {
    let gateway = gateway();
    let (ca, other) = (ForeignCa::new("fleet"), ForeignCa::new("fleet"));
    let code = gateway.identity.registration_code(false).unwrap();
    let refused = |pem: &str, proof: &str| {
        gateway
            .identity
            .register_ca(pem, proof, CaStatus::Active, false)
            .unwrap_err()
            .to_string()
    };
    let wrong = refused(&ca.pem, &named(&other, &code).certificate);
    assert!(wrong.contains("did not sign it"), "{wrong}");
    let wrong = refused(&ca.pem, &named(&ca, "hello").certificate);
    assert!(wrong.contains("registration code"), "{wrong}");
    let stranger = ForeignCa::new("elsewhere");
    let wrong = refused(&ca.pem, &named(&stranger, &code).certificate);
    assert!(wrong.contains("issuer"), "{wrong}");
    let old = ca.sign(|p| {
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, code.as_str());
        p.not_after = rcgen::date_time_ymd(2025, 1, 1);
    });
    let wrong = refused(&ca.pem, &old.certificate);
    assert!(wrong.contains("expired"), "{wrong}");
    let leaf = ca.sign(|p| p.is_ca = rcgen::IsCa::ExplicitNoCa);
    let wrong = refused(&leaf.certificate, &proof(&gateway, &ca));
    assert!(wrong.contains("not the certificate of a CA"), "{wrong}");

    let id = register(&gateway, &ca, CaStatus::Inactive, false);
    assert_eq!(id, principal_of(&der(&ca.pem)));
    let twice = gateway
        .identity
        .register_ca(&ca.pem, &proof(&gateway, &ca), CaStatus::Active, false)
        .unwrap_err();
    assert!(matches!(twice, IdentityError::CaExists(_)));
    // Another of the same name is another CA.
    register(&gateway, &other, CaStatus::Active, true);
    drop(gateway.identity);
    let again = open(gateway.directory.path(), gateway.clock);
    let (ca, pem) = again.describe_ca(&id).unwrap();
    assert_eq!(
        (ca.status, ca.auto_registration),
        (CaStatus::Inactive, false)
    );
    assert_eq!(der(&pem), der(&gateway_pem(&again, &id)));
    assert_eq!(again.snapshot().cas().count(), 2);
}

fn gateway_pem(identity: &common::Opened, id: &CertificateId) -> String {
    identity.describe_ca(id).unwrap().1
}

#[test]
fn what_an_inactive_ca_signed_is_not_registered_and_what_is_goes_on() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let id = register(&gateway, &ca, CaStatus::Inactive, false);
    let (first, second) = (ca.sign(|_| {}), ca.sign_version_1());
    let add = |pair: &Pair| {
        let pem = &pair.certificate;
        let status = CertificateStatus::Active;
        gateway
            .identity
            .register_certificate(pem, None, status, &[])
    };
    assert!(matches!(add(&first), Err(IdentityError::CaInactive(_))));
    gateway
        .identity
        .set_ca_status(&id, CaStatus::Active)
        .unwrap();
    let device = add(&first).unwrap();
    let known = gateway.identity.snapshot().certificate(&device).cloned();
    assert_eq!(known.unwrap().ca, Some(id.clone()));
    let active = gateway.identity.delete_ca(&id).unwrap_err();
    assert!(matches!(active, IdentityError::CaActive(_)));
    gateway
        .identity
        .set_ca_status(&id, CaStatus::Inactive)
        .unwrap();
    assert!(matches!(add(&second), Err(IdentityError::CaInactive(_))));
    outcome(&gateway, &listener(&gateway), &first).unwrap();
    gateway.identity.delete_ca(&id).unwrap();
    outcome(&gateway, &listener(&gateway), &first).unwrap();
}

#[test]
fn of_cas_that_share_subject_and_key_the_operator_says_which() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    let mut ids = vec![register(&gateway, &ca, CaStatus::Active, false)];
    for _ in 1..10 {
        let twin = ca.renewed();
        ids.push(register(&gateway, &twin, CaStatus::Active, false));
    }
    let one_more = ca.renewed();
    let too_many = gateway
        .identity
        .register_ca(
            &one_more.pem,
            &proof(&gateway, &ca),
            CaStatus::Active,
            false,
        )
        .unwrap_err();
    assert!(matches!(too_many, IdentityError::TooManyCas));
    let pair = ca.sign(|_| {});
    let add = |which: Option<&CertificateId>| {
        gateway.identity.register_certificate_of(
            which,
            &pair.certificate,
            None,
            CertificateStatus::Active,
            &[],
        )
    };
    assert!(matches!(add(None), Err(IdentityError::WhichCa(_))));
    let stranger = ForeignCa::new("elsewhere");
    let other = register(&gateway, &stranger, CaStatus::Active, false);
    assert!(matches!(
        add(Some(&other)),
        Err(IdentityError::NotSignedBy(_))
    ));
    let unknown = principal_of(b"none");
    assert!(matches!(add(Some(&unknown)), Err(IdentityError::NoCa(_))));
    let device = add(ids.get(3)).unwrap();
    let known = gateway.identity.snapshot().certificate(&device).cloned();
    assert_eq!(known.unwrap().ca.as_ref(), ids.get(3));
}

#[test]
fn a_device_registers_itself_only_under_an_active_ca_that_says_so() {
    let gateway = gateway();
    let server = listener(&gateway);
    let ca = ForeignCa::new("fleet");
    let id = register(&gateway, &ca, CaStatus::Active, false);
    for pair in [ca.sign(|_| {}), ca.sign_version_1()] {
        let refused = |what: &str| {
            let error = outcome(&gateway, &server, &pair).unwrap_err();
            let expected = TlsCertificateError::ApplicationVerificationFailure;
            assert_eq!(error, Error::InvalidCertificate(expected), "{what}");
            assert_eq!(introduce(&gateway, &pair), None, "{what}");
        };
        gateway.identity.set_auto_registration(&id, false).unwrap();
        refused("without auto-registration");
        gateway.identity.set_auto_registration(&id, true).unwrap();
        gateway
            .identity
            .set_ca_status(&id, CaStatus::Inactive)
            .unwrap();
        refused("inactive");
        gateway
            .identity
            .set_ca_status(&id, CaStatus::Active)
            .unwrap();

        outcome(&gateway, &server, &pair).unwrap();
        let first = introduce(&gateway, &pair).unwrap();
        assert_eq!((first.new, &first.ca), (true, &id));
        let known = gateway.identity.snapshot();
        let known = known.certificate(&first.certificate).unwrap();
        assert_eq!(known.status, CertificateStatus::PendingActivation);
        assert_eq!(known.origin, CertificateOrigin::JustInTime);
        let status = gateway.identity.status(&first.certificate);
        assert_eq!(status, PrincipalStatus::PendingActivation);
        // It comes again and is told of again, without being made again.
        let second = introduce(&gateway, &pair).unwrap();
        assert!(!second.new);
        assert_eq!(second.registered_at, first.registered_at);
        gateway
            .identity
            .set_status(&first.certificate, CertificateStatus::Active)
            .unwrap();
        assert_eq!(introduce(&gateway, &pair), None);
        assert_eq!(
            gateway.identity.status(&first.certificate),
            PrincipalStatus::Active
        );
    }
    // One of another CA of that name is nobody.
    let impostor = ForeignCa::new("fleet").sign(|_| {});
    assert!(outcome(&gateway, &server, &impostor).is_err());
    assert_eq!(introduce(&gateway, &impostor), None);
    // Expired is refused in the handshake as ever.
    let old = ca.sign(|p| p.not_after = rcgen::date_time_ymd(2025, 1, 1));
    assert!(outcome(&gateway, &server, &old).is_err());
}

#[test]
fn of_twins_with_auto_registration_the_one_in_the_chain_counts() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    register(&gateway, &ca, CaStatus::Active, true);
    let twin = ca.renewed();
    let second = register(&gateway, &twin, CaStatus::Active, true);
    let pair = ca.sign(|_| {});
    let chain = [der(&pair.certificate), der(&twin.pem)];
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let introduced = gateway.identity.introduce(&chain).unwrap().unwrap();
    assert_eq!(introduced.ca, second);
}

#[test]
fn an_expired_ca_registers_nothing() {
    let gateway = gateway();
    gateway.clock.set(0, false);
    let ca = ForeignCa::new("fleet").renewed_until(2025);
    register(&gateway, &ca, CaStatus::Active, true);
    let pair = ca.sign(|_| {});
    gateway.clock.set(NEW_YEAR_2026, true);
    let chain = der(&pair.certificate);
    let refused = gateway.identity.introduce(&[&chain]).unwrap_err();
    assert!(matches!(refused, IdentityError::CaExpired(_)));
    let refused = gateway
        .identity
        .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
        .unwrap_err();
    assert!(matches!(refused, IdentityError::CaExpired(_)));
}

#[test]
fn a_certificate_is_deleted_only_when_nothing_hangs_on_it() {
    let gateway = gateway();
    let identity = &gateway.identity;
    identity.create_policy("p", "{}", false).unwrap();
    let made = identity.create_certificate("pump", &["p".into()]).unwrap();
    let in_use = |id: &CertificateId| {
        matches!(
            identity.delete_certificate(id),
            Err(IdentityError::StillInUse { .. })
        )
    };
    assert!(in_use(&made.id));
    identity
        .set_status(&made.id, CertificateStatus::Inactive)
        .unwrap();
    assert!(in_use(&made.id));
    identity.detach_policy("p", &made.id).unwrap();
    identity.delete_certificate(&made.id).unwrap();
    assert_eq!(identity.status(&made.id), PrincipalStatus::Unknown);
    drop(gateway.identity);
    let again = open(gateway.directory.path(), gateway.clock);
    assert_eq!(again.snapshot().certificates().count(), 0);
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("openssl is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

#[test]
fn a_request_gets_a_certificate_for_its_key_with_its_very_subject() {
    let gateway = gateway();
    let server = listener(&gateway);
    let folder = gateway.directory.path();
    let subject = "/C=DE/O=Works/OU=first/OU=second/CN=pump-7/emailAddress=a@example.com";
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for kind in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "rsa:4096"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"],
    ] {
        let mut line = vec!["req", "-nodes", "-keyout", "k.pem", "-out", "r.csr"];
        line.extend(["-subj", subject, "-addext", "basicConstraints=CA:TRUE"]);
        line.extend(kind);
        openssl(folder, &line);
        let made = gateway
            .identity
            .create_certificate_of_request(&read("r.csr"), None, &[])
            .unwrap();
        assert!(made.key_pem.is_none());
        let facts = facts(&der(&made.certificate_pem)).unwrap();
        assert_eq!(facts.subject["OrganizationalUnit"], ["first", "second"]);
        assert_eq!(facts.subject["CommonName"], ["pump-7"]);
        assert!(facts.subject_line.contains("a@example.com"));
        let known = gateway.identity.snapshot();
        let known = known.certificate(&made.id).unwrap();
        assert_eq!(
            (&*known.name, known.status),
            ("pump-7", CertificateStatus::Active)
        );
        assert!(known.ca.is_some());
        let pair = Pair {
            certificate: made.certificate_pem.clone(),
            key: read("k.pem"),
        };
        outcome(&gateway, &server, &pair).unwrap();
        // Its own signature holds, by the book; and it is no CA though it asked to be one.
        std::fs::write(folder.join("c.pem"), &made.certificate_pem).unwrap();
        std::fs::write(folder.join("ca.pem"), &made.ca_pem).unwrap();
        openssl(
            folder,
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-CAfile",
                "ca.pem",
                "c.pem",
            ],
        );
    }
}

#[test]
fn what_is_no_request_with_a_proof_gets_nothing() {
    let gateway = gateway();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "x");
    let good = params.serialize_request(&key).unwrap();
    let refused = |pem: &str| {
        let made = gateway
            .identity
            .create_certificate_of_request(pem, None, &[]);
        match made {
            Err(IdentityError::BadCertificate(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("hello"), CertificateError::NoRequest);
    let pem = ForeignCa::new("x").pem;
    assert_eq!(refused(&pem), CertificateError::NoRequest);
    // One bit of the signature.
    let mut forged = good.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let text = common::pem_text(&forged).replace("CERTIFICATE", "CERTIFICATE REQUEST");
    assert!(matches!(refused(&text), CertificateError::BadRequest(_)));
    assert!(gateway.identity.snapshot().certificates().next().is_none());
    gateway
        .identity
        .create_certificate_of_request(&good.pem().unwrap(), Some("named"), &[])
        .unwrap();
}

/// A list of a CA made with openssl, in which these certificates stand.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder };
        std::fs::write(made.path("index.txt"), "").unwrap();
        std::fs::write(made.path("number"), "01\n").unwrap();
        std::fs::write(
            made.path("ca.cnf"),
            "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\n\
             default_crl_days=30\ncertificate=ca.pem\nprivate_key=ca.key\n",
        )
        .unwrap();
        made.run("genrsa -out ca.key 2048");
        made.run(
            "req -x509 -new -nodes -key ca.key -sha256 -days 3650 -subj /CN=lists -out ca.pem",
        );
        made
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn run(&self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        openssl(self.folder.path(), &words);
    }
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
    fn device(&self, name: &str) -> Pair {
        self.run(&format!("genrsa -out {name}.key 2048"));
        self.run(&format!(
            "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
        ));
        self.run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 500 -sha256"
        ));
        Pair {
            certificate: self.read(&format!("{name}.pem")),
            key: self.read(&format!("{name}.key")),
        }
    }
    fn list(&self, revoked: &[&str]) -> PathBuf {
        for name in revoked {
            self.run(&format!("ca -config ca.cnf -revoke {name}.pem"));
        }
        self.run("ca -config ca.cnf -gencrl -out list.pem");
        self.path("list.pem")
    }
}

#[test]
fn who_stands_in_a_list_of_a_known_ca_is_out_however_it_is_registered() {
    let gateway = gateway();
    let identity = &gateway.identity;
    // openssl takes the machine's clock for the begin of what it makes.
    gateway.clock.set(NEW_YEAR_2026, false);
    let server = listener(&gateway);
    let ca = Authority::new();
    let (good, bad) = (ca.device("good"), ca.device("bad"));
    let list = ca.list(&["bad"]);
    let add = |pair: &Pair| {
        let pem = &pair.certificate;
        let status = CertificateStatus::Active;
        identity
            .register_certificate(pem, None, status, &[])
            .unwrap()
    };
    let (good_id, bad_id) = (add(&good), add(&bad));
    let lists = std::slice::from_ref(&list);
    let crls = || Crls::read(lists, &[]).unwrap();

    // Nobody knows who signed the list: it could be anyone's.
    assert!(identity.set_crls(crls()).is_empty());
    outcome(&gateway, &server, &bad).unwrap();

    let client_ca = Crls::read(lists, &[ca.path("ca.pem")]).unwrap();
    assert_eq!(identity.set_crls(client_ca), std::slice::from_ref(&bad_id));
    let refused = outcome(&gateway, &server, &bad).unwrap_err();
    let expected = Error::InvalidCertificate(TlsCertificateError::Revoked);
    assert_eq!(refused, expected);
    assert_eq!(identity.status(&bad_id), PrincipalStatus::Revoked);
    outcome(&gateway, &server, &good).unwrap();
    assert_eq!(identity.status(&good_id), PrincipalStatus::Active);

    // Gone with the list, and back when the CA is registered.
    identity.set_crls(crls());
    outcome(&gateway, &server, &bad).unwrap();
    let code = identity.registration_code(false).unwrap();
    ca.device(&code);
    let proof = ca.read(&format!("{code}.pem"));
    identity
        .register_ca(&ca.read("ca.pem"), &proof, CaStatus::Active, true)
        .unwrap();
    assert_eq!(outcome(&gateway, &server, &bad).unwrap_err(), expected);

    // Late is still a list.
    gateway
        .clock
        .set(NEW_YEAR_2026 + 40 * 365 * 24 * 3600, false);
    identity.set_crls(crls());
    assert_eq!(outcome(&gateway, &server, &bad).unwrap_err(), expected);
    outcome(&gateway, &server, &good).unwrap();
}

#[test]
fn a_list_may_be_der_and_what_is_none_is_refused() {
    let ca = Authority::new();
    ca.device("bad");
    let list = ca.list(&["bad"]);
    ca.run("crl -in list.pem -outform DER -out list.der");
    Crls::read(&[list.clone(), ca.path("list.der")], &[]).unwrap();
    assert_eq!(
        iotedge_identity::count_revoked(&std::fs::read(ca.path("list.der")).unwrap()).unwrap(),
        1
    );
    for wrong in ["ca.pem", "ca.key", "nothing"] {
        let error = Crls::read(&[ca.path(wrong)], &[]).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_was_seen_to_end_stays_ended_for_a_clock_that_fell_back() {
    let gateway = gateway();
    let ca = ForeignCa::new("fleet");
    register(&gateway, &ca, CaStatus::Active, true);
    let server = listener(&gateway);
    let old = ca.sign(|p| p.not_after = rcgen::date_time_ymd(2025, 6, 1));
    let young = ca.sign(|p| {
        p.not_before = rcgen::date_time_ymd(2025, 7, 1);
        p.not_after = rcgen::date_time_ymd(2030, 1, 1);
    });
    let expired = |outcome: Result<(), Error>| {
        matches!(
            outcome,
            Err(Error::InvalidCertificate(
                TlsCertificateError::ExpiredContext { .. }
            ))
        )
    };
    assert!(expired(outcome(&gateway, &server, &old)));
    assert!(gateway.clock.remembered() > 0);
    gateway.clock.set_floor(NEW_YEAR_2026);
    gateway.clock.set(0, false);
    assert!(expired(outcome(&gateway, &server, &old)));
    outcome(&gateway, &server, &young).unwrap();
    // A gateway that has never known the time can only believe.
    gateway.clock.set_floor(0);
    outcome(&gateway, &server, &old).unwrap();
}
