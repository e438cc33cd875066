//! Drives the device shadows of a gateway; prints what came of it as JSON.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use iotedge_benches::shadow::{self, Ask, Load};

/// Updates or gets for some seconds.
#[derive(Parser)]
struct Cli {
    /// The gateway's address, without TLS, open to all clients.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// What is asked.
    #[arg(value_enum)]
    ask: What,
    /// How many things.
    #[arg(long, default_value_t = 1)]
    things: usize,
    /// How many connections, with as many things each.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Bytes of a new document's state, about.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
    /// For how long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Unanswered requests of a client; 1 measures how long an answer takes.
    #[arg(long, default_value_t = 1000)]
    window: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Create,
    Update,
    Get,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let load = Load {
        address: cli.address,
        things: cli.things.max(1),
        clients: cli.clients.clamp(1, cli.things.max(1)),
        ask: match cli.ask {
            What::Create => Ask::Create,
            What::Update => Ask::Update,
            What::Get => Ask::Get,
        },
        bytes: cli.bytes.min(7000),
        duration: Duration::from_secs_f64(cli.seconds.clamp(0.1, 600.0)),
        window: cli.window.max(1),
    };
    match shadow::run(load) {
        Ok(account) => {
            println!("{account}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-shadow: {error}");
            ExitCode::FAILURE
        }
    }
}
