//! TLS as a client of AWS IoT wants it: the server is checked against one CA file, the client
//! shows its certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedCipherSuite, WantsVerifier, client::WantsClientCert,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::client::Endpoint;
use crate::error::{Error, Result};

/// The port on which AWS IoT speaks MQTT only to those who ask for it by ALPN.
const ALPN_PORT: u16 = 443;
const ALPN_MQTT: &[u8] = b"x-amzn-mqtt-ca";

/// Reads the files and makes the configuration. Files are read at each connect, so that a
/// certificate can be replaced under a running program.
pub(crate) fn config(endpoint: &Endpoint) -> Result<ClientConfig> {
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Tls(e.to_string()))?;
    let builder = verifier(builder, endpoint, &provider)?;
    let mut config = match &endpoint.identity {
        Some((certificate, key)) => {
            builder.with_client_cert_resolver(Arc::new(identity(certificate, key)?))
        }
        None => builder.with_no_client_auth(),
    };
    if let Some(alpn) = &endpoint.alpn {
        config.alpn_protocols = vec![alpn.clone()];
    } else if endpoint.port == ALPN_PORT {
        config.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    }
    Ok(config)
}

/// ring, with ChaCha20-Poly1305 first: most boards that this library is for have no instructions
/// for AES, which is then slow and leaks time.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    let is_other = |suite: &SupportedCipherSuite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(is_other);
    provider
}

fn verifier(
    builder: rustls::ConfigBuilder<ClientConfig, WantsVerifier>,
    endpoint: &Endpoint,
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>> {
    // Read in any case: a wrong path is an error even where nothing is verified.
    let roots = roots(&endpoint.ca)?;
    if endpoint.verify {
        return Ok(builder.with_root_certificates(roots));
    }
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(Arc::clone(provider)))))
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let wrong = |reason: String| Error::Ca {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate in PEM".into()));
    }
    Ok(roots)
}

/// The client's certificate chain and key: PKCS#8, SEC1 or PKCS#1.
///
/// They are not compared with each other: `openssl x509 -req` makes certificates of X.509 version
/// 1, which the comparison cannot read and servers accept.
fn identity(certificate: &Path, key: &Path) -> Result<Identity> {
    let wrong_certificate = |reason: String| Error::Certificate {
        path: certificate.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| wrong_certificate(e.to_string()))?;
    if chain.is_empty() {
        return Err(wrong_certificate("has no certificate in PEM".into()));
    }
    let wrong_key = |reason: String| Error::Key {
        path: key.to_owned(),
        reason,
    };
    let der = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong_key(e.to_string()))?;
    let signer = ring::sign::any_supported_type(&der).map_err(|e| wrong_key(e.to_string()))?;
    Ok(Identity(Arc::new(CertifiedKey::new(chain, signer))))
}

/// Shows the one certificate there is to every server that asks.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes any server, as the application asked for by switching verification off. Its signature
/// in the handshake must still be right.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
