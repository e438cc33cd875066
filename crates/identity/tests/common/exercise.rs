//! What must hold for any bytes in place of a certificate, a request or a revocation list: used by the fuzz
//! target and the replay of its corpus.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_identity::{
    certificate_of_pem, certificates_of_pem, common_name_of_request, count_revoked, facts,
    principal_of,
};

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

pub fn exercise(bytes: &[u8]) {
    if let Ok(facts) = facts(bytes) {
        let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        assert!(facts.serial_number.bytes().all(hex));
        assert!(facts.subject.values().all(|values| !values.is_empty()));
        assert!(facts.issuer.values().all(|values| !values.is_empty()));
        // The same certificate comes out of PEM, and nothing may follow it.
        let text = pem("CERTIFICATE", bytes);
        let der = certificate_of_pem(&text);
        assert_eq!(der.as_deref().ok(), Some(bytes));
        let longer = [bytes, &[0]].concat();
        assert!(iotedge_identity::facts(&longer).is_err());
        assert_ne!(principal_of(bytes), principal_of(&longer));
        // A certificate is neither a request nor a list.
        assert!(common_name_of_request(&text).is_err());
    }
    if let Ok(count) = count_revoked(bytes) {
        assert!(count <= bytes.len());
    }
    let _ = common_name_of_request(&pem("CERTIFICATE REQUEST", bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = common_name_of_request(text);
        if let Ok(all) = certificates_of_pem(text) {
            assert!(!all.is_empty());
            for der in all {
                let _ = facts(&der);
            }
        }
    }
}
