//! CAs that are not the gateway's own: registered with a proof of possession, as in AWS IoT.
//!
//! 1. Only who has the CA's key can register it: a certificate signed with it must carry the gateway's
//!    registration code as its common name.
//! 2. A registered CA lets nobody in by itself. What it signed is registered by an operator, or, with
//!    auto-registration, when its device first connects, and then waits for its activation.
//! 3. An inactive CA registers nothing; certificates that are registered go on.
//! 4. A certificate belongs to the CA that signed it directly. CAs may share subject and key; then an
//!    operator says which one it is, and a device says it with the chain that it shows.

use iotedge_model::{CertificateId, UnixMillis};
use iotedge_ports::Clock;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, MutexGuard};

use crate::certificate::{self, CertificateOrigin, CertificateStatus, Record};
use crate::directory::Changes;
use crate::verifier::{self, TrustedCa, Validity, signed_by};
use crate::{CertificateError, CertificateFacts, Identity, IdentityError, Snapshot, x509};

/// How many CA certificates may have the same subject and public key (2016 guide, "Use Your Own
/// Certificate").
pub(crate) const MAX_CAS_OF_A_KEY: usize = 10;

/// How many certificates may wait for their activation: a stolen CA key must not fill the store.
pub(crate) const MAX_PENDING: usize = 10_000;

const CODE: &str = "registration-code";

/// Where a CA stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaStatus {
    /// What it signed may be registered.
    Active,
    /// Nothing more may be registered.
    Inactive,
}

impl CaStatus {
    /// AWS's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// A registered CA as the snapshot holds it.
#[derive(Debug)]
pub struct RegisteredCa {
    /// SHA-256 of its DER.
    pub id: CertificateId,
    /// Where it stands.
    pub status: CaStatus,
    /// Whether certificates that it signed register themselves.
    pub auto_registration: bool,
    /// What stands in it.
    pub facts: CertificateFacts,
    /// When it was registered here.
    pub created_at: UnixMillis,
    pub(crate) trusted: TrustedCa,
}

/// A CA's document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaRecord {
    pub(crate) status: CaStatus,
    pub(crate) auto_registration: bool,
    pub(crate) created_at: UnixMillis,
    pub(crate) pem: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    code: String,
}

impl CaRecord {
    pub(crate) fn ca(&self) -> Result<RegisteredCa, CertificateError> {
        let der = x509::certificate_of_pem(&self.pem)?;
        Ok(RegisteredCa {
            id: x509::principal_of(&der),
            status: self.status,
            auto_registration: self.auto_registration,
            facts: x509::facts(&der)?,
            created_at: self.created_at,
            trusted: TrustedCa::new(&der)?,
        })
    }
}

/// A certificate that has shown itself and may not connect yet: what the event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// The certificate.
    pub certificate: CertificateId,
    /// The registered CA that signed it.
    pub ca: CertificateId,
    /// When it was registered.
    pub registered_at: UnixMillis,
    /// Whether that was now.
    pub new: bool,
}

impl Snapshot {
    /// A registered CA.
    pub fn ca(&self, id: &CertificateId) -> Option<&Arc<RegisteredCa>> {
        self.cas.get(id)
    }

    /// All registered CAs, in no order.
    pub fn cas(&self) -> impl Iterator<Item = &Arc<RegisteredCa>> {
        self.cas.values()
    }

    /// The registered CAs whose key signed a certificate, the oldest first: more than one where they
    /// share their key.
    pub(crate) fn signers(&self, der: &[u8]) -> Vec<Arc<RegisteredCa>> {
        let Ok(certificate) = x509::parse(der) else {
            return Vec::new();
        };
        let issuer = certificate.issuer().as_raw();
        let mut signers: Vec<_> = self
            .cas
            .values()
            .filter(|ca| ca.trusted.is_called(issuer) && ca.trusted.signed(der).is_ok())
            .cloned()
            .collect();
        signers.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
        signers
    }

    /// Whether a certificate that has just proven itself is to be introduced to
    /// [`Identity::introduce`].
    pub fn wants_introduction(&self, id: &CertificateId) -> bool {
        match self.certificate(id) {
            Some(known) => known.status == CertificateStatus::PendingActivation,
            None => self
                .cas
                .values()
                .any(|ca| ca.auto_registration && ca.status == CaStatus::Active),
        }
    }
}

impl Identity {
    /// The text that a verification certificate has as its common name: 64 hex digits, one for the
    /// whole gateway, made when it is first asked for, or anew.
    pub fn registration_code(&self, anew: bool) -> Result<String, IdentityError> {
        let _changes = self.lock();
        if !anew {
            if let Some(Code { code }) = self.settings.get(CODE)? {
                return Ok(code);
            }
        }
        let code = random_code()?;
        self.settings.put(CODE, &Code { code: code.clone() })?;
        Ok(code)
    }

