//! What the registry promises, on a real store.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use iotedge_model::{CertificateId, Now, ThingName, ThingTypeName, UnixMillis};
use iotedge_ports::{Clock, ThingFacts};
use iotedge_registry::{
    AttributeChange, NewThing, NewThingType, Registry, RegistryError, ThingQuery, ThingUpdate,
};
use iotedge_store::{Expect, Options, Store};
use tempfile::TempDir;

struct House {
    dir: TempDir,
    store: Option<Store>,
    registry: Registry,
    clock: Arc<TestClock>,
}

fn open(dir: &TempDir) -> (Store, Registry, Arc<TestClock>) {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let clock = Arc::new(TestClock::default());
    let registry = Registry::open(&store, clock.clone()).unwrap();
    for name in ["LightBulb", "T"] {
        registry.create_thing_type(&thing_type(name)).unwrap();
    }
    (store, registry, clock)
}

/// Stands still until a test moves it.
#[derive(Default)]
struct TestClock {
    mono: AtomicU64,
    /// What is added for wall time; untrusted while it is zero.
    wall: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let (mono, wall) = (
            self.mono.load(Ordering::SeqCst),
            self.wall.load(Ordering::SeqCst),
        );
        Now {
            mono,
            wall: UnixMillis(wall + mono),
            trusted: wall > 0,
        }
    }
}

impl TestClock {
    fn pass(&self, seconds: u64) {
        self.mono.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

fn type_name(text: &str) -> ThingTypeName {
    ThingTypeName::new(text).unwrap()
}

fn thing_type(name: &str) -> NewThingType {
    NewThingType {
        name: type_name(name),
        description: Some("light bulb type".into()),
        searchable_attributes: vec!["wattage".into(), "model".into()],
    }
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, registry, clock) = open(&dir);
        Self {
            dir,
            store: Some(store),
            registry,
            clock,
        }
    }
    fn restart(mut self) -> Self {
        self.store.take().unwrap().close();
        let (store, registry, clock) = open(&self.dir);
        Self {
            dir: self.dir,
            store: Some(store),
            registry,
            clock,
        }
    }
}

fn name(text: &str) -> ThingName {
    ThingName::new(text).unwrap()
}

