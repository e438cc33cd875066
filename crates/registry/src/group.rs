//! Thing groups, and what their parts may look like (today's guide, "Static thing groups").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iotedge_model::{ThingGroupName, UnixMillis};
use iotedge_ports::GroupRecord;
use serde::{Deserialize, Serialize};

use crate::RegistryError;
use crate::thing::invalid;

/// Longest description of a group, in characters.
pub const MAX_GROUP_DESCRIPTION: usize = 2028;
/// Most levels of groups: a group without a parent is the first.
pub const MAX_GROUP_DEPTH: usize = 7;
/// Most groups that a thing is in, those that these are in not counted.
pub const MAX_GROUPS_OF_THING: usize = 10;
/// Most policies of one group.
pub const MAX_GROUP_POLICIES: usize = 10;

/// A group to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewThingGroup {
    /// Its name.
    pub name: ThingGroupName,
    /// The group that it is in.
    pub parent: Option<ThingGroupName>,
    /// What it is.
    pub description: Option<String>,
}

/// A group as `DescribeThingGroup` shows it, with the policies that are attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThingGroupDescription {
    /// Its name.
    pub name: ThingGroupName,
    /// What was said of it at its creation.
    pub description: Option<String>,
    /// The groups that it is in, the next first.
    pub parents: Vec<ThingGroupName>,
    /// The policies that are attached to it; those of its parents are not among them.
    pub policies: Vec<Arc<str>>,
    /// Milliseconds since 1970 of its creation.
    pub created_at: UnixMillis,
}

/// A group in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ThingGroupName>,
    pub(crate) policies: BTreeSet<Arc<str>>,
    pub(crate) creation_date: UnixMillis,
}

pub(crate) type Groups = BTreeMap<ThingGroupName, Arc<StoredGroup>>;

impl NewThingGroup {
    pub(crate) fn stored(&self, now: UnixMillis) -> Result<StoredGroup, RegistryError> {
        if let Some(text) = &self.description {
            let field = "thingGroupDescription";
            if text.chars().count() > MAX_GROUP_DESCRIPTION {
                let reason = format!("has more than {MAX_GROUP_DESCRIPTION} characters");
                return Err(invalid(field, reason));
            }
            if let Some(c) = text.chars().find(|c| c.is_control()) {
                return Err(invalid(field, format!("must not contain {c:?}")));
            }
        }
        Ok(StoredGroup {
            description: self.description.clone(),
            parent: self.parent.clone(),
            policies: BTreeSet::new(),
            creation_date: now,
        })
    }
}

/// A group and those that it is in, the next first. One that is not there ends the line.
pub(crate) fn line<'g>(
    groups: &'g Groups,
    name: &'g ThingGroupName,
) -> impl Iterator<Item = (&'g ThingGroupName, &'g StoredGroup)> {
    let find = |name: &'g ThingGroupName| groups.get_key_value(name).map(|(n, g)| (n, &**g));
    // A parent is there before its child and never changes: no line is longer than this.
    std::iter::successors(find(name), move |(_, group)| find(group.parent.as_ref()?))
        .take(MAX_GROUP_DEPTH)
}

/// What the groups of a thing mean for its policies: each group once.
pub(crate) fn records(groups: &Groups, of: &BTreeSet<ThingGroupName>) -> Vec<GroupRecord> {
    let mut all: BTreeMap<&ThingGroupName, &StoredGroup> = BTreeMap::new();
    for name in of {
        all.extend(line(groups, name));
    }
    all.into_iter()
        .map(|(name, group)| GroupRecord {
            name: Arc::from(name.as_str()),
            policies: group.policies.iter().cloned().collect(),
        })
        .collect()
}
