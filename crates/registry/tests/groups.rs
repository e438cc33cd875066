//! What thing groups promise, on a real store.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use std::sync::Arc;

use iotedge_model::{Now, ThingGroupName, ThingName, UnixMillis};
use iotedge_ports::{Clock, ThingFacts};
use iotedge_registry::{
    AttributeChange, MAX_GROUP_DEPTH, MAX_GROUP_POLICIES, NewThing, NewThingGroup, Registry,
    RegistryError, ThingUpdate,
};
use iotedge_store::{Options, Store};
use tempfile::TempDir;

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now {
            mono: 0,
            wall: UnixMillis(1_767_225_600_000),
            trusted: true,
        }
    }
}

fn open(dir: &TempDir) -> (Store, Registry) {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let registry = Registry::open(&store, Arc::new(Still)).unwrap();
    (store, registry)
}

fn group(name: &str) -> ThingGroupName {
    ThingGroupName::new(name).unwrap()
}

fn thing(name: &str) -> ThingName {
    ThingName::new(name).unwrap()
}

fn create(registry: &Registry, name: &str, parent: Option<&str>) -> Result<(), RegistryError> {
    let new = NewThingGroup {
        name: group(name),
        parent: parent.map(group),
        description: None,
    };
    registry.create_thing_group(&new).map(|_| ())
}

/// `house` with `attic` in it; `lamp` is in `attic`.
fn house(registry: &Registry) {
    create(registry, "house", None).unwrap();
    create(registry, "attic", Some("house")).unwrap();
    registry
        .create_thing(&NewThing::named(thing("lamp")))
        .unwrap();
    registry
        .add_to_group(&group("attic"), &thing("lamp"))
        .unwrap();
}

/// `group: policy policy` of each group that policies see a thing in.
fn seen(registry: &Registry, name: &str) -> Vec<String> {
    let record = registry.thing(name).unwrap();
    let groups = record.groups.iter();
    groups
        .map(|g| format!("{}: {}", g.name, g.policies.join(" ")))
        .collect()
}

#[test]
fn a_thing_has_the_policies_of_its_groups_and_of_those_above() {
    let dir = TempDir::new().unwrap();
    let (store, registry) = open(&dir);
    house(&registry);
    for (name, policy) in [("house", "listen"), ("attic", "speak"), ("attic", "hush")] {
        registry.attach_to_group(&group(name), policy).unwrap();
    }
    let all = ["attic: hush speak", "house: listen"];
    assert_eq!(seen(&registry, "lamp"), all);
    // A change of the thing leaves them, and so does a restart.
    let update = ThingUpdate {
        thing_type: None,
        attributes: AttributeChange::Merge([("room".into(), "attic".into())].into()),
        expected_version: None,
    };
    registry.update_thing(&thing("lamp"), &update).unwrap();
    assert_eq!(seen(&registry, "lamp"), all);
    drop(registry);
    store.close();
    let (_store, registry) = open(&dir);
    assert_eq!(seen(&registry, "lamp"), all);
    assert_eq!(registry.groups_with_policy("hush"), [group("attic")]);

    registry.detach_from_group(&group("attic"), "hush").unwrap();
    assert_eq!(
        registry.detach_from_group(&group("attic"), "hush"),
        Err(RegistryError::PolicyNotOfGroup {
            group: group("attic"),
            policy: "hush".into()
        })
    );
    assert_eq!(seen(&registry, "lamp"), ["attic: speak", "house: listen"]);
    registry
        .remove_from_group(&group("attic"), &thing("lamp"))
        .unwrap();
    assert!(seen(&registry, "lamp").is_empty());
}

#[test]
fn a_group_goes_when_no_other_is_in_it_and_its_things_stay() {
    let dir = TempDir::new().unwrap();
    let (store, registry) = open(&dir);
    house(&registry);
    registry.attach_to_group(&group("attic"), "speak").unwrap();
    assert_eq!(
        registry.delete_thing_group(&group("house")),
        Err(RegistryError::ThingGroupInUse {
            group: group("house"),
            count: 1
        })
    );
    registry.delete_thing_group(&group("attic")).unwrap();
    assert!(seen(&registry, "lamp").is_empty());
    // Nothing is left for a later group of the name, nor for a later thing.
    create(&registry, "attic", Some("house")).unwrap();
    registry
        .add_to_group(&group("attic"), &thing("lamp"))
        .unwrap();
    registry.delete_thing(&thing("lamp"), None).unwrap();
    registry
        .create_thing(&NewThing::named(thing("lamp")))
        .unwrap();
    assert!(seen(&registry, "lamp").is_empty());
    drop(registry);
    store.close();
    let (_store, registry) = open(&dir);
    assert!(seen(&registry, "lamp").is_empty());
    assert!(
        registry
            .things_in_group(&group("house"), true)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_thing_is_in_one_group_of_a_hierarchy() {
    let dir = TempDir::new().unwrap();
    let (_store, registry) = open(&dir);
    house(&registry);
    create(&registry, "cellar", Some("house")).unwrap();
    create(&registry, "lamps", None).unwrap();
    for other in ["cellar", "house"] {
        let refused = registry.add_to_group(&group(other), &thing("lamp"));
        assert!(
            matches!(&refused, Err(RegistryError::InvalidRequest { .. })),
            "{refused:?}"
        );
    }
    registry
        .add_to_group(&group("lamps"), &thing("lamp"))
        .unwrap();
    registry
        .add_to_group(&group("lamps"), &thing("lamp"))
        .unwrap();
    let below = registry.things_in_group(&group("house"), true).unwrap();
    assert_eq!(below, [thing("lamp")]);
    let own = registry.things_in_group(&group("house"), false).unwrap();
    assert!(own.is_empty());
}

#[test]
fn groups_have_their_limits() {
    let dir = TempDir::new().unwrap();
    let (_store, registry) = open(&dir);
    create(&registry, "g1", None).unwrap();
    for level in 2..=MAX_GROUP_DEPTH {
        let parent = format!("g{}", level - 1);
        create(&registry, &format!("g{level}"), Some(&parent)).unwrap();
    }
    let deepest = format!("g{MAX_GROUP_DEPTH}");
    assert!(create(&registry, "below", Some(&deepest)).is_err());
    assert_eq!(
        create(&registry, "g2", None),
        Err(RegistryError::ThingGroupExists(group("g2")))
    );
    assert_eq!(create(&registry, "g2", Some("g1")), Ok(()));
    assert_eq!(
        create(&registry, "h", Some("nowhere")),
        Err(RegistryError::NoThingGroup(group("nowhere")))
    );
    for n in 0..MAX_GROUP_POLICIES {
        registry
            .attach_to_group(&group("g1"), &format!("p{n}"))
            .unwrap();
    }
    registry.attach_to_group(&group("g1"), "p0").unwrap();
    assert!(registry.attach_to_group(&group("g1"), "more").is_err());
}
