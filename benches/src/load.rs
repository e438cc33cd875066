//! Publishers and subscribers against one broker for some seconds.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::account::Account;
use crate::packet::{self, Batch, Reader, Received};

/// Publishers go on after so long without any progress of the slowest subscriber.
const PATIENCE: Duration = Duration::from_millis(200);

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
    /// Of publishers and subscriptions.
    pub qos: u8,
    /// Bytes of a payload.
    pub payload: usize,
    /// How long the publishers publish.
    pub duration: Duration,
    /// QoS 1 and 2: how many messages a publisher has unacknowledged.
    pub window: usize,
    /// Messages that one write carries at most.
    pub batch: usize,
    /// How many messages all publishers together are ahead of the slowest subscriber: the pace is
    /// what the broker delivers. Without, they write whatever the broker reads.
    pub ahead: Option<u64>,
    /// Messages a second for each publisher; as fast as it goes without.
    pub rate: Option<u64>,
    /// Whether the subscribers' sessions outlive their connections, so that QoS 1 is durable.
    pub persistent: bool,
    /// Whether the subscriber (one, persistent) is away while the publishers publish, and comes
    /// for its messages when they are done.
    pub offline: bool,
}

/// What the clients share while they run.
struct Shared {
    load: Load,
    start: Barrier,
    epoch: Mutex<Option<Instant>>,
    /// Messages that publishers have sent or are about to send.
    published: AtomicU64,
    publishing: AtomicU64,
    /// What each subscriber has received.
    received: Vec<AtomicU64>,
    /// Messages that nobody waits for any more: lost ones, from the look of it.
    forgiven: Mutex<u64>,
    progress: Condvar,
    /// What the slowest subscriber must have before publishers that wait are woken: none of them
    /// waits at `u64::MAX`.
    wanted: AtomicU64,
}

impl Shared {
    fn new(load: &Load, clients: usize, publishing: usize) -> Arc<Self> {
        Arc::new(Self {
            start: Barrier::new(clients),
            epoch: Mutex::new(None),
            published: AtomicU64::new(0),
            publishing: AtomicU64::new(publishing as u64),
            received: (0..load.subscribers).map(|_| AtomicU64::new(0)).collect(),
            forgiven: Mutex::new(0),
            progress: Condvar::new(),
            wanted: AtomicU64::new(u64::MAX),
            load: load.clone(),
        })
    }

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

    fn slowest(&self) -> u64 {
        let counts = self.received.iter().map(|c| c.load(Ordering::SeqCst));
        counts.min().unwrap_or_default()
    }

    /// Takes `count` messages out of what may be published now. While that is nothing it waits until
    /// half of what the publishers may be ahead is free: they wake seldom, and all together.
    fn allow(&self, count: usize) {
        let count = count as u64;
        let Some(ahead) = self.load.ahead else {
            self.published.fetch_add(count, Ordering::AcqRel);
            return;
        };
        let mut forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let published = self.published.load(Ordering::Acquire);
            let slowest = self.slowest();
            if published + count <= slowest + *forgiven + ahead.max(count) {
                self.published.fetch_add(count, Ordering::AcqRel);
                return;
            }
            let half = published.saturating_sub(*forgiven + ahead / 2);
            let before = self.wanted.fetch_min(half, Ordering::SeqCst);
            if self.slowest() >= before.min(half) {
                self.wanted.store(u64::MAX, Ordering::SeqCst);
                self.progress.notify_all();
                continue;
            }
            let (guard, waited) = self
                .progress
                .wait_timeout(forgiven, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            forgiven = guard;
            if waited.timed_out() && slowest == self.slowest() {
                *forgiven = published - slowest;
            }
        }
    }

    /// Tells publishers how far a subscriber has come.
    fn advance(&self, index: usize, received: u64) {
        if self.load.ahead.is_some() {
            self.received[index].store(received, Ordering::SeqCst);
            let wanted = self.wanted.load(Ordering::SeqCst);
            if received >= wanted && self.slowest() >= wanted {
                // Under the lock, so that nobody falls asleep between looking and waiting.
                let _guard = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
                self.wanted.store(u64::MAX, Ordering::SeqCst);
                self.progress.notify_all();
            }
        }
    }

