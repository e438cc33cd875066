//! Bringing two sides together, for any history of both.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod requests;

use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::core::sync::{Base, Direction, Known, Plan, Replica, Step, plan};
use iotedge_shadow::core::{self, Limits, Stored};
use proptest::prelude::*;
use requests::request;
use serde_json::{Value, json};

/// One side: what stands in its store.
#[derive(Debug, Clone, Default)]
struct Side(Option<Stored<'static>>);

impl Side {
    fn update(&mut self, state: &Value) {
        let payload = json!({ "state": state }).to_string();
        let now = now();
        let limits = Limits {
            max_bytes: 1 << 20,
            ..Limits::default()
        };
        let updated = core::update(self.0.as_ref(), payload.as_bytes(), &now, &limits).unwrap();
        self.0 = Some(Stored::Live(updated.document));
    }

    fn delete(&mut self) {
        let deleted = core::delete(self.0.as_ref(), b"", "lamp", &now(), &Limits::default());
        if let Ok(deleted) = deleted {
            self.0 = Some(Stored::Deleted(deleted.tombstone));
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Keep => {}
            Step::Update(state) => self.update(state),
            Step::Delete => self.delete(),
        }
    }

    fn change(&mut self, change: &Option<Value>) {
        match change {
            Some(request) => self.update(&request["state"]),
            None => self.delete(),
        }
    }

    fn replica(&self) -> Replica {
        self.0.as_ref().map_or(Replica::Gone, Stored::replica)
    }

    fn version(&self) -> u64 {
        match &self.0 {
            Some(Stored::Live(document)) => document.version,
            Some(Stored::Deleted(tombstone)) => tombstone.version,
            None => 0,
        }
    }

    fn state(&self) -> Option<Value> {
        match self.replica() {
            Replica::Live {
                desired, reported, ..
            } => Some(json!({"desired": desired, "reported": reported})),
            Replica::Gone => None,
        }
    }
}

fn now() -> Now {
    Now {
        mono: 0,
        wall: UnixMillis(1_000),
        trusted: true,
    }
}

/// Brings both together and notes it, as the bridge does.
fn synchronise(local: &mut Side, cloud: &mut Side) -> Plan {
    let known = local.0.as_ref().and_then(Stored::known);
    let known = known.unwrap_or_default();
    let plan = plan(Direction::Both, &known, &local.replica(), &cloud.replica());
    local.apply(&plan.local);
    cloud.apply(&plan.cloud);
    let (desired, reported) = plan.merged.clone().unwrap_or_default();
    let base = Base {
        local: local.version(),
        cloud: cloud.version(),
        desired,
        reported,
    };
    if let Some(stored) = &mut local.0 {
        let known = Known {
            base: plan.merged.is_some().then_some(base),
            ..Known::default()
        };
        stored.set_known(Some(&known));
        *stored = Stored::parse(&stored.to_bytes()).unwrap().into_owned();
    }
    plan
}

fn state(desired: Value, reported: Value) -> Value {
    json!({"desired": desired, "reported": reported})
}

/// Both sides with the same document, synchronised.
fn together(document: &Value) -> (Side, Side) {
    let (mut local, mut cloud) = (Side::default(), Side::default());
    local.update(document);
    synchronise(&mut local, &mut cloud);
    assert_eq!(local.state(), cloud.state());
    (local, cloud)
}

#[test]
fn what_one_side_changed_goes_to_the_other() {
    let (mut local, mut cloud) = together(&state(
        json!({"a": 1, "b": {"c": 1, "d": 1}}),
        json!({"r": 1}),
    ));
    local.update(&json!({"reported": {"r": 2, "new": [1]}, "desired": {"b": {"c": null}}}));
    cloud.update(&json!({"desired": {"a": 2, "b": {"d": 5}}}));
    let plan = synchronise(&mut local, &mut cloud);
    let expected = state(json!({"a": 2, "b": {"d": 5}}), json!({"r": 2, "new": [1]}));
    assert_eq!(local.state().unwrap(), expected);
    assert_eq!(cloud.state().unwrap(), expected);
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
}

#[test]
fn of_two_changes_reported_is_the_local_one_and_desired_the_clouds() {
    let (mut local, mut cloud) = together(&state(json!({"x": 0, "gone": 0}), json!({"x": 0})));
    local.update(&json!({"desired": {"x": "local", "gone": null}, "reported": {"x": "local"}}));
    cloud.update(&json!({"desired": {"x": "cloud", "gone": 1}, "reported": {"x": null}}));
    let plan = synchronise(&mut local, &mut cloud);
    let expected = state(json!({"x": "cloud", "gone": 1}), json!({"x": "local"}));
    assert_eq!(local.state().unwrap(), expected);
    assert_eq!(cloud.state().unwrap(), expected);
    let paths: Vec<&str> = plan.conflicts.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["desired.x", "desired.gone", "reported.x"]);
}

