//! The Authorizer: identity's certificates and policy texts, compiled and evaluated by `policy`.

mod compiled;
mod guests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use iotedge_identity::{Identity, Snapshot};
use iotedge_model::{ArnScope, CertificateId, Principal, PrincipalKind, UnixMillis};
use iotedge_policy::{
    ConnectFacts, Context, PolicyDocument, Request, Thing, Transport, Verdict, evaluate, explain,
};
use iotedge_ports::{
    AuthRequest, Authorizer, Clock, Decision, Grant, PrincipalStatus, ThingFacts, ThingRecord,
};

pub use self::guests::GuestRooms;

use self::compiled::{Compiled, Policies};
use self::guests::{Guests, Pass};
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

/// What may be done, by whom.
pub struct Authority {
    scope: ArnScope,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    things: Arc<dyn ThingFacts>,
    configured: ArcSwap<Configured>,
    compiled: ArcSwap<Compiled>,
    guests: Guests,
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
            guests: Guests::default(),
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

    /// From now on certificates of these CAs that nobody has registered are let in by these listeners,
    /// which have a policy for them.
    pub fn let_guests_in(&self, rooms: GuestRooms) {
        self.guests.set_rooms(rooms);
        self.invalidate();
    }

    /// The guests who are here and may not be any more.
    pub fn unwelcome_guests(&self) -> Vec<CertificateId> {
        let here = self.guests.here().into_iter();
        here.filter(|pass| self.status_of(pass) != PrincipalStatus::Active)
            .map(|pass| pass.guest.id.clone())
            .collect()
    }

    fn status_of(&self, pass: &Pass) -> PrincipalStatus {
        match self.identity.guest_status(&pass.guest) {
            PrincipalStatus::Active if !self.guests.has_room(pass) => PrincipalStatus::Unknown,
            status => status,
        }
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
        let new = Compiled::of(snapshot, &self.compiled.load());
        self.compiled.store(Arc::new(new));
        self.invalidate();
    }

    /// The policies of a principal that is no registered certificate, by their names.
    fn configured(
        &self,
        principal: &Principal,
        pass: Option<&Pass>,
        compiled: &Compiled,
    ) -> Policies {
        let configured = self.configured.load();
        if let Some(pass) = pass {
            return compiled.policies(configured.listeners.get(&pass.listener));
        }
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
        self.with_policies(request, |policies, obstacle, question| {
            let text = policies.explain(request.principal, question);
            match obstacle {
                None => (evaluate(&policies.documents, question), text),
                Some(obstacle) => (
                    Verdict::ImplicitDeny,
                    format!("{text}but        {obstacle}\n"),
                ),
            }
        })
    }

    /// Why a certificate may do nothing, whatever its policies say.
    fn standing(&self, principal: &Principal, pass: Option<&Pass>) -> Option<String> {
        let id = principal.certificate_id()?;
        let snapshot = self.identity.snapshot();
        let status = match (snapshot.certificate(id), pass) {
            (Some(certificate), _) => PrincipalStatus::from(certificate.status),
            (None, Some(pass)) => self.status_of(pass),
            (None, None) => return None,
        };
        let status = iotedge_gateway::standing_text(status)?;
        Some(format!("nothing is allowed: the certificate is {status}"))
    }

    fn with_policies<T>(
        &self,
        request: &AuthRequest<'_>,
        answer: impl FnOnce(&Speaking<'_>, Option<String>, &Request<'_>) -> T,
    ) -> T {
        let compiled = self.compiled.load();
        let id = request.principal.certificate_id();
        let known = id.and_then(|id| compiled.certificates.get(id));
        let pass = match (id, request.link.grant) {
            (Some(id), Some(grant)) => guests::pass(grant).filter(|pass| pass.guest.id == *id),
            _ => None,
        };
        let other;
        let (policies, names) = match known {
            Some(known) => (&known.policies, Some(&*known.names)),
            None => {
                other = self.configured(request.principal, pass.as_deref(), &compiled);
                (&other, pass.as_ref().map(|pass| &pass.names))
            }
        };
        let mut speaking = Speaking::of(policies, pass.as_ref().filter(|_| known.is_none()));
        let granted = request.link.grant.and_then(granted);
        if let Some(GrantedPolicies(granted)) = granted.as_deref() {
            for document in granted {
                speaking.add(Origin::Answer, document);
            }
        }
        let record = self.things.thing(request.client_id);
        let thing = record.as_deref().map(|record| self.thing(request, record));
        if let (Some(record), true) = (record.as_deref(), thing.is_some_and(|t| t.attached)) {
            speaking.add_groups(record, &compiled);
        }
        let mut attributes = [""; 2];
        let connect = request
            .connect
            .map(|facts| connect_facts(facts, &mut attributes));
        let question = Request {
            action: request.action,
            resource: request.resource,
            context: Context {
                now: self.time(&compiled),
                certificate: names,
                thing,
                connect,
                ..self.context(request)
            },
        };
        let obstacle = self
            .standing(request.principal, pass.as_deref())
            .or_else(|| speaking.missing.as_deref().map(without));
        answer(&speaking, obstacle, &question)
    }

