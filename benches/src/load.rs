//! Publishers and subscribers against one broker for some seconds.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::account::Account;
use crate::packet::{self, Batch, Reader, Received};

/// Packets that one write carries at most.
const BATCH: usize = 512;

/// A subscriber gives up on what is still missing after so long without a message.
const SILENCE: Duration = Duration::from_millis(1500);

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// The broker.
    pub address: SocketAddr,
    /// Clients that publish, each on a topic of its own where there is one subscriber.
    pub publishers: usize,
    /// Clients that subscribe to all of it.
    pub subscribers: usize,
    /// 0 or 1, of publishers and subscriptions.
    pub qos: u8,
    /// Bytes of a payload.
    pub payload: usize,
    /// How long the publishers publish.
    pub duration: Duration,
    /// QoS 1: how many messages a publisher has unacknowledged.
    pub window: usize,
    /// Messages a second for each publisher; as fast as it goes without.
    pub rate: Option<u64>,
    /// Whether the subscribers' sessions outlive their connections, so that QoS 1 is durable.
    pub persistent: bool,
}

/// What the clients share while they run.
struct Shared {
    load: Load,
    start: Barrier,
    epoch: Mutex<Option<Instant>>,
    published: AtomicU64,
    publishing: AtomicU64,
}

impl Shared {
    /// All clients are connected from here on; the first through sets the clock.
    fn begin(&self) -> Instant {
        self.start.wait();
        let mut epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        *epoch.get_or_insert_with(Instant::now)
    }

    fn published(&self) -> Option<u64> {
        (self.publishing.load(Ordering::Acquire) == 0)
            .then(|| self.published.load(Ordering::Acquire))
    }
}

/// A publisher's number is counted as sent, and the publishers as fewer, however its thread ends.
struct Publishing<'a> {
    shared: &'a Shared,
    sent: u64,
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.shared.published.fetch_add(self.sent, Ordering::AcqRel);
        self.shared.publishing.fetch_sub(1, Ordering::AcqRel);
    }
}

fn publish(shared: &Shared, index: usize, stream: TcpStream) -> io::Result<u64> {
    let mut publishing = Publishing { shared, sent: 0 };
    let load = &shared.load;
    let mut batch = Batch::new(
        &format!("bench/{index}"),
        load.qos,
        load.payload,
        index as u32,
        if load.qos == 0 {
            BATCH
        } else {
            BATCH.min(load.window)
        },
    );
    let epoch = shared.begin();
    let done = match (load.rate, load.qos) {
        (Some(rate), _) => paced(load, rate, &mut batch, stream, epoch, &mut publishing.sent),
        (None, 0) => flood(load, &mut batch, stream, epoch, &mut publishing.sent),
        (None, _) => windowed(load, &mut batch, stream, epoch, &mut publishing.sent),
    };
    done.map(|()| publishing.sent)
}

/// QoS 0 as fast as the broker reads.
fn flood(
    load: &Load,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
    sent: &mut u64,
) -> io::Result<()> {
    while epoch.elapsed() < load.duration {
        let count = batch.capacity();
        stream.write_all(batch.numbered(*sent, count, 0))?;
        *sent += count as u64;
    }
    Ok(())
}

