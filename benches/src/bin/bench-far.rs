//! Both ends of a bridge: listens as its upstream (or before one), and when its standard input
//! names the broker with the bridge, publishes there and prints as JSON what has come out.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use iotedge_benches::far::{self, Arrived, Publishers};
use iotedge_benches::packet::STAMP;
use serde_json::json;

/// Measures a bridge from its publishers to its upstream.
#[derive(Parser)]
struct Cli {
    /// Where the bridge finds its upstream.
    #[arg(long)]
    listen: SocketAddr,
    /// The upstream; without it this program is one.
    #[arg(long)]
    upstream: Option<SocketAddr>,
    /// There and back, in milliseconds.
    #[arg(long, default_value_t = 0)]
    round_trip: u64,
    /// Clients that publish.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Messages of all together.
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Unacknowledged messages of all publishers together.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Messages a second of each publisher.
    #[arg(long)]
    rate: Option<u64>,
    /// Ends when all is acknowledged: the upstream is elsewhere, or not there yet.
    #[arg(long)]
    publish_only: bool,
    /// Publishes nothing: it was done before.
    #[arg(long, conflicts_with = "publish_only")]
    take_only: bool,
}

/// Listens; what is behind it.
fn upstream(cli: &Cli, arrived: &Arrived) -> io::Result<()> {
    let listener = TcpListener::bind(cli.listen)?;
    let late = Duration::from_millis(cli.round_trip) / 2;
    let to = match cli.upstream {
        Some(upstream) => {
            arrived.subscribe(upstream)?;
            upstream
        }
        None if late.is_zero() => {
            arrived.serve(listener);
            return Ok(());
        }
        None => {
            let own = TcpListener::bind("127.0.0.1:0")?;
            let address = own.local_addr()?;
            arrived.serve(own);
            address
        }
    };
    far::line(listener, to, late);
    Ok(())
}

fn run(cli: &Cli) -> io::Result<()> {
    let publishers = cli.publishers.clamp(1, 1000);
    let arrived = Arrived::new(publishers);
    upstream(cli, &arrived)?;
    println!("ready");
    io::stdout().flush()?;
    let Some(line) = io::stdin().lock().lines().next() else {
        return Ok(());
    };
    let address = line?.trim().parse().map_err(io::Error::other)?;
    let mut load = Publishers {
        address,
        count: 1,
        messages: 1,
        payload: cli.payload.clamp(STAMP, 60_000),
        window: 1,
        rate: None,
    };
    // The bridge is up when a first message has come through.
    if !cli.publish_only && !cli.take_only {
        load.run()?;
        arrived.wait(1)?;
        arrived.reset(publishers);
    }
    println!("through");
    io::stdout().flush()?;
    load.count = publishers;
    load.messages = (cli.messages / publishers as u64).max(1);
    load.window = (cli.window / publishers).clamp(1, 60_000);
    load.rate = cli.rate;
    let mut start = Instant::now();
    if !cli.take_only {
        start = load.run()?;
    }
    if cli.publish_only {
        println!("{{}}");
        return Ok(());
    }
    let count = load.messages * publishers as u64;
    let (last, mut account) = arrived.wait(count)?;
    let seconds = last.duration_since(start).as_secs_f64();
    let result = json!({
        "messages": count,
        "seconds": seconds,
        "rate": count as f64 / seconds,
        "lost": account.lost(&vec![load.messages; publishers]),
        "duplicates": account.duplicates,
        "disordered": account.disordered,
        "strange": account.strange,
    });
    println!("{result}");
    Ok(())
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-far: {e}");
            ExitCode::FAILURE
        }
    }
}
