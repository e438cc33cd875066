//! Remarks on what statements are about.

use iotedge_model::{Action, ArnScope};

use super::{Remark, about};
use crate::document::{ALL_ACTIONS, Effect, Resource, Statement};
use crate::variable::Variable;

/// The types of resources that are asked about.
const TYPES: [&str; 4] = ["client", "topic", "topicfilter", "thing"];

fn is_open(text: &str) -> bool {
    text.contains(['*', '?', '$'])
}

/// The part of an ARN; ends that are left out are `*`.
fn part(arn: &str, n: usize) -> &str {
    arn.splitn(6, ':').nth(n).unwrap_or("*")
}

/// `topic`, where a pattern is written far enough to say it.
fn resource_type(pattern: &str) -> Option<&str> {
    let resource = pattern.splitn(6, ':').nth(5)?;
    let (kind, _) = resource.split_once('/')?;
    (!is_open(kind)).then_some(kind)
}

/// What stands behind the type.
fn resource_name(pattern: &str) -> Option<&str> {
    let resource = pattern.splitn(6, ':').nth(5)?;
    resource.split_once('/').map(|(_, name)| name)
}

pub(super) fn check(statement: &Statement, scope: Option<&ArnScope>, remark: &mut Remark<'_>) {
    let allow = statement.effect == Effect::Allow;
    if statement.not_resource {
        if statement.resources.iter().any(|r| r.source() == "*") {
            remark("NotResource \"*\" leaves nothing: the statement never matches".to_owned());
        } else if allow {
            remark(
                "allows every resource but those of NotResource, of other types and of things \
                 that come later too"
                    .to_owned(),
            );
        }
    } else {
        types(statement, remark);
    }
    for resource in &statement.resources {
        let Resource::Arn(arn) = resource else {
            continue;
        };
        place(arn.source(), scope, remark);
        if let (Some(kind), Some(name)) = (resource_type(arn.source()), resource_name(arn.source()))
        {
            words(kind, arn.source(), remark);
            if allow && !statement.not_resource {
                openings(statement, kind, name, arn.source(), remark);
            }
        }
        variables(arn.parts().iter().flat_map(|p| p.variables()), remark);
    }
    if allow && !statement.not_resource {
        reserved(statement, remark);
    }
}

/// Actions whose resource is nowhere.
fn types(statement: &Statement, remark: &mut Remark<'_>) {
    if statement.actions == ALL_ACTIONS {
        return;
    }
    for action in Action::ALL.into_iter().filter(|a| about(statement, *a)) {
        let any = statement.resources.contains(&Resource::Any);
        if action == Action::ListRetainedMessages && !any {
            remark(format!(
                "{action} is asked on \"*\" only, and that is no resource here"
            ));
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
}

/// Region, account and type that no resource of this gateway has.
fn place(source: &str, scope: Option<&ArnScope>, remark: &mut Remark<'_>) {
    let fixed = |n, wanted: &str| {
        let found = part(source, n);
        !is_open(found) && found != wanted
    };
    if fixed(1, "aws") || fixed(2, "iot") {
        remark(format!(
            "{source:?} can never match: resources begin with arn:aws:iot:"
        ));
        return;
    }
    if let Some(scope) = scope {
        for (n, what, wanted) in [
            (3, "region", &scope.region),
            (4, "account", &scope.account_id),
        ] {
            if fixed(n, wanted) {
                remark(format!(
                    "{source:?} can never match: this gateway's {what} is {wanted:?}"
                ));
            }
        }
    }
    let resource = part(source, 5);
    match resource.split_once('/') {
        Some((kind, _)) if !is_open(kind) && !TYPES.contains(&kind) => remark(format!(
            "{source:?} can never match: nothing is asked on {kind:?}, only on {}",
            TYPES.join(", ")
        )),
        None if !is_open(resource) => remark(format!(
            "{source:?} can never match: a resource is a type and a name, like topic/NAME"
        )),
        _ => {}
    }
}

/// Characters that no topic, client id or thing can have.
fn words(kind: &str, source: &str, remark: &mut Remark<'_>) {
    if kind == "topic" && resource_name(source).is_some_and(|n| n.contains(['+', '#'])) {
        remark(format!(
            "'+' and '#' are ordinary characters in {source:?}: no topic has them; levels are \
             left open with '*'"
        ));
    }
}

/// Wildcards that take more than it seems.
fn openings(statement: &Statement, kind: &str, name: &str, source: &str, remark: &mut Remark<'_>) {
    if kind != "topic" && kind != "topicfilter" {
        return;
    }
    // `${*}` is a character.
    let name = name.replace("${*}", "").replace("${?}", "");
    let inner = name.strip_suffix('*').unwrap_or(&name);
    if inner.contains('*') {
        remark(format!(
            "'*' in {source:?} is not one level: it takes any number of characters, '/' too"
        ));
    } else if name.len() > 1 && name.ends_with('*') && !inner.ends_with('/') {
        remark(format!(
            "{source:?} also takes whatever begins like its last level; end it with '/*' for what \
             is below that level only"
        ));
    }
    if kind == "topicfilter"
        && about(statement, Action::Subscribe)
        && name == "*"
        && statement.conditions.is_empty()
    {
        remark(format!(
            "{source:?} allows the filters '#' and '$aws/#' as well: what is delivered is for \
             iot:Receive to say"
        ));
    }
}

/// A wildcard that lets into the shadows and jobs of every thing.
fn reserved(statement: &Statement, remark: &mut Remark<'_>) {
    let whole = |r: &Resource, kind: &str| {
        resource_name(r.source()) == Some("*") && resource_type(r.source()) == Some(kind)
            || part(r.source(), 5) == "*"
    };
    for action in [Action::Publish, Action::Receive] {
        let everything = statement.actions == ALL_ACTIONS;
        let open = statement
            .resources
            .iter()
            .any(|r| whole(r, action.resource_type()));
        if about(statement, action) && open && !everything {
            remark(format!(
                "{action} on every topic includes $aws/things/…: the shadows of all other things"
            ));
        }
    }
}

fn variables<'v>(variables: impl Iterator<Item = &'v Variable>, remark: &mut Remark<'_>) {
    for variable in variables {
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

/// Whether a client may choose its client id freely.
pub(super) fn lets_any_client_connect(statement: &Statement) -> bool {
    statement.effect == Effect::Allow
        && about(statement, Action::Connect)
        && !statement.not_resource
        && statement.conditions.is_empty()
        && statement.resources.iter().any(|r| {
            let resource = part(r.source(), 5);
            matches!(resource, "*" | "client/*")
                || resource.eq_ignore_ascii_case("client/${iot:ClientId}")
        })
}

/// Whether topics or filters are given by the client id.
pub(super) fn rests_on_client_id(statement: &Statement) -> bool {
    statement.resources.iter().any(|r| match r {
        Resource::Any => false,
        Resource::Arn(arn) => {
            !part(arn.source(), 5).starts_with("client/")
                && arn
                    .parts()
                    .iter()
                    .flat_map(|p| p.variables())
                    .any(|v| *v == Variable::ClientId)
        }
    })
}
