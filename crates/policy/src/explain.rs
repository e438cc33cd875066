//! Why a request is allowed or denied, for `iotedgectl policy explain` and the log.

use std::fmt::Write as _;

use crate::arn::Target;
use crate::context::Request;
use crate::document::{Effect, PolicyDocument, Resource, Statement, action_bit};
use crate::{Place, Verdict, evaluate};

/// The whole reasoning: who, what, on which ARN, every statement that is about the action or the
/// resource with its variables filled in, and the verdict.
///
/// `policies` are names with documents; `principal` is shown as given.
pub fn explain(
    principal: &str,
    policies: &[(&str, &PolicyDocument)],
    request: &Request<'_>,
) -> String {
    let documents: Vec<&PolicyDocument> = policies.iter().map(|(_, d)| *d).collect();
    let verdict = evaluate(&documents, request);
    let context = &request.context;
    let arn = request.arn();
    let mut out = String::new();
    line(&mut out, format_args!("principal  {principal}"));
    if !context.client_id.is_empty() {
        line(&mut out, format_args!("client id  {}", context.client_id));
    }
    line(&mut out, format_args!("action     {}", request.action));
    line(&mut out, format_args!("resource   {arn}"));
    if let Some(connect) = &context.connect {
        facts(&mut out, connect.attributes, connect.last_will_topic);
    }
    if policies.is_empty() {
        line(&mut out, format_args!("policies   none"));
    }
    let bit = action_bit(request.action);
    let target = Target::of(request);
    for (name, document) in policies {
        line(&mut out, format_args!("policy     {name}"));
        let mut close = 0;
        for (i, statement) in document.statements.iter().enumerate() {
            close += usize::from(statement_lines(
                &mut out,
                i,
                statement,
                bit,
                target.as_ref(),
                request,
            ));
        }
        if close == 0 {
            line(&mut out, format_args!("  no statement comes near"));
        }
    }
    line(
        &mut out,
        format_args!("verdict    {}", verdict_text(verdict, policies)),
    );
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// What the CONNECT asks for.
fn facts(out: &mut String, attributes: &[&str], will: Option<&str>) {
    if !attributes.is_empty() {
        line(out, format_args!("connect    {}", attributes.join(", ")));
    }
    if let Some(topic) = will {
        line(out, format_args!("will       {topic}"));
    }
}

fn verdict_text(verdict: Verdict, policies: &[(&str, &PolicyDocument)]) -> String {
    let place = |p: Place| {
        let name = policies.get(p.policy).map_or("?", |(n, _)| n);
        format!("statement {} of policy {name}", p.statement + 1)
    };
    match verdict {
        Verdict::Allow(p) => format!("allow, by {}", place(p)),
        Verdict::ExplicitDeny(p) => format!("deny, by {}", place(p)),
        Verdict::ImplicitDeny => "deny, because no statement allows it".to_owned(),
    }
}

/// Writes about one statement if it is about the action or the resource; says whether it did.
fn statement_lines(
    out: &mut String,
    index: usize,
    statement: &Statement,
    bit: u32,
    target: Option<&Target<'_>>,
    request: &Request<'_>,
) -> bool {
    let context = &request.context;
    let action = statement.actions & bit != 0;
    let resource = statement.takes_resource(target, context);
    if !action && !resource {
        return false;
    }
    let effect = match statement.effect {
        Effect::Allow => "Allow",
        Effect::Deny => "Deny",
    };
    let sid = match &statement.sid {
        Some(sid) => format!(" {sid}"),
        None => String::new(),
    };
    let outcome = outcome(statement, action, resource, request);
    line(
        out,
        format_args!("  statement {} {effect}{sid}: {outcome}", index + 1),
    );
    if !action {
        return true;
    }
    let word = if statement.not_resource {
        "not on"
    } else {
        "on"
    };
    for pattern in &statement.resources {
        line(out, format_args!("    {word} {}", pattern.show(context)));
    }
    for missing in missing(statement, request) {
        let what = match statement.effect {
            Effect::Allow => "has no value here, so this allows nothing",
            Effect::Deny => "has no value here, so this denies what any value of it would",
        };
        line(out, format_args!("    ${{{missing}}} {what}"));
    }
    if resource {
        for condition in &statement.conditions {
            let word = match statement.takes_condition(condition, request) {
                true => "holds",
                false => "fails",
            };
            line(
                out,
                format_args!("    condition {word}: {}", condition.show(context)),
            );
        }
    }
    true
}

/// Whether the statement matches, or the first reason why not.
fn outcome(statement: &Statement, action: bool, resource: bool, request: &Request<'_>) -> String {
    if !action {
        let word = match statement.not_action {
            true => "is one of those left out",
            false => "is not one of",
        };
        return format!("no: the action {word} {:?}", statement.actions_text);
    }
    if !resource {
        return "no: the resource does not match".to_owned();
    }
    match statement
        .conditions
        .iter()
        .any(|c| !statement.takes_condition(c, request))
    {
        true => "no: a condition fails".to_owned(),
        false => "matches".to_owned(),
    }
}

/// The variables of its resources that have no value, each once.
fn missing<'s>(statement: &'s Statement, request: &Request<'_>) -> Vec<&'s str> {
    let mut names: Vec<&str> = statement
        .resources
        .iter()
        .filter_map(|r| match r {
            Resource::Any => None,
            Resource::Arn(arn) => Some(arn.parts()),
        })
        .flatten()
        .flat_map(|part| part.named_variables())
        .filter(|(variable, _)| variable.text(&request.context).is_none())
        .map(|(_, name)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
