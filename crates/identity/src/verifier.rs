//! Which client certificates a handshake accepts.
//!
//! 1. A certificate that is registered by id is accepted whatever signed it, unless it is revoked:
//!    AWS IoT takes self-signed and version 1 certificates that were registered directly.
//! 2. Any other must be signed by the gateway's CA (the old one counts too), by one of the listener's
//!    `client_ca`, or directly by a registered CA that is active and has auto-registration: checked by
//!    webpki, or, for version 1 (which webpki refuses to parse), by the CA's signature alone. It may do
//!    nothing before it is registered and active, but what a listener lets its
//!    [guests](crate::Identity::guest) do.
//! 3. None may stand in a revocation list.
//! 4. All must be in their validity, and must not exclude TLS clients in their extended key usage. While
//!    the clock is not trusted, only what has certainly ended counts as expired.
//! 5. Possession of the key is always proven by the handshake's signature.
//!
//! Whether a registered certificate is active is read by the gateway after the handshake, because a
//! resumed session does not come here.

use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{CertificateId, UnixMillis};
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

use crate::cas::{CaStatus, RegisteredCa};
use crate::directory::Shared;
use crate::x509::IssuedNumber;
use crate::{CertificateError, CertificateStatus, ClientRefused, x509};

/// A CA whose signature on client certificates counts.
#[derive(Debug, Clone)]
pub(crate) struct TrustedCa {
    /// SHA-256 of its certificate.
    pub(crate) id: CertificateId,
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
            id: x509::principal_of(der),
            anchor,
            subject: certificate.subject().as_raw().to_vec(),
            key: x509::key_of(&certificate).into_owned(),
        })
    }

    /// Whether this is its subject, DER.
    pub(crate) fn is_called(&self, name: &[u8]) -> bool {
        self.subject == name
    }

    pub(crate) fn key(&self) -> &SubjectPublicKeyInfoDer<'static> {
        &self.key
    }

    /// Whether its key made the signature on a certificate.
    pub(crate) fn signed(&self, der: &[u8]) -> Result<(), ClientRefused> {
        signed_by(der, &self.key)
    }

    /// Whether the other has the same subject and key.
    pub(crate) fn is_twin(&self, other: &Self) -> bool {
        self.subject == other.subject && self.key == other.key
    }
}

/// Where now lies in a validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Within, as far as the clock can say.
    Good,
    /// Before it begins. Seconds since 1970.
    Before { not_before: u64, now: u64 },
    /// Behind its end. Seconds since 1970.
    Over { not_after: u64, now: u64 },
}

