//! The client side of TLS: which server we believe, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iotedge_ports::Clock;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::Config;

/// Why TLS can not be set up from the configured files.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{}: no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    #[error("no ca is configured and the system has none: {reason}")]
    NoSystemRoots { reason: String },
    #[error("certificate and key: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The time that a server's certificate is judged by: never before what is certainly over, so that a board
/// that has woken up in 1970 finds its upstream.
struct GatewayTime(Arc<dyn Clock>);

impl std::fmt::Debug for GatewayTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayTime")
    }
}

impl TimeProvider for GatewayTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.0.now();
        let time = match now.trusted {
            true => now.wall,
            false => now.wall.max(self.0.floor()),
        };
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            time.seconds(),
        )))
    }
}

/// Reads the files anew, so that a renewed certificate serves the next connection.
pub(crate) fn client_config(
    config: &Config,
    clock: &Arc<dyn Clock>,
    default_alpn: Option<&str>,
) -> Result<ClientConfig, TlsError> {
    let roots = match &config.ca {
        Some(path) => file_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::ring::default_provider()),
        Arc::new(GatewayTime(clock.clone())),
    )
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots);
    let mut tls = match (&config.certificate, &config.signing_key, &config.key) {
        (Some(certificate), Some(key), _) => {
            let pair = CertifiedKey::new(certificates(certificate)?, key.clone());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        (Some(certificate), None, Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, &e))?;
            builder.with_client_auth_cert(chain, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    let alpn = config.alpn.iter().map(String::as_str);
    let default = default_alpn.filter(|_| config.alpn.is_empty());
    tls.alpn_protocols = alpn.chain(default).map(|p| p.as_bytes().to_vec()).collect();
    Ok(tls)
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| file(path, &e))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_path_buf(),
        });
    }
    Ok(found)
}

fn file_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| file(path, &e))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoSystemRoots {
            reason: reasons.join("; "),
        });
    }
    Ok(roots)
}
