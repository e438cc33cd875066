//! Rules of both places: what commands change, and what survives a restart.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use iotedge_rules::{Catalog, CatalogError, Engine, Rule, RuleOrigin, parse_rule};
use iotedge_store::{Options, Store};
use tempfile::TempDir;

struct Opened {
    store: Store,
    engine: Arc<Engine>,
    catalog: Catalog,
}

fn open(dir: &Path) -> Opened {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir, options).unwrap();
    let engine = Arc::new(Engine::new("0", None));
    let catalog = Catalog::new(&store, engine.clone());
    Opened {
        store,
        engine,
        catalog,
    }
}

fn text(topic: &str) -> String {
    format!(
        r#"{{"sql": "SELECT * FROM '{topic}'", "actions": [{{"republish": {{"topic": "out"}}}}]}}"#
    )
}

fn file(name: &str) -> Rule {
    parse_rule(name, &format!("rules.d/{name}.json"), &text("file")).unwrap()
}

/// Names in force, disabled ones with a `-`.
fn names(opened: &Opened) -> Vec<String> {
    let mut names: Vec<String> = opened
        .engine
        .rules()
        .iter()
        .map(|rule| match rule.is_enabled() {
            true => rule.name().to_string(),
            false => format!("-{}", rule.name()),
        })
        .collect();
    names.sort();
    names
}

#[test]
fn what_commands_change_is_in_force_and_survives() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    opened.catalog.install(vec![file("f")]).unwrap();
    opened.catalog.put("a", &text("one"), false).unwrap();
    opened.catalog.put("b", &text("two"), false).unwrap();
    opened.catalog.put("c", &text("three"), false).unwrap();
    opened.catalog.put("a", &text("four"), true).unwrap();
    opened.catalog.set_enabled("b", false).unwrap();
    opened.catalog.delete("c").unwrap();
    assert_eq!(names(&opened), ["-b", "a", "f"]);
    let a = opened.catalog.find("a").unwrap();
    assert_eq!(a.topic_pattern(), Some("four"));
    assert_eq!(opened.catalog.origin("a"), Some(RuleOrigin::Store));
    assert_eq!(
        opened.catalog.origin("f"),
        Some(RuleOrigin::File("rules.d/f.json".into()))
    );
    assert_eq!(opened.catalog.origin("c"), None);
    let Opened {
        store,
        engine,
        catalog,
    } = opened;
    drop((engine, catalog));
    store.close();

    let opened = open(dir.path());
    opened.catalog.install(vec![file("f")]).unwrap();
    assert_eq!(names(&opened), ["-b", "a", "f"]);
    opened.catalog.set_enabled("b", true).unwrap();
    assert_eq!(names(&opened), ["a", "b", "f"]);
    // A reload of the files leaves them alone.
    opened.catalog.install(Vec::new()).unwrap();
    assert_eq!(names(&opened), ["a", "b"]);
}

#[test]
fn refusals_change_nothing_and_say_why() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    let catalog = &opened.catalog;
    catalog.install(vec![file("f")]).unwrap();
    catalog.put("a", &text("one"), false).unwrap();
    let said = |outcome: Result<(), CatalogError>| outcome.unwrap_err().to_string();
    let good = text("x");
    for (outcome, reason) in [
        (
            catalog.put("a", &good, false),
            "there is a rule \"a\" already",
        ),
        (catalog.put("n", &good, true), "there is no rule \"n\""),
        (catalog.put("f", &good, false), "is the file rules.d/f.json"),
        (catalog.put("f", &good, true), "is the file rules.d/f.json"),
        (
            catalog.set_enabled("f", false),
            "is the file rules.d/f.json",
        ),
        (catalog.set_enabled("n", false), "there is no rule \"n\""),
        (catalog.delete("f"), "is the file rules.d/f.json"),
        (catalog.delete("n"), "there is no rule \"n\""),
        (catalog.put("a b", &good, false), "a rule's name is"),
        (
            catalog.put(
                "a",
                r#"{"sql": "SELECT * FROM 'a/#/b'", "actions": []}"#,
                true,
            ),
            "document:1:9: sql: column 15: the topic filter",
        ),
        (
            catalog.put(
                "big",
                &format!("{}{}", text("x"), " ".repeat(256 * 1024)),
                false,
            ),
            "at most 262144 bytes",
        ),
    ] {
        let found = said(outcome);
        assert!(found.contains(reason), "{found}");
    }
    assert_eq!(names(&opened), ["a", "f"]);
    assert_eq!(catalog.find("a").unwrap().topic_pattern(), Some("one"));
}

#[test]
fn a_name_in_both_places_is_an_error_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    opened.catalog.install(vec![file("f")]).unwrap();
    opened.catalog.put("a", &text("one"), false).unwrap();
    let files = || vec![file("a"), file("g")];
    for error in [
        opened.catalog.check(&files()).unwrap_err(),
        opened.catalog.install(files()).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "rules.d/a.json: there is a rule \"a\" in the store too; delete one of the two"
        );
    }
    assert_eq!(names(&opened), ["a", "f"]);
}

#[test]
fn disabling_keeps_the_document_as_it_was_wrapped() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    let bare = text("one");
    for (name, document) in [
        ("bare", bare.clone()),
        ("payload", format!(r#"{{"topicRulePayload": {bare}}}"#)),
        ("rule", format!(r#"{{"ruleName": "rule", "rule": {bare}}}"#)),
    ] {
        opened.catalog.put(name, &document, false).unwrap();
        for disabled in [true, false] {
            opened.catalog.set_enabled(name, !disabled).unwrap();
            let rule = opened.catalog.find(name).unwrap();
            assert_eq!(rule.is_enabled(), !disabled, "{name}");
            let mut expected: serde_json::Value = serde_json::from_str(&document).unwrap();
            let inner = match name {
                "bare" => &mut expected,
                "payload" => &mut expected["topicRulePayload"],
                _ => &mut expected["rule"],
            };
            inner["ruleDisabled"] = disabled.into();
            let found: serde_json::Value = serde_json::from_str(rule.document()).unwrap();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn there_are_at_most_a_thousand_rules() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    let files: Vec<Rule> = (0..999).map(|n| file(&format!("f{n}"))).collect();
    opened.catalog.install(files).unwrap();
    opened.catalog.put("a", &text("one"), false).unwrap();
    let error = opened.catalog.put("b", &text("one"), false).unwrap_err();
    assert!(matches!(error, CatalogError::TooMany), "{error}");
    opened.catalog.put("a", &text("two"), true).unwrap();
}

#[test]
fn a_stored_rule_that_cannot_be_read_is_left_out_and_can_be_deleted() {
    let dir = TempDir::new().unwrap();
    let opened = open(dir.path());
    let (done, committed) = std::sync::mpsc::sync_channel(1);
    let done = Box::new(move |outcome| drop(done.send(outcome)));
    opened
        .store
        .documents("rules")
        .put("old", "{}", iotedge_store::Expect::Any, Some(done))
        .unwrap();
    committed.recv().unwrap().unwrap();
    opened.catalog.install(vec![file("f")]).unwrap();
    assert_eq!(names(&opened), ["f"]);
    opened.catalog.delete("old").unwrap();
    let error = opened.catalog.delete("old").unwrap_err();
    assert!(matches!(error, CatalogError::NotFound(_)), "{error}");
}
