//! What is left of a damaged `queue.db`: pages of it destroyed, its end cut off or emptied, its journal
//! changed. Always: set aside, what can be read is there, what is not is counted, and nothing is
//! delivered that was not stored.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{append, message, open, row};
use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_store::{Salvage, TakerKind, TakerRow};

const MESSAGES: u64 = 2000;
/// Messages of one commit.
const COMMIT: u64 = 50;

/// A queue of 2,000 messages of about 300 bytes in commits of 50 for the route `cloud/r`; of QoS 2 they
/// are in rows of their own. `killed`: as a kill leaves it, with all of it in the journal.
fn filled(dir: &Path, qos: QoS, killed: bool) {
    // Made once.
    static MADE: [OnceLock<tempfile::TempDir>; 4] = [const { OnceLock::new() }; 4];
    let which = usize::from(qos == QoS::ExactlyOnce) * 2 + usize::from(killed);
    let made = MADE[which].get_or_init(|| make(qos, killed));
    for name in FILES {
        let from = made.path().join(name);
        if from.exists() {
            std::fs::copy(from, dir.join(name)).unwrap();
        }
    }
}

const FILES: [&str; 3] = ["queue.db", "queue.db-wal", "state.db"];

fn make(qos: QoS, killed: bool) -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    let (store, _) = open(made.path());
    let taker = store.create_taker(TakerKind::Route, "cloud/r");
    for first in (1..=MESSAGES).step_by(COMMIT as usize) {
        let entries = (first..first + COMMIT).map(|id| {
            let row = TakerRow { qos, ..row(taker) };
            (message(id, "t", &payload(id)), vec![row])
        });
        append(&store, &Vec::from_iter(entries)).unwrap();
    }
    if !killed {
        store.close();
        return made;
    }
    let left = tempfile::tempdir().unwrap();
    for name in FILES {
        std::fs::copy(made.path().join(name), left.path().join(name)).unwrap();
    }
    left
}

fn payload(id: u64) -> String {
    format!("{id:0300}")
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// A folder with such a queue, and the path of the file.
fn damaged(qos: QoS, killed: bool, damage: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), qos, killed);
    let path = dir.path().join("queue.db");
    damage(&path);
    // As whoever meets the damage notes it.
    std::fs::File::create(dir.path().join("queue.db.suspect")).unwrap();
    (dir, path)
}

/// Opens; what came over, in the order of reading; and the report.
fn reopened(dir: &Path) -> (Vec<u64>, Option<Salvage>) {
    let (store, mut opened) = open(dir);
    assert!(opened.damaged.len() <= 1, "{:?}", opened.damaged);
    let mut ids = Vec::new();
    for taker in store.takers() {
        assert_eq!((taker.kind, &*taker.name), (TakerKind::Route, "cloud/r"));
        let rows = store.read(taker.id, None, usize::MAX, usize::MAX).unwrap();
        common::commit(&store);
        let account = store.account(taker.id);
        assert!(account.balances(), "{account:?}");
        assert_eq!(rows.len() as u64, account.queued);
        for row in &rows {
            assert_eq!(row.message.payload, payload(row.message.id.0).as_bytes());
            assert_eq!(row.message.topic.as_str(), "t");
            ids.push(row.message.id.0);
        }
        let lost = account.dropped.get(&DropReason::Damaged).copied();
        let lost = lost.unwrap_or(0);
        // Where the books are lost they begin with what came over.
        assert!(
            ids.len() as u64 + lost == MESSAGES || lost == 0,
            "{} and {lost}",
            ids.len()
        );
        let bytes: usize = rows.iter().map(|row| row.message.cost()).sum();
        if !(opened.damaged.iter()).any(|report| report.incomplete.contains(&"queue")) {
            assert_eq!(account.queued_bytes, bytes as u64);
        }
        // It goes on, behind what is there.
        let next = opened.next_message_id;
        assert!(next > MESSAGES);
        append(
            &store,
            &[(message(next, "t", "x"), vec![common::row(taker.id)])],
        )
        .unwrap();
        let all = store.read(taker.id, None, usize::MAX, usize::MAX).unwrap();
        assert_eq!(all.last().unwrap().message.id, MessageId(next));
        store.acknowledge(taker.id, &[MessageId(next)]);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "order, and none twice");
    let report = opened.damaged.pop();
    if let Some(report) = &report {
        assert!(report.set_aside.exists());
        let whole = report.incomplete.is_empty();
        let all = ids.len() as u64 + report.lost_rows == MESSAGES;
        assert!(!whole || all, "{report:?}");
    }
    store.close();
    assert!(open(dir).1.damaged.is_empty(), "the new file is whole");
    (ids, report)
}

