//! What is allowed in a document and hardly meant: `iotedgectl policy lint`.

use iotedge_model::Action;

use crate::document::{Effect, PolicyDocument, Resource, Statement, action_bit};
use crate::variable::Variable;

/// Remarks on a document that parses, each a line for people. Empty: nothing to say.
pub fn lint(document: &PolicyDocument) -> Vec<String> {
    let mut remarks = Vec::new();
    for (i, statement) in document.statements.iter().enumerate() {
        let mut remark = |text: String| remarks.push(format!("statement {}: {text}", i + 1));
        actions(statement, &mut remark);
        resources(statement, &mut remark);
        variables(statement, &mut remark);
        conditions(statement, &mut remark);
    }
    remarks
}

fn actions(statement: &Statement, remark: &mut dyn FnMut(String)) {
    if statement.actions == 0 {
        remark(format!(
            "this gateway never asks for {:?}: the statement does nothing",
            statement.actions_text
        ));
    }
    let everywhere = statement.resources.iter().any(|r| r.source() == "*");
    if statement.effect == Effect::Allow
        && statement.actions == u32::MAX
        && everywhere
        && statement.conditions.is_empty()
    {
        remark("allows everything on everything".to_owned());
    }
}

/// `topic`, where a pattern is written far enough to say it.
fn resource_type(pattern: &str) -> Option<&str> {
    let resource = pattern.splitn(6, ':').nth(5)?;
    let (kind, _) = resource.split_once('/')?;
    (!kind.contains(['*', '?', '$'])).then_some(kind)
}

fn resources(statement: &Statement, remark: &mut dyn FnMut(String)) {
    if statement.not_resource || statement.actions == u32::MAX {
        return;
    }
    for action in Action::ALL {
        if statement.actions & action_bit(action) == 0 {
            continue;
        }
        let fits = statement.resources.iter().any(|r| {
            let kind = resource_type(r.source());
            kind.is_none_or(|k| k == action.resource_type())
        });
        if !fits {
            remark(format!(
                "{action} is asked on a {} ARN, and no resource here is one",
                action.resource_type()
            ));
        }
    }
    for pattern in &statement.resources {
        let source = pattern.source();
        if resource_type(source) == Some("topic") && source.contains(['+', '#']) {
            remark(format!(
                "'+' and '#' are ordinary characters in {source:?}: no topic has them"
            ));
        }
    }
}

fn variables(statement: &Statement, remark: &mut dyn FnMut(String)) {
    let arns = statement.resources.iter().filter_map(|r| match r {
        Resource::Any => None,
        Resource::Arn(arn) => Some(arn.parts()),
    });
    for variable in arns.flatten().flat_map(|part| part.variables()) {
        match variable {
            Variable::Unknown(name) => remark(format!("${{{name}}} never has a value here")),
            Variable::CertificateList(_)
            | Variable::ConnectAttributes
            | Variable::AvailableKeys => {
                remark("a variable with many values has no value in a resource".to_owned());
            }
            _ => {}
        }
    }
}

fn conditions(statement: &Statement, remark: &mut dyn FnMut(String)) {
    for condition in &statement.conditions {
        let key = condition.key_text();
        if matches!(condition.key(), Variable::Unknown(_)) {
            remark(match statement.effect {
                Effect::Allow => format!("{key} is never known here: the Allow never matches"),
                Effect::Deny => format!("{key} is never known here: the condition always holds"),
            });
        } else if condition.holds_for_nothing() && statement.effect == Effect::Allow {
            remark(format!(
                "ForAllValues on {key} also holds when there is no value at all"
            ));
        }
    }
}
