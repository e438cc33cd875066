//! What documents promise, seen from outside.
#![allow(clippy::unwrap_used)]

mod common;

use common::{open, wait};
use iotedge_store::{DocumentError, Expect};

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
