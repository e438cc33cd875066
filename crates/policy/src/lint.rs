//! What is allowed in a document and hardly meant: `iotedgectl policy lint`. Two kinds of remark:
//! what can never match, and what opens more than it seems to.

mod conditions;
mod resources;

use iotedge_model::{Action, ArnScope};

use crate::document::{ALL_ACTIONS, Effect, PolicyDocument, Statement, action_bit};

/// Remarks on a document that parses, each a line for people. Empty: nothing to say.
pub fn lint(document: &PolicyDocument) -> Vec<String> {
    lint_for(document, None)
}

/// The same for a gateway of this region and account, whose resources are the only ones that it
/// asks for.
pub fn lint_for(document: &PolicyDocument, scope: Option<&ArnScope>) -> Vec<String> {
    let mut remarks = Vec::new();
    for (i, statement) in document.statements.iter().enumerate() {
        let mut remark = |text: String| remarks.push(format!("statement {}: {text}", i + 1));
        actions(statement, &mut remark);
        resources::check(statement, scope, &mut remark);
        conditions::check(statement, &mut remark);
    }
    whole(document, &mut remarks);
    remarks
}

type Remark<'r> = dyn FnMut(String) + 'r;

fn actions(statement: &Statement, remark: &mut Remark<'_>) {
    let allow = statement.effect == Effect::Allow;
    if statement.actions == 0 {
        remark(format!(
            "this gateway never asks for {:?}: the statement does nothing",
            statement.actions_text
        ));
    }
    if allow && statement.not_action {
        remark(format!(
            "allows every action but {:?}, those that come later too",
            statement.actions_text
        ));
    }
    if allow && is_everything(statement) {
        remark("allows everything on everything".to_owned());
    }
}

/// Every action on every resource, whatever the request looks like.
fn is_everything(statement: &Statement) -> bool {
    statement.actions == ALL_ACTIONS
        && !statement.not_resource
        && statement.resources.iter().any(|r| r.source() == "*")
        && statement.conditions.is_empty()
}

fn about(statement: &Statement, action: Action) -> bool {
    statement.actions & action_bit(action) != 0
}

/// What shows only when all statements are seen together.
fn whole(document: &PolicyDocument, remarks: &mut Vec<String>) {
    let statements = &document.statements;
    let allows = |action| {
        statements
            .iter()
            .any(|s| s.effect == Effect::Allow && about(s, action))
    };
    let all_denied = statements
        .iter()
        .position(|s| s.effect == Effect::Deny && is_everything(s));
    if let Some(deny) = all_denied {
        remarks.push(format!(
            "statement {} denies everything: nothing that the others allow has an effect",
            deny + 1
        ));
    }
    if allows(Action::Subscribe) && !allows(Action::Receive) {
        remarks.push(
            "iot:Subscribe is allowed and iot:Receive nowhere: unless another policy allows it, \
             nothing is delivered"
                .to_owned(),
        );
    }
    if allows(Action::RetainPublish) && !allows(Action::Publish) {
        remarks.push(
            "iot:RetainPublish is allowed and iot:Publish nowhere: a retained message needs both"
                .to_owned(),
        );
    }
    if let Some(connect) = statements
        .iter()
        .position(resources::lets_any_client_connect)
    {
        for (i, statement) in statements.iter().enumerate() {
            if statement.effect == Effect::Allow && resources::rests_on_client_id(statement) {
                remarks.push(format!(
                    "statement {}: rests on ${{iot:ClientId}}, and by statement {} a client may \
                     connect with any client id, that of another or \"+\": \
                     ${{iot:Connection.Thing.ThingName}} or a list of client ids cannot be chosen \
                     by the client",
                    i + 1,
                    connect + 1
                ));
            }
        }
    }
}
