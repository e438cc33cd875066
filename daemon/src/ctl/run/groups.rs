//! `iotedgectl thing-group ...`.

use super::{Session, p};
use crate::ctl::args::{GroupArg, GroupPolicy, Member, ThingGroup};
use crate::ctl::protocol::Request;
use crate::ctl::{CtlError, show};

fn named(group: &GroupArg) -> p::ThingGroup {
    p::ThingGroup {
        name: group.name.clone(),
    }
}

fn member(member: &Member) -> p::ThingGroupMember {
    p::ThingGroupMember {
        name: member.name.clone(),
        thing: member.thing.clone(),
    }
}

fn policy(target: &GroupPolicy) -> p::ThingGroupPolicy {
    p::ThingGroupPolicy {
        name: target.name.clone(),
        policy: target.policy.clone(),
    }
}

impl Session<'_> {
    pub(super) fn thing_group(&mut self, command: &ThingGroup) -> Result<(), CtlError> {
        match command {
            ThingGroup::Create {
                name,
                parent,
                description,
            } => {
                let request = Request::ThingGroupCreate(p::ThingGroupCreate {
                    name: name.clone(),
                    parent: parent.clone(),
                    description: description.clone(),
                });
                self.ask_and_show(&request, show::thing_group)
            }
            ThingGroup::List => self.ask_and_list(&Request::ThingGroupList, show::thing_groups),
            ThingGroup::Describe(g) => {
                self.ask_and_show(&Request::ThingGroupDescribe(named(g)), show::thing_group)
            }
            ThingGroup::Delete(g) => {
                self.ask_and_say(&Request::ThingGroupDelete(named(g)), "deleted")
            }
            ThingGroup::Add(m) => self.ask_and_say(&Request::ThingGroupAdd(member(m)), "added"),
            ThingGroup::Remove(m) => {
                self.ask_and_say(&Request::ThingGroupRemove(member(m)), "removed")
            }
            ThingGroup::AttachPolicy(t) => {
                self.ask_and_say(&Request::ThingGroupAttachPolicy(policy(t)), "attached")
            }
            ThingGroup::DetachPolicy(t) => {
                self.ask_and_say(&Request::ThingGroupDetachPolicy(policy(t)), "detached")
            }
        }
    }
}
