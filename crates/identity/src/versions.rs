//! Versions of stored policies (2016 guide, "Managing AWS IoT Policies": named policies are versioned
//! so that they can be rolled back).

use crate::policies::{MAX_POLICY_VERSIONS, PolicyRecord, PolicyVersion};
use crate::{Identity, IdentityError};

/// The versions of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersions {
    /// The number of the version that is in force.
    pub default: u64,
    /// All that are kept, oldest first.
    pub versions: Vec<PolicyVersion>,
}

fn check(record: &PolicyRecord, name: &str, version: u64) -> Result<(), IdentityError> {
    match record.versions.iter().any(|v| v.id == version) {
        true => Ok(()),
        false => Err(IdentityError::NoPolicyVersion {
            name: name.into(),
            version,
        }),
    }
}

impl Identity {
    /// All kept versions of a stored policy (`ListPolicyVersions`).
    pub fn policy_versions(&self, name: &str) -> Result<PolicyVersions, IdentityError> {
        let record = self.stored_policy(name)?;
        Ok(PolicyVersions {
            default: record.default,
            versions: record.versions,
        })
    }

    /// Adds a version, in force at once if it is to be the default; at most
    /// [`MAX_POLICY_VERSIONS`] are kept (`CreatePolicyVersion`). The text is taken as it is: the
    /// caller has parsed it.
    pub fn create_policy_version(
        &self,
        name: &str,
        text: &str,
        default: bool,
    ) -> Result<u64, IdentityError> {
        let now = self.clock.now().wall;
        self.change_policy(name, |record| {
            if record.versions.len() >= MAX_POLICY_VERSIONS {
                return Err(IdentityError::TooManyVersions(name.into()));
            }
            Ok(record.add(text, now, default))
        })
    }

    /// Puts a version in force (`SetDefaultPolicyVersion`).
    pub fn set_default_policy_version(
        &self,
        name: &str,
        version: u64,
    ) -> Result<(), IdentityError> {
        self.change_policy(name, |record| {
            check(record, name, version)?;
            record.default = version;
            Ok(())
        })
    }

    /// Deletes a version that is not in force (`DeletePolicyVersion`).
    pub fn delete_policy_version(&self, name: &str, version: u64) -> Result<(), IdentityError> {
        self.change_policy(name, |record| {
            check(record, name, version)?;
            if record.default == version {
                return Err(IdentityError::DefaultVersion {
                    name: name.into(),
                    version,
                });
            }
            record.versions.retain(|v| v.id != version);
            Ok(())
        })
    }
}
