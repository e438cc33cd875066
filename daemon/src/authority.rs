//! The Authorizer: identity's certificates and policy texts, compiled and evaluated by `policy`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use iotedge_identity::{CertificateStatus, Identity, Snapshot};
use iotedge_model::{ArnScope, CertificateId, Principal, PrincipalKind, UnixMillis};
use iotedge_policy::{
    CertificateNames, ConnectFacts, Context, PolicyDocument, PolicyError, Request, Thing,
    Transport, Verdict, evaluate, explain,
};
use iotedge_ports::{
    AuthRequest, Authorizer, Clock, Decision, Grant, PrincipalStatus, ThingFacts, ThingRecord,
};
use iotedge_telemetry::event;

use crate::registration::Registrar;

/// The policies of principals that the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configured {
    /// The policy of each listener that has one, by the listener's address.
    pub listeners: HashMap<Arc<str>, Arc<str>>,
    /// The policies of each user, by name.
    pub users: HashMap<Arc<str>, Vec<Arc<str>>>,
}

/// What is inside the grant of a custom authorizer: documents that speak for one connection.
struct GrantedPolicies(Vec<PolicyDocument>);

/// A policy with the text it was made of, so that an unchanged one is not compiled again.
struct CompiledPolicy {
    text: Arc<str>,
    /// `Err` for one that the store holds and this version refuses: it allows nothing.
    document: Result<Arc<PolicyDocument>, PolicyError>,
}

/// The policies that speak for a principal.
#[derive(Default)]
struct Policies {
    documents: Vec<(Arc<str>, Arc<PolicyDocument>)>,
    /// One that is attached and cannot be read. It may have held a Deny: without it nothing is
    /// allowed.
    missing: Option<Arc<str>>,
}

/// What is known of a certificate.
struct Known {
    names: Arc<CertificateNames>,
    policies: Policies,
}

/// Documents ready to evaluate. Immutable.
#[derive(Default)]
struct Compiled {
    policies: HashMap<Arc<str>, CompiledPolicy>,
    certificates: HashMap<CertificateId, Known>,
    /// A policy asks what time it is.
    uses_time: bool,
}

