//! ARN patterns: six parts, each matched on its own, so that a wildcard stays in its part
//! (IAM, "ARN condition operators" and the `Resource` element).

use std::borrow::Cow;

use iotedge_model::Action;

use crate::Problem;
use crate::context::{Context, Request};
use crate::pairs::Pairs;
use crate::pattern::{Match, Pattern, Wildcards};

/// `arn`, partition, service, region, account, resource.
const PARTS: usize = 6;

/// Cuts at colons, but not at those inside `${…}`. At most six parts: the last keeps its colons.
fn cut(text: &str) -> Vec<&str> {
    let mut parts = Vec::with_capacity(PARTS);
    let (mut begin, mut in_variable) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if at > 0 && text.as_bytes().get(at - 1) == Some(&b'$') => in_variable = true,
            b'}' => in_variable = false,
            b':' if !in_variable && parts.len() + 1 < PARTS => {
                parts.push(text.get(begin..at).unwrap_or(""));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or(""));
    parts
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ArnPattern {
    source: Box<str>,
    /// What every resource that it matches begins with.
    begin: Box<str>,
    /// What every resource that it matches has in it.
    pairs: Pairs,
    parts: Vec<Pattern>,
}

impl ArnPattern {
    /// The value of an `ArnLike` condition: six parts.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let parts = cut(text);
        if parts.len() != PARTS {
            return Err(Problem::Value {
                found: text.to_owned(),
                expected: "ARN of six parts",
            });
        }
        Self::compile(text, &parts)
    }

    /// A `Resource` that is not `*`. What ends early with a `*` stands for all parts that follow.
    pub(crate) fn parse_resource(text: &str) -> Result<Self, Problem> {
        const SERVICES: [&str; 3] = ["iot", "greengrass", "iotjobsdata"];
        let mut parts = cut(text);
        let open = |part: &str| part.contains(['*', '?', '$']);
        let is = |i: usize, good: &dyn Fn(&str) -> bool| {
            parts.get(i).is_none_or(|part| open(part) || good(part))
        };
        let good = parts.first() == Some(&"arn")
            && is(1, &|partition| partition.starts_with("aws"))
            && is(2, &|service| SERVICES.contains(&service))
            && (parts.len() == PARTS || text.ends_with('*'));
        if !good {
            return Err(Problem::Resource {
                found: text.to_owned(),
            });
        }
        parts.resize(PARTS, "*");
        Self::compile(text, &parts)
    }

    fn compile(source: &str, parts: &[&str]) -> Result<Self, Problem> {
        let parts: Vec<Pattern> = parts
            .iter()
            .map(|part| Pattern::parse(part, Wildcards::Yes))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            source: source.into(),
            begin: parts.last().map_or("", Pattern::begin).into(),
            pairs: parts.last().map_or(Pairs::NONE, Pattern::pairs),
            parts,
        })
    }

    /// What every resource that it matches has in it, whatever its variables are.
    pub(crate) fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// The last part differs most: it is looked at first.
    fn by_part<'p, 't>(
        &'p self,
        target: &'p Target<'t>,
    ) -> impl Iterator<Item = (&'p Pattern, &'p Cow<'t, str>)> {
        self.parts.iter().zip(&target.parts).rev()
    }

    pub(crate) fn matches(&self, target: &Target<'_>, context: &Context<'_>) -> Match {
        // Most patterns of a document are about something else, whatever their variables are.
        let [.., resource] = &target.parts;
        if !resource.as_bytes().starts_with(self.begin.as_bytes()) {
            return Match::No;
        }
        let mut outcome = Match::Yes;
        for (pattern, part) in self.by_part(target) {
            match pattern.matches(part, context) {
                Match::Yes => {}
                Match::No => return Match::No,
                Match::Unresolved => outcome = Match::Unresolved,
            }
        }
        outcome
    }

    /// Whether it matches with the values that there are: a variable without one matches nothing.
    pub(crate) fn matches_now(&self, target: &Target<'_>, context: &Context<'_>) -> bool {
        self.by_part(target)
            .all(|(pattern, part)| pattern.matches_now(part, context))
    }

    /// Whether some value of the variables that have none would make it match.
    pub(crate) fn may_match(&self, target: &Target<'_>, context: &Context<'_>) -> bool {
        self.by_part(target)
            .all(|(pattern, part)| pattern.may_match(part, context))
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn parts(&self) -> &[Pattern] {
        &self.parts
    }

    /// With the values that the variables have.
    pub(crate) fn show(&self, context: &Context<'_>) -> String {
        let parts: Vec<String> = self.parts.iter().map(|p| p.show(context)).collect();
        parts.join(":")
    }
}

/// What a pattern is held against, cut into its parts.
pub(crate) struct Target<'t> {
    parts: [Cow<'t, str>; PARTS],
    /// What its last part has in it.
    pairs: Pairs,
}

impl<'t> Target<'t> {
    fn new(parts: [Cow<'t, str>; PARTS]) -> Self {
        let [.., resource] = &parts;
        let pairs = Pairs::of(resource);
        Self { parts, pairs }
    }

    pub(crate) fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// `None` for an action without a resource of its own.
    pub(crate) fn of(request: &Request<'t>) -> Option<Self> {
        if request.action == Action::ListRetainedMessages {
            return None;
        }
        let scope = request.context.scope;
        let kind = request.action.resource_type();
        Some(Self::new([
            "arn".into(),
            "aws".into(),
            "iot".into(),
            Cow::Borrowed(&*scope.region),
            Cow::Borrowed(&*scope.account_id),
            Cow::Owned(format!("{kind}/{}", request.resource)),
        ]))
    }

    /// A value of a condition; `None` unless it has six parts.
    pub(crate) fn cut(text: &'t str) -> Option<Self> {
        let mut parts = text.splitn(PARTS, ':');
        let mut next = || parts.next().map(Cow::Borrowed);
        let parts = [next()?, next()?, next()?, next()?, next()?, next()?];
        Some(Self::new(parts))
    }
}
