//! `bench-load flow`: publishers and subscribers for some seconds; prints their account as JSON.
//! `bench-load idle`: connects clients and holds them until its standard input ends.
//! `bench-load wire`: listens and hands bytes on, to measure the load itself.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use iotedge_benches::load::{self, Load};
use iotedge_benches::{packet, wire};

/// Drives an MQTT broker, and checks what comes back.
#[derive(Parser)]
struct Cli {
    /// The broker's address, without TLS, open to all clients.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Messages from publishers to subscribers.
    Flow(Flow),
    /// Clients that are only connected.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        clients: usize,
    },
    /// No broker: hands one publisher's bytes to one subscriber, to measure the load itself.
    Wire,
}

#[derive(Args)]
struct Flow {
    /// Clients that publish.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Clients that subscribe to all of it.
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// Of publishers and subscriptions.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// How long they publish.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// QoS 1 and 2: unacknowledged messages of a publisher.
    #[arg(long, default_value_t = 100)]
    window: usize,
    /// Messages that a publisher writes at once.
    #[arg(long, default_value_t = 512)]
    batch: usize,
    /// How far the publishers are ahead of the slowest subscriber, in messages; 0: they write
    /// whatever the broker reads.
    #[arg(long, default_value_t = 4000)]
    ahead: u64,
    /// Messages a second of a publisher, one at a time, with their latency.
    #[arg(long)]
    rate: Option<u64>,
    /// Subscribers' sessions outlive their connections.
    #[arg(long)]
    persistent: bool,
    /// The subscriber is away while they publish, and comes for its messages afterwards.
    #[arg(long)]
    offline: bool,
}

fn run(cli: Cli) -> io::Result<()> {
    match cli.command {
        Command::Flow(flow) => {
            let account = load::run(Load {
                address: cli.address,
                publishers: flow.publishers.max(1),
                subscribers: flow.subscribers.max(1),
                qos: flow.qos,
                payload: flow.payload.clamp(packet::STAMP, 64 * 1024),
                duration: Duration::from_secs_f64(flow.seconds.clamp(0.1, 600.0)),
                window: flow.window.clamp(1, 60_000),
                batch: flow.batch.clamp(1, 10_000),
                ahead: (flow.ahead > 0).then_some(flow.ahead),
                rate: flow.rate,
                persistent: flow.persistent,
                offline: flow.offline,
            })?;
            println!("{account}");
        }
        Command::Idle { clients } => {
            let mut held = Vec::with_capacity(clients);
            for i in 0..clients {
                held.push(packet::connect(
                    cli.address,
                    &format!("bench-idle-{i}"),
                    true,
                )?);
            }
            println!("connected {}", held.len());
            io::stdout().flush()?;
            io::stdin().read_to_end(&mut Vec::new())?;
        }
        Command::Wire => wire::serve(&TcpListener::bind(cli.address)?)?,
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-load: {e}");
            ExitCode::FAILURE
        }
    }
}
