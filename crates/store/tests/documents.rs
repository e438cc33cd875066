//! What documents promise, seen from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{open, wait};
use iotedge_store::{DocumentError, Expect, Put};

#[test]
fn versions_go_on_over_deletions_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let shadows = store.documents("shadows");
    assert_eq!(shadows.put("a", "1", Expect::Any, None).unwrap(), 1);
    assert_eq!(shadows.put("a", "2", Expect::Version(1), None).unwrap(), 2);
    assert_eq!(shadows.delete("a", Expect::Any, None).unwrap(), Some(2));
    assert_eq!(shadows.delete("a", Expect::Any, None).unwrap(), None);
    assert_eq!(shadows.get("a").unwrap(), None);
    store.close();
    let (store, _) = open(dir.path());
    let shadows = store.documents("shadows");
    assert_eq!(shadows.get("a").unwrap(), None);
    assert_eq!(shadows.put("a", "3", Expect::Absent, None).unwrap(), 3);
    assert_eq!(shadows.get("a").unwrap().unwrap().body, "3");
}

#[test]
fn an_unexpected_version_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let things = store.documents("things");
    things.put("a", "1", Expect::Absent, None).unwrap();
    let conflict = |expected| things.put("a", "x", expected, None).unwrap_err();
    let at_one = DocumentError::Conflict { current: Some(1) };
    assert_eq!(conflict(Expect::Absent), at_one);
    assert_eq!(conflict(Expect::Version(2)), at_one);
    assert_eq!(
        things.put("b", "x", Expect::Version(1), None).unwrap_err(),
        DocumentError::Conflict { current: None }
    );
    assert_eq!(things.get("a").unwrap().unwrap().body, "1");
}

#[test]
fn a_put_is_seen_before_and_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let things = store.documents("things");
    for i in 0..200 {
        let (done, told) = wait();
        things
            .put("k", format!("{i}"), Expect::Any, Some(done))
            .unwrap();
        assert_eq!(things.get("k").unwrap().unwrap().body, format!("{i}"));
        told.recv().unwrap().unwrap();
        assert_eq!(things.get("k").unwrap().unwrap().body, format!("{i}"));
        assert_eq!(things.delete("k", Expect::Any, None).unwrap(), Some(i + 1));
        assert_eq!(things.get("k").unwrap(), None);
    }
}

#[test]
fn what_is_put_together_is_told_in_order_and_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let things = store.documents("things");
    let told = Arc::new(Mutex::new(Vec::new()));
    let puts = |keys: &[&str]| -> Vec<Put> {
        let keys = keys.iter().enumerate();
        keys.map(|(n, key)| {
            let told = told.clone();
            Put {
                key: (*key).to_owned(),
                body: format!("{key}{n}").into(),
                done: Some(Box::new(move |outcome| {
                    told.lock().unwrap().push((n, outcome.is_ok()));
                })),
            }
        })
        .collect()
    };
    things.put_all(puts(&["a", "b", "a"])).unwrap();
    let a = things.get("a").unwrap().unwrap();
    assert_eq!((a.body, a.version), ("a2".into(), 2));
    store.close();
    assert_eq!(*told.lock().unwrap(), [(0, true), (1, true), (2, true)]);
    assert!(things.put_all(puts(&["a", "c"])).is_err());
    assert_eq!(told.lock().unwrap().len(), 3);
    let (store, _) = open(dir.path());
    let things = store.documents("things");
    assert_eq!(things.get("a").unwrap().unwrap().body, "a2");
    assert_eq!(things.get("c").unwrap(), None);
}

#[test]
fn lists_merge_what_is_on_its_way_in_key_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let things = store.documents("things");
    let keys = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = things.list(prefix, after, limit).unwrap();
        found.into_iter().map(|(key, _)| key).collect()
    };
    for key in ["a/1", "a/2", "b/1", "a/3"] {
        let (done, told) = wait();
        things.put(key, key, Expect::Any, Some(done)).unwrap();
        told.recv().unwrap().unwrap();
    }
    things.delete("a/2", Expect::Any, None).unwrap();
    things.put("a/0", "new", Expect::Any, None).unwrap();
    store
        .documents("other")
        .put("a/9", "x", Expect::Any, None)
        .unwrap();
    assert_eq!(keys("a/", None, 10), ["a/0", "a/1", "a/3"]);
    assert_eq!(keys("a/", None, 2), ["a/0", "a/1"]);
    assert_eq!(keys("a/", Some("a/1"), 2), ["a/3"]);
    assert_eq!(things.scan().unwrap().len(), 4);
}
