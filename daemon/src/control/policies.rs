//! Policies.

use std::sync::Arc;

use iotedge_identity::{Policy, PolicyOrigin};
use iotedge_model::{Action, Principal, PrincipalKind};
use iotedge_policy::{PolicyDocument, lint_for};
use iotedge_ports::{AuthRequest, Authorizer as _, ConnectFacts, Link, PrincipalStatus};

use super::Answer;
use super::certificates::failure;
use crate::ctl::protocol::{
    Explained, Failure, PolicyCreate, PolicyExplain, PolicyInfo, PolicyTarget, PolicyVersion,
    PolicyVersionCreate, PolicyVersionInfo, Reply,
};
use crate::house::Rooms;

/// Remarks on a document that can be taken.
fn check(rooms: &Rooms, document: &str) -> Result<Vec<String>, Failure> {
    let document =
        PolicyDocument::parse(document).map_err(|e| Failure::new("invalid", e.to_string()))?;
    Ok(lint_for(&document, Some(&rooms.config.gateway.arn)))
}

pub(super) fn create(rooms: &Rooms, create: &PolicyCreate) -> Answer {
    let warnings = check(rooms, &create.document)?;
    rooms
        .identity
        .create_policy(&create.name, &create.document, create.replace)
        .map_err(|e| failure(&e))?;
    let mut info = find(rooms, &create.name, false)?;
    info.warnings = warnings;
    Ok(Reply::ok(&info))
}

pub(super) fn list(rooms: &Rooms) -> Reply {
    let snapshot = rooms.identity.snapshot();
    let all: Vec<PolicyInfo> = snapshot
        .policies()
        .map(|policy| info(rooms, policy, false))
        .collect();
    Reply::ok(&all)
}

pub(super) fn show(rooms: &Rooms, name: &str) -> Answer {
    find(rooms, name, true).map(|info| Reply::ok(&info))
}

