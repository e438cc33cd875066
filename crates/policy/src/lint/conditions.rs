//! Remarks on conditions.

use iotedge_model::Action;

use super::{Remark, about};
use crate::condition::Condition;
use crate::document::{Effect, Statement};
use crate::operand::Operand;
use crate::variable::Variable;

pub(super) fn check(statement: &Statement, remark: &mut Remark<'_>) {
    for condition in &statement.conditions {
        one(statement, condition, remark);
    }
}

fn one(statement: &Statement, condition: &Condition, remark: &mut Remark<'_>) {
    let key = condition.key_text();
    let operator = condition.operator_text();
    let allow = statement.effect == Effect::Allow;
    if let Variable::Unknown(_) = condition.key() {
        remark(match statement.effect {
            Effect::Allow => format!("{key} is never known here: the Allow never matches"),
            Effect::Deny => format!("{key} is never known here: the condition always holds"),
        });
        return;
    }
    if condition.never_holds() {
        remark(format!(
            "{operator} on {key} has no value to compare with: the statement never matches"
        ));
    }
    let of_connect = matches!(
        condition.key(),
        Variable::ConnectAttributes | Variable::LastWillTopic
    );
    if of_connect && !about(statement, Action::Connect) {
        remark(format!(
            "{key} is known when a client connects only, and iot:Connect is not one of the actions"
        ));
    }
    if condition.is_string_equality() {
        for text in condition.values_text() {
            if text
                .replace("${*}", "")
                .replace("${?}", "")
                .contains(['*', '?'])
            {
                remark(format!(
                    "{operator} takes '*' and '?' of {text:?} as they are; StringLike is the \
                     operator with wildcards"
                ));
            }
        }
    }
    if matches!(condition.key(), Variable::LastWillTopic) && operator.contains("String") {
        for text in condition.values_text() {
            if !text.starts_with("arn:") && !text.starts_with('*') {
                remark(format!(
                    "{key} is an ARN, like arn:aws:iot:REGION:ACCOUNT:topic/NAME: {text:?} never \
                     equals it"
                ));
            }
        }
    }
    if allow && condition.operands().iter().any(is_whole_world) {
        remark(format!("{operator} on {key} takes every address"));
    }
    if allow && condition.holds_for_nothing() {
        remark(format!(
            "ForAllValues on {key} also holds when there is no value at all"
        ));
    } else if allow && condition.holds_when_missing() && may_be_missing(condition.key()) {
        remark(format!(
            "{operator} on {key} also holds where {key} has no value"
        ));
    }
}

fn is_whole_world(operand: &Operand) -> bool {
    matches!(operand, Operand::Net(_, 0))
}

/// Keys that a connected client may be without.
fn may_be_missing(key: &Variable) -> bool {
    !matches!(
        key,
        Variable::ClientId | Variable::ConnectAttributes | Variable::SourceIp
    )
}
