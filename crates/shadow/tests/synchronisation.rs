//! The service beside a cloud that is another service: what one side is told, the other has in the
//! end, whatever was lost on the way.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use iotedge_model::{ShadowName, ThingName};
use iotedge_shadow::core::sync::{Base, Direction, Known, Replica, Seen, Step, Synchronised};
use iotedge_shadow::core::{ShadowError, Stored};
use iotedge_shadow::{Settings, ShadowStore, SyncKey, SynchronisedReply};
use serde_json::{Value, json};
use support::{House, MemoryStore};

struct Side {
    house: House,
    store: Arc<MemoryStore>,
}

const KEY: &str = "lamp/cfg";
const PREFIX: &str = "$aws/things/lamp/shadow/name/cfg";

fn key() -> SyncKey {
    SyncKey {
        thing: ThingName::new("lamp").unwrap(),
        shadow: Some(ShadowName::new("cfg").unwrap()),
    }
}

/// Calls with a reply and waits for it.
fn wait(call: impl FnOnce(SynchronisedReply)) -> Result<Synchronised, ShadowError> {
    let (tell, told) = sync_channel(1);
    call(Box::new(move |answer| tell.send(answer).unwrap()));
    told.recv().unwrap()
}

impl Side {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let house = House::with(store.clone(), Settings::default());
        Self { house, store }
    }

    fn update(&self, state: &Value) -> Vec<(String, Value)> {
        let request = json!({"state": state}).to_string();
        self.house.ask(&format!("{PREFIX}/update"), request)
    }

    fn delete(&self) -> Vec<(String, Value)> {
        self.house.ask(&format!("{PREFIX}/delete"), "")
    }

    fn with<T>(&self, look: impl FnOnce(Option<&Stored<'_>>) -> T) -> T {
        let body = self.store.get(KEY).unwrap();
        let stored = body.as_deref().map(|body| Stored::parse(body).unwrap());
        look(stored.as_ref())
    }

    fn replica(&self) -> Replica {
        self.with(|stored| stored.map_or(Replica::Gone, Stored::replica))
    }

    fn known(&self) -> Option<Known> {
        self.with(|stored| stored.and_then(Stored::known))
    }

    fn state(&self) -> Option<(Value, Value)> {
        match self.replica() {
            Replica::Live {
                desired, reported, ..
            } => Some((desired.into(), reported.into())),
            Replica::Gone => None,
        }
    }

    fn version(&self) -> u64 {
        match self.replica() {
            Replica::Live { version, .. } => version,
            Replica::Gone => 0,
        }
    }

    /// The names of what there is to tell.
    fn news(&self) -> Vec<SyncKey> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (keys, next) = self
                .house
                .service
                .unsynchronised(after.as_deref(), 2)
                .unwrap();
            all.extend(keys);
            match next {
                Some(next) => after = Some(next),
                None => return all,
            }
        }
    }
}

fn seen(cloud: Replica) -> Seen {
    Seen {
        peer: "cloud".into(),
        direction: Direction::Both,
        cloud: Ok(cloud),
        lost: false,
    }
}

/// The first half: the local side is brought up to date.
fn half(local: &Side, cloud: &Side) -> Synchronised {
    wait(|reply| {
        local
            .house
            .service
            .synchronise(&key(), seen(cloud.replica()), reply)
    })
    .unwrap()
}

/// Both halves, as who carries between them does it.
fn synchronise(local: &Side, cloud: &Side) -> Synchronised {
    let done = half(local, cloud);
    match &done.cloud {
        Step::Keep => return done,
        Step::Update(state) => drop(cloud.update(state)),
        Step::Delete => drop(cloud.delete()),
    }
    let base = done.merged.clone().map(|(desired, reported)| Base {
        local: done.local_version,
        cloud: cloud.version(),
        desired,
        reported,
    });
    let (tell, told) = sync_channel(1);
    let reply = Box::new(move |answer| tell.send(answer).unwrap());
    local.house.service.settle(&key(), "cloud", base, reply);
    told.recv().unwrap().unwrap();
    local.house.broker.take();
    done
}

