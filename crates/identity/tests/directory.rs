//! Certificates and policies: what is kept, what is refused, who is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{ForeignCa, gateway, open};
use iotedge_identity::{
    CertificateError, CertificateOrigin, CertificateStatus, Identity, IdentityError, PolicyOrigin,
};
use iotedge_model::CertificateId;
use iotedge_ports::PrincipalStatus;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

fn names(of: &std::collections::BTreeSet<Arc<str>>) -> Vec<&str> {
    of.iter().map(|n| &**n).collect()
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let gateway = gateway();
    let identity = &gateway.identity;
    identity.create_policy("sensor", POLICY, false).unwrap();
    let made = identity
        .create_certificate("pump", &["sensor".into()])
        .unwrap();
    let foreign = ForeignCa::new("elsewhere").sign(|_| {});
    let registered = identity
        .register_certificate(
            &foreign.certificate,
            Some("meter"),
            CertificateStatus::Inactive,
            &[],
        )
        .unwrap();
    let before = identity.snapshot();
    drop(gateway.identity);

    let again = open(gateway.directory.path(), gateway.clock);
    let snapshot = again.snapshot();
    for id in [&made.id, &registered] {
        assert_eq!(snapshot.certificate(id), before.certificate(id));
        assert!(snapshot.certificate(id).is_some());
    }
    let pump = snapshot.certificate(&made.id).unwrap();
    assert_eq!(names(&pump.policies), ["sensor"]);
    assert_eq!(pump.origin, CertificateOrigin::Created);
    assert_eq!(pump.facts.subject["CommonName"], ["pump"]);
    assert_eq!(&*snapshot.policy("sensor").unwrap().text, POLICY);
    assert_eq!(again.status(&registered), PrincipalStatus::Inactive);
    let (_, pem) = again.describe_certificate(&made.id).unwrap();
    assert_eq!(pem, made.certificate_pem);
}

#[test]
fn a_certificate_goes_on_and_off_but_never_back_from_revoked() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let id = identity.create_certificate("pump", &[]).unwrap().id;
    for (status, seen) in [
        (CertificateStatus::Inactive, PrincipalStatus::Inactive),
        (CertificateStatus::Active, PrincipalStatus::Active),
        (CertificateStatus::Revoked, PrincipalStatus::Revoked),
        (CertificateStatus::Revoked, PrincipalStatus::Revoked),
    ] {
        identity.set_status(&id, status).unwrap();
        assert_eq!(identity.status(&id), seen);
    }
    let error = identity
        .set_status(&id, CertificateStatus::Active)
        .unwrap_err();
    assert!(matches!(error, IdentityError::Revoked(_)), "{error}");
    assert_eq!(identity.status(&id), PrincipalStatus::Revoked);
    let stranger = CertificateId::from_digest(&[7; 32]);
    assert_eq!(identity.status(&stranger), PrincipalStatus::Unknown);
    assert!(matches!(
        identity.set_status(&stranger, CertificateStatus::Active),
        Err(IdentityError::NoCertificate(_))
    ));
}

#[test]
fn each_change_raises_the_generation_and_tells_the_hook_in_order() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = seen.clone();
    identity.on_change(Arc::new(move |snapshot| {
        to.lock().unwrap().push(snapshot.generation());
    }));
    identity.create_policy("a", POLICY, false).unwrap();
    let id = identity.create_certificate("pump", &[]).unwrap().id;
    identity.attach_policy("a", &id).unwrap();
    identity.detach_policy("a", &id).unwrap();
    identity
        .set_status(&id, CertificateStatus::Inactive)
        .unwrap();
    identity.delete_policy("a").unwrap();
    // A refusal is no change.
    identity.delete_policy("a").unwrap_err();
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(identity.generation(), 6);
}

