//! TLS for listeners.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::ca::{self, ServerPem};
use crate::own::OwnServer;
use crate::verifier::{TrustedCa, Verifier};
use crate::{CaError, Identity, TlsError, files, token, x509};

/// How many TLS sessions a listener remembers, so that clients may resume them.
const REMEMBERED_SESSIONS: usize = 1024;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked and may do without.
    Optional,
    /// Without one the handshake fails.
    Required,
}

/// TLS of one listener.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// PEM chain of the server; default: one signed by the gateway's own CA.
    pub certificate: Option<PathBuf>,
    /// PEM key of `certificate`, or a URI of a [key in a token](crate::token_key).
    pub key: Option<PathBuf>,
    /// PEM file of CAs whose client certificates are accepted beside the gateway's own and the
    /// registered ones.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// ALPN protocols that the server speaks, best first; empty: ALPN is not looked at.
    pub alpn: Vec<Vec<u8>>,
    /// Names and addresses of the gateway beside the host's own, for its own certificate.
    pub names: Vec<String>,
}

impl Default for TlsOptions {
    /// The gateway's own certificate; client certificates required.
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            client_ca: None,
            client_auth: ClientAuth::Required,
            alpn: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl TlsOptions {
    /// Whether the files that are named can be used: the key belongs to the certificate, the CAs
    /// are certificates. Writes nothing.
    pub fn check_files(&self) -> Result<(), TlsError> {
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            configured_key(certificate, key, &rustls::crypto::ring::default_provider())?;
        }
        if let Some(path) = &self.client_ca {
            read_cas(path)?;
        }
        Ok(())
    }
}

impl Identity {
    /// The TLS of one listener: TLS 1.2 and 1.3, with the gateway's verifier of client
    /// certificates. Reads files; call it again after a reload.
    pub fn server_config(&self, options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = self.server_key(options, &provider)?;
        let cas = match &options.client_ca {
            Some(path) => read_cas(path)?,
            None => Vec::new(),
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Rustls(e.to_string()))?;
        let builder = match options.client_auth {
            ClientAuth::None => {
                builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth())
            }
            asked => builder.with_client_cert_verifier(Arc::new(Verifier {
                shared: self.shared.clone(),
                clock: self.clock.clone(),
                cas,
                mandatory: asked == ClientAuth::Required,
                algorithms: provider.signature_verification_algorithms,
            })),
        };
        let mut config = builder.with_cert_resolver(server);
        config.alpn_protocols.clone_from(&options.alpn);
        config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
        Ok(Arc::new(config))
    }

    fn server_key(
        &self,
        options: &TlsOptions,
        provider: &CryptoProvider,
    ) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
        match (&options.certificate, &options.key) {
            (None, None) => {
                self.renew_server(&options.names)?;
                Ok(Arc::new(OwnServer(self.shared.clone())))
            }
            (Some(certificate), Some(key)) => {
                let key = configured_key(certificate, key, provider)?;
                Ok(Arc::new(SingleCertAndKey::from(key)))
            }
            _ => Err(TlsError::HalfPair),
        }
    }
}

/// Certificate and key that the configuration names; the key may be in a token.
fn configured_key(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    if token::is_token_key(key) {
        return token_certified_key(certificate, key, provider);
    }
    let pem = ServerPem {
        certificate: must_read(certificate)?,
        certificate_path: certificate.to_owned(),
        key: must_read(key)?,
        key_path: key.to_owned(),
    };
    certified_key(&pem, provider)
}

/// A token does not give its public key away as easily as a file: a signature shows whether it is the
/// certificate's.
fn token_certified_key(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let text = must_read(certificate)?;
    let chain = x509::certificates_of_pem(&text).map_err(|e| ca::bad(certificate, e))?;
    let signing = token::token_key(key)?;
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    let message = b"is this the key of the certificate?";
    let signer = signing
        .choose_scheme(&schemes)
        .ok_or_else(|| TlsError::Rustls("the token makes no signature that TLS takes".into()))?;
    let signature = signer
        .sign(message)
        .map_err(|e| TlsError::Rustls(e.to_string()))?;
    let leaf = chain.first().map(|der| x509::parse(der)).transpose();
    let leaf = leaf.map_err(|e| ca::bad(certificate, e))?;
    let matches = leaf.is_some_and(|leaf| {
        let public = x509::key_of(&leaf);
        let algorithms = &provider.signature_verification_algorithms.mapping;
        let known = algorithms.iter().find(|(s, _)| *s == signer.scheme());
        known.is_some_and(|(_, algorithms)| {
            webpki::RawPublicKeyEntity::try_from(&public).is_ok_and(|public| {
                algorithms
                    .iter()
                    .any(|a| public.verify_signature(*a, message, &signature).is_ok())
            })
        })
    });
    if !matches {
        return Err(TlsError::Material(CaError::KeyMismatch {
            key: "the key in the token".into(),
            certificate: certificate.to_owned(),
        }));
    }
    Ok(CertifiedKey::new(chain, signing))
}

pub(crate) fn certified_key(
    pem: &ServerPem,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = x509::certificates_of_pem(&pem.certificate)
        .map_err(|e| ca::bad(&pem.certificate_path, e))?;
    let bad_key = |reason: String| CaError::BadKey {
        path: pem.key_path.clone(),
        reason,
    };
    let key =
        PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|e| bad_key(format!("{e:?}")))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| bad_key(e.to_string()))?;
    // rustls's own comparison parses with webpki, which takes no version 1 certificate.
    if let Some(leaf) = chain.first() {
        let parsed = x509::parse(leaf).map_err(|e| ca::bad(&pem.certificate_path, e))?;
        if key.public_key().is_some_and(|k| k != x509::key_of(&parsed)) {
            return Err(TlsError::Material(CaError::KeyMismatch {
                key: pem.key_path.clone(),
                certificate: pem.certificate_path.clone(),
            }));
        }
    }
    Ok(CertifiedKey::new(chain, key))
}

pub(crate) fn read_cas(path: &Path) -> Result<Vec<TrustedCa>, CaError> {
    let text = must_read(path)?;
    let all: Vec<CertificateDer<'static>> =
        x509::certificates_of_pem(&text).map_err(|e| ca::bad(path, e))?;
    all.iter()
        .map(|der| TrustedCa::new(der).map_err(|e| ca::bad(path, e)))
        .collect()
}

fn must_read(path: &Path) -> Result<String, CaError> {
    files::read(path)?.ok_or_else(|| {
        files::io(
            path,
            std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file"),
        )
    })
}
