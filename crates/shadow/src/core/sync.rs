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
//! 4. What was sent to the cloud and not answered may have arrived: where the cloud has just what was
//!    sent, or just what it had before, nobody else has changed anything there.
//!
//! That is [`Direction::Both`]. With [`Direction::Up`] the cloud becomes what the local side is, with
//! [`Direction::Down`] the local side what the cloud is; what is overwritten counts as a conflict. A
//! shadow that only the copied side's counterpart has, and that was never synchronised, is left alone.
//!
//! Numbers are compared by value, as for the delta: another spelling is no change.
//!
//! The plan of equal sides is to do nothing, so that a step that was lost on the way is made again
//! by the next plan, and one that arrived is not made twice.

mod apply;
mod record;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Section;
use super::merge::same;

pub use apply::{Change, Merged, Seen, Synchronised, settle, synchronise};
pub use record::{Base, Known};

/// Which side may change the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Each: a three-way merge.
    #[default]
    Both,
    /// The cloud gets what is here.
    Up,
    /// Here is what the cloud has.
    Down,
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
    /// The leaves that both sides had changed.
    pub conflicts: Vec<Conflict>,
}

/// A leaf that both sides had changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Where, such as `desired.lamp.color`.
    pub path: String,
    /// What the local side had; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Value>,
    /// What the cloud had; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Value>,
    /// Whether the local value stands now.
    pub local_won: bool,
}

/// Who wins where both sides have changed a leaf.
#[derive(Clone, Copy)]
enum Winner {
    Local,
    Cloud,
}

/// Decides what becomes of both sides.
pub fn plan(direction: Direction, known: &Known, local: &Replica, cloud: &Replica) -> Plan {
    match (local, cloud) {
        (Replica::Live { .. }, Replica::Live { .. }) => merged(direction, known, local, cloud),
        (Replica::Gone, Replica::Live { .. }) => match direction {
            Direction::Both if known.cloud_is_unchanged(cloud) => gone(Step::Keep, Step::Delete),
            Direction::Up if known.is_synchronised() => gone(Step::Keep, Step::Delete),
            Direction::Up => gone(Step::Keep, Step::Keep),
            Direction::Both | Direction::Down => restored(cloud, |all| (all, Step::Keep)),
        },
        (Replica::Live { .. }, Replica::Gone) => match direction {
            Direction::Both if known.local_is_unchanged(local) => gone(Step::Delete, Step::Keep),
            Direction::Down if known.is_synchronised() => gone(Step::Delete, Step::Keep),
            Direction::Down => gone(Step::Keep, Step::Keep),
            Direction::Both | Direction::Up => restored(local, |all| (Step::Keep, all)),
        },
        (Replica::Gone, Replica::Gone) => gone(Step::Keep, Step::Keep),
    }
}

fn merged(direction: Direction, known: &Known, local: &Replica, cloud: &Replica) -> Plan {
    let none = Section::new();
    let (local_desired, local_reported) = local.sections(&none);
    let (cloud_desired, cloud_reported) = cloud.sections(&none);
    let mut merging = Merging::default();
    let always = match direction {
        Direction::Both => None,
        Direction::Up => Some(Winner::Local),
        Direction::Down => Some(Winner::Cloud),
    };
    let desired = merging.section(
        "desired",
        &Rule::new(always, Winner::Cloud),
        Ancestors::new(known, &none, |base| &base.desired, |before| &before.0),
        local_desired,
        cloud_desired,
    );
    let reported = merging.section(
        "reported",
        &Rule::new(always, Winner::Local),
        Ancestors::new(known, &none, |base| &base.reported, |before| &before.1),
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

impl Replica {
    fn sections<'a>(&'a self, none: &'a Section) -> (&'a Section, &'a Section) {
        match self {
            Self::Live {
                desired, reported, ..
            } => (desired, reported),
            Self::Gone => (none, none),
        }
    }

    /// Its version; `None` where there is no shadow.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Live { version, .. } => Some(*version),
            Self::Gone => None,
        }
    }
}