#[test]
fn policies_are_attached_by_a_name_that_must_exist() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let id = identity.create_certificate("pump", &[]).unwrap().id;
    assert!(matches!(
        identity.attach_policy("none", &id),
        Err(IdentityError::NoPolicy(_))
    ));
    assert!(matches!(
        identity.create_certificate("other", &["none".into()]),
        Err(IdentityError::NoPolicy(_))
    ));
    assert_eq!(identity.snapshot().certificates().count(), 1);

    identity.create_policy("a", POLICY, false).unwrap();
    identity.attach_policy("a", &id).unwrap();
    identity.attach_policy("a", &id).unwrap();
    assert_eq!(identity.snapshot().attachments("a"), 1);
    assert!(matches!(
        identity.delete_policy("a"),
        Err(IdentityError::PolicyAttached { count: 1, .. })
    ));
    identity.detach_policy("a", &id).unwrap();
    assert!(matches!(
        identity.detach_policy("a", &id),
        Err(IdentityError::NotAttached { .. })
    ));
    identity.delete_policy("a").unwrap();
}

#[test]
fn a_policy_is_replaced_by_a_new_version_only_when_asked_to() {
    let gateway = gateway();
    let identity = &gateway.identity;
    assert_eq!(identity.create_policy("a", "1", false).unwrap(), 1);
    assert!(matches!(
        identity.create_policy("a", "2", false),
        Err(IdentityError::PolicyExists(_))
    ));
    for version in 2..=7 {
        let text = version.to_string();
        assert_eq!(identity.create_policy("a", &text, true).unwrap(), version);
        assert_eq!(&*identity.snapshot().policy("a").unwrap().text, text);
    }
    let kept: Vec<_> = identity
        .policy_versions("a")
        .unwrap()
        .versions
        .iter()
        .map(|v| v.id)
        .collect();
    assert_eq!(kept, [3, 4, 5, 6, 7]);
}