/// Of the two forms of rows.
const FORMS: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn page_1_is_not_needed() {
    for qos in FORMS {
        for garbage in [[0u8; 1024], [0xA5; 1024]] {
            let (dir, _) = damaged(qos, false, |path| overwrite(path, 0, &garbage));
            let (ids, report) = reopened(dir.path());
            assert_eq!(ids.len() as u64, MESSAGES);
            assert_eq!(report.unwrap().lost_rows, 0);
        }
    }
}

/// Files that earlier versions made have other pages, and their size is written on page 1.
#[test]
fn page_1_of_a_file_with_larger_pages_is_not_needed_either() {
    for (size, qos) in [(4096, FORMS[0]), (512, FORMS[1]), (8192, FORMS[1])] {
        let (dir, _) = damaged(qos, false, |path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            let change = format!("PRAGMA journal_mode = DELETE; PRAGMA page_size = {size}; VACUUM");
            connection.execute_batch(&change).unwrap();
            drop(connection);
            overwrite(path, 0, &vec![0xA5; size]);
        });
        let (ids, report) = reopened(dir.path());
        assert_eq!(ids.len() as u64, MESSAGES, "{size}: {report:?}");
    }
}

/// The first blocks of a card hold the roots of all tables, the takers' names and the map of owners.
#[test]
fn no_block_is_one_that_everything_hangs_on() {
    for qos in FORMS {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), qos, false);
        let blocks = length(&dir.path().join("queue.db")) / 4096;
        let early = 0..12;
        let later = (12..blocks).step_by(7);
        for block in early.chain(later) {
            let garbage = if block % 2 == 0 {
                [0u8; 4096]
            } else {
                [0xA5; 4096]
            };
            let (dir, _) = damaged(qos, false, |path| overwrite(path, block * 4096, &garbage));
            let (ids, report) = reopened(dir.path());
            let Some(report) = report else {
                assert_eq!(
                    ids.len() as u64,
                    MESSAGES,
                    "block {block} of {qos:?} had nothing"
                );
                continue;
            };
            // A page may have the heads of nine parcels.
            let most = if qos == QoS::ExactlyOnce { 300 } else { 500 };
            assert!(
                ids.len() as u64 >= MESSAGES - most,
                "block {block} of {qos:?}: {} came over, {report:?}",
                ids.len()
            );
        }
    }
}

fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % below
    }
}

#[test]
fn several_places_at_once() {
    for seed in 0..24 {
        let mut dice = dice(seed);
        let qos = FORMS[(seed % 2) as usize];
        let (dir, _) = damaged(qos, false, |path| {
            let length = length(path);
            for _ in 0..=dice(6) {
                let bytes = vec![dice(256) as u8; 1 + dice(6000) as usize];
                let at = dice(length).min(length - bytes.len() as u64);
                overwrite(path, at, &bytes);
            }
        });
        let (ids, report) = reopened(dir.path());
        println!("seed {seed}: {} came over, {report:?}", ids.len());
    }
}

#[test]
fn what_is_left_of_a_file_that_was_cut_off_or_emptied_at_its_end() {
    for qos in FORMS {
        for (part, cut) in [(2, true), (2, false), (4, true), (4, false)] {
            let (dir, _) = damaged(qos, false, |path| {
                let length = length(path);
                let keep = length / part * (part - 1) / 1024 * 1024 + 100;
                if cut {
                    let file = std::fs::File::options().write(true).open(path).unwrap();
                    file.set_len(keep).unwrap();
                } else {
                    overwrite(path, keep, &vec![0; (length - keep) as usize]);
                }
            });
            let (ids, report) = reopened(dir.path());
            let least = MESSAGES / part * (part - 1) * 8 / 10;
            assert!(
                ids.len() as u64 >= least,
                "{} of {least}, {qos:?}, cut: {cut}",
                ids.len()
            );
            assert!(report.unwrap().lost_rows > 0);
        }
    }
}

