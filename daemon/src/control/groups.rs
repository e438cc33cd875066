//! Thing groups.

use iotedge_model::ThingGroupName;
use iotedge_registry::{NewThingGroup, ThingGroupDescription};

use super::Answer;
use super::things::failure;
use crate::ctl::protocol::{
    Failure, Reply, ThingGroupCreate, ThingGroupInfo, ThingGroupMember, ThingGroupPolicy,
};
use crate::house::Rooms;

pub(super) fn create(rooms: &Rooms, create: ThingGroupCreate) -> Answer {
    let new = NewThingGroup {
        name: create.name,
        parent: create.parent,
        description: create.description,
    };
    let made = rooms
        .registry
        .create_thing_group(&new)
        .map_err(|e| failure(&e))?;
    whole(rooms, made)
}

pub(super) fn list(rooms: &Rooms) -> Reply {
    let groups = rooms.registry.list_thing_groups().into_iter();
    let all: Vec<ThingGroupInfo> = groups.map(|group| info(rooms, group)).collect();
    Reply::ok(&all)
}

pub(super) fn describe(rooms: &Rooms, name: &ThingGroupName) -> Answer {
    let group = rooms
        .registry
        .describe_thing_group(name)
        .map_err(|e| failure(&e))?;
    whole(rooms, group)
}

pub(super) fn delete(rooms: &Rooms, name: &ThingGroupName) -> Answer {
    let outcome = rooms.registry.delete_thing_group(name);
    outcome.map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn add(rooms: &Rooms, member: &ThingGroupMember) -> Answer {
    let outcome = rooms.registry.add_to_group(&member.name, &member.thing);
    outcome.map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn remove(rooms: &Rooms, member: &ThingGroupMember) -> Answer {
    let outcome = rooms
        .registry
        .remove_from_group(&member.name, &member.thing);
    outcome.map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn attach_policy(rooms: &Rooms, target: &ThingGroupPolicy) -> Answer {
    let policy = &target.policy;
    if rooms.identity.snapshot().policy(policy).is_none() {
        let message = format!("there is no policy {policy:?}");
        return Err(Failure::new("not-found", message));
    }
    let outcome = rooms.registry.attach_to_group(&target.name, policy);
    outcome.map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn detach_policy(rooms: &Rooms, target: &ThingGroupPolicy) -> Answer {
    let outcome = rooms
        .registry
        .detach_from_group(&target.name, &target.policy);
    outcome.map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

/// With its things.
fn whole(rooms: &Rooms, group: ThingGroupDescription) -> Answer {
    let things = rooms
        .registry
        .things_in_group(&group.name, false)
        .map_err(|e| failure(&e))?;
    let mut info = info(rooms, group);
    info.things = Some(things.iter().map(ToString::to_string).collect());
    Ok(Reply::ok(&info))
}

fn info(rooms: &Rooms, group: ThingGroupDescription) -> ThingGroupInfo {
    let scope = &rooms.config.gateway.arn;
    let arn = scope.arn("thinggroup", group.name.as_str());
    ThingGroupInfo {
        thing_group_name: group.name.to_string(),
        thing_group_arn: arn.as_str().to_owned(),
        description: group.description,
        parents: group.parents.iter().map(ToString::to_string).collect(),
        policies: group.policies.iter().map(ToString::to_string).collect(),
        creation_date: group.created_at,
        things: None,
    }
}