    /// What the request itself says of who asks.
    fn context<'a>(&'a self, request: &AuthRequest<'a>) -> Context<'a> {
        Context {
            transport: match request.client_id {
                "" => Transport::Http,
                _ => Transport::Mqtt,
            },
            source_ip: request.source_ip,
            domain_name: request.link.server_name,
            secure: request.link.secure,
            certificate_id: request
                .principal
                .certificate_id()
                .map(CertificateId::as_str),
            ..Context::new(&self.scope, request.client_id)
        }
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

/// Where a policy that speaks for a principal comes from.
enum Origin<'a> {
    /// Attached to it, or of its user or listener.
    Own,
    /// What a listener lets certificates do that are not registered.
    Guests(&'a str),
    /// Attached to a group that its thing is in.
    Group(&'a str),
    /// What a custom authorizer has answered.
    Answer,
}

/// All policies that speak for a principal in one question.
struct Speaking<'a> {
    documents: Vec<&'a PolicyDocument>,
    /// Name and origin of each.
    origins: Vec<(&'a str, Origin<'a>)>,
    /// One that should be among them and is not.
    missing: Option<Arc<str>>,
}

impl<'a> Speaking<'a> {
    fn of(policies: &'a Policies, pass: Option<&'a Arc<Pass>>) -> Self {
        let origin = |name: &'a Arc<str>| match pass {
            Some(pass) => (&**name, Origin::Guests(&pass.listener)),
            None => (&**name, Origin::Own),
        };
        Self {
            documents: policies.documents.iter().map(|(_, d)| &**d).collect(),
            origins: policies.documents.iter().map(|(n, _)| origin(n)).collect(),
            missing: policies.missing.clone(),
        }
    }

    fn add(&mut self, origin: Origin<'a>, document: &'a PolicyDocument) {
        self.documents.push(document);
        self.origins.push(("", origin));
    }

    /// The policies of the groups that a thing is in, and of those that they are in.
    fn add_groups(&mut self, record: &'a ThingRecord, compiled: &'a Compiled) {
        for group in &record.groups {
            for policy in &group.policies {
                match compiled.document(policy) {
                    Some(document) => {
                        self.documents.push(document);
                        self.origins.push((policy, Origin::Group(&group.name)));
                    }
                    None => self.missing = Some(policy.clone()),
                }
            }
        }
    }

    fn explain(&self, principal: &Principal, question: &Request<'_>) -> String {
        let names: Vec<Cow<'_, str>> = self
            .origins
            .iter()
            .map(|(name, origin)| match origin {
                Origin::Own => Cow::Borrowed(*name),
                Origin::Guests(listener) => {
                    format!("{name} (for unregistered certificates on {listener})").into()
                }
                Origin::Group(group) => format!("{name} (of thing group {group})").into(),
                Origin::Answer => Cow::Borrowed("of the authorizer's answer"),
            })
            .collect();
        let policies: Vec<_> = names
            .iter()
            .map(|name| &**name)
            .zip(self.documents.iter().copied())
            .collect();
        explain(&principal.id(), &policies, question)
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
        self.with_policies(request, |policies, obstacle, question| {
            if let Some(obstacle) = obstacle {
                return Decision::Deny(Arc::from(obstacle));
            }
            if evaluate(&policies.documents, question).is_allow() {
                return Decision::Allow;
            }
            let why = policies.explain(request.principal, question);
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

    fn status(&self, principal: &Principal, grant: Option<&Grant>) -> PrincipalStatus {
        if let PrincipalKind::User { name } = &principal.kind {
            return match self.configured.load().users.contains_key(name) {
                true => PrincipalStatus::Active,
                false => PrincipalStatus::Unknown,
            };
        }
        let Some(id) = principal.certificate_id() else {
            return PrincipalStatus::Active;
        };
        match (self.identity.status(id), grant.and_then(guests::pass)) {
            (PrincipalStatus::Unknown, Some(pass)) if pass.guest.id == *id => self.status_of(&pass),
            (status, _) => status,
        }
    }

    fn welcome(&self, listener: &str, chain: &[&[u8]]) -> Option<Grant> {
        let look = |cas: &_| self.identity.guest(cas, chain);
        self.guests.welcome(listener, look)
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
