//! A registered certificate and its record in the store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use iotedge_model::{CertificateId, UnixMillis};
use iotedge_ports::PrincipalStatus;
use serde::{Deserialize, Serialize};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::x509::IssuedNumber;
use crate::{CertificateError, CertificateFacts, x509};

/// Where a certificate stands, in AWS IoT's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateStatus {
    /// May connect.
    Active,
    /// Switched off; may be switched on again.
    Inactive,
    /// Not to be trusted any more, for ever.
    Revoked,
    /// Registered and not switched on yet.
    PendingActivation,
}

impl CertificateStatus {
    /// AWS's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
            Self::PendingActivation => "PENDING_ACTIVATION",
        }
    }
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<CertificateStatus> for PrincipalStatus {
    fn from(status: CertificateStatus) -> Self {
        match status {
            CertificateStatus::Active => Self::Active,
            CertificateStatus::Inactive => Self::Inactive,
            CertificateStatus::Revoked => Self::Revoked,
            CertificateStatus::PendingActivation => Self::PendingActivation,
        }
    }
}

/// How a certificate came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateOrigin {
    /// Made and signed here.
    Created,
    /// Made elsewhere, registered by an operator.
    Registered,
    /// Made elsewhere, registered when its device first connected.
    JustInTime,
}

/// A registered certificate as the snapshot holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub id: CertificateId,
    /// What the operator called it.
    pub name: Arc<str>,
    /// Where it stands.
    pub status: CertificateStatus,
    /// How it came here.
    pub origin: CertificateOrigin,
    /// Names of the attached policies. A name may stand for nothing when its file has gone.
    pub policies: BTreeSet<Arc<str>>,
    /// What policy variables may ask.
    pub facts: Arc<CertificateFacts>,
    /// When it was created or registered here.
    pub created_at: UnixMillis,
    /// The CA that signed it: the gateway's own or a registered one.
    pub ca: Option<CertificateId>,
    pub(crate) number: IssuedNumber,
}

/// A certificate's document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) status: CertificateStatus,
    pub(crate) origin: CertificateOrigin,
    pub(crate) policies: BTreeSet<Arc<str>>,
    pub(crate) created_at: UnixMillis,
    /// The certificate alone: files that operators hand in may hold its private key too.
    pub(crate) pem: String,
    /// The CA that signed it, where it is known here. Older records do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<CertificateId>,
}

impl Record {
    /// Takes everything but the certificate out of the PEM; says whether there was any.
    pub(crate) fn strip(&mut self) -> Result<bool, CertificateError> {
        let pem = x509::pem_of(&x509::certificate_of_pem(&self.pem)?);
        let more = pem != self.pem;
        self.pem = pem;
        Ok(more)
    }

    pub(crate) fn certificate(&self) -> Result<Certificate, CertificateError> {
        let der = x509::certificate_of_pem(&self.pem)?;
        let number = IssuedNumber::of(&x509::parse(&der)?);
        Ok(Certificate {
            id: x509::principal_of(&der),
            name: Arc::from(self.name.as_str()),
            status: self.status,
            origin: self.origin,
            policies: self.policies.clone(),
            facts: Arc::new(x509::facts(&der)?),
            created_at: self.created_at,
            ca: self.ca.clone(),
            number,
        })
    }
}

/// Whether handshakes with this certificate could ever be verified: better said when it is
/// registered than in a handshake that fails.
pub(crate) fn check_key(public_key: &SubjectPublicKeyInfo<'_>) -> Result<(), CertificateError> {
    let key = public_key
        .parsed()
        .map_err(|e| CertificateError::Key(e.to_string()))?;
    match key {
        PublicKey::RSA(rsa) => match rsa.key_size() {
            2048..=8192 => Ok(()),
            bits => Err(CertificateError::Key(format!(
                "RSA with {bits} bits; 2048 to 8192 are supported"
            ))),
        },
        PublicKey::EC(point) => match point.key_size() {
            256 | 384 => Ok(()),
            bits => Err(CertificateError::Key(format!(
                "an elliptic curve of {bits} bits; P-256 and P-384 are supported"
            ))),
        },
        _ => {
            let oid = public_key.algorithm.algorithm.to_id_string();
            // Ed25519 (RFC 8410, 3).
            if oid == "1.3.101.112" {
                return Ok(());
            }
            Err(CertificateError::Key(format!(
                "algorithm {oid}; RSA, ECDSA on P-256 and P-384, and Ed25519 are supported"
            )))
        }
    }
}
