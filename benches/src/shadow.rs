//! Device shadows of one gateway: updates or gets for some seconds.
//!
//! Each client has things of its own, and subscribes to the answers of each. What is counted is an
//! answer on `accepted`; one on `rejected` ends the load.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::packet::{self, Reader, Received};

/// Unanswered requests for one thing: fewer than `shadow.max_in_flight`.
const AHEAD_OF_THING: usize = 8;

/// Unanswered requests of one client: fewer than `broker.max_inflight`.
const AHEAD_OF_CLIENT: usize = 96;

/// What is asked of the shadows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Each thing once, with the whole document.
    Create,
    /// One attribute of the document changes.
    Update,
    /// The document is read.
    Get,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// The gateway.
    pub address: SocketAddr,
    /// Things, spread over the clients.
    pub things: usize,
    /// Connections.
    pub clients: usize,
    /// What is asked.
    pub ask: Ask,
    /// Bytes of the document's state, about.
    pub bytes: usize,
    /// How long; [`Ask::Create`] ends when all are created.
    pub duration: Duration,
    /// Unanswered requests of a client at most; 1 measures how long an answer takes.
    pub window: usize,
}

impl Load {
    fn share(&self, client: usize) -> std::ops::Range<usize> {
        let at = |n: usize| n * self.things / self.clients;
        at(client)..at(client + 1)
    }
}

/// The state of a shadow: attributes of 60 bytes, beside the one that changes.
fn document(bytes: usize, n: u64) -> Value {
    let mut reported = Map::new();
    reported.insert("n".into(), json!(n));
    for i in 0..bytes / 80 {
        reported.insert(format!("attribute{i:04}"), json!("x".repeat(60)));
    }
    json!({"state": {"reported": reported}})
}

struct Client<'a> {
    load: &'a Load,
    stream: TcpStream,
    things: std::ops::Range<usize>,
    next: usize,
    number: u64,
    sent_at: VecDeque<Instant>,
    latencies: Vec<u64>,
    answered: u64,
}

impl Client<'_> {
    fn connect(load: &Load, index: usize) -> io::Result<Client<'_>> {
        let mut stream = packet::connect(load.address, &format!("bench-shadow-{index}"), true)?;
        let things = load.share(index);
        let word = if load.ask == Ask::Get {
            "get"
        } else {
            "update"
        };
        if load.ask == Ask::Create {
            // Counted by their PUBACKs, which wait for the commit as answers do.
        } else if load.clients == 1 && things.len() > 1000 {
            // So many subscriptions would be another measurement: one for all.
            packet::subscribe(
                &mut stream,
                &format!("$aws/things/+/shadow/{word}/accepted"),
                0,
            )?;
        } else {
            for thing in things.clone() {
                for answer in ["accepted", "rejected"] {
                    let filter = format!("$aws/things/bench-{thing}/shadow/{word}/{answer}");
                    packet::subscribe(&mut stream, &filter, 0)?;
                }
            }
        }
        Ok(Client {
            load,
            stream,
            next: things.start,
            things,
            number: 0,
            sent_at: VecDeque::new(),
            latencies: Vec::new(),
            answered: 0,
        })
    }

    fn window(&self) -> usize {
        self.load
            .window
            .min(self.things.len() * AHEAD_OF_THING)
            .min(AHEAD_OF_CLIENT)
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        let thing = self.next;
        self.next += 1;
        if self.next == self.things.end && self.load.ask != Ask::Create {
            self.next = self.things.start;
        }
        self.number += 1;
        let id = (self.number % 65_535) as u16 + 1;
        let (word, payload) = match self.load.ask {
            Ask::Get => ("get", String::new()),
            Ask::Create => ("update", document(self.load.bytes, 0).to_string()),
            Ask::Update => ("update", document(0, self.number).to_string()),
        };
        let topic = format!("$aws/things/bench-{thing}/shadow/{word}");
        packet::publish(&topic, payload.as_bytes(), id, out);
        self.sent_at.push_back(Instant::now());
    }

    fn run(&mut self, until: Instant) -> io::Result<()> {
        let mut reader = Reader::default();
        let mut out = Vec::new();
        let create = self.load.ask == Ask::Create;
        loop {
            let ended = if create {
                self.next == self.things.end
            } else {
                Instant::now() >= until
            };
            let room = self.window().saturating_sub(self.sent_at.len());
            for _ in 0..room {
                if ended || (create && self.next == self.things.end) {
                    break;
                }
                self.request(&mut out);
            }
            if !out.is_empty() {
                self.stream.write_all(&out)?;
                out.clear();
            }
            if ended && self.sent_at.is_empty() {
                return Ok(());
            }
            let mut answers = 0;
            let read = reader.read(&mut self.stream, |received| {
                answers += match received {
                    Received::Publish { .. } => u64::from(!create),
                    Received::Acknowledged => u64::from(create),
                    Received::Pubrec(_) | Received::Pubrel(_) | Received::Other => 0,
                };
            })?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.answered += answers;
            for _ in 0..answers {
                if let Some(at) = self.sent_at.pop_front() {
                    self.latencies.push(at.elapsed().as_nanos() as u64);
                }
            }
        }
    }
}

/// Runs the load; gives what came of it as JSON: answers, answers a second, and how long they took.
pub fn run(load: Load) -> io::Result<Value> {
    let load = Arc::new(load);
    let start = Barrier::new(load.clients);
    let outcomes: Vec<io::Result<(u64, Vec<u64>, Duration)>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.clients)
            .map(|index| {
                let (load, start) = (&load, &start);
                scope.spawn(move || {
                    let client = Client::connect(load, index);
                    // Also without a connection: the others wait for all.
                    start.wait();
                    let mut client = client?;
                    let begun = Instant::now();
                    client.run(begun + load.duration)?;
                    Ok((client.answered, client.latencies, begun.elapsed()))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| {
                t.join()
                    .unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
            })
            .collect()
    });
    let (mut answers, mut latencies, mut took) = (0, Vec::new(), Duration::ZERO);
    for outcome in outcomes {
        let (count, times, elapsed) = outcome?;
        answers += count;
        latencies.extend(times);
        took = took.max(elapsed);
    }
    latencies.sort_unstable();
    let at = |part: f64| {
        let index = (latencies.len() as f64 * part) as usize;
        let nanos = latencies.get(index.min(latencies.len().saturating_sub(1)));
        nanos.map_or(0.0, |n| *n as f64 / 1000.0)
    };
    Ok(json!({
        "answers": answers,
        "per_second": answers as f64 / took.as_secs_f64(),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
    }))
}