fn certificate(n: u8) -> CertificateId {
    CertificateId::from_digest(&[n; 32])
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn bulb() -> NewThing {
    NewThing {
        name: name("MyLightBulb"),
        thing_type: Some(type_name("LightBulb")),
        attributes: attributes(&[("model", "123"), ("wattage", "75")]),
    }
}

#[test]
fn a_thing_is_described_as_the_guide_shows_it() {
    let house = House::new();
    house.registry.create_thing(&bulb()).unwrap();
    let description = house.registry.describe_thing(&name("MyLightBulb")).unwrap();
    assert_eq!(
        serde_json::to_value(&description).unwrap(),
        serde_json::json!({
            "thingName": "MyLightBulb", "defaultClientId": "MyLightBulb",
            "thingTypeName": "LightBulb", "version": 1,
            "attributes": {"model": "123", "wattage": "75"},
        })
    );
}

#[test]
fn things_and_attachments_outlive_the_process() {
    let house = House::new();
    house.registry.create_thing(&bulb()).unwrap();
    let bulb = name("MyLightBulb");
    house.registry.attach(&bulb, &certificate(1)).unwrap();
    house.registry.attach(&bulb, &certificate(2)).unwrap();
    house.registry.detach(&bulb, &certificate(2)).unwrap();
    let house = house.restart();
    let record = house.registry.thing("MyLightBulb").unwrap();
    assert_eq!(record.thing_type.as_deref(), Some("LightBulb"));
    assert!(house.registry.is_attached("MyLightBulb", &certificate(1)));
    assert!(!house.registry.is_attached("MyLightBulb", &certificate(2)));
    assert_eq!(house.registry.principal_things(&certificate(1)), [bulb]);
}

#[test]
fn creating_the_same_thing_again_is_no_error_and_another_one_is() {
    let house = House::new();
    house.registry.create_thing(&bulb()).unwrap();
    assert_eq!(house.registry.create_thing(&bulb()).unwrap().version, 1);
    let mut other = bulb();
    other.attributes.clear();
    assert_eq!(
        house.registry.create_thing(&other),
        Err(RegistryError::ResourceAlreadyExists(name("MyLightBulb")))
    );
    assert!(!house.registry.ensure_thing(&name("MyLightBulb")).unwrap());
    assert!(house.registry.ensure_thing(&name("new")).unwrap());
}

#[test]
fn updates_count_versions_and_hold_to_the_expected_one() {
    let house = House::new();
    house.registry.create_thing(&bulb()).unwrap();
    let bulb = name("MyLightBulb");
    let merge = ThingUpdate {
        attributes: AttributeChange::Merge(attributes(&[("model", ""), ("color", "red")])),
        expected_version: Some(1),
        ..ThingUpdate::default()
    };
    let updated = house.registry.update_thing(&bulb, &merge).unwrap();
    assert_eq!(updated.version, 2);
    assert_eq!(
        updated.attributes,
        attributes(&[("color", "red"), ("wattage", "75")])
    );
    assert_eq!(
        house.registry.update_thing(&bulb, &merge),
        Err(RegistryError::VersionConflict {
            thing: bulb.clone(),
            expected: 1,
            current: 2
        })
    );
    let missing = house.registry.update_thing(&name("x"), &merge);
    assert_eq!(missing, Err(RegistryError::ResourceNotFound(name("x"))));
}

#[test]
fn attributes_have_their_limits() {
    let house = House::new();
    let create = |thing_type: Option<&str>, count: usize, value: &str| {
        house.registry.create_thing(&NewThing {
            name: name("t"),
            thing_type: thing_type.map(type_name),
            attributes: (0..count)
                .map(|i| (format!("a{i}"), value.to_owned()))
                .collect(),
        })
    };
    let long = "x".repeat(801);
    for (thing_type, count, value) in [
        (None, 4, "x"),
        (Some("T"), 51, "x"),
        (None, 1, "with space"),
        (None, 1, long.as_str()),
    ] {
        let refused = create(thing_type, count, value);
        let invalid = matches!(refused, Err(RegistryError::InvalidRequest { .. }));
        assert!(invalid, "{thing_type:?} {count} {value}: {refused:?}");
    }
    create(Some("T"), 50, "x").unwrap();
}

#[test]
fn a_thing_with_certificates_is_not_deleted() {
    let house = House::new();
    let bulb = name("MyLightBulb");
    let missing = house.registry.attach(&bulb, &certificate(1));
    assert_eq!(missing, Err(RegistryError::ResourceNotFound(bulb.clone())));
    house.registry.ensure_thing(&bulb).unwrap();
    house.registry.attach(&bulb, &certificate(1)).unwrap();
    assert!(matches!(
        house.registry.delete_thing(&bulb, None),
        Err(RegistryError::StillAttached { count: 1, .. })
    ));
    house.registry.detach(&bulb, &certificate(1)).unwrap();
    assert!(matches!(
        house.registry.detach(&bulb, &certificate(1)),
        Err(RegistryError::NotAttached { .. })
    ));
    house.registry.delete_thing(&bulb, Some(1)).unwrap();
    assert_eq!(house.registry.thing("MyLightBulb"), None);
    house.registry.delete_thing(&bulb, None).unwrap();
}

#[test]
fn lists_go_on_after_the_last_name() {
    let house = House::new();
    for n in ["c", "a", "b"] {
        house.registry.ensure_thing(&name(n)).unwrap();
    }
    house.registry.create_thing(&bulb()).unwrap();
    let names = |things: Vec<iotedge_registry::ThingDescription>| -> Vec<String> {
        things.iter().map(|t| t.thing_name.to_string()).collect()
    };
    let all = ThingQuery::default();
    let list = |query: &ThingQuery, after: Option<&ThingName>, limit| {
        names(house.registry.list_things(query, after, limit).unwrap())
    };
    assert_eq!(list(&all, None, 2), ["MyLightBulb", "a"]);
    assert_eq!(list(&all, Some(&name("a")), 9), ["b", "c"]);
    let bulbs = ThingQuery {
        thing_type: Some(type_name("LightBulb")),
        ..all.clone()
    };
    assert_eq!(list(&bulbs, None, 9), ["MyLightBulb"]);
    let by = |attribute: &str, value: Option<&str>| ThingQuery {
        attribute_name: Some(attribute.into()),
        attribute_value: value.map(str::to_owned),
        ..all.clone()
    };
    assert_eq!(list(&by("wattage", Some("75")), None, 9), ["MyLightBulb"]);
    assert_eq!(list(&by("wattage", None), None, 9), ["MyLightBulb"]);
    assert!(list(&by("wattage", Some("7")), None, 9).is_empty());
    let value_alone = ThingQuery {
        attribute_value: Some("75".into()),
        ..all
    };
    assert!(matches!(
        house.registry.list_things(&value_alone, None, 9),
        Err(RegistryError::InvalidRequest { .. })
    ));
}

#[test]
fn a_type_is_described_as_the_api_has_it_and_never_changes() {
    let house = House::new();
    house.clock.wall.store(1_468_423_800_950, Ordering::SeqCst);
    let stop = NewThingType {
        name: type_name("StopLight"),
        ..thing_type("x")
    };
    let made = house.registry.create_thing_type(&stop).unwrap();
    assert_eq!(
        serde_json::to_value(&made).unwrap(),
        serde_json::json!({
            "thingTypeName": "StopLight",
            "thingTypeProperties": {"thingTypeDescription": "light bulb type",
                                    "searchableAttributes": ["wattage", "model"]},
            "thingTypeMetadata": {"deprecated": false, "creationDate": 1_468_423_800_950_u64},
        })
    );
    house.clock.pass(1);
    assert_eq!(house.registry.create_thing_type(&stop).unwrap(), made);
    let other = NewThingType {
        description: None,
        ..stop.clone()
    };
    assert_eq!(
        house.registry.create_thing_type(&other),
        Err(RegistryError::ThingTypeExists(type_name("StopLight")))
    );
    for searchable in [
        vec!["a", "b", "c", "d"],
        vec!["a", "a"],
        vec![""],
        vec!["a b"],
    ] {
        let new = NewThingType {
            name: type_name("new"),
            description: None,
            searchable_attributes: searchable.iter().map(|s| (*s).to_owned()).collect(),
        };
        let refused = house.registry.create_thing_type(&new);
        let invalid = matches!(refused, Err(RegistryError::InvalidRequest { .. }));
        assert!(invalid, "{searchable:?}: {refused:?}");
    }
    let names: Vec<String> = house
        .registry
        .list_thing_types(Some(&type_name("LightBulb")), 9)
        .iter()
        .map(|t| t.thing_type_name.to_string())
        .collect();
    assert_eq!(names, ["StopLight", "T"]);
}

#[test]
fn no_thing_gets_a_type_that_is_deprecated_or_not_there() {
    let house = House::new();
    let registry = &house.registry;
    registry.create_thing(&bulb()).unwrap();
    let light = type_name("LightBulb");
    let deprecated = registry.deprecate_thing_type(&light, false).unwrap();
    assert!(deprecated.thing_type_metadata.deprecated);
    let mut second = bulb();
    second.name = name("second");
    assert_eq!(
        registry.create_thing(&second),
        Err(RegistryError::Deprecated(light.clone()))
    );
    // Existing things are unchanged, and may change otherwise.
    let keep = ThingUpdate {
        attributes: AttributeChange::Merge(attributes(&[("model", "456")])),
        ..ThingUpdate::default()
    };
    let described = registry.update_thing(&name("MyLightBulb"), &keep).unwrap();
    assert_eq!(described.thing_type_name, Some(light.clone()));
    registry
        .create_thing(&NewThing::named(name("bare")))
        .unwrap();
    let give = |thing_type: Option<&str>| ThingUpdate {
        thing_type: Some(thing_type.map(type_name)),
        ..ThingUpdate::default()
    };
    assert_eq!(
        registry.update_thing(&name("bare"), &give(Some("LightBulb"))),
        Err(RegistryError::Deprecated(light.clone()))
    );
    assert_eq!(
        registry.update_thing(&name("bare"), &give(Some("no"))),
        Err(RegistryError::NoThingType(type_name("no")))
    );
    registry.deprecate_thing_type(&light, true).unwrap();
    registry
        .update_thing(&name("bare"), &give(Some("LightBulb")))
        .unwrap();
    let bare = registry.update_thing(&name("bare"), &give(None)).unwrap();
    assert_eq!(bare.thing_type_name, None);
}

#[test]
fn a_thing_with_many_attributes_does_not_lose_its_type() {
    let house = House::new();
    let mut thing = bulb();
    thing.attributes = (0..4).map(|i| (format!("a{i}"), "x".into())).collect();
    house.registry.create_thing(&thing).unwrap();
    let bare = ThingUpdate {
        thing_type: Some(None),
        ..ThingUpdate::default()
    };
    assert!(matches!(
        house.registry.update_thing(&thing.name, &bare),
        Err(RegistryError::InvalidRequest { .. })
    ));
}

#[test]
fn a_type_goes_five_minutes_after_its_deprecation_when_no_thing_has_it() {
    let house = House::new();
    let registry = &house.registry;
    let light = type_name("LightBulb");
    registry.create_thing(&bulb()).unwrap();
    let not = registry.delete_thing_type(&light);
    assert_eq!(not, Err(RegistryError::NotDeprecated(light.clone())));
    registry.deprecate_thing_type(&light, false).unwrap();
    assert_eq!(
        registry.delete_thing_type(&light),
        Err(RegistryError::ThingTypeInUse {
            name: light.clone(),
            count: 1
        })
    );
    registry.delete_thing(&name("MyLightBulb"), None).unwrap();
    house.clock.pass(299);
    assert_eq!(
        registry.delete_thing_type(&light),
        Err(RegistryError::TooEarly {
            name: light.clone(),
            seconds: 1
        })
    );
    // To deprecate again changes nothing; undone, it begins anew.
    registry.deprecate_thing_type(&light, false).unwrap();
    registry.deprecate_thing_type(&light, true).unwrap();
    registry.deprecate_thing_type(&light, false).unwrap();
    house.clock.pass(299);
    assert!(registry.delete_thing_type(&light).is_err());
    house.clock.pass(1);
    registry.delete_thing_type(&light).unwrap();
    assert_eq!(
        registry.describe_thing_type(&light),
        Err(RegistryError::NoThingType(light))
    );
}

#[test]
fn the_five_minutes_outlive_the_process() {
    let house = House::new();
    house.clock.wall.store(1_800_000_000_000, Ordering::SeqCst);
    let t = type_name("T");
    house.registry.deprecate_thing_type(&t, false).unwrap();
    let house = house.restart();
    // A clock that nobody has set says nothing; the daemon's own time does.
    assert!(matches!(
        house.registry.delete_thing_type(&t),
        Err(RegistryError::TooEarly { seconds: 300, .. })
    ));
    house.clock.wall.store(1_800_000_299_000, Ordering::SeqCst);
    assert!(matches!(
        house.registry.delete_thing_type(&t),
        Err(RegistryError::TooEarly { seconds: 1, .. })
    ));
    house.clock.wall.store(1_800_000_300_000, Ordering::SeqCst);
    house.registry.delete_thing_type(&t).unwrap();
    let house = house.restart();
    house.registry.deprecate_thing_type(&t, false).unwrap();
    house.clock.pass(300);
    house.registry.delete_thing_type(&t).unwrap();
}

#[test]
fn followers_hear_of_changes_and_see_them() {
    let house = House::new();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    house.registry.on_change(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let bulb = name("MyLightBulb");
    house.registry.ensure_thing(&bulb).unwrap();
    house.registry.attach(&bulb, &certificate(1)).unwrap();
    house.registry.attach(&bulb, &certificate(1)).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

#[test]
fn an_attachment_does_not_outlive_a_lost_thing() {
    let house = House::new();
    let bulb = name("MyLightBulb");
    house.registry.ensure_thing(&bulb).unwrap();
    house.registry.attach(&bulb, &certificate(1)).unwrap();
    // As if it had been on a damaged page.
    let things = house.store.as_ref().unwrap().documents("things");
    things.delete("MyLightBulb", Expect::Any, None).unwrap();
    drop(things);
    let house = house.restart();
    house.registry.ensure_thing(&bulb).unwrap();
    let house = house.restart();
    assert!(!house.registry.is_attached("MyLightBulb", &certificate(1)));
    assert_eq!(house.registry.thing_principals(&bulb).unwrap(), []);
}