#[test]
fn a_deletion_goes_over_unless_the_other_side_has_changed() {
    let document = state(json!({"a": 1}), json!({"a": 1}));
    let (mut local, mut cloud) = together(&document);
    local.delete();
    synchronise(&mut local, &mut cloud);
    assert_eq!((local.state(), cloud.state()), (None, None));

    let (mut local, mut cloud) = together(&document);
    cloud.delete();
    synchronise(&mut local, &mut cloud);
    assert_eq!((local.state(), cloud.state()), (None, None));

    let (mut local, mut cloud) = together(&document);
    local.delete();
    cloud.update(&json!({"desired": {"a": 2}}));
    synchronise(&mut local, &mut cloud);
    assert_eq!(local.state().unwrap()["desired"], json!({"a": 2}));
    assert_eq!(local.state(), cloud.state());
}

#[test]
fn a_shadow_made_again_after_its_deletion_stays() {
    let (mut local, mut cloud) = together(&state(json!({"old": 1}), json!({"old": 1})));
    local.delete();
    synchronise(&mut local, &mut cloud);
    local.update(&json!({"reported": {"new": 1}}));
    synchronise(&mut local, &mut cloud);
    assert_eq!(local.state().unwrap(), state(json!({}), json!({"new": 1})));
    assert_eq!(local.state(), cloud.state());
    // Deleted and made again before the deletion went over.
    local.delete();
    local.update(&json!({"reported": {"newer": 1}}));
    synchronise(&mut local, &mut cloud);
    assert_eq!(
        local.state().unwrap(),
        state(json!({}), json!({"newer": 1}))
    );
    assert_eq!(local.state(), cloud.state());
}

fn change() -> impl Strategy<Value = (bool, Option<Value>)> {
    (any::<bool>(), prop::option::weighted(0.85, request()))
}

proptest! {
    #[test]
    fn both_sides_are_equal_afterwards_and_stay_so(
        rounds in prop::collection::vec(prop::collection::vec(change(), 0..5), 1..5)
    ) {
        let (mut local, mut cloud) = (Side::default(), Side::default());
        for changes in rounds {
            for (here, change) in &changes {
                if *here { local.change(change) } else { cloud.change(change) }
            }
            synchronise(&mut local, &mut cloud);
            prop_assert_eq!(local.state(), cloud.state());
            let versions = (local.version(), cloud.version());
            let again = synchronise(&mut local, &mut cloud);
            prop_assert_eq!((again.local, again.cloud), (Step::Keep, Step::Keep));
            prop_assert_eq!((local.version(), cloud.version()), versions);
        }
    }

    #[test]
    fn a_side_that_nobody_touched_takes_all_of_the_other(
        first in request(), changes in prop::collection::vec(request(), 1..4), here in any::<bool>()
    ) {
        let (mut local, mut cloud) = (Side::default(), Side::default());
        local.update(&first["state"]);
        synchronise(&mut local, &mut cloud);
        let side = if here { &mut local } else { &mut cloud };
        for change in &changes {
            side.update(&change["state"]);
        }
        let wanted = side.state();
        let plan = synchronise(&mut local, &mut cloud);
        prop_assert!(plan.conflicts.is_empty());
        prop_assert_eq!(&local.state(), &wanted);
        prop_assert_eq!(&cloud.state(), &wanted);
    }
}