/// Looks at a validity, in seconds since 1970. A clock that is not trusted may lag, but never behind
/// what is certainly over: so nothing is too young for it, and what it has seen end stays ended.
pub(crate) fn validity(clock: &dyn Clock, not_before: i64, not_after: i64) -> Validity {
    let now = clock.now();
    // A time before 1970 is before every now.
    let seconds = |t: i64| u64::try_from(t).unwrap_or(0);
    let (not_before, not_after) = (seconds(not_before), seconds(not_after));
    let earliest = if now.trusted { now.wall } else { clock.floor() };
    let now_seconds = earliest.seconds();
    if now_seconds > not_after {
        clock.remember(UnixMillis(not_after.saturating_add(1).saturating_mul(1000)));
        return Validity::Over {
            not_after,
            now: now_seconds,
        };
    }
    if now.trusted && now_seconds < not_before {
        return Validity::Before {
            not_before,
            now: now_seconds,
        };
    }
    Validity::Good
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
        if self
            .shared
            .revoked
            .load()
            .contains(&IssuedNumber::of(&certificate))
        {
            return Err(ClientRefused::RevokedByCa);
        }
        if registered.is_none() {
            self.check_issuer(der, &certificate, intermediates)?;
        }
        self.check_validity(&certificate)?;
        if !x509::allows_client_auth(&certificate) {
            return Err(ClientRefused::WrongPurpose);
        }
        Ok(())
    }

    /// Whether a certificate that is not registered comes from one of these CAs, and is good.
    pub(crate) fn check_guest(
        &self,
        cas: &[TrustedCa],
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), ClientRefused> {
        let certificate = x509::parse(der).map_err(|e| ClientRefused::Malformed(e.to_string()))?;
        let cas: Vec<_> = cas.iter().collect();
        self.check_path(&cas, der, &certificate, intermediates)?;
        self.check_validity(&certificate)
    }

    /// Whether a certificate that is not registered comes from a CA whose certificates may show
    /// themselves.
    fn check_issuer(
        &self,
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), ClientRefused> {
        let own = self.shared.own.load();
        let cas: Vec<_> = own.iter().chain(&self.cas).collect();
        let stranger = match self.check_path(&cas, der, certificate, intermediates) {
            Ok(()) => return Ok(()),
            Err(stranger) => stranger,
        };
        let signers = self.shared.snapshot().signers(der);
        let active = |ca: &&Arc<RegisteredCa>| ca.status == CaStatus::Active;
        if let Some(ca) = signers
            .iter()
            .filter(active)
            .find(|ca| ca.auto_registration)
        {
            return self.check_path(&[&ca.trusted], der, certificate, &[]);
        }
        match (signers.iter().find(active), signers.first()) {
            (Some(ca), _) => Err(ClientRefused::NotRegistered(ca.id.clone())),
            (None, Some(ca)) => Err(ClientRefused::InactiveCa(ca.id.clone())),
            (None, None) => Err(stranger),
        }
    }

    fn check_path(
        &self,
        cas: &[&TrustedCa],
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), ClientRefused> {
        if certificate.version().0 == 0 {
            return check_version_1(cas, der, certificate);
        }
        let leaf = webpki::EndEntityCert::try_from(der).map_err(|e| refused(&e))?;
        let anchors: Vec<_> = cas.iter().map(|ca| ca.anchor.clone()).collect();
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

    /// The time at which a path is validated: now, or, while the clock means nothing, the moment at
    /// which the last of the certificates became valid. Whether the client's own certificate is in
    /// its validity is not asked here, but when it is known to come from somewhere.
    fn path_time(
        &self,
        certificate: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> UnixTime {
        let now = self.clock.now();
        let begin = |c: &X509Certificate<'_>| c.validity().not_before.timestamp();
        let end = certificate.validity().not_after.timestamp();
        let wanted = match now.trusted {
            true => i64::try_from(now.wall.seconds()).unwrap_or(i64::MAX),
            false => intermediates
                .iter()
                .filter_map(|der| x509::parse(der).ok().map(|c| begin(&c)))
                .max()
                .unwrap_or_default(),
        };
        let seconds = wanted.max(begin(certificate)).min(end);
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    fn check_validity(&self, certificate: &X509Certificate<'_>) -> Result<(), ClientRefused> {
        let times = certificate.validity();
        let (begin, end) = (times.not_before.timestamp(), times.not_after.timestamp());
        match validity(&*self.clock, begin, end) {
            Validity::Good => Ok(()),
            Validity::Before { not_before, now } => {
                Err(ClientRefused::NotYetValid { not_before, now })
            }
            Validity::Over { not_after, now } => Err(ClientRefused::Expired { not_after, now }),
        }
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

/// Version 1 has no extensions, so nothing but issuer and signature can be checked. Such a
/// certificate must be signed by a trusted CA itself: it cannot say that it may sign others.
fn check_version_1(
    cas: &[&TrustedCa],
    der: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
) -> Result<(), ClientRefused> {
    let issuer = certificate.issuer().as_raw();
    let mut outcome = Err(ClientRefused::UnknownIssuer);
    for ca in cas.iter().filter(|ca| ca.is_called(issuer)) {
        outcome = ca.signed(der);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Whether `key` made the signature on the certificate `der`.
pub(crate) fn signed_by(
    der: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
) -> Result<(), ClientRefused> {
    let certificate = x509::parse(der)
        .map_err(|_| ClientRefused::Malformed("its signature cannot be read".into()))?;
    verify_signed(
        der,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
        key,
    )
}

/// Whether `key` made the signature on something of the form `SEQUENCE { signed, algorithm,
/// signature }`: certificates, requests and revocation lists have it.
pub(crate) fn verify_signed(
    der: &[u8],
    signed: &[u8],
    signature: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
) -> Result<(), ClientRefused> {
    let malformed = || ClientRefused::Malformed("its signature cannot be read".into());
    let algorithm = x509::signature_algorithm(der).ok_or_else(malformed)?;
    let key = RawPublicKeyEntity::try_from(key).map_err(|e| refused(&e))?;
    let mut outcome = Err(ClientRefused::UnsupportedSignature);
    for known in algorithms_named(algorithm) {
        match key.verify_signature(known, signed, signature) {
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
        ClientRefused::Revoked | ClientRefused::RevokedByCa => TlsCertificateError::Revoked,
        ClientRefused::NotRegistered(_) | ClientRefused::InactiveCa(_) => {
            TlsCertificateError::ApplicationVerificationFailure
        }
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
