//! What a queued message costs: bytes on the way to the disk, and time beside SQLite alone.
//!
//! `cargo bench -p iotedge-store --bench flash [-- FOLDER]`: in FOLDER, or the target directory; it
//! has to be on a real disk.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_model::{Message, MessageId, QoS, SubscriptionIds, Topic, TraceId, UnixMillis};
use iotedge_store::{Append, Options, Store, TakerId, TakerKind, TakerRow};

const PAYLOAD: usize = 200;

/// Bytes that this process has sent on their way to a disk.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: "));
    line.unwrap().parse().unwrap()
}

fn open(dir: &Path, linger: u64) -> (Store, TakerId, u64) {
    let options = Options {
        linger: Duration::from_millis(linger),
        lag: Duration::from_secs(5),
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, opened) = Store::open(dir, options).unwrap();
    let taker = store.create_taker(TakerKind::Route, "cloud/out");
    (store, taker, opened.next_message_id)
}

/// Message `n` of twenty publishers by turns.
fn append(taker: TakerId, id: u64, n: u64) -> Append {
    thread_local! {
        static PUBLISHERS: Vec<Message> = (0..20).map(|p| {
            let topic = Topic::new(&format!("plant/line-{p}/sensor")).unwrap();
            let mut message = Message::internal("bench", topic, Bytes::new(), QoS::AtLeastOnce);
            message.client_id = Arc::from(format!("sensor-{p}"));
            message
        }).collect();
    }
    let mut message = PUBLISHERS.with(|all| all[usize::try_from(n % 20).unwrap()].clone());
    message.id = MessageId(id);
    message.trace = TraceId(u128::from(id) * 0x9E37_79B9_7F4A_7C15_F39C);
    message.accepted_at = UnixMillis(1_700_000_000_000 + n);
    message.payload = Bytes::from(vec![b'x'; PAYLOAD]);
    let row = TakerRow {
        taker,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: SubscriptionIds::NONE,
    };
    Append::new(Arc::new(message), vec![row], None)
}

