//! What a full disk does to changes that rest on each other.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::documents::{Documents, Expect, StateFile};
use crate::queue::read::Readers;
use crate::schema::STATE;
use crate::writer::Writer;

type Told = mpsc::Receiver<Result<(), StoreError>>;

struct Bench {
    dir: tempfile::TempDir,
    shadows: Documents,
}

/// A file that can grow by a few pages only, with a document in version 1.
fn bench(linger: Duration) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let connection = file::open(&path, &STATE).unwrap();
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    connection
        .execute_batch(&format!("PRAGMA max_page_count = {}", pages + 2))
        .unwrap();
    let overlay = Arc::new(Mutex::new(Overlay::default()));
    let space = Arc::new(Space::new(dir.path(), u64::MAX, 0));
    let engine = StateEngine {
        path: path.clone(),
        connection,
        overlay: overlay.clone(),
        space: space.clone(),
        full: false,
        journal: file::Journal::default(),
    };
    let file = StateFile {
        writer: Writer::start(&path, (linger, Duration::ZERO), None, engine).unwrap(),
        readers: Readers::new(&path, None),
        overlay,
        space,
    };
    let shadows = Documents {
        file: Arc::new(file),
        collection: "shadows",
    };
    let bench = Bench { dir, shadows };
    bench.put("lamp", "first").recv().unwrap().unwrap();
    bench
}

impl Bench {
    fn put(&self, key: &str, body: impl Into<bytes::Bytes>) -> Told {
        let (tell, told) = mpsc::sync_channel(1);
        let done = Box::new(move |outcome| drop(tell.send(outcome)));
        self.shadows
            .put(key, body, Expect::Any, Some(done))
            .unwrap();
        told
    }
    fn body(&self) -> (u64, bytes::Bytes) {
        let document = self.shadows.get("lamp").unwrap().unwrap();
        (document.version, document.body)
    }
}

fn is_full(told: &Told) {
    let outcome = told.recv().unwrap();
    assert!(
        matches!(outcome, Err(StoreError::DiskFull { .. })),
        "{outcome:?}"
    );
}

const LARGE: usize = 100_000;

#[test]
fn a_change_made_from_one_that_found_no_room_fails_with_it() {
    let bench = bench(Duration::ZERO);
    // Another connection keeps the writer in the middle of its batch.
    let other = Connection::open(bench.dir.path().join("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let large = bench.put("lamp", vec![b'x'; LARGE]);
    while bench.shadows.file.writer.pending_bytes() > 0 {
        std::thread::yield_now();
    }
    let small = bench.put("lamp", "made from the large one");
    let unrelated = bench.put("fan", "first");
    assert_eq!(bench.body().0, 3);
    other.execute_batch("ROLLBACK").unwrap();
    is_full(&large);
    is_full(&small);
    assert_eq!(bench.body(), (1, "first".into()));
    assert_eq!(unrelated.recv().unwrap(), Ok(()));
    assert_eq!(bench.put("lamp", "second").recv().unwrap(), Ok(()));
    assert_eq!(bench.body(), (2, "second".into()));
}

#[test]
fn a_change_that_nobody_waits_for_fails_with_the_one_it_was_made_from() {
    let bench = bench(Duration::from_millis(200));
    let large = bench.put("lamp", vec![b'x'; LARGE]);
    let lazy = |body: &'static str| bench.shadows.put("lamp", body, Expect::Any, None);
    assert_eq!(lazy("made from the large one"), Ok(3));
    is_full(&large);
    let flushed = bench.put("fan", "first");
    assert_eq!(flushed.recv().unwrap(), Ok(()));
    assert_eq!(bench.body(), (1, "first".into()));
}

#[test]
fn a_change_before_one_that_found_no_room_stays() {
    let bench = bench(Duration::from_millis(200));
    let lazy = bench.shadows.put("lamp", "second", Expect::Any, None);
    assert_eq!(lazy, Ok(2));
    is_full(&bench.put("lamp", vec![b'x'; LARGE]));
    assert_eq!(bench.body(), (2, "second".into()));
    assert_eq!(bench.put("lamp", "third").recv().unwrap(), Ok(()));
    assert_eq!(bench.body(), (3, "third".into()));
}

#[test]
fn a_change_that_still_waits_for_room_is_seen_when_the_one_after_it_failed() {
    let bench = bench(Duration::from_millis(200));
    let large = bytes::Bytes::from(vec![b'x'; LARGE]);
    let lazy = bench.shadows.put("lamp", large.clone(), Expect::Any, None);
    assert_eq!(lazy, Ok(2));
    is_full(&bench.put("lamp", "third"));
    assert_eq!(bench.body(), (2, large));
}
