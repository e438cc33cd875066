//! Named policies as texts: the gateway's parts that evaluate them compile them.

use std::collections::BTreeSet;
use std::sync::Arc;

use iotedge_model::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::IdentityError;

/// How many versions of a policy are kept (2016 guide, "Limits": versions per managed policy).
pub const MAX_POLICY_VERSIONS: usize = 5;

/// How many policies may be attached to one certificate (2016 guide, "Limits": policies attached
/// to a certificate or identity). A certificate that an older version gave more keeps them.
pub const MAX_ATTACHED_POLICIES: usize = 10;

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// Made by command; lives in the store.
    Store,
    /// A file of `policies.d`.
    File,
}

/// A named policy as the snapshot holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// The document of its default version, as it was given.
    pub text: Arc<str>,
    /// The default version's number; 1 for a file's.
    pub version: u64,
    /// Where it comes from.
    pub origin: PolicyOrigin,
}

/// A policy's document in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyRecord {
    pub(crate) default: u64,
    /// The highest number that was given so far, where it is not the last version's.
    #[serde(default)]
    pub(crate) highest: u64,
    pub(crate) versions: Vec<PolicyVersion>,
}

/// One version of a stored policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyVersion {
    /// Its number; grows, never given twice.
    pub id: u64,
    /// The document as it was given.
    pub text: Arc<str>,
    /// When it was made.
    pub created_at: UnixMillis,
}

impl PolicyRecord {
    pub(crate) fn first(text: &str, created_at: UnixMillis) -> Self {
        Self {
            default: 1,
            highest: 1,
            versions: vec![PolicyVersion {
                id: 1,
                text: Arc::from(text),
                created_at,
            }],
        }
    }

    /// Adds a version. Its number is given once, also when the last version is deleted.
    pub(crate) fn add(&mut self, text: &str, created_at: UnixMillis, default: bool) -> u64 {
        let last = self.versions.last().map_or(0, |v| v.id);
        let id = last.max(self.highest) + 1;
        self.highest = id;
        self.versions.push(PolicyVersion {
            id,
            text: Arc::from(text),
            created_at,
        });
        if default {
            self.default = id;
        }
        id
    }

    /// Adds a version and makes it the default; the oldest goes when there are too many.
    pub(crate) fn replace(&mut self, text: &str, created_at: UnixMillis) {
        self.add(text, created_at, true);
        let surplus = self.versions.len().saturating_sub(MAX_POLICY_VERSIONS);
        self.versions.drain(..surplus);
    }

    pub(crate) fn policy(&self, name: &str) -> Option<Policy> {
        let version = self.versions.iter().find(|v| v.id == self.default)?;
        Some(Policy {
            name: Arc::from(name),
            text: version.text.clone(),
            version: version.id,
            origin: PolicyOrigin::Store,
        })
    }
}

/// 1 to 128 of `[\w+=,.@-]` (2016 guide, CreatePolicy).
///
/// # Errors
/// [`IdentityError::BadPolicyName`].
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if (1..=128).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(IdentityError::BadPolicyName(name.to_owned()))
    }
}

pub(crate) fn check_count(attached: &BTreeSet<Arc<str>>) -> Result<(), IdentityError> {
    match attached.len() {
        0..=MAX_ATTACHED_POLICIES => Ok(()),
        count => Err(IdentityError::TooManyPolicies { count }),
    }
}