    /// Packets in one write.
    fn batch(&self) -> usize {
        let load = &self.load;
        let mut count = load.batch;
        if load.qos > 0 {
            count = count.min(load.window);
        }
        if let Some(ahead) = load.ahead {
            count = count.min((ahead / 2) as usize / load.publishers);
        }
        count.max(1)
    }
}

/// One publisher fewer, however its thread ends.
struct Publishing<'a>(&'a Shared);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::AcqRel);
    }
}

fn publish(shared: &Shared, index: usize, stream: TcpStream) -> io::Result<u64> {
    let _publishing = Publishing(shared);
    let load = &shared.load;
    let topic = format!("bench/{index}");
    let mut batch = Batch::new(&topic, load.qos, load.payload, index as u32, shared.batch());
    let epoch = shared.begin();
    match (load.rate, load.qos) {
        (Some(rate), _) => paced(shared, rate, &mut batch, stream, epoch),
        (None, 0) => flood(shared, &mut batch, stream, epoch),
        (None, _) => windowed(shared, &mut batch, stream, epoch),
    }
}

/// QoS 0.
fn flood(
    shared: &Shared,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
) -> io::Result<u64> {
    let mut sent = 0;
    let count = batch.capacity();
    while epoch.elapsed() < shared.load.duration {
        shared.allow(count);
        stream.write_all(batch.numbered(sent, count, 0))?;
        sent += count as u64;
    }
    Ok(sent)
}

/// QoS 1 and 2 with `window` messages in flight; ends when all are acknowledged.
fn windowed(
    shared: &Shared,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
) -> io::Result<u64> {
    let load = &shared.load;
    let mut reader = Reader::default();
    let (mut sent, mut acknowledged) = (0u64, 0u64);
    loop {
        if epoch.elapsed() < load.duration {
            // All that the window takes, though it may be in many writes.
            while acknowledged + load.window as u64 > sent {
                let room = load.window - (sent - acknowledged) as usize;
                let count = room.min(batch.capacity());
                shared.allow(count);
                stream.write_all(batch.numbered(sent, count, 0))?;
                sent += count as u64;
            }
        } else if acknowledged == sent {
            return Ok(sent);
        }
        acknowledged += acknowledgements(&mut reader, &mut stream)?;
    }
}

/// Reads once, and answers PUBREC; how many exchanges have come to their end.
fn acknowledgements(reader: &mut Reader, stream: &mut TcpStream) -> io::Result<u64> {
    let mut count = 0;
    let mut releases = Vec::new();
    let read = reader.read(stream, |received| match received {
        Received::Acknowledged => count += 1,
        Received::Pubrec(id) => packet::acknowledge(packet::PUBREL, id, &mut releases),
        _ => {}
    })?;
    if read == 0 {
        return Err(closed("a publisher"));
    }
    stream.write_all(&releases)?;
    Ok(count)
}

fn closed(whom: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the broker has closed {whom}'s connection"),
    )
}

/// One message at a time on a steady beat, each with the time of its sending.
fn paced(
    shared: &Shared,
    rate: u64,
    batch: &mut Batch,
    mut stream: TcpStream,
    epoch: Instant,
) -> io::Result<u64> {
    let load = &shared.load;
    let mut reader = Reader::default();
    let beat = Duration::from_secs(1) / rate.clamp(1, 1_000_000) as u32;
    let (mut sent, mut acknowledged) = (0u64, 0u64);
    let mut next = Duration::ZERO;
    while next < load.duration {
        if let Some(wait) = next.checked_sub(epoch.elapsed()) {
            thread::sleep(wait);
        }
        shared.allow(1);
        let nanos = epoch.elapsed().as_nanos() as u64;
        stream.write_all(batch.numbered(sent, 1, nanos))?;
        sent += 1;
        next += beat;
        while load.qos > 0 && acknowledged < sent {
            acknowledged += acknowledgements(&mut reader, &mut stream)?;
        }
    }
    Ok(sent)
}

