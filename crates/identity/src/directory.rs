//! The certificates and policies that the gateway knows: in the store, and as an immutable
//! snapshot in memory that is swapped whole after each commit.

mod certificates;
mod policies;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use iotedge_model::CertificateId;
use iotedge_ports::{Clock, PrincipalStatus};
use iotedge_store::Store;
use rustls::sign::CertifiedKey;

use crate::ca::CertificateAuthority;
use crate::cas::RegisteredCa;
use crate::certificate::{Certificate, CertificateOrigin, CertificateStatus, Record};
use crate::crl::{Crls, Revoked};
use crate::documents::Collection;
use crate::policies::{Policy, PolicyRecord};
use crate::verifier::{self, TrustedCa, Validity};
use crate::{CertificateError, IdentityError, own, x509};

/// Everything that is asked while clients connect and publish. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    generation: u64,
    certificates: HashMap<CertificateId, Arc<Certificate>>,
    policies: BTreeMap<Arc<str>, Arc<Policy>>,
    pub(crate) cas: HashMap<CertificateId, Arc<RegisteredCa>>,
}

impl Snapshot {
    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A registered certificate.
    pub fn certificate(&self, id: &CertificateId) -> Option<&Arc<Certificate>> {
        self.certificates.get(id)
    }

    /// All registered certificates, in no order.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values()
    }

    /// A policy by name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// All policies by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// To how many certificates a policy is attached.
    pub fn attachments(&self, policy: &str) -> usize {
        self.certificates
            .values()
            .filter(|c| c.policies.contains(policy))
            .count()
    }
}

/// Is told of each new snapshot, in their order. Must not change identities itself.
pub type OnChange = Arc<dyn Fn(&Arc<Snapshot>) + Send + Sync>;

/// What handshakes read.
#[derive(Default)]
pub(crate) struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// The gateway's own CAs: the present one, and the old one until it is dropped.
    pub(crate) own: ArcSwap<Vec<TrustedCa>>,
    /// Who stands in a revocation list.
    pub(crate) revoked: ArcSwap<Revoked>,
    /// The gateway's own server certificate, once a listener uses it.
    pub(crate) server: ArcSwapOption<CertifiedKey>,
}

impl Shared {
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }
}

/// What only one change at a time may touch.
#[derive(Default)]
pub(crate) struct Changes {
    hook: Option<OnChange>,
}

/// The gateway's CA, and the certificates and policies that it knows.
///
/// Calls that change something return when the change is durable: they block on the disk, so an
/// async caller makes them on a blocking thread. Calls that read never block.
pub struct Identity {
    pub(crate) ca: ArcSwap<CertificateAuthority>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) certificates: Collection,
    pub(crate) cas: Collection,
    pub(crate) settings: Collection,
    policies: Collection,
    changes: Mutex<Changes>,
    pub(crate) crls: Mutex<Crls>,
    /// Names beside the host's own in the server certificate, once a listener uses it.
    pub(crate) names: Mutex<Option<Vec<String>>>,
}

impl Identity {
    /// Opens the CA in `ca_directory` (made at the first start) and reads what the store knows.
    pub fn open(
        ca_directory: &Path,
        store: &Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        let ca = CertificateAuthority::open(ca_directory)?;
        let shared = Shared::default();
        shared.own.store(Arc::new(own::trusted(&ca)?));
        let identity = Self {
            ca: ArcSwap::from_pointee(ca),
            clock,
            shared: Arc::new(shared),
            certificates: Collection::new(store, "certificates"),
            cas: Collection::new(store, "cas"),
            settings: Collection::new(store, "identity"),
            policies: Collection::new(store, "policies"),
            changes: Mutex::default(),
            crls: Mutex::default(),
            names: Mutex::default(),
        };
        let mut snapshot = Snapshot::default();
        identity.read_cas(&mut snapshot)?;
        for (key, record) in identity.certificates.all::<Record>()? {
            let certificate = identity.read_certificate(&key, record)?;
            snapshot
                .certificates
                .insert(certificate.id.clone(), Arc::new(certificate));
        }
        for (key, record) in identity.policies.all::<PolicyRecord>()? {
            let policy = record.policy(&key).ok_or_else(|| {
                identity
                    .policies
                    .damaged(&key, "its default version is missing".into())
            })?;
            snapshot
                .policies
                .insert(policy.name.clone(), Arc::new(policy));
        }
        identity.shared.snapshot.store(Arc::new(snapshot));
        Ok(identity)
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.shared.snapshot().generation
    }

    /// The standing of a certificate, by its own status, the revocation lists and the clock. A resumed
    /// handshake has asked none of them.
    pub fn status(&self, id: &CertificateId) -> PrincipalStatus {
        let snapshot = self.shared.snapshot();
        let Some(certificate) = snapshot.certificate(id) else {
            return PrincipalStatus::Unknown;
        };
        if self.shared.revoked.load().contains(&certificate.number) {
            return PrincipalStatus::Revoked;
        }
        let facts = &certificate.facts;
        let in_time = verifier::validity(&*self.clock, facts.not_before, facts.not_after);
        match certificate.status {
            CertificateStatus::Active if in_time != Validity::Good => PrincipalStatus::Expired,
            status => status.into(),
        }
    }

    /// Sets who is told of changes, and tells it of the present state at once.
    pub fn on_change(&self, hook: OnChange) {
        let mut changes = self.lock();
        hook(&self.snapshot());
        changes.hook = Some(hook);
    }

    /// Changes are one after the other; a panic in one leaves nothing half done, because store and
    /// snapshot are each changed in one step.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record as it was found at start. Older versions kept the whole file that an operator handed
    /// in, which may hold the private key: what is not the certificate goes.
    fn read_certificate(
        &self,
        key: &str,
        mut record: Record,
    ) -> Result<Certificate, IdentityError> {
        let damaged = |e: CertificateError| self.certificates.damaged(key, e.to_string());
        let more = record.strip().map_err(damaged)?;
        if record.ca.is_none() && record.origin == CertificateOrigin::Created {
            // Older versions did not note it.
            let der = x509::certificate_of_pem(&record.pem).map_err(damaged)?;
            record.ca = self.own_ca_of(&der);
        }
        let certificate = record.certificate().map_err(damaged)?;
        if certificate.id.as_str() != key {
            let reason = format!("it holds certificate {}", certificate.id);
            return Err(self.certificates.damaged(key, reason));
        }
        if more {
            tracing::warn!(
                certificate = key,
                "its record held more than the certificate: removed"
            );
            self.certificates.put_lazily(key, &record)?;
        }
        Ok(certificate)
    }

    pub(crate) fn swap(&self, changes: &MutexGuard<'_, Changes>, edit: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.shared.snapshot());
        edit(&mut next);
        next.generation += 1;
        let next = Arc::new(next);
        self.shared.snapshot.store(next.clone());
        if let Some(hook) = &changes.hook {
            hook(&next);
        }
    }
}
