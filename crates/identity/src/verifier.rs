//! Which client certificates a handshake accepts.
//!
//! 1. A certificate that is registered by id is accepted whatever signed it, unless it is revoked:
//!    AWS IoT takes self-signed and version 1 certificates that were registered directly.
//! 2. Any other must be signed by the gateway's CA or one of the listener's `client_ca`: checked by
//!    webpki, or, for version 1 (which webpki refuses to parse), by the CA's signature alone.
//! 3. Both must be in their validity, by the gateway's clock and only while it is trusted, and must
//!    not exclude TLS clients in their extended key usage.
//! 4. Possession of the key is always proven by the handshake's signature.
//!
//! Whether a registered certificate is active is read by the gateway after the handshake, because a
//! resumed session does not come here.

use std::sync::Arc;
use std::time::Duration;

use iotedge_ports::Clock;
use iotedge_telemetry::event;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, Error,
    PeerMisbehaved, SignatureScheme, client::danger::HandshakeSignatureValid,
};
use rustls_pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509Certificate;

use crate::directory::Shared;
use crate::{CertificateError, CertificateStatus, ClientRefused, x509};

/// A CA whose signature on client certificates counts.
#[derive(Debug)]
pub(crate) struct TrustedCa {
    anchor: TrustAnchor<'static>,
    /// The whole subject, DER.
    subject: Vec<u8>,
    key: SubjectPublicKeyInfoDer<'static>,
}

impl TrustedCa {
    pub(crate) fn new(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let anchor = webpki::anchor_from_trusted_cert(der)
            .map_err(|e| CertificateError::Malformed(e.to_string()))?
            .to_owned();
        let certificate = x509::parse(der)?;
        Ok(Self {
            anchor,
            subject: certificate.subject().as_raw().to_vec(),
            key: x509::key_of(&certificate).into_owned(),
        })
    }
}

pub(crate) struct Verifier {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cas: Vec<TrustedCa>,
    pub(crate) mandatory: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("cas", &self.cas.len())
            .field("mandatory", &self.mandatory)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    pub(crate) fn check(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), ClientRefused> {
        let certificate = x509::parse(der).map_err(|e| match e {
            CertificateError::Malformed(reason) => ClientRefused::Malformed(reason),
            other => ClientRefused::Malformed(other.to_string()),
        })?;
        let id = x509::principal_of(der);
        let registered = self
            .shared
            .snapshot()
            .certificate(&id)
            .map(|record| record.status);
        if registered == Some(CertificateStatus::Revoked) {
            return Err(ClientRefused::Revoked);
        }
        if registered.is_none() {
            self.check_path(der, &certificate, intermediates)?;
        }
        self.check_validity(&certificate)?;
        if !x509::allows_client_auth(&certificate) {
            return Err(ClientRefused::WrongPurpose);
        }
        Ok(())
    }

