//! Things and their types.

use iotedge_model::{CertificateId, ThingName, ThingTypeName};
use iotedge_registry::{
    AttributeChange, NewThing, NewThingType, RegistryError, ThingDescription, ThingQuery,
    ThingTypeDescription, ThingUpdate,
};

use super::Answer;
use crate::ctl::protocol::{self as p, Failure, Reply, ThingAttach, ThingInfo, ThingTypeInfo};
use crate::house::Rooms;

pub(super) fn failure(error: &RegistryError) -> Failure {
    let reason = match error {
        RegistryError::ResourceNotFound(_)
        | RegistryError::NoThingType(_)
        | RegistryError::NoThingGroup(_)
        | RegistryError::NotInGroup { .. }
        | RegistryError::PolicyNotOfGroup { .. }
        | RegistryError::NotAttached { .. } => "not-found",
        RegistryError::ResourceAlreadyExists(_)
        | RegistryError::ThingTypeExists(_)
        | RegistryError::ThingGroupExists(_) => "exists",
        RegistryError::VersionConflict { .. }
        | RegistryError::StillAttached { .. }
        | RegistryError::Deprecated(_)
        | RegistryError::NotDeprecated(_)
        | RegistryError::TooEarly { .. }
        | RegistryError::ThingTypeInUse { .. }
        | RegistryError::ThingGroupInUse { .. } => "conflict",
        RegistryError::InvalidRequest { .. } => "invalid",
        RegistryError::DamagedRecord { .. } | RegistryError::Store(_) => "failed",
    };
    Failure::new(reason, error.to_string())
}

pub(super) fn create(rooms: &Rooms, create: p::ThingCreate) -> Answer {
    let new = NewThing {
        name: create.name,
        thing_type: create.thing_type,
        attributes: create.attributes,
    };
    let thing = rooms.registry.create_thing(&new).map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, thing)))
}

pub(super) fn list(rooms: &Rooms, list: p::ThingList) -> Answer {
    let query = ThingQuery {
        thing_type: list.thing_type,
        attribute_name: list.attribute_name,
        attribute_value: list.attribute_value,
    };
    let things = rooms
        .registry
        .list_things(&query, None, usize::MAX)
        .map_err(|e| failure(&e))?;
    let all: Vec<ThingInfo> = things.into_iter().map(|thing| info(rooms, thing)).collect();
    Ok(Reply::ok(&all))
}

pub(super) fn describe(rooms: &Rooms, name: &ThingName) -> Answer {
    let thing = rooms
        .registry
        .describe_thing(name)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, thing)))
}

pub(super) fn update(rooms: &Rooms, update: p::ThingUpdate) -> Answer {
    let thing_type = match (update.thing_type, update.remove_thing_type) {
        (Some(_), true) => {
            let message = "a thing gets a type or loses it, not both";
            return Err(Failure::new("invalid", message));
        }
        (Some(name), false) => Some(Some(name)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let change = ThingUpdate {
        thing_type,
        attributes: match update.merge {
            true => AttributeChange::Merge(update.attributes),
            false => AttributeChange::Replace(update.attributes),
        },
        expected_version: update.expected_version,
    };
    let thing = rooms
        .registry
        .update_thing(&update.name, &change)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, thing)))
}

pub(super) fn delete(rooms: &Rooms, delete: &p::ThingDelete) -> Answer {
    rooms
        .registry
        .delete_thing(&delete.name, delete.expected_version)
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

pub(super) fn detach(rooms: &Rooms, attach: &ThingAttach) -> Answer {
    rooms
        .registry
        .detach(&attach.name, &attach.certificate)
        .map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn create_type(rooms: &Rooms, create: p::ThingTypeCreate) -> Answer {
    let new = NewThingType {
        name: create.name,
        description: create.description,
        searchable_attributes: create.searchable_attributes,
    };
    let made = rooms
        .registry
        .create_thing_type(&new)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&type_info(rooms, made)))
}

pub(super) fn list_types(rooms: &Rooms) -> Reply {
    let types = rooms.registry.list_thing_types(None, usize::MAX);
    let all: Vec<ThingTypeInfo> = types.into_iter().map(|t| type_info(rooms, t)).collect();
    Reply::ok(&all)
}

pub(super) fn describe_type(rooms: &Rooms, name: &ThingTypeName) -> Answer {
    let found = rooms
        .registry
        .describe_thing_type(name)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&type_info(rooms, found)))
}

pub(super) fn deprecate_type(rooms: &Rooms, deprecate: &p::ThingTypeDeprecate) -> Answer {
    let now = rooms
        .registry
        .deprecate_thing_type(&deprecate.name, deprecate.undo)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&type_info(rooms, now)))
}

pub(super) fn delete_type(rooms: &Rooms, name: &ThingTypeName) -> Answer {
    rooms
        .registry
        .delete_thing_type(name)
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
    let groups = rooms
        .registry
        .groups_of_thing(&thing.thing_name)
        .unwrap_or_default();
    ThingInfo {
        default_client_id: thing.default_client_id.to_string(),
        thing_name: thing.thing_name.to_string(),
        thing_arn: arn.as_str().to_owned(),
        thing_type_name: thing.thing_type_name.map(|name| name.to_string()),
        attributes: thing.attributes,
        version: thing.version,
        principals: principals.iter().map(CertificateId::to_string).collect(),
        thing_groups: groups.iter().map(ToString::to_string).collect(),
    }
}

fn type_info(rooms: &Rooms, found: ThingTypeDescription) -> ThingTypeInfo {
    let scope = &rooms.config.gateway.arn;
    let arn = scope.arn("thingtype", found.thing_type_name.as_str());
    ThingTypeInfo {
        thing_type_name: found.thing_type_name.to_string(),
        thing_type_arn: arn.as_str().to_owned(),
        thing_type_properties: p::ThingTypeProperties {
            thing_type_description: found.thing_type_properties.thing_type_description,
            searchable_attributes: found.thing_type_properties.searchable_attributes,
        },
        thing_type_metadata: p::ThingTypeMetadata {
            deprecated: found.thing_type_metadata.deprecated,
            deprecation_date: found.thing_type_metadata.deprecation_date,
            creation_date: found.thing_type_metadata.creation_date,
        },
    }
}
