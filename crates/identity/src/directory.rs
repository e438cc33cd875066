//! The certificates and policies that the gateway knows: in the store, and as an immutable
//! snapshot in memory that is swapped whole after each commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use iotedge_model::CertificateId;
use iotedge_ports::{Clock, PrincipalStatus};
use iotedge_store::Store;
use rustls::sign::CertifiedKey;

use crate::ca::{CertificateAuthority, CreatedCertificate, Request};
use crate::cas::RegisteredCa;
use crate::certificate::{self, Certificate, CertificateOrigin, CertificateStatus, Record};
use crate::crl::{Crls, Revoked};
use crate::documents::Collection;
use crate::policies::{self, Policy, PolicyOrigin, PolicyRecord};
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

    /// Makes an active certificate with the subject `CN=name` and attaches policies to it. Without
    /// policies it may do nothing.
    pub fn create_certificate(
        &self,
        name: &str,
        policies: &[String],
    ) -> Result<CreatedCertificate, IdentityError> {
        check_certificate_name(name)?;
        let changes = self.lock();
        let policies = self.known_policies(policies)?;
        let ca = self.ca.load_full();
        let created = ca.create_client(name)?;
        self.put_created(&changes, name, policies, &ca, &created)?;
        Ok(created)
    }

    /// Makes an active certificate for the key and the subject of a certificate signing request (PEM).
    /// `name` defaults to the subject's common name.
    pub fn create_certificate_of_request(
        &self,
        request: &str,
        name: Option<&str>,
        policies: &[String],
    ) -> Result<CreatedCertificate, IdentityError> {
        let request = Request::of_pem(request)?;
        let name = name.or(request.common_name.as_deref()).unwrap_or("-");
        check_certificate_name(name)?;
        let changes = self.lock();
        let policies = self.known_policies(policies)?;
        let ca = self.ca.load_full();
        let created = ca.sign_request(&request)?;
        self.put_created(&changes, name, policies, &ca, &created)?;
        Ok(created)
    }

    fn put_created(
        &self,
        changes: &MutexGuard<'_, Changes>,
        name: &str,
        policies: BTreeSet<Arc<str>>,
        ca: &CertificateAuthority,
        created: &CreatedCertificate,
    ) -> Result<(), IdentityError> {
        let record = Record {
            name: name.to_owned(),
            status: CertificateStatus::Active,
            origin: CertificateOrigin::Created,
            policies,
            created_at: self.clock.now().wall,
            pem: created.certificate_pem.clone(),
            ca: Some(ca.id().clone()),
        };
        self.put_certificate(changes, &record)
    }

    /// Registers a certificate made elsewhere, whatever signed it. `name` defaults to the
    /// subject's common name.
    pub fn register_certificate(
        &self,
        pem: &str,
        name: Option<&str>,
        status: CertificateStatus,
        policies: &[String],
    ) -> Result<CertificateId, IdentityError> {
        self.register_certificate_of(None, pem, name, status, policies)
    }

    /// The same for a certificate of a registered CA, which must be active. `ca` says which it is; it
    /// must where several have the key that signed it.
    pub fn register_certificate_of(
        &self,
        ca: Option<&CertificateId>,
        pem: &str,
        name: Option<&str>,
        status: CertificateStatus,
        policies: &[String],
    ) -> Result<CertificateId, IdentityError> {
        let der = x509::certificate_of_pem(pem)?;
        let parsed = x509::parse(&der)?;
        certificate::check_key(parsed.public_key())?;
        let common_name = x509::common_name(parsed.subject());
        let name = name.or(common_name.as_deref()).unwrap_or("-");
        check_certificate_name(name)?;
        let id = x509::principal_of(&der);
        let changes = self.lock();
        if self.shared.snapshot().certificate(&id).is_some() {
            return Err(IdentityError::CertificateExists(id));
        }
        let ca = self.ca_of(&der, ca)?;
        let record = Record {
            name: name.to_owned(),
            status,
            origin: CertificateOrigin::Registered,
            policies: self.known_policies(policies)?,
            created_at: self.clock.now().wall,
            pem: x509::pem_of(&der),
            ca,
        };
        self.put_certificate(&changes, &record)?;
        Ok(id)
    }

    /// Activates, deactivates or revokes. Revoked is for ever.
    pub fn set_status(
        &self,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<(), IdentityError> {
        self.change_certificate(id, |record| {
            let revoked = record.status == CertificateStatus::Revoked;
            if revoked && status != CertificateStatus::Revoked {
                return Err(IdentityError::Revoked(id.clone()));
            }
            record.status = status;
            Ok(())
        })
    }

    /// Forgets a certificate that cannot connect and has no policies.
    pub fn delete_certificate(&self, id: &CertificateId) -> Result<(), IdentityError> {
        let changes = self.lock();
        let certificate = self.registered(id)?;
        let in_use = |reason: String| IdentityError::StillInUse {
            id: id.clone(),
            reason,
        };
        if certificate.status == CertificateStatus::Active {
            return Err(in_use("it is ACTIVE; deactivate or revoke it first".into()));
        }
        if let Some(policy) = certificate.policies.first() {
            let reason = format!("policy {policy:?} is attached to it; detach it first");
            return Err(in_use(reason));
        }
        self.certificates.delete(id.as_str())?;
        self.swap(&changes, |snapshot| {
            snapshot.certificates.remove(id);
        });
        Ok(())
    }

    /// A certificate with its PEM.
    pub fn describe_certificate(
        &self,
        id: &CertificateId,
    ) -> Result<(Arc<Certificate>, String), IdentityError> {
        let certificate = self.registered(id)?;
        let record: Record = self
            .certificates
            .get(id.as_str())?
            .ok_or_else(|| IdentityError::NoCertificate(id.clone()))?;
        Ok((certificate, record.pem))
    }

    /// Makes a policy, or with `replace` a new default version of one that is there. The text is
    /// taken as it is: the caller has parsed it.
    pub fn create_policy(
        &self,
        name: &str,
        text: &str,
        replace: bool,
    ) -> Result<u64, IdentityError> {
        policies::check_name(name)?;
        let changes = self.lock();
        let now = self.clock.now().wall;
        let origin = self.shared.snapshot().policy(name).map(|p| p.origin);
        let record = match origin {
            Some(PolicyOrigin::File) => return Err(IdentityError::PolicyInFile(name.into())),
            Some(PolicyOrigin::Store) if !replace => {
                return Err(IdentityError::PolicyExists(name.into()));
            }
            Some(PolicyOrigin::Store) => {
                let mut record = self.stored_policy(name)?;
                record.replace(text, now);
                record
            }
            None => PolicyRecord::first(text, now),
        };
        let policy = record
            .policy(name)
            .ok_or_else(|| IdentityError::NoPolicy(name.into()))?;
        self.policies.put(name, &record)?;
        let version = policy.version;
        self.swap(&changes, |snapshot| {
            snapshot
                .policies
                .insert(policy.name.clone(), Arc::new(policy));
        });
        Ok(version)
    }

    /// Removes a policy that is attached to nothing.
    pub fn delete_policy(&self, name: &str) -> Result<(), IdentityError> {
        let changes = self.lock();
        let snapshot = self.snapshot();
        match snapshot.policy(name).map(|p| p.origin) {
            None => return Err(IdentityError::NoPolicy(name.into())),
            Some(PolicyOrigin::File) => return Err(IdentityError::PolicyInFile(name.into())),
            Some(PolicyOrigin::Store) => {}
        }
        match snapshot.attachments(name) {
            0 => {}
            count => {
                return Err(IdentityError::PolicyAttached {
                    name: name.into(),
                    count,
                });
            }
        }
        self.policies.delete(name)?;
        self.swap(&changes, |snapshot| {
            snapshot.policies.remove(name);
        });
        Ok(())
    }

    /// Attaches a policy to a certificate; nothing happens when it is already.
    pub fn attach_policy(&self, name: &str, id: &CertificateId) -> Result<(), IdentityError> {
        self.change_certificate(id, |record| {
            let mut new = self.known_policies(&[name.to_owned()])?;
            new.retain(|name| !record.policies.contains(name));
            if !new.is_empty() {
                record.policies.append(&mut new);
                policies::check_count(&record.policies)?;
            }
            Ok(())
        })
    }

    /// Detaches a policy from a certificate.
    pub fn detach_policy(&self, name: &str, id: &CertificateId) -> Result<(), IdentityError> {
        self.change_certificate(id, |record| {
            if record.policies.remove(name) {
                Ok(())
            } else {
                Err(IdentityError::NotAttached {
                    name: name.into(),
                    certificate: id.clone(),
                })
            }
        })
    }

    /// Puts the policies of `policies.d` in the place of those that were there before, at start and
    /// at reload. A name that the store has too is refused, and nothing changes.
    pub fn set_file_policies(
        &self,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), IdentityError> {
        let changes = self.lock();
        let mut all: BTreeMap<_, _> = self
            .snapshot()
            .policies
            .iter()
            .filter(|(_, p)| p.origin == PolicyOrigin::Store)
            .map(|(name, p)| (name.clone(), p.clone()))
            .collect();
        for (name, text) in files {
            policies::check_name(&name)?;
            let policy = Policy {
                name: Arc::from(name.as_str()),
                text: Arc::from(text),
                version: 1,
                origin: PolicyOrigin::File,
            };
            if all.insert(policy.name.clone(), Arc::new(policy)).is_some() {
                return Err(IdentityError::PolicyInBothPlaces(name));
            }
        }
        self.swap(&changes, |snapshot| snapshot.policies = all);
        Ok(())
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

    fn registered(&self, id: &CertificateId) -> Result<Arc<Certificate>, IdentityError> {
        self.shared
            .snapshot()
            .certificate(id)
            .cloned()
            .ok_or_else(|| IdentityError::NoCertificate(id.clone()))
    }

    fn known_policies(&self, names: &[String]) -> Result<BTreeSet<Arc<str>>, IdentityError> {
        let snapshot = self.shared.snapshot();
        let known: BTreeSet<_> = names
            .iter()
            .map(|name| match snapshot.policy(name) {
                Some(policy) => Ok(policy.name.clone()),
                None => Err(IdentityError::NoPolicy(name.clone())),
            })
            .collect::<Result<_, _>>()?;
        policies::check_count(&known)?;
        Ok(known)
    }

    pub(crate) fn stored_policy(&self, name: &str) -> Result<PolicyRecord, IdentityError> {
        if let Some(PolicyOrigin::File) = self.shared.snapshot().policy(name).map(|p| p.origin) {
            return Err(IdentityError::PolicyInFile(name.into()));
        }
        self.policies
            .get(name)?
            .ok_or_else(|| IdentityError::NoPolicy(name.into()))
    }

    /// Changes a stored policy, and shows its default version when that is another now.
    pub(crate) fn change_policy<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut PolicyRecord) -> Result<T, IdentityError>,
    ) -> Result<T, IdentityError> {
        let changes = self.lock();
        let mut record = self.stored_policy(name)?;
        let before = record.default;
        let outcome = change(&mut record)?;
        self.policies.put(name, &record)?;
        if record.default != before {
            let policy = record
                .policy(name)
                .ok_or_else(|| IdentityError::NoPolicy(name.into()))?;
            self.swap(&changes, |snapshot| {
                snapshot
                    .policies
                    .insert(policy.name.clone(), Arc::new(policy));
            });
        }
        Ok(outcome)
    }

    fn change_certificate(
        &self,
        id: &CertificateId,
        change: impl FnOnce(&mut Record) -> Result<(), IdentityError>,
    ) -> Result<(), IdentityError> {
        let changes = self.lock();
        let mut record: Record = self
            .certificates
            .get(id.as_str())?
            .ok_or_else(|| IdentityError::NoCertificate(id.clone()))?;
        change(&mut record)?;
        self.put_certificate(&changes, &record)
    }

    pub(crate) fn put_certificate(
        &self,
        changes: &MutexGuard<'_, Changes>,
        record: &Record,
    ) -> Result<(), IdentityError> {
        let certificate = record.certificate()?;
        self.certificates.put(certificate.id.as_str(), record)?;
        self.swap(changes, |snapshot| {
            snapshot
                .certificates
                .insert(certificate.id.clone(), Arc::new(certificate));
        });
        Ok(())
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

/// 1 to 64 characters, the limit of a common name (RFC 5280, ub-common-name).
fn check_certificate_name(name: &str) -> Result<(), IdentityError> {
    let good = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if good {
        Ok(())
    } else {
        Err(IdentityError::BadName(name.to_owned()))
    }
}
