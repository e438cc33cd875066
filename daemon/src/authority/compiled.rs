//! Policy documents ready to evaluate, and whose they are.

use std::collections::HashMap;
use std::sync::Arc;

use iotedge_identity::{CertificateFacts, Snapshot};
use iotedge_model::CertificateId;
use iotedge_policy::{CertificateNames, PolicyDocument, PolicyError};
use iotedge_telemetry::event;

/// A policy with the text it was made of, so that an unchanged one is not compiled again.
pub(super) struct CompiledPolicy {
    text: Arc<str>,
    /// `Err` for one that the store holds and this version refuses: it allows nothing.
    document: Result<Arc<PolicyDocument>, PolicyError>,
}

/// The policies that speak for a principal.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) documents: Vec<(Arc<str>, Arc<PolicyDocument>)>,
    /// One that is attached and cannot be read. It may have held a Deny: without it nothing is
    /// allowed.
    pub(super) missing: Option<Arc<str>>,
}

/// What is known of a certificate.
pub(super) struct Known {
    pub(super) names: Arc<CertificateNames>,
    pub(super) policies: Policies,
}

/// Documents ready to evaluate. Immutable.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) policies: HashMap<Arc<str>, CompiledPolicy>,
    pub(super) certificates: HashMap<CertificateId, Known>,
    /// A policy asks what time it is.
    pub(super) uses_time: bool,
}

impl Compiled {
    /// What `old` has compiled already is taken over.
    pub(super) fn of(snapshot: &Snapshot, old: &Self) -> Self {
        let mut new = Compiled::default();
        for policy in snapshot.policies() {
            let document = match old.policies.get(&policy.name) {
                Some(old) if old.text == policy.text => old.document.clone(),
                _ => PolicyDocument::parse(&policy.text).map(Arc::new),
            };
            match &document {
                Ok(document) => new.uses_time |= document.uses_time(),
                Err(error) => tracing::error!(
                    event = event::POLICY_DENIED,
                    policy = %policy.name,
                    "the policy is refused and allows nothing: {error}"
                ),
            }
            let compiled = CompiledPolicy {
                text: policy.text.clone(),
                document,
            };
            new.policies.insert(policy.name.clone(), compiled);
        }
        for certificate in snapshot.certificates() {
            let names = match old.certificates.get(&certificate.id) {
                Some(known) => known.names.clone(),
                None => Arc::new(names_of(&certificate.facts)),
            };
            let policies = new.policies(&certificate.policies);
            let known = Known { names, policies };
            new.certificates.insert(certificate.id.clone(), known);
        }
        new
    }

    /// A policy by name; `None` for one that is not there or cannot be read.
    pub(super) fn document(&self, name: &str) -> Option<&PolicyDocument> {
        self.policies.get(name)?.document.as_deref().ok()
    }

    pub(super) fn policies<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> Policies {
        let mut found = Policies::default();
        for name in names {
            match self.policies.get(name) {
                Some(CompiledPolicy {
                    document: Ok(document),
                    ..
                }) => found.documents.push((name.clone(), document.clone())),
                _ => found.missing = Some(name.clone()),
            }
        }
        found
    }
}

pub(super) fn names_of(facts: &CertificateFacts) -> CertificateNames {
    let mut names = CertificateNames::default();
    for (part, values) in [("Subject", &facts.subject), ("Issuer", &facts.issuer)] {
        for (name, values) in values {
            for value in values {
                names.push(&format!("{part}.{name}"), value.clone());
            }
        }
    }
    names.set_serial_number(facts.serial_number.clone());
    names
}