    /// Registers a CA whose key the operator has: `verification` is a certificate signed with it.
    pub fn register_ca(
        &self,
        pem: &str,
        verification: &str,
        status: CaStatus,
        auto_registration: bool,
    ) -> Result<CertificateId, IdentityError> {
        let der = x509::certificate_of_pem(pem)?;
        check_ca(&der)?;
        self.check_verification(&der, verification)?;
        let record = CaRecord {
            status,
            auto_registration,
            created_at: self.clock.now().wall,
            pem: x509::pem_of(&der),
        };
        let ca = record.ca()?;
        let id = ca.id.clone();
        let changes = self.lock();
        let snapshot = self.snapshot();
        if snapshot.ca(&id).is_some() {
            return Err(IdentityError::CaExists(id));
        }
        let twins = snapshot.cas().filter(|c| c.trusted.is_twin(&ca.trusted));
        if twins.count() >= MAX_CAS_OF_A_KEY {
            return Err(IdentityError::TooManyCas);
        }
        self.put_ca(&changes, ca, &record)?;
        drop(changes);
        // Lists of revoked certificates may have waited for it.
        self.read_crls_again();
        Ok(id)
    }

    /// Lets what it signs be registered, or not any more.
    pub fn set_ca_status(&self, id: &CertificateId, status: CaStatus) -> Result<(), IdentityError> {
        self.change_ca(id, |record| record.status = status)
    }

    /// Whether certificates that it signed register themselves.
    pub fn set_auto_registration(&self, id: &CertificateId, on: bool) -> Result<(), IdentityError> {
        self.change_ca(id, |record| record.auto_registration = on)
    }

    /// Forgets an inactive CA. What it signed and is registered stays.
    pub fn delete_ca(&self, id: &CertificateId) -> Result<(), IdentityError> {
        let changes = self.lock();
        match self.snapshot().ca(id) {
            None => return Err(IdentityError::NoCa(id.clone())),
            Some(ca) if ca.status == CaStatus::Active => {
                return Err(IdentityError::CaActive(id.clone()));
            }
            Some(_) => {}
        }
        self.cas.delete(id.as_str())?;
        self.swap(&changes, |snapshot| {
            snapshot.cas.remove(id);
        });
        Ok(())
    }

    /// A registered CA with its PEM.
    pub fn describe_ca(
        &self,
        id: &CertificateId,
    ) -> Result<(Arc<RegisteredCa>, String), IdentityError> {
        let none = || IdentityError::NoCa(id.clone());
        let ca = self.snapshot().ca(id).cloned().ok_or_else(none)?;
        let record: CaRecord = self.cas.get(id.as_str())?.ok_or_else(none)?;
        Ok((ca, record.pem))
    }

    /// A certificate has shown itself in a handshake and proven that it has its key; `chain` begins
    /// with it, in DER. Unknown and signed by a CA with auto-registration, it is registered and waits
    /// for its activation. `None`: there is nothing to tell of it.
    pub fn introduce(&self, chain: &[&[u8]]) -> Result<Option<Introduced>, IdentityError> {
        let Some(der) = chain.first() else {
            return Ok(None);
        };
        let id = x509::principal_of(der);
        let changes = self.lock();
        let snapshot = self.snapshot();
        if let Some(known) = snapshot.certificate(&id) {
            let waits = known.status == CertificateStatus::PendingActivation;
            return Ok(known.ca.clone().filter(|_| waits).map(|ca| Introduced {
                certificate: id,
                ca,
                registered_at: known.created_at,
                new: false,
            }));
        }
        let Some(ca) = introducer(&snapshot, chain) else {
            return Ok(None);
        };
        self.check_registers(&ca)?;
        let waiting = snapshot
            .certificates()
            .filter(|c| c.status == CertificateStatus::PendingActivation);
        if waiting.count() >= MAX_PENDING {
            return Err(IdentityError::TooManyPending);
        }
        let parsed = x509::parse(der)?;
        certificate::check_key(parsed.public_key())?;
        let record = Record {
            name: fit_name(x509::common_name(parsed.subject())),
            status: CertificateStatus::PendingActivation,
            origin: CertificateOrigin::JustInTime,
            policies: std::collections::BTreeSet::new(),
            created_at: self.clock.now().wall,
            pem: x509::pem_of(der),
            ca: Some(ca.id.clone()),
        };
        self.put_certificate(&changes, &record)?;
        Ok(Some(Introduced {
            certificate: id,
            ca: ca.id.clone(),
            registered_at: record.created_at,
            new: true,
        }))
    }

    /// The CA that a certificate belongs to, if it may be registered. Of CAs that share their key
    /// `named` says which.
    pub(crate) fn ca_of(
        &self,
        der: &[u8],
        named: Option<&CertificateId>,
    ) -> Result<Option<CertificateId>, IdentityError> {
        let snapshot = self.snapshot();
        let signers = snapshot.signers(der);
        let ca = match (named, signers.as_slice()) {
            (Some(id), _) => {
                let known = snapshot.ca(id);
                let known = known.ok_or_else(|| IdentityError::NoCa(id.clone()))?;
                if !signers.iter().any(|ca| ca.id == *id) {
                    return Err(IdentityError::NotSignedBy(id.clone()));
                }
                known.clone()
            }
            (None, []) => return Ok(self.own_ca_of(der)),
            (None, [one]) => one.clone(),
            (None, several) => {
                let ids: Vec<_> = several.iter().map(|ca| ca.id.as_str()).collect();
                return Err(IdentityError::WhichCa(ids.join(", ")));
            }
        };
        self.check_registers(&ca)?;
        Ok(Some(ca.id.clone()))
    }

