//! Guests: certificates that nobody has registered, from a CA that a listener's `client_ca` names.
//!
//! 1. A guest's certificate is checked as in the handshake, by that listener's CAs alone: what the
//!    gateway's own CA has signed and is not registered (any more) is no guest.
//! 2. Registration goes before: a certificate that is registered is none, whatever its status, and a
//!    CA that is registered decides itself about what it has signed. With auto-registration its
//!    devices register themselves, inactive it keeps them out.
//! 3. A revocation list takes a guest out at any time.

use std::path::Path;

use iotedge_model::CertificateId;
use iotedge_ports::PrincipalStatus;
use rustls_pki_types::CertificateDer;

use crate::cas::CaStatus;
use crate::verifier::{TrustedCa, Validity, Verifier, validity};
use crate::x509::IssuedNumber;
use crate::{CertificateFacts, Identity, TlsError, tls, x509};

/// The CAs of one listener's `client_ca`.
#[derive(Debug, Clone, Default)]
pub struct ClientCas(Vec<TrustedCa>);

impl ClientCas {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// It cannot be read or has something else in it.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        Ok(Self(tls::read_cas(path)?))
    }
}

/// A certificate that is here without being registered.
#[derive(Debug)]
pub struct Guest {
    /// SHA-256 of its DER.
    pub id: CertificateId,
    /// What policy variables may ask.
    pub facts: CertificateFacts,
    number: IssuedNumber,
}

impl Identity {
    /// The guest that a handshake has brought to a listener with these CAs; `chain` begins with its
    /// own certificate, in DER. `None`: it is none.
    pub fn guest(&self, cas: &ClientCas, chain: &[&[u8]]) -> Option<Guest> {
        let (leaf, others) = chain.split_first()?;
        let id = x509::principal_of(leaf);
        let snapshot = self.snapshot();
        if snapshot.certificate(&id).is_some() {
            return None;
        }
        let signers = snapshot.signers(leaf);
        let active = signers.iter().filter(|ca| ca.status == CaStatus::Active);
        let registers = active.clone().any(|ca| ca.auto_registration);
        let shut_out = !signers.is_empty() && active.count() == 0;
        if registers || shut_out {
            return None;
        }
        let intermediates: Vec<_> = others
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let leaf = CertificateDer::from(*leaf);
        let verifier = Verifier {
            shared: self.shared.clone(),
            clock: self.clock.clone(),
            cas: Vec::new(),
            mandatory: true,
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        };
        verifier.check_guest(&cas.0, &leaf, &intermediates).ok()?;
        Some(Guest {
            id,
            facts: x509::facts(&leaf).ok()?,
            number: IssuedNumber::of(&x509::parse(&leaf).ok()?),
        })
    }

    /// Where a guest stands now.
    pub fn guest_status(&self, guest: &Guest) -> PrincipalStatus {
        let registered = self.status(&guest.id);
        if registered != PrincipalStatus::Unknown {
            return registered;
        }
        if self.shared.revoked.load().contains(&guest.number) {
            return PrincipalStatus::Revoked;
        }
        match validity(&*self.clock, guest.facts.not_before, guest.facts.not_after) {
            Validity::Good => PrincipalStatus::Active,
            Validity::Before { .. } | Validity::Over { .. } => PrincipalStatus::Expired,
        }
    }
}