#[test]
fn versions_are_added_put_in_force_and_deleted() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let text = |identity: &Identity| identity.snapshot().policy("a").unwrap().text.to_string();
    identity.create_policy("a", "1", false).unwrap();
    let generation = identity.generation();
    assert_eq!(identity.create_policy_version("a", "2", false).unwrap(), 2);
    assert_eq!(text(identity), "1");
    assert_eq!(
        identity.generation(),
        generation,
        "nothing has changed for anyone"
    );
    assert_eq!(identity.create_policy_version("a", "3", true).unwrap(), 3);
    assert_eq!(text(identity), "3");
    identity.set_default_policy_version("a", 2).unwrap();
    assert_eq!(text(identity), "2");
    assert!(matches!(
        identity.delete_policy_version("a", 2),
        Err(IdentityError::DefaultVersion { version: 2, .. })
    ));
    identity.delete_policy_version("a", 3).unwrap();
    for gone in [3, 9] {
        assert!(matches!(
            identity.set_default_policy_version("a", gone),
            Err(IdentityError::NoPolicyVersion { .. })
        ));
    }
    // A number is given once.
    for number in 4..=6 {
        assert_eq!(
            identity.create_policy_version("a", "x", false).unwrap(),
            number
        );
    }
    assert!(matches!(
        identity.create_policy_version("a", "x", false),
        Err(IdentityError::TooManyVersions(_))
    ));
    let versions = identity.policy_versions("a").unwrap();
    let numbers: Vec<_> = versions.versions.iter().map(|v| v.id).collect();
    assert_eq!((versions.default, numbers), (2, vec![1, 2, 4, 5, 6]));
    identity
        .set_file_policies([("f".to_owned(), POLICY.to_owned())])
        .unwrap();
    for refused in [
        identity.create_policy_version("f", "x", false).err(),
        identity.policy_versions("f").err(),
        identity.set_default_policy_version("f", 1).err(),
    ] {
        assert!(
            matches!(refused, Some(IdentityError::PolicyInFile(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_name_cannot_be_both_in_a_file_and_in_the_store() {
    let gateway = gateway();
    let identity = &gateway.identity;
    identity.create_policy("stored", POLICY, false).unwrap();
    identity
        .set_file_policies([("filed".to_owned(), POLICY.to_owned())])
        .unwrap();
    assert!(matches!(
        identity.create_policy("filed", POLICY, true),
        Err(IdentityError::PolicyInFile(_))
    ));
    assert!(matches!(
        identity.delete_policy("filed"),
        Err(IdentityError::PolicyInFile(_))
    ));
    let id = identity
        .create_certificate("pump", &["filed".into(), "stored".into()])
        .unwrap()
        .id;

    let generation = identity.generation();
    let both = ["filed", "stored"].map(|n| (n.to_owned(), POLICY.to_owned()));
    assert!(matches!(
        identity.set_file_policies(both),
        Err(IdentityError::PolicyInBothPlaces(_))
    ));
    assert_eq!(identity.generation(), generation);
    let snapshot = identity.snapshot();
    assert_eq!(snapshot.policy("filed").unwrap().origin, PolicyOrigin::File);

    // A file that goes takes its policy with it; the attachment stays for when it comes back.
    identity.set_file_policies([]).unwrap();
    let snapshot = identity.snapshot();
    assert!(snapshot.policy("filed").is_none());
    assert_eq!(
        names(&snapshot.certificate(&id).unwrap().policies),
        ["filed", "stored"]
    );
}

#[test]
fn what_cannot_be_registered_is_refused_with_its_reason() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let register =
        |pem: &str| identity.register_certificate(pem, None, CertificateStatus::Active, &[]);
    let pair = ForeignCa::new("elsewhere").sign(|_| {});
    register(&pair.certificate).unwrap();
    assert!(matches!(
        register(&pair.certificate),
        Err(IdentityError::CertificateExists(_))
    ));
    let two = format!("{0}{0}", pair.certificate);
    for (pem, reason) in [
        ("hello", CertificateError::NoPem),
        (pair.key.as_str(), CertificateError::NoPem),
        (two.as_str(), CertificateError::Several(2)),
    ] {
        match register(pem) {
            Err(IdentityError::BadCertificate(found)) => assert_eq!(found, reason),
            other => panic!("{other:?}"),
        }
    }
    let broken = common::pem_text(b"nothing");
    assert!(matches!(
        register(&broken),
        Err(IdentityError::BadCertificate(CertificateError::Malformed(
            _
        )))
    ));
}

#[test]
fn a_key_too_weak_for_tls_is_refused_at_registration() {
    let gateway = gateway();
    let path = gateway.directory.path().join("weak.pem");
    let output = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:1024 -nodes -subj /CN=weak -days 9 -keyout".split(' '))
        .arg(gateway.directory.path().join("weak.key"))
        .arg("-out")
        .arg(&path)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success());
    let pem = std::fs::read_to_string(path).unwrap();
    let outcome = gateway
        .identity
        .register_certificate(&pem, None, CertificateStatus::Active, &[]);
    match outcome {
        Err(IdentityError::BadCertificate(CertificateError::Key(reason))) => {
            assert!(reason.contains("1024"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_checked() {
    let gateway = gateway();
    let long = "x".repeat(65);
    for name in ["", "a\nb", &long] {
        assert!(matches!(
            gateway.identity.create_certificate(name, &[]),
            Err(IdentityError::BadName(_))
        ));
    }
    let long = "x".repeat(129);
    for name in ["", "a b", "a/b", "é", &long] {
        assert!(matches!(
            gateway.identity.create_policy(name, POLICY, false),
            Err(IdentityError::BadPolicyName(_))
        ));
    }
    gateway
        .identity
        .create_policy("a_Z9+=,.@-", POLICY, false)
        .unwrap();
}

#[test]
fn facts_are_what_policy_variables_ask_for() {
    let pair = ForeignCa::new("the issuer").sign(|p| {
        p.serial_number = Some(vec![0xa1, 0x0b].into());
        let name = &mut p.distinguished_name;
        name.push(rcgen::DnType::OrganizationName, "Example Corp");
        name.push(rcgen::DnType::CountryName, "DE");
        name.push(
            rcgen::DnType::StateOrProvinceName,
            rcgen::DnValue::BmpString("Köln".try_into().unwrap()),
        );
        name.push(
            rcgen::DnType::OrganizationalUnitName,
            rcgen::DnValue::TeletexString("Pumps".try_into().unwrap()),
        );
        p.subject_alt_names = vec![
            rcgen::SanType::DnsName("pump.example.com".try_into().unwrap()),
            rcgen::SanType::IpAddress([192, 0, 2, 1].into()),
        ];
    });
    let der = iotedge_identity::certificate_of_pem(&pair.certificate).unwrap();
    let facts = iotedge_identity::facts(&der).unwrap();
    assert_eq!(facts.serial_number, "A10B");
    for (key, value) in [
        ("CommonName", "device"),
        ("Organization", "Example Corp"),
        ("Country", "DE"),
        ("State", "Köln"),
        ("OrganizationalUnit", "Pumps"),
        ("AlternativeName.DNSName", "pump.example.com"),
        ("AlternativeName.IPAddress", "192.0.2.1"),
    ] {
        assert_eq!(facts.subject[key], [value], "{key}");
    }
    assert_eq!(facts.issuer["CommonName"], ["the issuer"]);
}

#[test]
fn a_private_key_beside_the_certificate_is_not_kept() {
    let gateway = gateway();
    let pair = ForeignCa::new("elsewhere").sign(|_| {});
    let combined = format!("{}{}", pair.key, pair.certificate);
    let active = CertificateStatus::Active;
    let id = gateway
        .identity
        .register_certificate(&combined, None, active, &[])
        .unwrap();
    let (_, pem) = gateway.identity.describe_certificate(&id).unwrap();
    assert_eq!(pem, pair.certificate);
    let record = gateway.identity.store.documents("certificates");
    let record = record.get(id.as_str()).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&record.body).contains("PRIVATE"));
}

#[test]
fn a_private_key_in_an_old_record_goes_at_start() {
    let gateway = gateway();
    let made = gateway.identity.create_certificate("pump", &[]).unwrap();
    let records = gateway.identity.store.documents("certificates");
    let body = records.get(made.id.as_str()).unwrap().unwrap().body;
    let mut record: serde_json::Value = serde_json::from_slice(&body).unwrap();
    record["pem"] = format!("{}{}", made.certificate_pem, made.key_pem.unwrap()).into();
    let body = record.to_string();
    assert!(body.contains("PRIVATE"));
    records
        .put(made.id.as_str(), body, iotedge_store::Expect::Any, None)
        .unwrap();
    drop(records);
    drop(gateway.identity);

    let again = open(gateway.directory.path(), gateway.clock);
    let records = again.store.documents("certificates");
    let record = records.get(made.id.as_str()).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&record.body).contains("PRIVATE"));
    let (certificate, pem) = again.describe_certificate(&made.id).unwrap();
    assert_eq!(pem, made.certificate_pem);
    assert_eq!(&*certificate.name, "pump");
}

#[test]
fn a_certificate_has_at_most_ten_policies() {
    let gateway = gateway();
    let identity = &gateway.identity;
    let all: Vec<String> = (0..11).map(|n| format!("p{n}")).collect();
    for name in &all {
        identity.create_policy(name, POLICY, false).unwrap();
    }
    let refused = |outcome: Result<(), IdentityError>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.reason(), "invalid");
        assert!(
            matches!(error, IdentityError::TooManyPolicies { count: 11 }),
            "{error}"
        );
    };
    let active = CertificateStatus::Active;
    let pem = ForeignCa::new("elsewhere").sign(|_| {}).certificate;
    refused(identity.create_certificate("pump", &all).map(drop));
    let register = |policies| identity.register_certificate(&pem, None, active, policies);
    refused(register(&all).map(drop));
    assert_eq!(identity.snapshot().certificates().count(), 0);

    for id in [
        identity.create_certificate("pump", &all[..10]).unwrap().id,
        register(&all[..10]).unwrap(),
    ] {
        refused(identity.attach_policy("p10", &id));
        identity.attach_policy("p3", &id).unwrap();
        let snapshot = identity.snapshot();
        assert_eq!(snapshot.certificate(&id).unwrap().policies.len(), 10);
        identity.detach_policy("p3", &id).unwrap();
        identity.attach_policy("p10", &id).unwrap();
    }
}
