//! What the registry promises, on a real store.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotedge_model::{CertificateId, ThingName};
use iotedge_ports::ThingFacts;
use iotedge_registry::{AttributeChange, NewThing, Registry, RegistryError, ThingUpdate};
use iotedge_store::{Expect, Options, Store};
use tempfile::TempDir;

struct House {
    dir: TempDir,
    store: Option<Store>,
    registry: Registry,
}

fn open(dir: &TempDir) -> (Store, Registry) {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let registry = Registry::open(&store).unwrap();
    (store, registry)
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, registry) = open(&dir);
        Self {
            dir,
            store: Some(store),
            registry,
        }
    }
    fn restart(mut self) -> Self {
        self.store.take().unwrap().close();
        let (store, registry) = open(&self.dir);
        Self {
            dir: self.dir,
            store: Some(store),
            registry,
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
        thing_type: Some("LightBulb".into()),
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
            thing_type: thing_type.map(str::to_owned),
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
        (Some("no type"), 0, ""),
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
    assert_eq!(
        names(house.registry.list_things(None, None, 2)),
        ["MyLightBulb", "a"]
    );
    let rest = house.registry.list_things(None, Some(&name("a")), 9);
    assert_eq!(names(rest), ["b", "c"]);
    let bulbs = house.registry.list_things(Some("LightBulb"), None, 9);
    assert_eq!(names(bulbs), ["MyLightBulb"]);
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
