//! A process that dies in the middle of a salvage, at each of its steps.

use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{DropReason, Message, MessageId, QoS, SubscriptionIds, Topic};

use super::*;
use crate::{Append, Options, Store, TakerKind, TakerRow};

const MESSAGES: u64 = 400;

/// A queue with a damaged page in its middle, noted as suspect.
fn damaged(dir: &Path) {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, _) = Store::open(dir, options).unwrap();
    let taker = store.create_taker(TakerKind::Route, "r");
    let entries = (1..=MESSAGES).map(|id| {
        let topic = Topic::new("t").unwrap();
        let payload = Bytes::from(vec![7; 300]);
        let mut message = Message::internal("test", topic, payload, QoS::AtLeastOnce);
        message.id = MessageId(id);
        let row = TakerRow {
            taker,
            // In a row of its own.
            qos: QoS::ExactlyOnce,
            retain: false,
            identifiers: SubscriptionIds::NONE,
        };
        Append::new(Arc::new(message), vec![row], None)
    });
    store.append(entries.collect(), None);
    store.close();
    let path = dir.join(QUEUE.file);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0xA5; 4096], middle).unwrap();
    file::suspect(&path);
}

/// Opens the queue and dies at a step; does nothing in an ordinary test run.
#[test]
fn child() {
    let Ok(dir) = std::env::var("STORE_SALVAGE_DIR") else {
        return;
    };
    let left: u32 = std::env::var("STORE_SALVAGE_STEP")
        .unwrap()
        .parse()
        .unwrap();
    let left = Cell::new(left);
    let die = |_: &'static str| match left.get() {
        0 => std::process::abort(),
        n => left.set(n - 1),
    };
    let path = Path::new(&dir).join(QUEUE.file);
    open_queue_by_steps(&path, true, &mut Opened::default(), &die).unwrap();
}

/// Whether the child was killed; otherwise it came to its end.
fn dies_at(dir: &Path, step: u32) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "salvage::tests::child", "--test-threads=1"])
        .env("STORE_SALVAGE_DIR", dir)
        .env("STORE_SALVAGE_STEP", step.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(6), "{status}");
    !status.success()
}

fn is_salvaged_and_reported(dir: &Path, step: u32) {
    let mut opened = Opened::default();
    let (connection, _) = open_queue(&dir.join(QUEUE.file), true, &mut opened).unwrap();
    assert_eq!(opened.damaged.len(), 1, "step {step}");
    let report = &opened.damaged[0];
    assert!(report.set_aside.exists(), "step {step}");
    assert!(report.recovered["messages"] > MESSAGES / 2, "step {step}");
    assert!(report.incomplete.contains(&"messages"), "step {step}");
    let account = &opened.takers[0].account;
    assert!(account.balances() && account.queued > MESSAGES / 2);
    assert_eq!(account.dropped[&DropReason::Damaged], report.lost_rows);
    assert_eq!(account.queued + report.lost_rows, MESSAGES);
    drop(connection);
    let names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("salvage") || name.contains("suspect"))
        .collect();
    assert!(names.is_empty(), "step {step} left {names:?}");
    let mut again = Opened::default();
    open_queue(&dir.join(QUEUE.file), true, &mut again).unwrap();
    assert!(again.damaged.is_empty(), "step {step}");
}

#[test]
fn a_kill_at_any_step_loses_neither_rows_nor_the_report() {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        damaged(dir.path());
        if !dies_at(dir.path(), steps) {
            break;
        }
        is_salvaged_and_reported(dir.path(), steps);
        steps += 1;
    }
    assert!(steps >= 9, "only {steps} steps");
}

#[test]
fn a_start_that_is_killed_again_and_again_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    // Each start that goes on from a report has fewer steps left than the one before it.
    for step in [0, 1, 4, 3, 1] {
        assert!(dies_at(dir.path(), step), "step {step}");
    }
    is_salvaged_and_reported(dir.path(), 99);
}

#[test]
fn a_report_that_can_not_be_read_does_not_keep_the_new_file_out() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    assert!(dies_at(dir.path(), 4));
    let report = dir.path().join("queue.db.salvaged.json");
    std::fs::write(&report, b"\0\0").unwrap();
    let mut opened = Opened::default();
    open_queue(&dir.path().join(QUEUE.file), true, &mut opened).unwrap();
    assert!(opened.damaged[0].reason.contains("salvaged.json"));
    assert!(opened.takers[0].account.queued > MESSAGES / 2);
}
