//! What a rule's document alone cannot say: whether this gateway, as it is configured, carries it
//! out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::action::Action;
use crate::document::{RuleError, RuleProblem};
use crate::rule::Rule;

/// What there is for rules.
#[derive(Debug, Clone, Default)]
pub struct Facilities {
    /// Programs that `exec` may run.
    pub exec_allow: Vec<PathBuf>,
    /// Outbound routes, `upstream/route`.
    pub routes: BTreeSet<String>,
}

/// Everything about these rules that this gateway cannot do.
pub fn check_rules(rules: &[Rule], facilities: &Facilities) -> Vec<RuleError> {
    let mut errors = Vec::new();
    for rule in rules {
        let definition = &rule.definition;
        let actions = definition.actions.iter().chain(&definition.error_action);
        for (action, place) in actions.zip(&definition.places) {
            let Some((key, problem)) = problem(action, facilities) else {
                continue;
            };
            errors.push(RuleError {
                file: definition.file.clone(),
                line: place.line,
                column: place.column,
                key: format!("{}.{}.{key}", place.key, action.name()),
                problem,
            });
        }
    }
    errors
}

fn problem(action: &Action, facilities: &Facilities) -> Option<(&'static str, RuleProblem)> {
    match action {
        Action::Exec(exec) if !facilities.exec_allow.contains(&exec.program) => {
            Some(("command", RuleProblem::ProgramNotAllowed))
        }
        Action::Upstream(upstream) if !facilities.routes.contains(&upstream.route) => {
            let known: Vec<&str> = facilities.routes.iter().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Some(("route", RuleProblem::UnknownRoute(known)))
        }
        _ => None,
    }
}
