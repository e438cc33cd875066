//! Why a request is allowed or denied, for `iotedgectl policy explain` and the log.

use std::fmt::Write as _;

use crate::arn::Target;
use crate::context::Request;
use crate::document::{Effect, PolicyDocument, Statement, action_bit};
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
    let sid = statement.sid.as_deref().unwrap_or("");
    let failed = statement
        .conditions
        .iter()
        .find(|c| !statement.takes_condition(c, request));
    let outcome = if !action {
        format!("no: the action is not one of {:?}", statement.actions_text)
    } else if !resource {
        "no: the resource does not match".to_owned()
    } else if let Some(condition) = failed {
        format!("no: condition fails: {}", condition.show(context))
    } else {
        "matches".to_owned()
    };
    line(
        out,
        format_args!("  statement {} {effect} {sid}: {outcome}", index + 1),
    );
    if action {
        let word = if statement.not_resource {
            "not on"
        } else {
            "on"
        };
        for pattern in &statement.resources {
            line(out, format_args!("    {word} {}", pattern.show(context)));
        }
    }
    true
}
