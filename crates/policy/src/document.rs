//! Documents: from JSON to something that can be asked.

use iotedge_model::Action;

use crate::arn::{ArnPattern, Target};
use crate::condition::{self, Condition};
use crate::context::{Context, Request};
use crate::json::Node;
use crate::pairs::Pairs;
use crate::pattern::Match;
use crate::variable::Variable;
use crate::{PolicyError, Problem};

/// Longest document, white space not counted (2016 guide, "Limits", "Policy document size").
pub const MAX_DOCUMENT_CHARACTERS: usize = 2048;

/// Most policies on one principal (2016 guide, "Limits").
pub const MAX_POLICIES_PER_PRINCIPAL: usize = 10;

/// What a statement does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Allows.
    Allow,
    /// Denies, whatever others allow.
    Deny,
}

/// A policy document, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDocument {
    pub(crate) statements: Vec<Statement>,
    /// One for each statement.
    gates: Vec<Gate>,
}

/// What tells at a glance that a statement has nothing to do with a request. Side by side, because a
/// decision looks at all of them, and at few statements behind them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gate {
    actions: u32,
    /// What every resource that it is about has in it.
    pairs: Pairs,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    /// A bit for each of [`Action::ALL`].
    pub(crate) actions: u32,
    /// They were written as those it is not about.
    pub(crate) not_action: bool,
    /// As written, for messages.
    pub(crate) actions_text: Vec<String>,
    /// The resources are those it is not about.
    pub(crate) not_resource: bool,
    pub(crate) resources: Vec<Resource>,
    pub(crate) conditions: Vec<Condition>,
}

/// The bits of every action.
pub(crate) const ALL_ACTIONS: u32 = (1 << Action::ALL.len()) - 1;

pub(crate) fn action_bit(action: Action) -> u32 {
    Action::ALL
        .iter()
        .position(|a| *a == action)
        .map_or(0, |i| 1 << i)
}

