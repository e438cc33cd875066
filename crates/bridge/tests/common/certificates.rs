//! Certificates for a test.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// A CA, and a certificate signed by it: PEM of the CA, the certificate and its key.
pub fn certificates(name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String, String) {
    certificates_from(name, purpose, 2000)
}

/// The same, valid from the given year.
pub fn certificates_from(
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    year: i32,
) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes a certificate whose issuer has its own name for self-signed.
    let ca_name = format!("CA of {name}");
    params.distinguished_name.push(DnType::CommonName, ca_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, &ca).unwrap();
    (ca.pem(), certificate.pem(), key.serialize_pem())
}
