//! `iotedgectl thing-group ...`.

use clap::{Args, Subcommand};
use iotedge_model::{NameError, ThingGroupName, ThingName};

use super::thing;

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum ThingGroup {
    /// Make a group
    Create {
        /// Its name
        #[arg(value_parser = group)]
        name: ThingGroupName,
        /// The group that it is in, for good
        #[arg(long, value_name = "GROUP", value_parser = group)]
        parent: Option<ThingGroupName>,
        /// What it is
        #[arg(long)]
        description: Option<String>,
    },
    /// All groups
    List,
    /// One group, with its policies and things
    Describe(GroupArg),
    /// Delete a group that no other is in; its things stay
    Delete(GroupArg),
    /// Put a thing into a group
    Add(Member),
    /// Take a thing out of a group
    Remove(Member),
    /// Attach a policy: it is that of all things in the group and in the groups below it
    AttachPolicy(GroupPolicy),
    /// Detach a policy
    DetachPolicy(GroupPolicy),
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct GroupArg {
    /// Its name
    #[arg(value_parser = group)]
    pub(in crate::ctl) name: ThingGroupName,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct Member {
    /// The group
    #[arg(value_name = "GROUP", value_parser = group)]
    pub(in crate::ctl) name: ThingGroupName,
    /// The thing
    #[arg(value_parser = thing)]
    pub(in crate::ctl) thing: ThingName,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct GroupPolicy {
    /// The group
    #[arg(value_name = "GROUP", value_parser = group)]
    pub(in crate::ctl) name: ThingGroupName,
    /// The policy's name
    pub(in crate::ctl) policy: String,
}

fn group(text: &str) -> Result<ThingGroupName, NameError> {
    ThingGroupName::new(text)
}
