//! Policies.

use iotedge_identity::{Policy, PolicyOrigin};
use iotedge_model::{Action, Principal};
use iotedge_policy::{PolicyDocument, lint};
use iotedge_ports::AuthRequest;

use super::Answer;
use super::certificates::failure;
use crate::ctl::protocol::{
    Explained, Failure, PolicyCreate, PolicyExplain, PolicyInfo, PolicyTarget, Reply,
};
use crate::house::Rooms;

pub(super) fn create(rooms: &Rooms, create: &PolicyCreate) -> Answer {
    let document = PolicyDocument::parse(&create.document)
        .map_err(|e| Failure::new("invalid", e.to_string()))?;
    rooms
        .identity
        .create_policy(&create.name, &create.document, create.replace)
        .map_err(|e| failure(&e))?;
    let mut info = find(rooms, &create.name, false)?;
    info.warnings = lint(&document);
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
    rooms
        .identity
        .delete_policy(name)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
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

pub(super) fn explain(rooms: &Rooms, question: &PolicyExplain) -> Answer {
    let action = Action::parse(&question.action).ok_or_else(|| {
        let known: Vec<&str> = Action::ALL.iter().map(|a| a.as_str()).collect();
        let message = format!("{:?} is none of {}", question.action, known.join(", "));
        Failure::new("invalid", message)
    })?;
    let id = &question.certificate;
    if rooms.identity.snapshot().certificate(id).is_none() {
        let message = format!("there is no certificate {id}");
        return Err(Failure::new("not-found", message));
    }
    let principal = Principal::certificate(id.clone());
    let (verdict, explanation) = rooms.authority.explain(&AuthRequest {
        principal: &principal,
        client_id: &question.client_id,
        source_ip: question.source_ip,
        action,
        resource: &question.resource,
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
        policy_document: text.then(|| policy.text.to_string()),
        warnings: Vec::new(),
    }
}