/// SQLite takes a journal to end where it is damaged.
#[test]
fn commits_behind_a_damaged_place_of_the_journal_are_not_lost_silently() {
    for qos in FORMS {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), qos, true);
        let frames = length(&dir.path().join("queue.db-wal")) / 1048;
        // The header itself, the first frames, and some in the middle.
        let places = [
            0,
            32,
            32 + 1048 * 3 + 500,
            32 + frames / 3 * 1048,
            32 + frames / 2 * 1048 + 9,
        ];
        for at in places {
            let (dir, path) = damaged(qos, true, |path| {
                let journal = path.with_file_name("queue.db-wal");
                overwrite(&journal, at, &[0x5A; 700]);
            });
            std::fs::remove_file(path.with_file_name("queue.db.suspect")).unwrap();
            let (ids, report) = reopened(dir.path());
            let report = report.expect("reported");
            assert!(report.reason.contains("journal"), "{report:?}");
            assert!(
                ids.len() as u64 >= MESSAGES - 200,
                "at {at} of {qos:?}: {} came over, {report:?}",
                ids.len()
            );
        }
    }
}

/// What a power cut leaves of the last commit is no damage.
#[test]
fn a_journal_whose_last_commit_is_torn_is_read_up_to_it() {
    for torn in [1, 10, 1048, 3000] {
        let (dir, path) = damaged(QoS::AtLeastOnce, true, |path| {
            let journal = path.with_file_name("queue.db-wal");
            let length = length(&journal);
            overwrite(&journal, length - torn, &vec![0x5A; torn as usize]);
        });
        std::fs::remove_file(path.with_file_name("queue.db.suspect")).unwrap();
        let (ids, report) = reopened(dir.path());
        assert!(report.is_none(), "{report:?}");
        assert_eq!(ids.len() as u64, MESSAGES - COMMIT, "{torn}");
    }
}

/// Nothing that a taker has had comes again for a page that has nothing to do with it.
#[test]
fn what_was_acknowledged_stays_gone() {
    for block in [0, 40, 80] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), QoS::AtLeastOnce, false);
        let (store, opened) = open(dir.path());
        let taker = opened.takers[0].id;
        let had = (1..=1500).map(MessageId);
        store.acknowledge(taker, &Vec::from_iter(had));
        store.close();
        overwrite(&dir.path().join("queue.db"), block * 4096, &[0xA5; 4096]);
        std::fs::File::create(dir.path().join("queue.db.suspect")).unwrap();
        let (store, _) = open(dir.path());
        let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
        let ids = rows.iter().map(|row| row.message.id.0);
        let again: Vec<u64> = ids.filter(|id| *id <= 1500).collect();
        // The parcel's index says which of its messages are gone; with page 1 to 4 nothing of it is lost.
        assert!(again.is_empty(), "block {block}: {again:?}");
    }
}

/// Whose shape is right, and what is in them is not.
#[test]
fn messages_that_a_card_has_changed_are_lost_and_counted() {
    let (dir, path) = damaged(QoS::ExactlyOnce, false, |path| {
        let connection = rusqlite::Connection::open(path).unwrap();
        let change = "UPDATE messages SET payload = CAST(substr(payload, 1, 100) || 'x'
             || substr(payload, 102) AS BLOB) WHERE id IN (7, 900)";
        connection.execute_batch(change).unwrap();
        drop(connection);
        overwrite(path, 0, &[0; 100]);
    });
    let (ids, report) = reopened(dir.path());
    assert_eq!(ids.len() as u64, MESSAGES - 2, "{path:?}");
    assert_eq!(report.unwrap().lost_rows, 2);
}
