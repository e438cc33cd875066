//! The life of policies, and to which certificates they are attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iotedge_model::CertificateId;

use super::Identity;
use crate::IdentityError;
use crate::policies::{self, Policy, PolicyOrigin, PolicyRecord};

impl Identity {
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

    pub(super) fn known_policies(
        &self,
        names: &[String],
    ) -> Result<BTreeSet<Arc<str>>, IdentityError> {
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
}
