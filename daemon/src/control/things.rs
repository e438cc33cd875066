//! Things.

use iotedge_model::{CertificateId, ThingName};
use iotedge_registry::{NewThing, RegistryError, ThingDescription};

use super::Answer;
use crate::ctl::protocol::{Failure, Reply, ThingAttach, ThingCreate, ThingInfo};
use crate::house::Rooms;

pub(super) fn failure(error: &RegistryError) -> Failure {
    let reason = match error {
        RegistryError::ResourceNotFound(_) | RegistryError::NotAttached { .. } => "not-found",
        RegistryError::ResourceAlreadyExists(_) => "exists",
        RegistryError::VersionConflict { .. } | RegistryError::StillAttached { .. } => "conflict",
        RegistryError::InvalidRequest { .. } => "invalid",
        RegistryError::DamagedRecord { .. } | RegistryError::Store(_) => "failed",
    };
    Failure::new(reason, error.to_string())
}

pub(super) fn create(rooms: &Rooms, create: ThingCreate) -> Answer {
    let new = NewThing {
        name: create.name,
        thing_type: None,
        attributes: create.attributes,
    };
    let thing = rooms.registry.create_thing(&new).map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, thing)))
}

pub(super) fn list(rooms: &Rooms) -> Reply {
    let things = rooms.registry.list_things(None, None, usize::MAX);
    let all: Vec<ThingInfo> = things.into_iter().map(|thing| info(rooms, thing)).collect();
    Reply::ok(&all)
}

pub(super) fn describe(rooms: &Rooms, name: &ThingName) -> Answer {
    let thing = rooms
        .registry
        .describe_thing(name)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, thing)))
}

pub(super) fn delete(rooms: &Rooms, name: &ThingName) -> Answer {
    rooms
        .registry
        .delete_thing(name, None)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn attach(rooms: &Rooms, attach: &ThingAttach) -> Answer {
    if rooms
        .identity
        .snapshot()
        .certificate(&attach.certificate)
        .is_none()
    {
        let message = format!("there is no certificate {}", attach.certificate);
        return Err(Failure::new("not-found", message));
    }
    rooms
        .registry
        .attach(&attach.name, &attach.certificate)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

fn info(rooms: &Rooms, thing: ThingDescription) -> ThingInfo {
    let arn = rooms
        .config
        .gateway
        .arn
        .arn("thing", thing.thing_name.as_str());
    let principals = rooms
        .registry
        .thing_principals(&thing.thing_name)
        .unwrap_or_default();
    ThingInfo {
        thing_name: thing.thing_name.to_string(),
        thing_arn: arn.as_str().to_owned(),
        thing_type_name: thing.thing_type_name,
        attributes: thing.attributes,
        version: thing.version,
        principals: principals.iter().map(CertificateId::to_string).collect(),
    }
}
