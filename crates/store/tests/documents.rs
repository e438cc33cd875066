//! What documents promise, seen from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use common::{open, wait};
use iotedge_store::{DocumentError, Expect, Options, Put, Store};

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
                deletes: false,
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
fn above_the_quota_only_what_becomes_smaller_is_put() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: 1 << 20,
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let things = store.documents("things");
    let put = |puts: &[(&str, usize)]| -> Vec<bool> {
        let (tell, told) = sync_channel(8);
        let puts = puts.iter().map(|(key, size)| {
            let (tell, key) = (tell.clone(), (*key).to_owned());
            Put {
                key: key.clone(),
                body: vec![b'x'; *size].into(),
                deletes: *size == 11,
                done: Some(Box::new(move |outcome| {
                    tell.send((key, outcome.is_ok())).unwrap();
                })),
            }
        });
        let puts: Vec<Put> = puts.collect();
        let count = puts.len();
        things.put_all(puts).unwrap();
        let mut outcomes: Vec<(String, bool)> = told.iter().take(count).collect();
        outcomes.sort();
        outcomes.into_iter().map(|(_, ok)| ok).collect()
    };
    let mut filled = 0;
    while put(&[(&format!("filler-{filled}"), 8000)]) == [true] {
        filled += 1;
        assert!(filled < 1000, "the quota is never met");
    }
    assert!(filled > 50, "{filled}");
    let refused = format!("filler-{filled}");
    assert_eq!(things.get(&refused).unwrap(), None);
    // What is made from something that was refused is refused with it.
    let last = format!("filler-{}", filled - 1);
    assert_eq!(put(&[(&last, 9000), (&last, 10)]), [false, false]);
    assert_eq!(things.get(&last).unwrap().unwrap().body.len(), 8000);
    assert_eq!(put(&[(&last, 8000)]), [false]);
    // A deletion is taken whatever its size.
    assert_eq!(put(&[("nothing", 11), ("nothing", 12)]), [false, true]);
    for n in 0..filled / 2 {
        assert_eq!(put(&[(&format!("filler-{n}"), 10)]), [true]);
    }
    // There is room again.
    assert_eq!(put(&[(&refused, 8000)]), [true]);
    store.close();
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
