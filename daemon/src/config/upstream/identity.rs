//! Whether a certificate and a key belong together.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why a link could not show this certificate with this key. A key in a token is asked by the link.
pub(super) fn check(certificate: &Path, key: &Path) -> Result<(), String> {
    if key.to_string_lossy().starts_with("pkcs11:") {
        return Ok(());
    }
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|e| format!("{}: {e}", certificate.display()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
    match CertifiedKey::from_der(chain, private, &default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(format!(
            "{} is not the key of the certificate in {}",
            key.display(),
            certificate.display()
        )),
        Err(error) => Err(format!("cannot be used with the certificate: {error}")),
    }
}