impl PolicyDocument {
    /// Checks and compiles a document as it would be for `CreatePolicy`.
    ///
    /// Errors name the statement (from 1), the member and the reason; for bad JSON line and column.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        // JSON first: what is no JSON has no size worth talking of.
        let node = Node::parse(text)?;
        let length = text.chars().filter(|c| !c.is_whitespace()).count();
        if length > MAX_DOCUMENT_CHARACTERS {
            return Err(PolicyError::TooLong {
                length,
                max: MAX_DOCUMENT_CHARACTERS,
            });
        }
        Self::from_node(&node)
    }

    fn from_node(node: &Node) -> Result<Self, PolicyError> {
        let wrong = |field: &str, problem| PolicyError::Document {
            field: field.to_owned(),
            problem,
        };
        let Node::Object(members) = node else {
            let expected = "an object with Version and Statement";
            return Err(wrong("document", Problem::WrongType { expected }));
        };
        let (mut version, mut statements) = (None, None);
        for (name, value) in members {
            match name.as_str() {
                "Version" => version = Some(value),
                "Statement" => statements = Some(value),
                "Id" if matches!(value, Node::String(_)) => {}
                "Id" => return Err(wrong(name, STRING)),
                _ => {
                    let known = "Version, Id and Statement";
                    return Err(wrong(name, Problem::UnknownMember { known }));
                }
            }
        }
        match version {
            Some(Node::String(v)) if v == "2012-10-17" => {}
            Some(Node::String(v)) => {
                return Err(wrong("Version", Problem::Version { found: v.clone() }));
            }
            Some(_) => return Err(wrong("Version", STRING)),
            None => return Err(wrong("Version", Problem::Missing)),
        }
        let statements = match statements {
            Some(Node::Array(items)) if items.is_empty() => {
                return Err(wrong("Statement", Problem::Empty));
            }
            Some(Node::Array(items)) => items.as_slice(),
            Some(one @ Node::Object(_)) => std::slice::from_ref(one),
            Some(_) => {
                let expected = "an object or an array of objects";
                return Err(wrong("Statement", Problem::WrongType { expected }));
            }
            None => return Err(wrong("Statement", Problem::Missing)),
        };
        let statements = statements
            .iter()
            .enumerate()
            .map(|(i, node)| {
                Statement::parse(node).map_err(|(field, problem)| PolicyError::Statement {
                    statement: i + 1,
                    field,
                    problem,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let gates = statements.iter().map(Statement::gate).collect();
        Ok(Self { statements, gates })
    }

    /// The statements that may be about an action (its bit) on something that has `pairs` in it, with
    /// their indices.
    pub(crate) fn near(
        &self,
        action: u32,
        pairs: Pairs,
    ) -> impl Iterator<Item = (usize, &Statement)> {
        let gates = self.gates.iter().zip(&self.statements).enumerate();
        gates
            .filter(move |(_, (gate, _))| gate.actions & action != 0 && gate.pairs.are_in(pairs))
            .map(|(index, (_, statement))| (index, statement))
    }

    /// Whether its answers change as time goes by (`aws:CurrentTime`, `aws:EpochTime`).
    pub fn uses_time(&self) -> bool {
        self.statements.iter().any(|s| {
            let arns = s.resources.iter().filter_map(|r| match r {
                Resource::Any => None,
                Resource::Arn(arn) => Some(arn.parts()),
            });
            s.conditions.iter().any(Condition::uses_time)
                || arns
                    .flatten()
                    .flat_map(|part| part.variables())
                    .any(Variable::is_time)
        })
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Never: a document has at least one statement.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}

const STRING: Problem = Problem::WrongType {
    expected: "a string",
};

type Wrong = (String, Problem);

fn wrong(field: &str, problem: Problem) -> Wrong {
    (field.to_owned(), problem)
}

/// A string or a non-empty array of strings.
fn strings<'n>(field: &str, node: &'n Node) -> Result<Vec<&'n str>, Wrong> {
    let mistyped = || {
        let expected = "a string or an array of strings";
        wrong(field, Problem::WrongType { expected })
    };
    match node {
        Node::String(text) => Ok(vec![text]),
        Node::Array(items) if items.is_empty() => Err(wrong(field, Problem::Empty)),
        Node::Array(items) => items
            .iter()
            .map(|item| match item {
                Node::String(text) => Ok(text.as_str()),
                _ => Err(mistyped()),
            })
            .collect(),
        _ => Err(mistyped()),
    }
}

/// One of two members, of which exactly one must stand there.
fn one_of<'n>(
    (name, value): (&'static str, Option<&'n Node>),
    (not_name, not_value): (&'static str, Option<&'n Node>),
) -> Result<(Vec<&'n str>, bool), Wrong> {
    match (value, not_value) {
        (Some(_), Some(_)) => Err(wrong(not_name, Problem::Both { other: name })),
        (Some(node), None) => Ok((strings(name, node)?, false)),
        (None, Some(node)) => Ok((strings(not_name, node)?, true)),
        (None, None) => Err(wrong(name, Problem::Missing)),
    }
}

impl Statement {
    fn parse(node: &Node) -> Result<Self, Wrong> {
        let Node::Object(members) = node else {
            let expected = "an object";
            return Err(wrong("statement", Problem::WrongType { expected }));
        };
        let (mut sid, mut effect, mut conditions) = (None, None, Vec::new());
        let (mut action, mut not_action, mut resource, mut not_resource) = (None, None, None, None);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("Sid", Node::String(text)) => sid = Some(text.clone()),
                ("Sid", _) => return Err(wrong("Sid", STRING)),
                ("Effect", value) => effect = Some(parse_effect(value)?),
                ("Action", value) => action = Some(value),
                ("NotAction", value) => not_action = Some(value),
                ("Resource", value) => resource = Some(value),
                ("NotResource", value) => not_resource = Some(value),
                ("Condition", value) => conditions = condition::parse_block(value)?,
                (unknown, _) => {
                    let known =
                        "Sid, Effect, Action, NotAction, Resource, NotResource and Condition";
                    return Err(wrong(unknown, Problem::UnknownMember { known }));
                }
            }
        }
        let effect = effect.ok_or_else(|| wrong("Effect", Problem::Missing))?;
        let (actions, not) = one_of(("Action", action), ("NotAction", not_action))?;
        let mut bits = 0;
        for text in &actions {
            let field = if not { "NotAction" } else { "Action" };
            bits |= parse_action(text).map_err(|p| wrong(field, p))?;
        }
        let (resources, not_resource) =
            one_of(("Resource", resource), ("NotResource", not_resource))?;
        let field = if not_resource {
            "NotResource"
        } else {
            "Resource"
        };
        Ok(Self {
            sid,
            effect,
            actions: if not { !bits & ALL_ACTIONS } else { bits },
            not_action: not,
            actions_text: actions.iter().map(|a| (*a).to_owned()).collect(),
            not_resource,
            resources: resources
                .iter()
                .map(|text| Resource::parse(text).map_err(|p| wrong(field, p)))
                .collect::<Result<_, _>>()?,
            conditions,
        })
    }

    fn gate(&self) -> Gate {
        let common = |all: Pairs, one: &Resource| all.common(one.pairs());
        let pairs = match self.resources.split_first() {
            Some((first, others)) if !self.not_resource => {
                others.iter().fold(first.pairs(), common)
            }
            _ => Pairs::NONE,
        };
        Gate {
            actions: self.actions,
            pairs,
        }
    }

    /// Whether it is about `target`. Unresolved variables are decided by the effect: a Deny takes
    /// everything that some value would make it take, an Allow nothing.
    pub(crate) fn takes_resource(
        &self,
        target: Option<&Target<'_>>,
        context: &Context<'_>,
    ) -> bool {
        if !self.not_resource {
            return self.is_about(target, context);
        }
        let mut unresolved = false;
        for pattern in &self.resources {
            match pattern.matches(target, context) {
                Match::Yes => return false,
                Match::No => {}
                Match::Unresolved => unresolved |= self.effect == Effect::Allow,
            }
        }
        !unresolved
    }

    /// The same for `Resource`.
    fn is_about(&self, target: Option<&Target<'_>>, context: &Context<'_>) -> bool {
        let pairs = target.map_or(Pairs::NONE, Target::pairs);
        let mut near = self.resources.iter().filter(|r| r.pairs().are_in(pairs));
        match self.effect {
            Effect::Allow => near.any(|pattern| pattern.matches_now(target, context)),
            // With all its variables resolved, what may match does.
            Effect::Deny => near.any(|pattern| pattern.may_match(target, context)),
        }
    }

    pub(crate) fn takes_conditions(&self, request: &Request<'_>) -> bool {
        self.conditions
            .iter()
            .all(|c| self.takes_condition(c, request))
    }

    pub(crate) fn takes_condition(&self, condition: &Condition, request: &Request<'_>) -> bool {
        match condition.check(request) {
            Match::Yes => true,
            Match::No => false,
            Match::Unresolved => self.effect == Effect::Deny,
        }
    }
}

