//! The decision.

use crate::arn::Target;
use crate::context::Request;
use crate::document::{Effect, PolicyDocument, action_bit};
use crate::pairs::Pairs;

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into the documents handed in.
    pub policy: usize,
    /// Index of the statement in its document, from 0.
    pub statement: usize,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This statement allows it and none denies it.
    Allow(Place),
    /// This statement denies it.
    ExplicitDeny(Place),
    /// No statement allows it.
    ImplicitDeny,
}

impl Verdict {
    /// Whether it may be done.
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// Decides one request by all documents of its principal.
pub fn evaluate(policies: &[&PolicyDocument], request: &Request<'_>) -> Verdict {
    let bit = action_bit(request.action);
    let context = &request.context;
    let target = Target::of(request);
    let pairs = target.as_ref().map_or(Pairs::NONE, Target::pairs);
    let mut allowed = None;
    for (policy, document) in policies.iter().enumerate() {
        for (statement, s) in document.near(bit, pairs) {
            let idle = s.effect == Effect::Allow && allowed.is_some();
            if idle || !s.takes_resource(target.as_ref(), context) || !s.takes_conditions(request) {
                continue;
            }
            let place = Place { policy, statement };
            match s.effect {
                Effect::Deny => return Verdict::ExplicitDeny(place),
                Effect::Allow => allowed = Some(place),
            }
        }
    }
    allowed.map_or(Verdict::ImplicitDeny, Verdict::Allow)
}
