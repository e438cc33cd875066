//! The life of certificates: made, registered, switched on and off, forgotten.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard};

use iotedge_model::CertificateId;

use super::{Changes, Identity};
use crate::ca::{CertificateAuthority, CreatedCertificate, Request};
use crate::certificate::{self, Certificate, CertificateOrigin, CertificateStatus, Record};
use crate::{IdentityError, x509};

impl Identity {
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

    fn registered(&self, id: &CertificateId) -> Result<Arc<Certificate>, IdentityError> {
        self.shared
            .snapshot()
            .certificate(id)
            .cloned()
            .ok_or_else(|| IdentityError::NoCertificate(id.clone()))
    }

    pub(super) fn change_certificate(
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