impl Compiled {
    fn policies<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> Policies {
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

/// What may be done, by whom.
pub struct Authority {
    scope: ArnScope,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    things: Arc<dyn ThingFacts>,
    configured: ArcSwap<Configured>,
    compiled: ArcSwap<Compiled>,
    /// A custom authorizer has answered with a policy that asks what time it is.
    granted_time: AtomicBool,
    generation: AtomicU64,
    /// Once the broker is there to tell of it.
    registrar: OnceLock<Registrar>,
}

impl Authority {
    /// Follows `identity` from now on.
    pub fn new(
        scope: ArnScope,
        identity: Arc<Identity>,
        clock: Arc<dyn Clock>,
        things: Arc<dyn ThingFacts>,
        configured: Configured,
    ) -> Arc<Self> {
        let authority = Arc::new(Self {
            scope,
            identity: identity.clone(),
            clock,
            things,
            configured: ArcSwap::from_pointee(configured),
            compiled: ArcSwap::default(),
            granted_time: AtomicBool::new(false),
            generation: AtomicU64::new(1),
            registrar: OnceLock::new(),
        });
        // Weak: the identity must not keep its own follower alive.
        let follower = Arc::downgrade(&authority);
        identity.on_change(Arc::new(move |snapshot| {
            if let Some(authority) = follower.upgrade() {
                authority.compile(snapshot);
            }
        }));
        authority
    }

    /// From now on unregistered certificates may register themselves.
    pub fn set_registrar(&self, registrar: Registrar) {
        // Set once, when the house is built.
        let _ = self.registrar.set(registrar);
    }

    /// What was decided before may be wrong now: things or attachments have changed.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The policies of listeners and users after a reload.
    pub fn configure(&self, configured: Configured) {
        self.configured.store(Arc::new(configured));
        self.invalidate();
    }

    /// A listener or user that the configuration gives this policy.
    pub fn who_is_configured_with(&self, policy: &str) -> Option<String> {
        let configured = self.configured.load();
        let mut listeners = configured.listeners.iter();
        if let Some((address, _)) = listeners.find(|(_, name)| ***name == *policy) {
            return Some(format!("listener {address}"));
        }
        let mut users = configured.users.iter();
        let (user, _) = users.find(|(_, names)| names.iter().any(|name| **name == *policy))?;
        Some(format!("user {user:?}"))
    }

    /// What a custom authorizer grants with these documents.
    pub fn grant(&self, documents: Vec<PolicyDocument>) -> Grant {
        if documents.iter().any(PolicyDocument::uses_time) {
            self.granted_time.store(true, Ordering::Relaxed);
        }
        Grant(Arc::new(GrantedPolicies(documents)))
    }

    fn asks_for_time(&self, compiled: &Compiled) -> bool {
        compiled.uses_time || self.granted_time.load(Ordering::Relaxed)
    }

    fn compile(&self, snapshot: &Snapshot) {
        let old = self.compiled.load();
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
        self.compiled.store(Arc::new(new));
        self.invalidate();
    }

    /// The policies of a principal that is no certificate, by their names.
    fn configured(&self, principal: &Principal, compiled: &Compiled) -> Policies {
        let configured = self.configured.load();
        match &principal.kind {
            PrincipalKind::Anonymous { listener }
            | PrincipalKind::LocalUser {
                listener: Some(listener),
                ..
            } => compiled.policies(configured.listeners.get(listener)),
            PrincipalKind::User { name } => {
                compiled.policies(configured.users.get(name).into_iter().flatten())
            }
            PrincipalKind::Certificate { .. }
            | PrincipalKind::Custom { .. }
            | PrincipalKind::LocalUser { listener: None, .. }
            | PrincipalKind::Service { .. } => Policies::default(),
        }
    }

    /// The verdict with its whole reasoning.
    pub fn explain(&self, request: &AuthRequest<'_>) -> (Verdict, String) {
        self.with_policies(request, |policies, missing, question| {
            let documents: Vec<&PolicyDocument> = policies.iter().map(|(_, d)| *d).collect();
            let text = explain(&request.principal.id(), policies, question);
            let obstacle = self
                .standing(request.principal)
                .or_else(|| missing.map(without));
            match obstacle {
                None => (evaluate(&documents, question), text),
                Some(obstacle) => (
                    Verdict::ImplicitDeny,
                    format!("{text}but        {obstacle}\n"),
                ),
            }
        })
    }

    /// Why a certificate may do nothing, whatever its policies say.
    fn standing(&self, principal: &Principal) -> Option<String> {
        let snapshot = self.identity.snapshot();
        let certificate = snapshot.certificate(principal.certificate_id()?)?;
        (certificate.status != CertificateStatus::Active).then(|| {
            format!(
                "nothing is allowed: the certificate is {}",
                certificate.status
            )
        })
    }

    fn with_policies<T>(
        &self,
        request: &AuthRequest<'_>,
        answer: impl FnOnce(&[(&str, &PolicyDocument)], Option<&str>, &Request<'_>) -> T,
    ) -> T {
        let compiled = self.compiled.load();
        let id = request.principal.certificate_id();
        let known = id.and_then(|id| compiled.certificates.get(id));
        let other;
        let (policies, names) = match known {
            Some(known) => (&known.policies, Some(&*known.names)),
            None => {
                other = self.configured(request.principal, &compiled);
                (&other, None)
            }
        };
        let mut documents: Vec<(&str, &PolicyDocument)> = policies
            .documents
            .iter()
            .map(|(name, document)| (&**name, &**document))
            .collect();
        let granted = request.link.grant.and_then(granted);
        if let Some(GrantedPolicies(granted)) = granted.as_deref() {
            documents.extend(granted.iter().map(|d| ("of the authorizer's answer", d)));
        }
        let record = self.things.thing(request.client_id);
        let mut attributes = [""; 2];
        let question = Request {
            action: request.action,
            resource: request.resource,
            context: Context {
                transport: match request.client_id {
                    "" => Transport::Http,
                    _ => Transport::Mqtt,
                },
                source_ip: request.source_ip,
                domain_name: request.link.server_name,
                secure: request.link.secure,
                now: self.time(&compiled),
                certificate_id: id.map(CertificateId::as_str),
                certificate: names,
                thing: record.as_deref().map(|record| self.thing(request, record)),
                connect: request
                    .connect
                    .map(|facts| connect_facts(facts, &mut attributes)),
                ..Context::new(&self.scope, request.client_id)
            },
        };
        answer(&documents, policies.missing.as_deref(), &question)
    }

    fn thing<'a>(&self, request: &AuthRequest<'a>, record: &'a ThingRecord) -> Thing<'a> {
        let id = request.principal.certificate_id();
        Thing {
            name: request.client_id,
            thing_type: record.thing_type.as_deref(),
            attributes: &record.attributes,
            attached: id.is_some_and(|id| self.things.is_attached(request.client_id, id)),
        }
    }

    /// What time it is, for who asks for it.
    fn time(&self, compiled: &Compiled) -> Option<UnixMillis> {
        if !self.asks_for_time(compiled) {
            return None;
        }
        let now = self.clock.now();
        now.trusted.then_some(now.wall)
    }
}

fn granted(grant: &Grant) -> Option<Arc<GrantedPolicies>> {
    grant.0.clone().downcast().ok()
}

fn connect_facts<'a>(
    facts: iotedge_ports::ConnectFacts<'a>,
    attributes: &'a mut [&'static str; 2],
) -> ConnectFacts<'a> {
    let asked = [
        facts.persistent.then_some("PersistentConnect"),
        facts.will_topic.map(|_| "LastWill"),
    ];
    let mut count = 0;
    for (place, attribute) in attributes.iter_mut().zip(asked.into_iter().flatten()) {
        *place = attribute;
        count += 1;
    }
    ConnectFacts {
        attributes: attributes.get(..count).unwrap_or_default(),
        last_will_topic: facts.will_topic,
    }
}