fn parse_effect(node: &Node) -> Result<Effect, Wrong> {
    match node {
        Node::String(text) if text == "Allow" => Ok(Effect::Allow),
        Node::String(text) if text == "Deny" => Ok(Effect::Deny),
        Node::String(text) => {
            let found = text.clone();
            Err(wrong("Effect", Problem::Effect { found }))
        }
        _ => Err(wrong("Effect", STRING)),
    }
}

/// The beginnings of AWS IoT's other operations: nobody asks for them here, but documents written
/// for the cloud name them.
const OTHER_OPERATIONS: [&str; 38] = [
    "accept",
    "add",
    "assume",
    "attach",
    "associate",
    "cancel",
    "clear",
    "close",
    "confirm",
    "create",
    "delete",
    "deprecate",
    "describe",
    "detach",
    "disable",
    "disassociate",
    "enable",
    "get",
    "list",
    "open",
    "put",
    "register",
    "reject",
    "remove",
    "replace",
    "rotate",
    "search",
    "set",
    "start",
    "stop",
    "tag",
    "test",
    "transfer",
    "untag",
    "update",
    "validate",
    "batch",
    "discover",
];

/// The actions that `text` means, as bits; 0 when it means only operations that are not asked here.
fn parse_action(text: &str) -> Result<u32, Problem> {
    if text == "*" {
        return Ok(ALL_ACTIONS);
    }
    let bad = || Problem::Action {
        found: text.to_owned(),
    };
    let (service, operation) = text.split_once(':').ok_or_else(bad)?;
    let services = ["iot", "iotjobsdata", "greengrass"];
    if !services.iter().any(|s| service.eq_ignore_ascii_case(s)) {
        return Err(bad());
    }
    let spelled = |b: u8| b.is_ascii_alphanumeric() || b == b'*' || b == b'?';
    if operation.is_empty() || !operation.bytes().all(spelled) {
        return Err(bad());
    }
    let operation = operation.to_ascii_lowercase();
    let mut bits = 0;
    for action in Action::ALL {
        let asked = service.eq_ignore_ascii_case("iot")
            || (service.eq_ignore_ascii_case("iotjobsdata") && action.is_job_execution());
        let name = action.as_str().to_ascii_lowercase();
        let name = name.strip_prefix("iot:").unwrap_or(&name);
        if asked && glob(operation.as_bytes(), name.as_bytes()) {
            bits |= action_bit(action);
        }
    }
    let wildcard = operation.contains(['*', '?']);
    if bits == 0 && !wildcard && !OTHER_OPERATIONS.iter().any(|o| operation.starts_with(o)) {
        return Err(Problem::UnknownAction {
            found: text.to_owned(),
        });
    }
    Ok(bits)
}

