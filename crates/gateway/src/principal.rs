//! From a client certificate to the principal it stands for.

use iotedge_model::CertificateId;

/// SHA-256 of the certificate's DER in hex, as AWS IoT names certificates.
pub fn certificate_id(der: &[u8]) -> CertificateId {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    CertificateId::from_digest(&bytes)
}