    fn check_registers(&self, ca: &RegisteredCa) -> Result<(), IdentityError> {
        if ca.status == CaStatus::Inactive {
            return Err(IdentityError::CaInactive(ca.id.clone()));
        }
        if is_over(&*self.clock, &ca.facts) {
            return Err(IdentityError::CaExpired(ca.id.clone()));
        }
        Ok(())
    }

    fn check_verification(&self, ca: &[u8], verification: &str) -> Result<(), IdentityError> {
        let bad = |reason: String| IdentityError::BadVerification(reason);
        let der = x509::certificate_of_pem(verification).map_err(|e| bad(e.to_string()))?;
        let proof = x509::parse(&der).map_err(|e| bad(e.to_string()))?;
        let ca = x509::parse(ca)?;
        if proof.issuer().as_raw() != ca.subject().as_raw() {
            let (issuer, subject) = (proof.issuer(), ca.subject());
            return Err(bad(format!(
                "its issuer is {issuer}, the CA's subject {subject}"
            )));
        }
        signed_by(&der, &x509::key_of(&ca))
            .map_err(|_| bad("the CA's key did not sign it".into()))?;
        let code = self.registration_code(false)?;
        match x509::common_name(proof.subject()) {
            Some(name) if name == code => {}
            Some(name) => {
                return Err(bad(format!(
                    "its common name is {name:?}, not the registration code {code}"
                )));
            }
            None => return Err(bad("it has no common name".into())),
        }
        if is_over(&*self.clock, &x509::facts(&der)?) {
            return Err(bad("it has expired".into()));
        }
        Ok(())
    }

    fn change_ca(
        &self,
        id: &CertificateId,
        change: impl FnOnce(&mut CaRecord),
    ) -> Result<(), IdentityError> {
        let changes = self.lock();
        let mut record: CaRecord = self
            .cas
            .get(id.as_str())?
            .ok_or_else(|| IdentityError::NoCa(id.clone()))?;
        change(&mut record);
        self.put_ca(&changes, record.ca()?, &record)
    }

    fn put_ca(
        &self,
        changes: &MutexGuard<'_, Changes>,
        ca: RegisteredCa,
        record: &CaRecord,
    ) -> Result<(), IdentityError> {
        self.cas.put(ca.id.as_str(), record)?;
        self.swap(changes, |snapshot| {
            snapshot.cas.insert(ca.id.clone(), Arc::new(ca));
        });
        Ok(())
    }

    /// The CAs of the store, at start.
    pub(crate) fn read_cas(&self, snapshot: &mut Snapshot) -> Result<(), IdentityError> {
        for (key, record) in self.cas.all::<CaRecord>()? {
            let ca = record
                .ca()
                .map_err(|e| self.cas.damaged(&key, e.to_string()))?;
            if ca.id.as_str() != key {
                let reason = format!("it holds certificate {}", ca.id);
                return Err(self.cas.damaged(&key, reason));
            }
            snapshot.cas.insert(ca.id.clone(), Arc::new(ca));
        }
        Ok(())
    }
}

/// The CA with auto-registration that signed the first of a chain; the one that stands in the chain
/// before others with its key.
fn introducer(snapshot: &Snapshot, chain: &[&[u8]]) -> Option<Arc<RegisteredCa>> {
    let (leaf, shown) = chain.split_first()?;
    let shown: Vec<_> = shown.iter().map(|der| x509::principal_of(der)).collect();
    let mut able: Vec<_> = snapshot
        .signers(leaf)
        .into_iter()
        .filter(|ca| ca.auto_registration && ca.status == CaStatus::Active)
        .collect();
    able.sort_by_key(|ca| !shown.contains(&ca.id));
    able.into_iter().next()
}

/// Basic constraints say whether a certificate may sign others (RFC 5280, 4.2.1.9); one of version 1
/// cannot say it, and many a root is of version 1.
fn check_ca(der: &[u8]) -> Result<(), IdentityError> {
    let certificate = x509::parse(der)?;
    certificate::check_key(certificate.public_key())?;
    let may_sign = match certificate.basic_constraints() {
        Ok(Some(basic)) => basic.value.ca,
        Ok(None) => certificate.version().0 == 0,
        Err(_) => false,
    };
    if may_sign {
        Ok(())
    } else {
        Err(CertificateError::NotACa.into())
    }
}

fn is_over(clock: &dyn Clock, facts: &CertificateFacts) -> bool {
    let validity = verifier::validity(clock, facts.not_before, facts.not_after);
    matches!(validity, Validity::Over { .. })
}

/// What a stranger calls himself, made to fit a certificate's name.
fn fit_name(name: Option<String>) -> String {
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    if name.is_empty() { "-".into() } else { name }
}

fn random_code() -> Result<String, IdentityError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| crate::CaError::Signing("the system gives no random numbers".into()))?;
    Ok(CertificateId::from_digest(&bytes).as_str().to_owned())
}