/// `*` and `?` on ASCII. The last `*` takes one byte more whenever what follows does not fit;
/// earlier ones are never tried again.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(&want) if want == b'?' || want == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, begin)) = star else {
                    return false;
                };
                p = after;
                t = begin + 1;
                star = Some((after, t));
            }
        }
    }
    pattern
        .get(p..)
        .is_none_or(|rest| rest.iter().all(|b| *b == b'*'))
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Resource {
    /// `*`
    Any,
    Arn(ArnPattern),
}

impl Resource {
    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "*" => Ok(Self::Any),
            _ => ArnPattern::parse_resource(text).map(Self::Arn),
        }
    }

    /// What all that it is about has in it.
    fn pairs(&self) -> Pairs {
        match self {
            Self::Any => Pairs::NONE,
            Self::Arn(arn) => arn.pairs(),
        }
    }

    pub(crate) fn source(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Arn(arn) => arn.source(),
        }
    }

    pub(crate) fn show(&self, context: &Context<'_>) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Arn(arn) => arn.show(context),
        }
    }

    fn matches(&self, target: Option<&Target<'_>>, context: &Context<'_>) -> Match {
        match (self, target) {
            (Self::Any, _) => Match::Yes,
            (Self::Arn(arn), Some(target)) => arn.matches(target, context),
            (Self::Arn(_), None) => Match::No,
        }
    }

    fn matches_now(&self, target: Option<&Target<'_>>, context: &Context<'_>) -> bool {
        match (self, target) {
            (Self::Any, _) => true,
            (Self::Arn(arn), Some(target)) => arn.matches_now(target, context),
            (Self::Arn(_), None) => false,
        }
    }

    fn may_match(&self, target: Option<&Target<'_>>, context: &Context<'_>) -> bool {
        match (self, target) {
            (Self::Any, _) => true,
            (Self::Arn(arn), Some(target)) => arn.may_match(target, context),
            (Self::Arn(_), None) => false,
        }
    }
}