/// Waits until `n` thousandths of a second after `start`.
fn until(start: Instant, n: u64) {
    let at = start + Duration::from_millis(n);
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn wait_for_all(store: &Store) {
    let (tell, told) = mpsc::sync_channel(1);
    store.flush(Box::new(move |ok| tell.send(ok).unwrap()));
    told.recv().unwrap().unwrap();
}

/// 1,000 messages a second queued, then drained: bytes a message.
fn down(dir: &Path, linger: u64, seconds: u64) -> (f64, f64) {
    let (store, taker, first) = open(dir, linger);
    wait_for_all(&store);
    let before = written();
    let start = Instant::now();
    let count = seconds * 1000;
    for n in 0..count {
        until(start, n);
        store.append(
            vec![append(taker, first + n, n)],
            Some(Box::new(|ok| ok.unwrap())),
        );
    }
    wait_for_all(&store);
    let queued = written() - before;
    let start = Instant::now();
    let mut after = None;
    let mut drained = 0;
    while drained < count {
        until(start, drained);
        let rows = store.read(taker, after, 20, 1 << 20).unwrap();
        let ids: Vec<_> = rows.iter().map(|row| row.message.id).collect();
        after = ids.last().copied();
        drained += ids.len() as u64;
        store.acknowledge(taker, &ids);
    }
    store.close();
    let all = written() - before;
    (queued as f64 / count as f64, all as f64 / count as f64)
}

/// 1,000 messages a second, each acknowledged after 20 ms: bytes a message.
fn up(dir: &Path, linger: u64, seconds: u64) -> f64 {
    let (store, taker, first) = open(dir, linger);
    wait_for_all(&store);
    let before = written();
    let start = Instant::now();
    let count = seconds * 1000;
    for n in 0..count + 20 {
        until(start, n);
        if n < count {
            store.append(
                vec![append(taker, first + n, n)],
                Some(Box::new(|ok| ok.unwrap())),
            );
        }
        if let Some(id) = (first + n).checked_sub(20).filter(|id| *id >= first) {
            store.acknowledge(taker, &[MessageId(id)]);
        }
    }
    store.close();
    let account = {
        let (store, taker, _) = open(dir, linger);
        store.account(taker)
    };
    assert_eq!((account.accepted, account.delivered), (count, count));
    (written() - before) as f64 / count as f64
}

/// Messages a second in commits of `batch`, in and out again.
fn ours(dir: &Path, batch: u64, limit: Duration) -> (f64, f64) {
    let (store, taker, first) = open(dir, 0);
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < limit {
        // Handed in one by one, as publishes come; one commit for all.
        let (tell, told) = mpsc::sync_channel(1);
        let entries = (0..batch)
            .map(|i| append(taker, first + n + i, n + i))
            .collect();
        store.append(entries, Some(Box::new(move |ok| tell.send(ok).unwrap())));
        told.recv().unwrap().unwrap();
        n += batch;
    }
    let enqueued = n as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut after = None;
    let mut drained = 0;
    loop {
        let want = usize::try_from(batch).unwrap();
        let rows = store.read(taker, after, want, 1 << 20).unwrap();
        if rows.is_empty() {
            break;
        }
        let ids: Vec<_> = rows.iter().map(|row| row.message.id).collect();
        after = ids.last().copied();
        drained += ids.len() as u64;
        store.acknowledge(taker, &ids);
        wait_for_all(&store);
    }
    assert_eq!(drained, n);
    let rate = n as f64 / start.elapsed().as_secs_f64();
    store.close();
    (enqueued, rate)
}

/// The same of SQLite alone: one table, payloads, nothing else.
fn bare(dir: &Path, batch: u64, limit: Duration) -> (f64, f64) {
    let db = rusqlite::Connection::open(dir.join("bare.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE messages(id INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;",
    )
    .unwrap();
    let payload = vec![b'x'; PAYLOAD];
    let start = Instant::now();
    let mut n = 0u64;
    while start.elapsed() < limit {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut insert = db
            .prepare_cached("INSERT INTO messages VALUES (?1, ?2)")
            .unwrap();
        for _ in 0..batch {
            n += 1;
            insert.execute((n as i64, &payload)).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    let enqueued = n as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut drained = 0u64;
    while drained < n {
        let mut select = db
            .prepare_cached("SELECT id, payload FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2")
            .unwrap();
        let found: Vec<(i64, Vec<u8>)> = select
            .query_map((drained as i64, batch as i64), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut delete = db
            .prepare_cached("DELETE FROM messages WHERE id = ?1")
            .unwrap();
        for (id, _) in &found {
            delete.execute([id]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        drained += found.len() as u64;
    }
    (enqueued, n as f64 / start.elapsed().as_secs_f64())
}

fn main() {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let folder = folder.unwrap_or_else(|| "target".to_owned());
    let seconds = 10;
    let dir = || tempfile::tempdir_in(&folder).unwrap();
    println!("bytes to disk a message of {PAYLOAD} bytes, 1,000 a second");
    for linger in [50, 0] {
        let (queued, all) = down(dir().path(), linger, seconds);
        println!("  link down, {linger} ms: queued {queued:.0}, and drained {all:.0}");
        let all = up(dir().path(), linger, seconds);
        println!("  link up, {linger} ms: {all:.0}");
    }
    println!("messages a second beside SQLite alone, by size of commits (medians of five)");
    let limit = Duration::from_millis(700);
    for batch in [1, 10, 50, 200, 1000] {
        let mut ratios: Vec<[f64; 4]> = Vec::new();
        for round in 0..5 {
            let (mine, its) = if round % 2 == 0 {
                let mine = ours(dir().path(), batch, limit);
                (mine, bare(dir().path(), batch, limit))
            } else {
                let its = bare(dir().path(), batch, limit);
                (ours(dir().path(), batch, limit), its)
            };
            ratios.push([mine.0 / its.0, mine.1 / its.1, mine.0, mine.1]);
        }
        let median = |at: usize| {
            let mut all: Vec<f64> = ratios.iter().map(|r| r[at]).collect();
            all.sort_by(f64::total_cmp);
            all[2]
        };
        println!(
            "  {batch}: in {:.2} ({:.0}/s), out {:.2} ({:.0}/s)",
            median(0),
            median(2),
            median(1),
            median(3)
        );
    }
}
