//! Bringing a shadow and its counterpart in the cloud together.
//!
//! # The rule
//! Both sides are compared with the document that they had in common when they were last brought
//! together, the base; without one, with an empty document.
//!
//! 1. What only one side has changed, added or removed since, leaf by leaf (an array is a leaf),
//!    goes to the other.
//! 2. Where both have changed the same leaf to different values, or one has removed what the other
//!    has changed, `reported` goes to the local side, which the device talks to, and `desired` to
//!    the cloud, which applications talk to.
//! 3. A deletion of the whole shadow is kept as a tombstone with its version. It goes to the other
//!    side when that has not changed since the base. Otherwise the change is the later word: the
//!    deleted side gets the shadow again, with a version that follows the tombstone's.
//!
//! The plan of equal sides is to do nothing, so that a step that was lost on the way is made again
//! by the next plan, and one that arrived is not made twice.

use serde_json::{Map, Value, json};

use super::Section;

/// The document that both sides had in common, and the versions by which they knew it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Base {
    /// The local version.
    pub local: u64,
    /// The cloud's version.
    pub cloud: u64,
    /// The section; empty for none.
    pub desired: Section,
    /// The section; empty for none.
    pub reported: Section,
}

/// One side as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub enum Replica {
    /// A shadow.
    Live {
        /// Its version.
        version: u64,
        /// The section; empty for none.
        desired: Section,
        /// The section; empty for none.
        reported: Section,
    },
    /// Deleted, or never there.
    Gone,
}

/// What is to be done to one side.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// An update request with this `state`.
    Update(Value),
    /// A delete request.
    Delete,
}

/// What makes both sides equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// For the local shadow.
    pub local: Step,
    /// For the cloud's.
    pub cloud: Step,
    /// Both sections afterwards, for the next base; `None` when the shadow is gone on both sides.
    pub merged: Option<(Section, Section)>,
    /// The leaves that both sides had changed, as paths such as `desired.lamp.color`.
    pub conflicts: Vec<String>,
}

/// Who wins where both sides have changed a leaf.
#[derive(Clone, Copy)]
enum Winner {
    Local,
    Cloud,
}

/// Decides what becomes of both sides.
pub fn plan(base: Option<&Base>, local: &Replica, cloud: &Replica) -> Plan {
    match (local, cloud) {
        (
            Replica::Live {
                desired: local_desired,
                reported: local_reported,
                ..
            },
            Replica::Live {
                desired: cloud_desired,
                reported: cloud_reported,
                ..
            },
        ) => {
            let none = Base::default();
            let base = base.unwrap_or(&none);
            let mut merging = Merging::default();
            let desired = merging.section(
                "desired",
                Winner::Cloud,
                &base.desired,
                local_desired,
                cloud_desired,
            );
            let reported = merging.section(
                "reported",
                Winner::Local,
                &base.reported,
                local_reported,
                cloud_reported,
            );
            Plan {
                local: merging.local.step(),
                cloud: merging.cloud.step(),
                merged: Some((desired, reported)),
                conflicts: merging.conflicts,
            }
        }
        (Replica::Gone, Replica::Live { version, .. }) => {
            match base.is_some_and(|b| b.cloud == *version) {
                true => gone(Step::Keep, Step::Delete),
                false => restored(cloud, |all| (all, Step::Keep)),
            }
        }
        (Replica::Live { version, .. }, Replica::Gone) => {
            match base.is_some_and(|b| b.local == *version) {
                true => gone(Step::Delete, Step::Keep),
                false => restored(local, |all| (Step::Keep, all)),
            }
        }
        (Replica::Gone, Replica::Gone) => gone(Step::Keep, Step::Keep),
    }
}

fn gone(local: Step, cloud: Step) -> Plan {
    Plan {
        local,
        cloud,
        merged: None,
        conflicts: Vec::new(),
    }
}

/// The side that was deleted gets all that the other one has.
fn restored(from: &Replica, place: impl FnOnce(Step) -> (Step, Step)) -> Plan {
    let Replica::Live {
        desired, reported, ..
    } = from
    else {
        return gone(Step::Keep, Step::Keep);
    };
    let mut all = Patches::default();
    all.add("desired", desired.clone());
    all.add("reported", reported.clone());
    // A shadow without sections is one all the same.
    let (local, cloud) = place(Step::Update(Value::Object(all.0)));
    Plan {
        local,
        cloud,
        merged: Some((desired.clone(), reported.clone())),
        conflicts: Vec::new(),
    }
}

/// The `state` of an update request, section by section.
#[derive(Default)]
struct Patches(Map<String, Value>);

impl Patches {
    fn add(&mut self, section: &str, patch: Section) {
        if !patch.is_empty() {
            self.0.insert(section.to_owned(), Value::Object(patch));
        }
    }

    fn step(self) -> Step {
        match self.0.is_empty() {
            true => Step::Keep,
            false => Step::Update(Value::Object(self.0)),
        }
    }
}

#[derive(Default)]
struct Merging {
    local: Patches,
    cloud: Patches,
    conflicts: Vec<String>,
}

impl Merging {
    fn section(
        &mut self,
        name: &str,
        winner: Winner,
        base: &Section,
        local: &Section,
        cloud: &Section,
    ) -> Section {
        let merged = self.merge(name, winner, base, local, cloud);
        self.local.add(name, patch(local, &merged));
        self.cloud.add(name, patch(cloud, &merged));
        merged
    }

    fn merge(
        &mut self,
        path: &str,
        winner: Winner,
        base: &Section,
        local: &Section,
        cloud: &Section,
    ) -> Section {
        let mut merged = Section::new();
        let added = cloud.keys().filter(|key| !local.contains_key(*key));
        for key in local.keys().chain(added) {
            let path = format!("{path}.{key}");
            let (was, here, there) = (base.get(key), local.get(key), cloud.get(key));
            if let Some(value) = self.value(&path, winner, was, here, there) {
                merged.insert(key.clone(), value);
            }
        }
        merged
    }

    fn value(
        &mut self,
        path: &str,
        winner: Winner,
        base: Option<&Value>,
        local: Option<&Value>,
        cloud: Option<&Value>,
    ) -> Option<Value> {
        if let (Some(Value::Object(local)), Some(Value::Object(cloud))) = (local, cloud) {
            let none = Section::new();
            let base = base.and_then(Value::as_object).unwrap_or(&none);
            return Some(self.merge(path, winner, base, local, cloud).into());
        }
        let chosen = match (local == base, cloud == base) {
            _ if local == cloud => local,
            (true, _) => cloud,
            (_, true) => local,
            _ => {
                self.conflicts.push(path.to_owned());
                match winner {
                    Winner::Local => local,
                    Winner::Cloud => cloud,
                }
            }
        };
        chosen.cloned()
    }
}

/// The update that makes `to` of `from`.
fn patch(from: &Section, to: &Section) -> Section {
    let mut patch = Section::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, wanted) in to {
        match (from.get(key), wanted) {
            (Some(is), wanted) if is == wanted => {}
            (Some(Value::Object(is)), Value::Object(wanted)) => {
                patch.insert(key.clone(), self::patch(is, wanted).into());
            }
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    patch
}

impl Base {
    /// For the store.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "local": self.local,
            "cloud": self.cloud,
            "desired": self.desired,
            "reported": self.reported,
        })
    }

    /// From the store.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let section = |name: &str| value.get(name)?.as_object().cloned();
        Some(Self {
            local: value.get("local")?.as_u64()?,
            cloud: value.get("cloud")?.as_u64()?,
            desired: section("desired")?,
            reported: section("reported")?,
        })
    }
}
