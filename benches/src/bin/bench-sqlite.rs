//! What SQLite alone makes of the daemon's commits: the same payloads, in batches of the sizes that
//! the daemon formed, each committed with WAL and `synchronous = FULL`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rusqlite::Connection;

/// Prints how many payloads a second SQLite takes.
#[derive(Parser)]
struct Cli {
    /// A file that is not there yet, on the disk to measure.
    #[arg(long)]
    file: PathBuf,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// For how long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The payloads are documents: so many keys by turns, each payload replaces the one before.
    #[arg(long)]
    keys: Option<u64>,
    /// Batch sizes, by turns: `size:times`, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = parse)]
    batches: Vec<(u64, u64)>,
}

fn parse(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is not size:times");
    let (size, times) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok((number(size)?, number(times)?))
}

/// Sizes in an order that spreads each kind evenly over the whole.
fn order(batches: &[(u64, u64)]) -> Vec<u64> {
    let mut turns: Vec<(f64, u64)> = batches
        .iter()
        .flat_map(|&(size, times)| (0..times).map(move |n| ((n as f64 + 0.5) / times as f64, size)))
        .collect();
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    turns.into_iter().map(|(_, size)| size).collect()
}

fn run(cli: &Cli) -> rusqlite::Result<f64> {
    let connection = Connection::open(&cli.file)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE messages(id INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
         CREATE TABLE documents(key TEXT PRIMARY KEY, payload BLOB NOT NULL) STRICT;",
    )?;
    let mut payload = vec![b'x'; cli.payload.max(20)];
    let sizes = order(&cli.batches);
    let limit = Duration::from_secs_f64(cli.seconds);
    let start = Instant::now();
    let mut id = 0u64;
    let mut turns = sizes.iter().cycle();
    while start.elapsed() < limit {
        let Some(size) = turns.next() else { break };
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut insert = connection.prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?;
        let mut put = connection.prepare_cached(
            "INSERT INTO documents VALUES (?1, ?2)
             ON CONFLICT(key) DO UPDATE SET payload = excluded.payload",
        )?;
        for _ in 0..*size {
            id += 1;
            // A document that is as it was would not be written.
            payload[..20].copy_from_slice(format!("{id:020}").as_bytes());
            match cli.keys {
                None => insert.execute((i64::try_from(id).unwrap_or(i64::MAX), &payload))?,
                Some(keys) => put.execute((format!("bench-{}", id % keys.max(1)), &payload))?,
            };
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(id as f64 / start.elapsed().as_secs_f64())
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(rate) => {
            println!("{rate:.0}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-sqlite: {error}");
            ExitCode::FAILURE
        }
    }
}
