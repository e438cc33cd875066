//! The life of thing groups: who is in them, and which policies are attached to them.
//!
//! 1. A group's policies are those of each thing in it and in the groups below it.
//! 2. A group never changes its parent, so that groups are never in each other.
//! 3. A thing is in one group at most of those that have the same topmost one.

use std::collections::BTreeSet;
use std::sync::Arc;

use iotedge_model::{ThingGroupName, ThingName};

use crate::group::StoredGroup;
use crate::group::{self, Groups, MAX_GROUP_DEPTH, MAX_GROUP_POLICIES, MAX_GROUPS_OF_THING};
use crate::records::Records;
use crate::registry::Registry;
use crate::snapshot::{Entry, Snapshot};
use crate::thing::invalid;
use crate::{NewThingGroup, RegistryError, ThingGroupDescription};

/// A membership has no facts but its key, `{group}/{thing}`.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Membership {}

pub(crate) fn member_key(group: &ThingGroupName, thing: &ThingName) -> String {
    format!("{group}/{thing}")
}

/// Reads the groups and who is in them into a snapshot that has the things.
pub(crate) fn read(
    groups: &Records,
    members: &Records,
    snapshot: &mut Snapshot,
) -> Result<(), RegistryError> {
    for (key, stored) in groups.all::<StoredGroup>()? {
        let name =
            ThingGroupName::new(&key).map_err(|e| groups.damaged(key.clone(), e.to_string()))?;
        snapshot.groups.insert(name, Arc::new(stored));
    }
    for (key, Membership {}) in members.all()? {
        let parsed = key.split_once('/').and_then(|(group, thing)| {
            Some((
                ThingGroupName::new(group).ok()?,
                ThingName::new(thing).ok()?,
            ))
        });
        let Some((group, thing)) = parsed else {
            return Err(members.damaged(key, "the key is none".into()));
        };
        match snapshot.things.get_mut(&thing) {
            Some(entry) if snapshot.groups.contains_key(&group) => {
                Arc::make_mut(entry).groups.insert(group);
            }
            // What is left would put any later thing, or group, of that name in its place.
            _ => {
                tracing::warn!(%thing, %group, "one of them is not there: the thing is not in the group any more");
                members.delete_lazily(&key)?;
            }
        }
    }
    snapshot.bring_groups();
    Ok(())
}

impl Snapshot {
    /// Shows things what their groups are now.
    fn bring_groups(&mut self) {
        for entry in self.things.values_mut() {
            if !entry.groups.is_empty() {
                Arc::make_mut(entry).bring_groups(&self.groups);
            }
        }
    }
}

fn root<'g>(groups: &'g Groups, name: &'g ThingGroupName) -> Option<&'g ThingGroupName> {
    group::line(groups, name).last().map(|(name, _)| name)
}

impl Registry {
    fn stored_group(&self, name: &ThingGroupName) -> Result<Arc<StoredGroup>, RegistryError> {
        let snapshot = self.snapshot.load();
        let found = snapshot.groups.get(name).cloned();
        found.ok_or_else(|| RegistryError::NoThingGroup(name.clone()))
    }

    /// Creates a group. One that is there already with the same parent and description is no error
    /// (`CreateThingGroup`).
    pub fn create_thing_group(
        &self,
        new: &NewThingGroup,
    ) -> Result<ThingGroupDescription, RegistryError> {
        let guard = self.begin();
        let stored = new.stored(self.clock.now().wall)?;
        if let Ok(there) = self.stored_group(&new.name) {
            let same = there.parent == stored.parent && there.description == stored.description;
            return match same {
                true => self.describe_thing_group(&new.name),
                false => Err(RegistryError::ThingGroupExists(new.name.clone())),
            };
        }
        if let Some(parent) = &new.parent {
            self.stored_group(parent)?;
            let snapshot = self.snapshot.load();
            if group::line(&snapshot.groups, parent).count() >= MAX_GROUP_DEPTH {
                let reason = format!("groups are at most {MAX_GROUP_DEPTH} levels deep");
                return Err(invalid("parentGroupName", reason));
            }
        }
        self.groups.put(new.name.as_str(), &stored)?;
        self.show(guard, |s| {
            s.groups.insert(new.name.clone(), Arc::new(stored));
        });
        self.describe_thing_group(&new.name)
    }

    /// The group.
    pub fn describe_thing_group(
        &self,
        name: &ThingGroupName,
    ) -> Result<ThingGroupDescription, RegistryError> {
        let stored = self.stored_group(name)?;
        let snapshot = self.snapshot.load();
        let parents = group::line(&snapshot.groups, name).skip(1);
        Ok(ThingGroupDescription {
            name: name.clone(),
            description: stored.description.clone(),
            parents: parents.map(|(name, _)| name.clone()).collect(),
            policies: stored.policies.iter().cloned().collect(),
            created_at: stored.creation_date,
        })
    }

    /// All groups, in the order of their names (`ListThingGroups`).
    pub fn list_thing_groups(&self) -> Vec<ThingGroupDescription> {
        let snapshot = self.snapshot.load_full();
        let names = snapshot.groups.keys();
        names
            .filter_map(|name| self.describe_thing_group(name).ok())
            .collect()
    }

    /// The things of a group, in the order of their names; with `below` those of the groups below it
    /// too (`ListThingsInThingGroup`).
    pub fn things_in_group(
        &self,
        name: &ThingGroupName,
        below: bool,
    ) -> Result<Vec<ThingName>, RegistryError> {
        self.stored_group(name)?;
        let snapshot = self.snapshot.load();
        let is_in = |entry: &Entry| {
            let mut groups = entry.groups.iter();
            groups.any(|own| match below {
                true => group::line(&snapshot.groups, own).any(|(group, _)| group == name),
                false => own == name,
            })
        };
        let things = snapshot.things.iter();
        Ok(things
            .filter(|(_, entry)| is_in(entry))
            .map(|(name, _)| name.clone())
            .collect())
    }