/// QoS 1 with `window` messages in flight; ends when all are acknowledged.
fn windowed(
    load: &Load,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
    sent: &mut u64,
) -> io::Result<()> {
    let mut reader = Reader::default();
    let mut acknowledged = 0u64;
    loop {
        if epoch.elapsed() < load.duration {
            let room = load.window - (*sent - acknowledged) as usize;
            let count = room.min(batch.capacity());
            stream.write_all(batch.numbered(*sent, count, 0))?;
            *sent += count as u64;
        } else if acknowledged == *sent {
            return Ok(());
        }
        let read = reader.read(&mut stream, |received| {
            acknowledged += u64::from(received == Received::Puback);
        })?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// One message at a time on a steady beat, each with the time of its sending.
fn paced(
    load: &Load,
    rate: u64,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
    sent: &mut u64,
) -> io::Result<()> {
    let mut reader = Reader::default();
    let beat = Duration::from_secs(1) / rate.clamp(1, 1_000_000) as u32;
    let mut acknowledged = 0u64;
    let mut next = Duration::ZERO;
    while next < load.duration {
        if let Some(wait) = next.checked_sub(epoch.elapsed()) {
            thread::sleep(wait);
        }
        let nanos = epoch.elapsed().as_nanos() as u64;
        stream.write_all(batch.numbered(*sent, 1, nanos))?;
        *sent += 1;
        next += beat;
        while load.qos > 0 && acknowledged < *sent {
            if reader.read(&mut stream, |r| {
                acknowledged += u64::from(r == Received::Puback);
            })? == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

/// What a subscriber brings home.
struct Taken {
    account: Account,
    /// From the start until its last message.
    until: Duration,
    /// Nanoseconds from a message's sending to its arrival, where it carried its time.
    latencies: Vec<u64>,
}

fn take(shared: &Shared, mut stream: TcpStream) -> io::Result<Taken> {
    let load = &shared.load;
    let mut taken = Taken {
        account: Account::new(load.publishers),
        until: Duration::ZERO,
        latencies: Vec::new(),
    };
    let mut reader = Reader::default();
    let mut acks = Vec::new();
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let epoch = shared.begin();
    let mut last = Instant::now();
    loop {
        match reader.read(&mut stream, |r| {
            receive(&mut taken, &mut acks, r, load, epoch);
        }) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                last = Instant::now();
                stream.write_all(&acks)?;
                acks.clear();
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(e) => return Err(e),
        }
        if let Some(published) = shared.published() {
            let whole = taken.account.distinct() >= published;
            if whole || last.elapsed() > SILENCE {
                taken.until = last.duration_since(epoch);
                return Ok(taken);
            }
        }
    }
}

#[inline]
fn receive(taken: &mut Taken, acks: &mut Vec<u8>, received: Received, load: &Load, epoch: Instant) {
    let Received::Publish {
        publisher,
        number,
        nanos,
        packet_id,
    } = received
    else {
        return;
    };
    taken.account.add(publisher, number);
    if let Some(id) = packet_id {
        let [high, low] = id.to_be_bytes();
        acks.extend_from_slice(&[0x40, 2, high, low]);
    }
    if load.rate.is_some() {
        let now = epoch.elapsed().as_nanos() as u64;
        taken.latencies.push(now.saturating_sub(nanos));
    }
}

/// A client thread's outcome; a panic in it is an error like another.
fn joined<T>(handle: thread::JoinHandle<io::Result<T>>) -> io::Result<T> {
    handle
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a client of the load panicked")))
}

/// Runs a load and returns its account as JSON: rates in messages a second, times in seconds,
/// latencies in microseconds.
pub fn run(load: Load) -> io::Result<Value> {
    let clients = load.publishers + load.subscribers;
    let shared = Arc::new(Shared {
        start: Barrier::new(clients),
        epoch: Mutex::new(None),
        published: AtomicU64::new(0),
        publishing: AtomicU64::new(load.publishers as u64),
        load: load.clone(),
    });
    // All connect before any thread starts: nobody waits at the barrier for a client that failed.
    let tag = std::process::id();
    let mut subscribers = Vec::new();
    for i in 0..load.subscribers {
        let id = format!("bench-s{i}-{tag}");
        let mut stream = packet::connect(load.address, &id, !load.persistent)?;
        packet::subscribe(&mut stream, "bench/+", load.qos)?;
        subscribers.push(stream);
    }
    let mut publishers = Vec::new();
    for i in 0..load.publishers {
        let id = format!("bench-p{i}-{tag}");
        publishers.push(packet::connect(load.address, &id, true)?);
    }
    let takers: Vec<_> = subscribers
        .into_iter()
        .map(|stream| {
            let shared = shared.clone();
            thread::spawn(move || take(&shared, stream))
        })
        .collect();
    let senders: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(i, stream)| {
            let shared = shared.clone();
            thread::spawn(move || publish(&shared, i, stream))
        })
        .collect();
    let sent: Vec<u64> = senders.into_iter().map(joined).collect::<io::Result<_>>()?;
    let taken: Vec<Taken> = takers.into_iter().map(joined).collect::<io::Result<_>>()?;
    Ok(summary(&sent, taken))
}

fn summary(sent: &[u64], mut taken: Vec<Taken>) -> Value {
    let published: u64 = sent.iter().sum();
    let delivered: u64 = taken.iter().map(|t| t.account.distinct()).sum();
    let lost: u64 = taken.iter_mut().map(|t| t.account.lost(sent)).sum();
    let seconds = taken
        .iter()
        .map(|t| t.until)
        .max()
        .unwrap_or_default()
        .as_secs_f64();
    let mut latencies: Vec<u64> = taken
        .iter_mut()
        .flat_map(|t| t.latencies.drain(..))
        .collect();
    latencies.sort_unstable();
    let percentile = |p: usize| {
        let at = (latencies.len() * p / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map(|nanos| nanos / 1000)
    };
    json!({
        "published": published,
        "delivered": delivered,
        "lost": lost,
        "duplicates": taken.iter().map(|t| t.account.duplicates).sum::<u64>(),
        "disordered": taken.iter().map(|t| t.account.disordered).sum::<u64>(),
        "strange": taken.iter().map(|t| t.account.strange).sum::<u64>(),
        "seconds": seconds,
        "deliveries_per_second": if seconds > 0.0 { delivered as f64 / seconds } else { 0.0 },
        "p50_us": percentile(50),
        "p99_us": percentile(99),
    })
}
