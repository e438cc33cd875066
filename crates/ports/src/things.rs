use std::sync::Arc;

use iotedge_model::{CertificateId, ShadowName, ThingName};

/// A thing as policies see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThingRecord {
    /// Its type's name.
    pub thing_type: Option<String>,
    /// Attributes, by name.
    pub attributes: Vec<(String, String)>,
    /// The groups that it is in, and those that these are in.
    pub groups: Vec<GroupRecord>,
}

/// A thing group as policies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its name.
    pub name: Arc<str>,
    /// The names of the policies that are attached to it.
    pub policies: Vec<Arc<str>>,
}

/// What policies need of the registry.
pub trait ThingFacts: Send + Sync {
    /// The thing.
    fn thing(&self, name: &str) -> Option<Arc<ThingRecord>>;
    /// Whether the certificate is attached to the thing.
    fn is_attached(&self, name: &str, certificate: &CertificateId) -> bool;
}

/// Reads shadows in process, for rules.
pub trait ShadowReader: Send + Sync {
    /// The whole document (`state`, `metadata`, `version`, `timestamp`), or `None`.
    fn shadow(&self, thing: &ThingName, name: Option<&ShadowName>) -> Option<serde_json::Value>;
}
