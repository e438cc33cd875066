use std::path::PathBuf;

use iotedge_model::CertificateId;
use thiserror::Error;

use crate::cas::{MAX_CAS_OF_A_KEY, MAX_PENDING};
use crate::policies::{MAX_ATTACHED_POLICIES, MAX_POLICY_VERSIONS};

/// Why bytes are no certificate that the gateway can use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No `-----BEGIN CERTIFICATE-----` block.
    #[error("there is no PEM block CERTIFICATE in it")]
    NoPem,
    /// More than one PEM block where one certificate is asked for.
    #[error("there are {0} certificates in it; give one")]
    Several(usize),
    /// Not X.509.
    #[error("it is not an X.509 certificate: {0}")]
    Malformed(String),
    /// No `-----BEGIN CERTIFICATE REQUEST-----` block.
    #[error("there is no PEM block CERTIFICATE REQUEST in it")]
    NoRequest,
    /// Not a certificate signing request.
    #[error("it is not a certificate signing request: {0}")]
    BadRequest(String),
    /// A certificate that may not sign others.
    #[error("it is not the certificate of a CA: its basic constraints do not say so")]
    NotACa,
    /// Not a revocation list.
    #[error("it is not a certificate revocation list: {0}")]
    BadCrl(String),
    /// A key that no handshake could be verified with.
    #[error("its public key cannot be used for TLS: {0}")]
    Key(String),
}

/// Why the gateway's own CA or server certificate could not be read or made.
#[derive(Debug, Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `ca.pem` is there, its key is not: certificates could not be signed, and a new CA would
    /// shut out every device that trusts the old one.
    #[error(
        "{path} is missing but ca.pem is there; put the key back, or move ca.pem away to begin with a new CA",
        path = .0.display()
    )]
    KeyMissing(PathBuf),
    /// The key in the file is none.
    #[error("{path}: not a private key the gateway can sign with: {reason}", path = path.display())]
    BadKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The certificate in the file is none.
    #[error("{path}: {reason}", path = path.display())]
    BadCertificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: CertificateError,
    },
    /// Key and certificate do not belong together.
    #[error("{key} is not the key of {certificate}", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A name that no certificate can carry.
    #[error("{name:?} cannot stand in a certificate: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A rotation whose old CA is still there.
    #[error(
        "the CA from before the last rotation, {0}, is still there; drop it first (`iotedgectl ca drop`)"
    )]
    OldCaThere(CertificateId),
    /// No old CA to drop.
    #[error("there is no CA from before a rotation")]
    NoOldCa,
    /// The random source or the signature failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// Why a listener's TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file or key is not good.
    #[error(transparent)]
    Material(#[from] CaError),
    /// One of `certificate` and `key` without the other.
    #[error("`certificate` and `key` go together; give both or neither")]
    HalfPair,
    /// rustls refuses the combination.
    #[error("TLS: {0}")]
    Rustls(String),
}

/// Why a client's certificate was refused in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientRefused {
    /// Not X.509.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Its validity has not begun.
    #[error("not yet valid: begins at {not_before} s after 1970, now is {now} s")]
    NotYetValid {
        /// Seconds since 1970.
        not_before: u64,
        /// Seconds since 1970.
        now: u64,
    },
    /// Its validity is over.
    #[error("expired: ended at {not_after} s after 1970, now is {now} s")]
    Expired {
        /// Seconds since 1970.
        not_after: u64,
        /// Seconds since 1970.
        now: u64,
    },
    /// Its extended key usage leaves TLS clients out.
    #[error("wrong purpose: its extended key usage does not contain client authentication")]
    WrongPurpose,
    /// Not registered here, and signed by no CA that the listener knows.
    #[error("unknown issuer: not registered here and not signed by a CA of this listener")]
    UnknownIssuer,
    /// Registered and revoked.
    #[error("revoked")]
    Revoked,
    /// Listed by its CA as revoked.
    #[error("revoked by its CA: it stands in a revocation list")]
    RevokedByCa,
    /// A registered CA signed it, and does not let its certificates register themselves.
    #[error("not registered here: its CA {0} is registered, without auto-registration")]
    NotRegistered(CertificateId),
    /// A registered CA that is switched off signed it.
    #[error("not registered here, and its CA {0} is INACTIVE")]
    InactiveCa(CertificateId),
    /// It names a known CA as its issuer, but the CA's key did not sign it.
    #[error("bad signature: not signed by the CA that it names as its issuer")]
    BadSignature,
    /// Signed in a way that is not supported (SHA-1, DSA, ...).
    #[error("its signature algorithm is not supported")]
    UnsupportedSignature,
    /// Anything else that path validation found.
    #[error("not acceptable: {0}")]
    Other(String),
}