pub(super) fn delete(rooms: &Rooms, name: &str) -> Answer {
    if let Some(who) = rooms.authority.who_is_configured_with(name) {
        let message = format!("policy {name:?} is that of {who} in the configuration");
        return Err(Failure::new("conflict", message));
    }
    if let Some(group) = rooms.registry.groups_with_policy(name).first() {
        let message =
            format!("policy {name:?} is attached to thing group {group}: detach it first");
        return Err(Failure::new("conflict", message));
    }
    rooms
        .identity
        .delete_policy(name)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn create_version(rooms: &Rooms, create: &PolicyVersionCreate) -> Answer {
    let warnings = check(rooms, &create.document)?;
    let version = rooms
        .identity
        .create_policy_version(&create.name, &create.document, create.default)
        .map_err(|e| failure(&e))?;
    let mut info = find_version(rooms, &create.name, version, false)?;
    info.warnings = warnings;
    Ok(Reply::ok(&info))
}

pub(super) fn list_versions(rooms: &Rooms, name: &str) -> Answer {
    versions(rooms, name, false).map(|all| Reply::ok(&all))
}

pub(super) fn show_version(rooms: &Rooms, version: &PolicyVersion) -> Answer {
    find_version(rooms, &version.name, version.version, true).map(|info| Reply::ok(&info))
}

pub(super) fn set_default_version(rooms: &Rooms, version: &PolicyVersion) -> Answer {
    rooms
        .identity
        .set_default_policy_version(&version.name, version.version)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn delete_version(rooms: &Rooms, version: &PolicyVersion) -> Answer {
    rooms
        .identity
        .delete_policy_version(&version.name, version.version)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

fn versions(rooms: &Rooms, name: &str, text: bool) -> Result<Vec<PolicyVersionInfo>, Failure> {
    let kept = rooms
        .identity
        .policy_versions(name)
        .map_err(|e| failure(&e))?;
    let all = kept.versions.into_iter().map(|v| PolicyVersionInfo {
        version_id: v.id,
        is_default_version: v.id == kept.default,
        create_date: v.created_at,
        policy_document: text.then(|| v.text.to_string()),
        warnings: Vec::new(),
    });
    Ok(all.collect())
}

fn find_version(
    rooms: &Rooms,
    name: &str,
    version: u64,
    text: bool,
) -> Result<PolicyVersionInfo, Failure> {
    let all = versions(rooms, name, text)?;
    let found = all.into_iter().find(|v| v.version_id == version);
    found.ok_or_else(|| {
        let message = format!("policy {name:?} has no version {version}");
        Failure::new("not-found", message)
    })
}

pub(super) fn attach(rooms: &Rooms, target: &PolicyTarget) -> Answer {
    rooms
        .identity
        .attach_policy(&target.name, &target.certificate)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn detach(rooms: &Rooms, target: &PolicyTarget) -> Answer {
    rooms
        .identity
        .detach_policy(&target.name, &target.certificate)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

/// Who is asked about.
fn principal(rooms: &Rooms, question: &PolicyExplain) -> Result<Principal, Failure> {
    let not_found = |what: String| Failure::new("not-found", what);
    let who = (&question.certificate, &question.user, &question.listener);
    let kind = match who {
        (Some(id), None, None) => {
            if rooms.identity.snapshot().certificate(id).is_none() {
                return Err(not_found(format!("there is no certificate {id}")));
            }
            PrincipalKind::Certificate { id: id.clone() }
        }
        (None, Some(name), None) => PrincipalKind::User {
            name: Arc::from(name.as_str()),
        },
        (None, None, Some(address)) => {
            let known = rooms.config.listeners.iter().any(|listener| {
                listener.address.to_string() == *address && listener.auth.policy().is_some()
            });
            if !known {
                return Err(not_found(format!(
                    "there is no listener {address} with a policy of its own"
                )));
            }
            PrincipalKind::Anonymous {
                listener: Arc::from(address.as_str()),
            }
        }
        _ => {
            let message = "one of certificate, user and listener says who asks";
            return Err(Failure::new("invalid", message));
        }
    };
    let principal = Principal { kind };
    if let Some(name) = &question.user {
        if rooms.authority.status(&principal, None) == PrincipalStatus::Unknown {
            return Err(not_found(format!("there is no user {name:?}")));
        }
    }
    Ok(principal)
}

pub(super) fn explain(rooms: &Rooms, question: &PolicyExplain) -> Answer {
    let action = Action::parse(&question.action).ok_or_else(|| {
        let known: Vec<&str> = Action::ALL.iter().map(|a| a.as_str()).collect();
        let message = format!("{:?} is none of {}", question.action, known.join(", "));
        Failure::new("invalid", message)
    })?;
    let principal = principal(rooms, question)?;
    let connect = ConnectFacts {
        persistent: question.persistent,
        will_topic: question.will.as_ref().map(|topic| topic.as_str()),
    };
    let (verdict, explanation) = rooms.authority.explain(&AuthRequest {
        source_ip: question.source_ip,
        link: Link {
            secure: Some(question.secure),
            server_name: question.domain_name.as_deref(),
            grant: None,
        },
        connect: (action == Action::Connect).then_some(connect),
        ..AuthRequest::new(&principal, &question.client_id, action, &question.resource)
    });
    Ok(Reply::ok(&Explained {
        allowed: verdict.is_allow(),
        explanation,
    }))
}

fn find(rooms: &Rooms, name: &str, text: bool) -> Result<PolicyInfo, Failure> {
    let snapshot = rooms.identity.snapshot();
    match snapshot.policy(name) {
        Some(policy) => Ok(info(rooms, policy, text)),
        None => Err(Failure::new(
            "not-found",
            format!("there is no policy {name:?}"),
        )),
    }
}

fn info(rooms: &Rooms, policy: &Policy, text: bool) -> PolicyInfo {
    let arn = rooms.config.gateway.arn.arn("policy", &policy.name);
    PolicyInfo {
        policy_name: policy.name.to_string(),
        policy_arn: arn.as_str().to_owned(),
        origin: match policy.origin {
            PolicyOrigin::Store => "store",
            PolicyOrigin::File => "file",
        }
        .to_owned(),
        version: policy.version,
        attachments: rooms.identity.snapshot().attachments(&policy.name) as u64,
        thing_groups: rooms
            .registry
            .groups_with_policy(&policy.name)
            .iter()
            .map(ToString::to_string)
            .collect(),
        policy_document: text.then(|| policy.text.to_string()),
        warnings: Vec::new(),
    }
}
