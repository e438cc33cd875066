//! A plan's local half, and the notes that go with it.

use serde_json::json;

use super::{Base, Conflict, Direction, Known, Replica, Section, Step, plan};
use crate::core::{self, Deleted, Limits, Rejection, ShadowError, Stored, Updated};
use iotedge_model::Now;

/// The cloud's side, as the local one is to be compared with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Which cloud; see [`Known::peer`].
    pub peer: String,
    /// Which way.
    pub direction: Direction,
    /// What the cloud has. `Err`: it is still at this version, and what it had then is in the base.
    pub cloud: Result<Replica, u64>,
    /// The cloud had it until a deletion of ours took it along, which did not know of it: the shadow
    /// comes back, on both sides.
    pub lost: bool,
}

/// What a synchronisation has made of the local side, and what it asks of the cloud's.
#[derive(Debug, Clone, PartialEq)]
pub struct Synchronised {
    /// For the cloud: a request with the version that it was compared with. After
    /// [`Step::Keep`] there is nothing to settle.
    pub cloud: Step,
    /// The local version now, of a deleted shadow the one that it had; 0 for none.
    pub local_version: u64,
    /// Both sections, for the base; `None` when the shadow is gone on both sides.
    pub merged: Option<(Section, Section)>,
    /// The leaves that both sides had changed.
    pub conflicts: Vec<Conflict>,
}

/// What happens to the local side.
#[derive(Debug)]
pub enum Change<'a> {
    /// Nothing that anybody is told.
    Nothing,
    /// An update.
    Updated(Updated<'a>),
    /// The deletion.
    Deleted(Deleted<'a>),
}

/// The local half of a synchronisation.
#[derive(Debug)]
pub struct Merged<'a> {
    /// What devices hear.
    pub change: Change<'a>,
    /// What is to be stored, change and notes; `None`: all is as it was.
    pub put: Option<Vec<u8>>,
    /// For who carries.
    pub answer: Synchronised,
}

fn version(stored: Option<&Stored<'_>>) -> u64 {
    match stored {
        Some(Stored::Live(document)) => document.version,
        Some(Stored::Deleted(tombstone)) => tombstone.version,
        None => 0,
    }
}

/// Notes in what stands in the store, or in what is about to.
fn with_known(body: &[u8], known: Option<&Known>) -> Option<Vec<u8>> {
    let mut stored = Stored::parse(body).ok()?;
    if stored.known().as_ref() == known {
        return None;
    }
    stored.set_known(known);
    Some(stored.to_bytes())
}

/// Merges the cloud's side into the local one. [`ShadowError::VersionConflict`]: [`Seen::cloud`]
/// names a version that is not the base's, and the cloud has to be asked.
pub fn synchronise<'a>(
    stored: Option<&Stored<'a>>,
    seen: &Seen,
    now: &Now,
    limits: &Limits,
) -> Result<Merged<'a>, Rejection> {
    let local = stored.map_or(Replica::Gone, Stored::replica);
    let known = stored.and_then(Stored::known);
    let mut known = known.filter(|k| k.peer == seen.peer).unwrap_or_default();
    known.peer.clone_from(&seen.peer);
    let cloud = match (&seen.cloud, &known.base) {
        (Ok(cloud), _) => cloud.clone(),
        (Err(version), Some(base)) if base.cloud == *version && known.is_settled() => {
            Replica::Live {
                version: *version,
                desired: base.desired.clone(),
                reported: base.reported.clone(),
            }
        }
        (Err(_), _) => return Err(ShadowError::VersionConflict.into()),
    };
    if seen.lost {
        (known.base, known.before) = (None, None);
    }
    let mut plan = plan(seen.direction, &known, &local, &cloud);
    if let (true, Some((desired, reported))) = (seen.lost, &plan.merged) {
        plan.cloud = Step::Update(json!({"desired": desired, "reported": reported}));
    }
    let change = match &plan.local {
        Step::Keep => Change::Nothing,
        Step::Update(state) => {
            let request = json!({"state": state}).to_string();
            Change::Updated(core::update(stored, request.as_bytes(), now, limits)?)
        }
        Step::Delete => Change::Deleted(core::delete(stored, b"", "", now, limits)?),
    };
    let changed = match &change {
        Change::Nothing => None,
        Change::Updated(updated) => Some(Stored::Live(updated.document.clone())),
        Change::Deleted(deleted) => Some(Stored::Deleted(deleted.tombstone.clone())),
    };
    let current = changed.as_ref().or(stored);
    let local_version = version(current);
    let version_there = cloud.version().filter(|_| !seen.lost);
    let noted = match &plan.cloud {
        // It is told apart from others by what the base says.
        Step::Delete => Some(known),
        Step::Update(_) => {
            let before = match (seen.lost, cloud) {
                (
                    false,
                    Replica::Live {
                        desired, reported, ..
                    },
                ) => (desired, reported),
                _ => Default::default(),
            };
            noted(known, plan.merged.as_ref(), local_version, version_there).map(|known| Known {
                before: Some(before),
                ..known
            })
        }
        Step::Keep => noted(known, plan.merged.as_ref(), local_version, version_there),
    };
    let body = current.map(Stored::to_bytes);
    let put = body.and_then(|body| match with_known(&body, noted.as_ref()) {
        None => changed.is_some().then_some(body),
        noted => noted,
    });
    Ok(Merged {
        change,
        put,
        answer: Synchronised {
            cloud: plan.cloud,
            local_version,
            merged: plan.merged,
            conflicts: plan.conflicts,
        },
    })
}

/// What is known after a merge; nothing of a shadow that is gone.
fn noted(
    known: Known,
    merged: Option<&(Section, Section)>,
    local: u64,
    cloud: Option<u64>,
) -> Option<Known> {
    let (desired, reported) = merged?.clone();
    Some(Known {
        base: Some(Base {
            local,
            cloud: cloud.unwrap_or_default(),
            desired,
            reported,
        }),
        before: None,
        ..known
    })
}

/// Notes what both sides have in common since the cloud has accepted what [`synchronise`] gave for
/// it, or that it has the shadow no more. What is to be stored, if that is news.
pub fn settle(stored: Option<&Stored<'_>>, peer: &str, base: Option<&Base>) -> Option<Vec<u8>> {
    let known = base.map(|base| Known {
        peer: peer.to_owned(),
        base: Some(base.clone()),
        before: None,
    });
    with_known(&stored?.to_bytes(), known.as_ref())
}