/// Why an operation on certificates or policies was refused.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No such certificate.
    #[error("no certificate {0} is registered")]
    NoCertificate(CertificateId),
    /// It is registered already.
    #[error("certificate {0} is registered already")]
    CertificateExists(CertificateId),
    /// A revoked certificate stays revoked.
    #[error("certificate {0} is revoked; a revoked certificate cannot be used again")]
    Revoked(CertificateId),
    /// The certificate to register is not good.
    #[error("the certificate cannot be registered: {0}")]
    BadCertificate(#[from] CertificateError),
    /// A certificate's name that is empty, too long or has control characters.
    #[error("a certificate's name is 1 to 64 characters without control characters, not {0:?}")]
    BadName(String),
    /// A policy's name that the guide does not allow.
    #[error("a policy's name is 1 to 128 letters, digits and characters of `+=,.@-_`, not {0:?}")]
    BadPolicyName(String),
    /// No such policy.
    #[error("there is no policy {0:?}")]
    NoPolicy(String),
    /// The name is taken by a policy made by command.
    #[error("policy {0:?} exists already")]
    PolicyExists(String),
    /// The name is taken by a file of `policies.d`.
    #[error("policy {0:?} comes from policies.d; change its file and reload")]
    PolicyInFile(String),
    /// A file of `policies.d` has the name of a policy made by command.
    #[error(
        "policy {0:?} is both in policies.d and in the store; remove one of them (`iotedgectl policy delete {0}`)"
    )]
    PolicyInBothPlaces(String),
    /// It is still attached.
    #[error("policy {name:?} is attached to {count} certificates; detach it first")]
    PolicyAttached {
        /// The policy.
        name: String,
        /// To how many.
        count: usize,
    },
    /// More policies than a certificate may have.
    #[error(
        "a certificate has at most {MAX_ATTACHED_POLICIES} policies, not {count}; put statements together in fewer policies"
    )]
    TooManyPolicies {
        /// How many it would have.
        count: usize,
    },
    /// No such version of a policy.
    #[error("policy {name:?} has no version {version}")]
    NoPolicyVersion {
        /// The policy.
        name: String,
        /// Which.
        version: u64,
    },
    /// The version is in force.
    #[error(
        "version {version} of policy {name:?} is the default: make another version the default first"
    )]
    DefaultVersion {
        /// The policy.
        name: String,
        /// Which.
        version: u64,
    },
    /// No more versions are kept (`VersionsLimitExceededException`).
    #[error("policy {0:?} has {MAX_POLICY_VERSIONS} versions: delete one that is not the default")]
    TooManyVersions(String),
    /// It was not attached.
    #[error("policy {name:?} is not attached to certificate {certificate}")]
    NotAttached {
        /// The policy.
        name: String,
        /// The certificate.
        certificate: CertificateId,
    },
    /// A certificate that has something left or may still connect cannot be deleted.
    #[error("certificate {id} cannot be deleted: {reason}")]
    StillInUse {
        /// The certificate.
        id: CertificateId,
        /// What is in the way.
        reason: String,
    },
    /// No such CA.
    #[error("no CA certificate {0} is registered")]
    NoCa(CertificateId),
    /// It is registered already.
    #[error("CA certificate {0} is registered already")]
    CaExists(CertificateId),
    /// As many as the guide allows are there.
    #[error(
        "{MAX_CAS_OF_A_KEY} CA certificates with this subject and public key are registered; delete one first"
    )]
    TooManyCas,
    /// The verification certificate does not prove that the operator has the CA's key.
    #[error("the verification certificate proves nothing: {0}")]
    BadVerification(String),
    /// The CA may not register certificates.
    #[error("CA certificate {0} is INACTIVE: nothing that it signed can be registered")]
    CaInactive(CertificateId),
    /// The CA's validity is over.
    #[error("CA certificate {0} has expired: nothing that it signed can be registered")]
    CaExpired(CertificateId),
    /// It must be inactive to be deleted.
    #[error("CA certificate {0} is ACTIVE; deactivate it first")]
    CaActive(CertificateId),
    /// Not signed by the CA that was named.
    #[error("CA certificate {0} did not sign it")]
    NotSignedBy(CertificateId),
    /// Several registered CAs with one key could have signed it.
    #[error(
        "several registered CA certificates have the key that signed it; say which one with --ca: {0}"
    )]
    WhichCa(String),
    /// More certificates wait for their activation than may.
    #[error(
        "{MAX_PENDING} certificates wait for their activation; no more are registered by themselves"
    )]
    TooManyPending,
    /// Certificates of the old CA are still in use.
    #[error(
        "{count} active certificates are signed by it (`iotedgectl cert list --ca {ca}`); replace them, or revoke them all with --revoke"
    )]
    OldCaInUse {
        /// The old CA.
        ca: CertificateId,
        /// How many.
        count: usize,
    },
    /// The CA could not sign.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store could not read or commit.
    #[error("the store failed: {0}")]
    Store(String),
    /// What the store holds cannot be read.
    #[error("the stored record {key:?} in {collection:?} is damaged: {reason}")]
    DamagedRecord {
        /// `certificates` or `policies`.
        collection: &'static str,
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
}

impl IdentityError {
    /// One word for machines: the `reason` of the control protocol.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate(_)
            | Self::NoPolicy(_)
            | Self::NoPolicyVersion { .. }
            | Self::NotAttached { .. }
            | Self::NoCa(_)
            | Self::Ca(CaError::NoOldCa) => "not-found",
            Self::CertificateExists(_)
            | Self::CaExists(_)
            | Self::PolicyExists(_)
            | Self::PolicyInBothPlaces(_) => "exists",
            Self::StillInUse { .. }
            | Self::CaInactive(_)
            | Self::CaExpired(_)
            | Self::CaActive(_)
            | Self::WhichCa(_)
            | Self::TooManyPending
            | Self::OldCaInUse { .. }
            | Self::Ca(CaError::OldCaThere(_))
            | Self::Revoked(_)
            | Self::PolicyAttached { .. }
            | Self::PolicyInFile(_)
            | Self::DefaultVersion { .. }
            | Self::TooManyVersions(_) => "conflict",
            Self::BadCertificate(_)
            | Self::BadName(_)
            | Self::BadPolicyName(_)
            | Self::TooManyCas
            | Self::BadVerification(_)
            | Self::NotSignedBy(_)
            | Self::TooManyPolicies { .. } => "invalid",
            Self::Ca(_) | Self::Store(_) | Self::DamagedRecord { .. } => "failed",
        }
    }
}