    /// The groups that a thing is in, those that these are in left out (`ListThingGroupsForThing`).
    pub fn groups_of_thing(&self, thing: &ThingName) -> Result<Vec<ThingGroupName>, RegistryError> {
        Ok(self.entry(thing)?.groups.iter().cloned().collect())
    }

    /// Puts a thing into a group; one that is in it already stays (`AddThingToThingGroup`).
    pub fn add_to_group(
        &self,
        name: &ThingGroupName,
        thing: &ThingName,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        self.stored_group(name)?;
        let entry = self.entry(thing)?;
        if entry.groups.contains(name) {
            return Ok(());
        }
        if entry.groups.len() >= MAX_GROUPS_OF_THING {
            let reason = format!("a thing is in at most {MAX_GROUPS_OF_THING} groups");
            return Err(invalid("thingGroupName", reason));
        }
        let snapshot = self.snapshot.load_full();
        let same =
            |other: &&ThingGroupName| root(&snapshot.groups, other) == root(&snapshot.groups, name);
        if let Some(other) = entry.groups.iter().find(same) {
            let reason = format!("thing {thing} is in {other}, which has the same topmost group");
            return Err(invalid("thingGroupName", reason));
        }
        self.members.put(&member_key(name, thing), &Membership {})?;
        self.show(guard, |s| {
            s.in_groups(thing, |groups| {
                groups.insert(name.clone());
            });
        });
        Ok(())
    }

    /// Takes a thing out of a group (`RemoveThingFromThingGroup`).
    pub fn remove_from_group(
        &self,
        name: &ThingGroupName,
        thing: &ThingName,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        self.stored_group(name)?;
        if !self.entry(thing)?.groups.contains(name) {
            return Err(RegistryError::NotInGroup {
                thing: thing.clone(),
                group: name.clone(),
            });
        }
        self.members.delete(&member_key(name, thing))?;
        self.show(guard, |s| {
            s.in_groups(thing, |groups| {
                groups.remove(name);
            });
        });
        Ok(())
    }

    /// Attaches a policy, by its name, to a group; attached twice is attached. Whether there is such a
    /// policy is not looked up (`AttachPolicy`).
    pub fn attach_to_group(
        &self,
        name: &ThingGroupName,
        policy: &str,
    ) -> Result<(), RegistryError> {
        self.change_group(name, |group| {
            group.policies.insert(Arc::from(policy));
            match group.policies.len() {
                0..=MAX_GROUP_POLICIES => Ok(()),
                _ => {
                    let reason = format!("a group has at most {MAX_GROUP_POLICIES} policies");
                    Err(invalid("policyName", reason))
                }
            }
        })
    }

    /// Detaches a policy from a group.
    pub fn detach_from_group(
        &self,
        name: &ThingGroupName,
        policy: &str,
    ) -> Result<(), RegistryError> {
        self.change_group(name, |group| match group.policies.remove(policy) {
            true => Ok(()),
            false => Err(RegistryError::PolicyNotOfGroup {
                group: name.clone(),
                policy: policy.to_owned(),
            }),
        })
    }

    fn change_group(
        &self,
        name: &ThingGroupName,
        change: impl FnOnce(&mut StoredGroup) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        let before = self.stored_group(name)?;
        let mut stored = StoredGroup::clone(&before);
        change(&mut stored)?;
        if stored == *before {
            return Ok(());
        }
        self.groups.put(name.as_str(), &stored)?;
        self.show(guard, |s| {
            s.groups.insert(name.clone(), Arc::new(stored));
            s.bring_groups();
        });
        Ok(())
    }

    /// To which groups a policy is attached.
    pub fn groups_with_policy(&self, policy: &str) -> Vec<ThingGroupName> {
        let snapshot = self.snapshot.load();
        let groups = snapshot.groups.iter();
        groups
            .filter(|(_, group)| group.policies.contains(policy))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Deletes a group that no other is in. Its things stay; what its policies gave and denied them
    /// goes with it. One that is not there is no error (`DeleteThingGroup`).
    pub fn delete_thing_group(&self, name: &ThingGroupName) -> Result<(), RegistryError> {
        let guard = self.begin();
        if self.stored_group(name).is_err() {
            return Ok(());
        }
        let snapshot = self.snapshot.load_full();
        let children = snapshot.groups.values();
        match children.filter(|g| g.parent.as_ref() == Some(name)).count() {
            0 => {}
            count => {
                return Err(RegistryError::ThingGroupInUse {
                    group: name.clone(),
                    count,
                });
            }
        }
        let things = self.things_in_group(name, false)?;
        self.groups.delete(name.as_str())?;
        // Left over after a power cut they are found at the next start.
        for thing in &things {
            self.members.delete_lazily(&member_key(name, thing))?;
        }
        self.show(guard, |s| {
            s.groups.remove(name);
            for thing in &things {
                s.in_groups(thing, |groups| {
                    groups.remove(name);
                });
            }
        });
        Ok(())
    }
}

impl Snapshot {
    fn in_groups(&mut self, thing: &ThingName, change: impl FnOnce(&mut BTreeSet<ThingGroupName>)) {
        if let Some(entry) = self.things.get_mut(thing) {
            let entry = Arc::make_mut(entry);
            change(&mut entry.groups);
            entry.bring_groups(&self.groups);
        }
    }
}