fn together() -> (Side, Side) {
    let (local, cloud) = (Side::new(), Side::new());
    local.update(&json!({"desired": {"a": 1}, "reported": {"a": 1}}));
    assert_eq!(local.news(), [key()]);
    synchronise(&local, &cloud);
    assert_eq!(local.state(), cloud.state());
    assert_eq!(local.news(), []);
    (local, cloud)
}

#[test]
fn conflicts_go_to_the_cloud_where_desired_and_here_where_reported() {
    let (local, cloud) = together();
    local.update(&json!({"desired": {"a": 2, "mine": 1}, "reported": {"a": 2}}));
    cloud.update(&json!({"desired": {"a": 3, "theirs": 1}, "reported": {"a": 3}}));
    let done = half(&local, &cloud);
    let paths: Vec<&str> = done.conflicts.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["desired.a", "reported.a"]);
    // Devices hear of it as of any update.
    let topics: Vec<String> = local.house.broker.take().into_iter().map(|m| m.0).collect();
    let expected = ["update/accepted", "update/delta", "update/documents"];
    assert_eq!(topics, expected.map(|suffix| format!("{PREFIX}/{suffix}")));
    // The other half is lost: it is made good by the next try.
    synchronise(&local, &cloud);
    let merged = (json!({"a": 3, "mine": 1, "theirs": 1}), json!({"a": 2}));
    assert_eq!(local.state(), Some(merged));
    assert_eq!(local.state(), cloud.state());
    assert_eq!(local.news(), []);
    let before = (local.version(), cloud.version());
    assert_eq!(synchronise(&local, &cloud).cloud, Step::Keep);
    assert_eq!((local.version(), cloud.version()), before);
    assert!(local.house.broker.take().is_empty());
}

#[test]
fn a_deletion_waits_for_the_cloud_however_long_that_takes() {
    let (local, cloud) = together();
    local.delete();
    assert_eq!(local.news(), [key()]);
    local.house.clock.advance_seconds(30 * 24 * 3600);
    local.house.service.sweep();
    local.house.ask("$aws/things/other/shadow/get", "");
    assert_eq!(local.news(), [key()], "the tombstone is still there");
    let done = synchronise(&local, &cloud);
    assert_eq!((done.cloud, cloud.state()), (Step::Delete, None));
    assert_eq!((local.news(), local.known()), (Vec::new(), None));
    // Now it may go.
    local.house.service.sweep();
    local.house.ask("$aws/things/other/shadow/get", "");
    assert_eq!(local.store.get(KEY).unwrap(), None);
}

#[test]
fn a_deletion_in_the_cloud_comes_here_unless_something_was_said_since() {
    let (local, cloud) = together();
    cloud.delete();
    let done = half(&local, &cloud);
    assert_eq!((done.cloud, local.state()), (Step::Keep, None));
    let topics: Vec<String> = local.house.broker.take().into_iter().map(|m| m.0).collect();
    assert_eq!(topics, [format!("{PREFIX}/delete/accepted")]);

    let (local, cloud) = together();
    cloud.delete();
    local.update(&json!({"reported": {"alive": true}}));
    synchronise(&local, &cloud);
    let whole = (json!({"a": 1}), json!({"a": 1, "alive": true}));
    assert_eq!(local.state(), Some(whole));
    assert_eq!(local.state(), cloud.state());
}

#[test]
fn a_shadow_made_again_long_after_its_deletion_goes_on_where_the_cloud_knows_it() {
    let (local, cloud) = together();
    let version = local.version();
    local.delete();
    local.house.clock.advance_seconds(30 * 24 * 3600);
    local.update(&json!({"reported": {"new": 1}}));
    assert_eq!(local.version(), version + 1);
    synchronise(&local, &cloud);
    assert_eq!(local.state(), cloud.state());
    assert_eq!(local.state().unwrap().1["new"], 1);
}

#[test]
fn what_does_not_fit_here_is_refused_and_changes_nothing() {
    let (local, _) = together();
    let before = local.state();
    let large = Replica::Live {
        version: 9,
        desired: json!({"a": "x".repeat(9000)}).as_object().unwrap().clone(),
        reported: serde_json::Map::new(),
    };
    let refused = wait(|reply| local.house.service.synchronise(&key(), seen(large), reply));
    assert_eq!(refused.unwrap_err(), ShadowError::TooLarge);
    assert_eq!(local.state(), before);
}