    fn check_path(
        &self,
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), ClientRefused> {
        if certificate.version().0 == 0 {
            return self.check_version_1(der, certificate);
        }
        let leaf = webpki::EndEntityCert::try_from(der).map_err(|e| refused(&e))?;
        let anchors: Vec<_> = self.cas.iter().map(|ca| ca.anchor.clone()).collect();
        leaf.verify_for_usage(
            self.algorithms.all,
            &anchors,
            intermediates,
            self.path_time(certificate, intermediates),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(|e| refused(&e))
    }

    /// Version 1 has no extensions, so nothing but issuer and signature can be checked. Such a
    /// certificate must be signed by a trusted CA itself: it cannot say that it may sign others.
    fn check_version_1(
        &self,
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
    ) -> Result<(), ClientRefused> {
        let issuer = certificate.issuer().as_raw();
        let mut outcome = Err(ClientRefused::UnknownIssuer);
        for ca in self.cas.iter().filter(|ca| ca.subject == issuer) {
            outcome = signed_by(der, &ca.key);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The time at which a path is validated: now, or, while the clock means nothing, the moment at
    /// which the last of the certificates became valid.
    fn path_time(
        &self,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> UnixTime {
        let now = self.clock.now();
        if now.trusted {
            return UnixTime::since_unix_epoch(Duration::from_secs(now.wall.seconds()));
        }
        let begin = |c: &X509Certificate<'_>| c.validity().not_before.timestamp();
        let latest = intermediates
            .iter()
            .filter_map(|der| x509::parse(der).ok().map(|c| begin(&c)))
            .chain([begin(certificate)])
            .max()
            .unwrap_or_default();
        let seconds = u64::try_from(latest).unwrap_or_default();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn check_validity(&self, certificate: &X509Certificate<'_>) -> Result<(), ClientRefused> {
        let now = self.clock.now();
        if !now.trusted {
            return Ok(());
        }
        let now = now.wall.seconds();
        // A time before 1970 is before every now.
        let seconds = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
        let not_before = seconds(certificate.validity().not_before);
        let not_after = seconds(certificate.validity().not_after);
        if now < not_before {
            return Err(ClientRefused::NotYetValid { not_before, now });
        }
        if now > not_after {
            return Err(ClientRefused::Expired { not_after, now });
        }
        Ok(())
    }

    /// Verifies the handshake's signature with the certificate's key, without parsing the rest of
    /// the certificate as webpki would.
    fn verify_with_key(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        first_only: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let certificate = x509::parse(der).map_err(|_| TlsCertificateError::BadEncoding)?;
        let key = x509::key_of(&certificate);
        let key =
            RawPublicKeyEntity::try_from(&key).map_err(|_| TlsCertificateError::BadEncoding)?;
        // In TLS 1.3 a scheme names the curve, and the first algorithm is the one; in TLS 1.2 it
        // does not (RFC 8446, 4.2.3).
        let count = if first_only { 1 } else { candidates.len() };
        let verified = candidates.iter().take(count).any(|algorithm| {
            key.verify_signature(*algorithm, message, signature.signature())
                .is_ok()
        });
        if verified {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(TlsCertificateError::BadSignature.into())
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: a registered certificate may come from any CA, so the client shall send what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.check(end_entity, intermediates) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(refused) => {
                log_refusal(end_entity, &refused);
                Err(Error::InvalidCertificate(alert(&refused)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_with_key(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // PKCS #1 v1.5 is not for TLS 1.3 (RFC 8446, 4.2.3).
        if matches!(
            dss.scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        ) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify_with_key(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether `key` made the signature on the certificate `der`.
pub(crate) fn signed_by(
    der: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
) -> Result<(), ClientRefused> {
    let malformed = || ClientRefused::Malformed("its signature cannot be read".into());
    let certificate = x509::parse(der).map_err(|_| malformed())?;
    let algorithm = x509::signature_algorithm(der).ok_or_else(malformed)?;
    let key = RawPublicKeyEntity::try_from(key).map_err(|e| refused(&e))?;
    let mut outcome = Err(ClientRefused::UnsupportedSignature);
    for known in algorithms_named(algorithm) {
        match key.verify_signature(
            known,
            certificate.tbs_certificate.as_ref(),
            certificate.signature_value.data.as_ref(),
        ) {
            Ok(()) => return Ok(()),
            // The same signature algorithm with another curve's key.
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => outcome = Err(ClientRefused::BadSignature),
        }
    }
    outcome
}

fn algorithms_named(
    name: &[u8],
) -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> {
    webpki::ALL_VERIFICATION_ALGS
        .iter()
        .copied()
        .filter(move |known| known.signature_alg_id().as_ref() == name)
}

fn refused(error: &webpki::Error) -> ClientRefused {
    use webpki::Error as E;
    match error {
        E::CertExpired { time, not_after } => ClientRefused::Expired {
            not_after: not_after.as_secs(),
            now: time.as_secs(),
        },
        E::CertNotValidYet { time, not_before } => ClientRefused::NotYetValid {
            not_before: not_before.as_secs(),
            now: time.as_secs(),
        },
        E::RequiredEkuNotFoundContext(_) => ClientRefused::WrongPurpose,
        E::UnknownIssuer => ClientRefused::UnknownIssuer,
        E::CertRevoked => ClientRefused::Revoked,
        E::InvalidSignatureForPublicKey => ClientRefused::BadSignature,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            ClientRefused::UnsupportedSignature
        }
        E::BadDer | E::BadDerTime | E::TrailingData(_) => {
            ClientRefused::Malformed(error.to_string())
        }
        E::CaUsedAsEndEntity => {
            ClientRefused::Other("it is a CA certificate and not registered here".into())
        }
        other => ClientRefused::Other(other.to_string()),
    }
}

/// What rustls tells the client, as an alert.
fn alert(refused: &ClientRefused) -> TlsCertificateError {
    let time = |s: &u64| UnixTime::since_unix_epoch(Duration::from_secs(*s));
    match refused {
        ClientRefused::Malformed(_) => TlsCertificateError::BadEncoding,
        ClientRefused::NotYetValid { not_before, now } => TlsCertificateError::NotValidYetContext {
            time: time(now),
            not_before: time(not_before),
        },
        ClientRefused::Expired { not_after, now } => TlsCertificateError::ExpiredContext {
            time: time(now),
            not_after: time(not_after),
        },
        ClientRefused::WrongPurpose => TlsCertificateError::InvalidPurpose,
        ClientRefused::UnknownIssuer => TlsCertificateError::UnknownIssuer,
        ClientRefused::Revoked => TlsCertificateError::Revoked,
        ClientRefused::BadSignature => TlsCertificateError::BadSignature,
        ClientRefused::UnsupportedSignature | ClientRefused::Other(_) => {
            TlsCertificateError::Other(rustls::OtherError(Arc::new(refused.clone())))
        }
    }
}

fn log_refusal(der: &CertificateDer<'_>, refused: &ClientRefused) {
    let id = x509::principal_of(der);
    // What a stranger sent is quoted, so that it cannot forge log lines.
    let (subject, issuer) = match x509::facts(der) {
        Ok(facts) => (facts.subject_line, facts.issuer_line),
        Err(_) => (String::new(), String::new()),
    };
    tracing::warn!(
        event = event::CONNECT_REFUSED,
        principal_id = id.as_str(),
        subject = ?subject,
        issuer = ?issuer,
        reason = %refused,
        "client certificate refused"
    );
}