/// What a subscriber brings home.
struct Taken {
    account: Account,
    /// From the start until its last message.
    until: Duration,
    /// Nanoseconds from a message's sending to its arrival, where it carried its time.
    latencies: Vec<u64>,
}

fn take(shared: &Shared, index: usize, mut stream: TcpStream) -> io::Result<Taken> {
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
            Ok(0) => return Err(closed("a subscriber")),
            Ok(_) => {
                last = Instant::now();
                shared.advance(index, taken.account.distinct());
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
    let (publisher, number, nanos, packet_id) = match received {
        Received::Publish {
            publisher,
            number,
            nanos,
            packet_id,
        } => (publisher, number, nanos, packet_id),
        Received::Pubrel(id) => return packet::acknowledge(packet::PUBCOMP, id, acks),
        _ => return,
    };
    taken.account.add(publisher, number);
    if let Some(id) = packet_id {
        let first = if load.qos == 2 {
            packet::PUBREC
        } else {
            packet::PUBACK
        };
        packet::acknowledge(first, id, acks);
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
    if load.offline {
        return run_offline(load);
    }
    let shared = Shared::new(&load, load.publishers + load.subscribers, load.publishers);
    // All connect before any thread starts: nobody waits at the barrier for a client that failed.
    let mut subscribers = Vec::new();
    for i in 0..load.subscribers {
        subscribers.push(subscriber(&load, i)?);
    }
    let publishers = publishers(&load)?;
    let takers: Vec<_> = subscribers
        .into_iter()
        .enumerate()
        .map(|(i, stream)| {
            let shared = shared.clone();
            thread::spawn(move || take(&shared, i, stream))
        })
        .collect();
    let sent = send(&shared, publishers)?;
    let taken: Vec<Taken> = takers.into_iter().map(joined).collect::<io::Result<_>>()?;
    let until = taken.iter().map(|t| t.until).max().unwrap_or_default();
    Ok(summary(&sent, taken, until))
}

/// The rate is that of the acknowledged messages; the subscriber's later account says whether they
/// were kept.
fn run_offline(mut load: Load) -> io::Result<Value> {
    load.subscribers = 1;
    load.persistent = true;
    load.ahead = None;
    let mut away = subscriber(&load, 0)?;
    packet::disconnect(&mut away)?;
    let shared = Shared::new(&load, load.publishers, load.publishers);
    let publishers = publishers(&load)?;
    let start = Instant::now();
    let sent = send(&shared, publishers)?;
    let until = start.elapsed();
    let shared = Shared::new(&load, 1, 0);
    shared.published.store(sent.iter().sum(), Ordering::Release);
    let back = packet::connect(load.address, &subscriber_id(0), false)?;
    let taken = take(&shared, 0, back)?;
    Ok(summary(&sent, vec![taken], until))
}

fn subscriber_id(index: usize) -> String {
    format!("bench-s{index}-{}", std::process::id())
}

fn subscriber(load: &Load, index: usize) -> io::Result<TcpStream> {
    let id = subscriber_id(index);
    let mut stream = packet::connect(load.address, &id, !load.persistent)?;
    packet::subscribe(&mut stream, "bench/+", load.qos)?;
    Ok(stream)
}

fn publishers(load: &Load) -> io::Result<Vec<TcpStream>> {
    let tag = std::process::id();
    (0..load.publishers)
        .map(|i| packet::connect(load.address, &format!("bench-p{i}-{tag}"), true))
        .collect()
}

/// Runs all publishers to their end; what each has sent.
fn send(shared: &Arc<Shared>, publishers: Vec<TcpStream>) -> io::Result<Vec<u64>> {
    let senders: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(i, stream)| {
            let shared = shared.clone();
            thread::spawn(move || publish(&shared, i, stream))
        })
        .collect();
    senders.into_iter().map(joined).collect()
}

/// `until`: from the start to the last of what the rate counts.
fn summary(sent: &[u64], mut taken: Vec<Taken>, until: Duration) -> Value {
    let published: u64 = sent.iter().sum();
    let delivered: u64 = taken.iter().map(|t| t.account.distinct()).sum();
    let lost: u64 = taken.iter_mut().map(|t| t.account.lost(sent)).sum();
    let seconds = until.as_secs_f64();
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
