//! The Authorizer: identity's certificates and policy texts, compiled and evaluated by `policy`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use iotedge_identity::{CertificateStatus, Identity, Snapshot};
use iotedge_model::{ArnScope, CertificateId, Principal, PrincipalKind};
use iotedge_policy::{
    CertificateNames, Context, PolicyDocument, PolicyError, Request, Thing, Transport, Verdict,
    evaluate, explain,
};
use iotedge_ports::{AuthRequest, Authorizer, Clock, Decision, PrincipalStatus, ThingFacts};
use iotedge_telemetry::event;

/// A policy with the text it was made of, so that an unchanged one is not compiled again.
struct CompiledPolicy {
    text: Arc<str>,
    /// `Err` for one that the store holds and this version refuses: it allows nothing.
    document: Result<Arc<PolicyDocument>, PolicyError>,
}

/// Documents ready to evaluate. Immutable.
#[derive(Default)]
struct Compiled {
    policies: HashMap<Arc<str>, CompiledPolicy>,
    names: HashMap<CertificateId, Arc<CertificateNames>>,
}

/// What may be done, by whom.
pub struct Authority {
    scope: ArnScope,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    things: Arc<dyn ThingFacts>,
    /// The policy of each anonymous listener, by the listener's address.
    listeners: ArcSwap<HashMap<Arc<str>, Arc<str>>>,
    compiled: ArcSwap<Compiled>,
    generation: AtomicU64,
}

impl Authority {
    /// Follows `identity` from now on.
    pub fn new(
        scope: ArnScope,
        identity: Arc<Identity>,
        clock: Arc<dyn Clock>,
        things: Arc<dyn ThingFacts>,
        listeners: HashMap<Arc<str>, Arc<str>>,
    ) -> Arc<Self> {
        let authority = Arc::new(Self {
            scope,
            identity: identity.clone(),
            clock,
            things,
            listeners: ArcSwap::from_pointee(listeners),
            compiled: ArcSwap::default(),
            generation: AtomicU64::new(1),
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

    /// What was decided before may be wrong now: things or attachments have changed.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The policies of anonymous listeners after a reload.
    pub fn set_listeners(&self, listeners: HashMap<Arc<str>, Arc<str>>) {
        self.listeners.store(Arc::new(listeners));
        self.invalidate();
    }

    fn compile(&self, snapshot: &Snapshot) {
        let old = self.compiled.load();
        let mut new = Compiled::default();
        for policy in snapshot.policies() {
            let document = match old.policies.get(&policy.name) {
                Some(old) if old.text == policy.text => old.document.clone(),
                _ => PolicyDocument::parse(&policy.text).map(Arc::new),
            };
            if let Err(error) = &document {
                tracing::error!(
                    event = event::POLICY_DENIED,
                    policy = %policy.name,
                    "the policy is refused and allows nothing: {error}"
                );
            }
            let compiled = CompiledPolicy {
                text: policy.text.clone(),
                document,
            };
            new.policies.insert(policy.name.clone(), compiled);
        }
        for certificate in snapshot.certificates() {
            let names = match old.names.get(&certificate.id) {
                Some(names) => names.clone(),
                None => Arc::new(names_of(&certificate.facts)),
            };
            new.names.insert(certificate.id.clone(), names);
        }
        self.compiled.store(Arc::new(new));
        self.invalidate();
    }

    /// The names of the policies that speak for a principal.
    fn policies_of(&self, principal: &Principal) -> Vec<Arc<str>> {
        match &principal.kind {
            PrincipalKind::Certificate { id } => self
                .identity
                .snapshot()
                .certificate(id)
                .map(|c| c.policies.iter().cloned().collect())
                .unwrap_or_default(),
            PrincipalKind::Anonymous { listener }
            | PrincipalKind::LocalUser {
                listener: Some(listener),
                ..
            } => self
                .listeners
                .load()
                .get(listener)
                .cloned()
                .into_iter()
                .collect(),
            PrincipalKind::User { .. }
            | PrincipalKind::LocalUser { listener: None, .. }
            | PrincipalKind::Service { .. } => Vec::new(),
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
        let names = self.policies_of(request.principal);
        let mut policies = Vec::with_capacity(names.len());
        let mut missing = None;
        for name in &names {
            match compiled.policies.get(name) {
                Some(CompiledPolicy {
                    document: Ok(document),
                    ..
                }) => {
                    policies.push((&**name, &**document));
                }
                // It may have held a Deny: without it nothing is allowed.
                _ => missing = Some(&**name),
            }
        }
        let id = request.principal.certificate_id();
        let certificate = id.and_then(|id| compiled.names.get(id));
        let record = self.things.thing(request.client_id);
        let thing = record.as_ref().map(|record| Thing {
            name: request.client_id,
            thing_type: record.thing_type.as_deref(),
            attributes: &record.attributes,
            attached: id.is_some_and(|id| self.things.is_attached(request.client_id, id)),
        });
        let mut context = Context::new(&self.scope, request.client_id);
        if request.client_id.is_empty() {
            context.transport = Transport::Http;
        }
        context.source_ip = request.source_ip;
        context.certificate_id = id.map(CertificateId::as_str);
        context.certificate = certificate.map(|names| &**names);
        context.thing = thing;
        let question = Request {
            action: request.action,
            resource: request.resource,
            context,
        };
        answer(&policies, missing, &question)
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
        self.generation.load(Ordering::Acquire)
    }

    fn status(&self, principal: &Principal) -> PrincipalStatus {
        let Some(id) = principal.certificate_id() else {
            return PrincipalStatus::Active;
        };
        let snapshot = self.identity.snapshot();
        let Some(certificate) = snapshot.certificate(id) else {
            return PrincipalStatus::Unknown;
        };
        let status = PrincipalStatus::from(certificate.status);
        // A resumed handshake does not look at the certificate again.
        let now = self.clock.now();
        let seconds = i64::try_from(now.wall.seconds()).unwrap_or(i64::MAX);
        let facts = &certificate.facts;
        let valid = (facts.not_before..=facts.not_after).contains(&seconds);
        if status == PrincipalStatus::Active && now.trusted && !valid {
            return PrincipalStatus::Expired;
        }
        status
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
