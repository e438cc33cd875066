//! Bytes of strangers reach the parser before anything is proven: none may make it panic, and a
//! changed certificate is never taken for the one that is registered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::OnceLock;

use common::exercise::exercise;

use common::{ForeignCa, Gateway, Pair, client, gateway, handshake, pem_text};
use iotedge_identity::{
    CertificateStatus, TlsOptions, certificate_of_pem, certificates_of_pem, facts,
};
use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};

struct House {
    gateway: Gateway,
    /// Registered, of version 3 and of version 1.
    pairs: [Pair; 2],
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let gateway = gateway();
        let ca = ForeignCa::new("elsewhere");
        let pairs = [ca.sign(|_| {}), ca.sign_version_1()];
        for pair in &pairs {
            gateway
                .identity
                .register_certificate(&pair.certificate, None, CertificateStatus::Active, &[])
                .unwrap();
        }
        House { gateway, pairs }
    })
}

#[test]
fn the_corpus_of_the_fuzz_target_holds() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/certificates"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        exercise(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 12, "{count} seeds");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        let _ = certificate_of_pem(&text);
        let wrapped = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let _ = certificates_of_pem(&wrapped);
    }

    #[test]
    fn a_changed_certificate_is_refused(
        which in 0_usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        tls13 in any::<bool>(),
    ) {
        let house = house();
        let pair = &house.pairs[which];
        let original = certificate_of_pem(&pair.certificate).unwrap();
        let mut der = original.to_vec();
        for (at, change) in changes {
            let at = at.index(der.len());
            der[at] ^= change;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        prop_assume!(der != original.as_ref());
        let _ = facts(&der);
        let changed = Pair { certificate: pem_text(&der), key: pair.key.clone() };
        let version = if tls13 { &TLS13 } else { &TLS12 };
        let server = house.gateway.identity.server_config(&TlsOptions::default()).unwrap();
        let config = client(&house.gateway.identity.ca_pem(), Some(&changed), &[version]);
        prop_assert!(handshake(&server, config).is_err());
    }
}