/// Who wins in a section.
struct Rule {
    /// Whoever has changed what.
    always: bool,
    winner: Winner,
}

impl Rule {
    fn new(always: Option<Winner>, conflict: Winner) -> Self {
        Self {
            always: always.is_some(),
            winner: always.unwrap_or(conflict),
        }
    }
}

/// What a section, or a part of it, has been.
#[derive(Clone, Copy)]
struct Ancestors<'a> {
    base: &'a Section,
    /// What the cloud may still have of before.
    before: Option<&'a Section>,
}

impl<'a> Ancestors<'a> {
    fn new(
        known: &'a Known,
        none: &'a Section,
        base: impl Fn(&'a Base) -> &'a Section,
        before: impl Fn(&'a (Section, Section)) -> &'a Section,
    ) -> Self {
        Self {
            base: known.base.as_ref().map_or(none, base),
            before: known.before.as_ref().map(before),
        }
    }

    fn below(self, key: &str, none: &'a Section) -> Self {
        let below = |section: &'a Section| section.get(key).and_then(Value::as_object);
        Self {
            base: below(self.base).unwrap_or(none),
            before: self.before.map(|before| below(before).unwrap_or(none)),
        }
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
    conflicts: Vec<Conflict>,
}

impl Merging {
    fn section(
        &mut self,
        name: &str,
        rule: &Rule,
        was: Ancestors<'_>,
        local: &Section,
        cloud: &Section,
    ) -> Section {
        let merged = self.merge(name, rule, was, local, cloud);
        self.local.add(name, patch(local, &merged));
        self.cloud.add(name, patch(cloud, &merged));
        merged
    }

    fn merge(
        &mut self,
        path: &str,
        rule: &Rule,
        was: Ancestors<'_>,
        local: &Section,
        cloud: &Section,
    ) -> Section {
        let none = Section::new();
        let mut merged = Section::new();
        let added = cloud.keys().filter(|key| !local.contains_key(*key));
        for key in local.keys().chain(added) {
            let path = format!("{path}.{key}");
            let value = match (local.get(key), cloud.get(key)) {
                (Some(Value::Object(here)), Some(Value::Object(there))) => Some(
                    self.merge(&path, rule, was.below(key, &none), here, there)
                        .into(),
                ),
                (here, there) => self.leaf(path, rule, was, key, (here, there)),
            };
            if let Some(value) = value {
                merged.insert(key.clone(), value);
            }
        }
        merged
    }

    fn leaf(
        &mut self,
        path: String,
        rule: &Rule,
        was: Ancestors<'_>,
        key: &str,
        (local, cloud): (Option<&Value>, Option<&Value>),
    ) -> Option<Value> {
        if same_leaf(local, cloud) {
            return local.cloned();
        }
        let base = was.base.get(key);
        let local_is_old = same_leaf(local, base);
        let before = was.before.map(|before| before.get(key));
        let cloud_is_old =
            same_leaf(cloud, base) || before.is_some_and(|before| same_leaf(cloud, before));
        let winner = match (rule.always, local_is_old, cloud_is_old) {
            // With both as they were, the cloud has not heard of what it was told.
            (false, _, true) => Winner::Local,
            (false, true, false) => Winner::Cloud,
            _ => rule.winner,
        };
        let loser_is_old = match winner {
            Winner::Local => cloud_is_old,
            Winner::Cloud => local_is_old,
        };
        if !loser_is_old {
            self.conflicts.push(Conflict {
                path,
                local: local.cloned(),
                cloud: cloud.cloned(),
                local_won: matches!(winner, Winner::Local),
            });
        }
        match winner {
            Winner::Local => local.cloned(),
            Winner::Cloud => cloud.cloned(),
        }
    }
}

/// Whether both sides say the same: 1 is 1.0, which the other side may have made of it.
fn same_leaf(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn same_section(a: &Section, b: &Section) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
}

/// The update that makes `to` of `from`.
fn patch(from: &Section, to: &Section) -> Section {
    let mut patch = Section::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, wanted) in to {
        match (from.get(key), wanted) {
            (Some(is), wanted) if same(is, wanted) => {}
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