impl Authorizer for Authority {
    fn authorize(&self, request: &AuthRequest<'_>) -> Decision {
        match request.principal.kind {
            // The kernel vouches for local processes of the control socket's owner, and the
            // daemon's own rooms ask nobody.
            PrincipalKind::LocalUser { listener: None, .. } | PrincipalKind::Service { .. } => {
                return Decision::Allow;
            }
            PrincipalKind::Certificate { .. }
            | PrincipalKind::Anonymous { .. }
            | PrincipalKind::LocalUser { .. }
            | PrincipalKind::Custom { .. }
            | PrincipalKind::User { .. } => {}
        }
        self.with_policies(request, |policies, missing, question| {
            let obstacle = self
                .standing(request.principal)
                .or_else(|| missing.map(without));
            if let Some(obstacle) = obstacle {
                return Decision::Deny(Arc::from(obstacle));
            }
            let documents: Vec<&PolicyDocument> = policies.iter().map(|(_, d)| *d).collect();
            if evaluate(&documents, question).is_allow() {
                return Decision::Allow;
            }
            let why = explain(&request.principal.id(), policies, question);
            Decision::Deny(Arc::from(why.trim_end().replace('\n', "; ")))
        })
    }

    fn generation(&self) -> u64 {
        let changes = self.generation.load(Ordering::Acquire);
        if !self.asks_for_time(&self.compiled.load()) {
            return changes;
        }
        // An answer that rests on the time is good for a second.
        changes.wrapping_add(self.clock.now().mono / 1000)
    }

    fn status(&self, principal: &Principal) -> PrincipalStatus {
        if let PrincipalKind::User { name } = &principal.kind {
            return match self.configured.load().users.contains_key(name) {
                true => PrincipalStatus::Active,
                false => PrincipalStatus::Unknown,
            };
        }
        let Some(id) = principal.certificate_id() else {
            return PrincipalStatus::Active;
        };
        self.identity.status(id)
    }

    fn introduce(&self, chain: &[&[u8]]) {
        if let Some(registrar) = self.registrar.get() {
            registrar.shown(chain);
        }
    }
}

fn without(policy: &str) -> String {
    format!("nothing is allowed: the attached policy {policy:?} is not there or cannot be read")
}

fn names_of(facts: &iotedge_identity::CertificateFacts) -> CertificateNames {
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
