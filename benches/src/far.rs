//! The far side of a bridge: an upstream that does nothing but check and acknowledge, a line of a
//! given length before it, and publishers at the near side.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::packet::{self, Batch, Reader, Received};

/// Publishers go on after so long without a message at the far side: it is not to come any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads that are on a line at once.
const READS: usize = 4096;

/// What has come out at the far side.
#[derive(Clone)]
pub struct Arrived {
    inner: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    account: Account,
    last: Instant,
    /// Who waits is woken when so many are there.
    wanted: u64,
}

impl Arrived {
    /// Of publishers 0 to `publishers - 1`.
    pub fn new(publishers: usize) -> Self {
        let state = State {
            account: Account::new(publishers),
            last: Instant::now(),
            wanted: u64::MAX,
        };
        Self {
            inner: Arc::new((Mutex::new(state), Condvar::new())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew.
    pub fn reset(&self, publishers: usize) {
        self.lock().account = Account::new(publishers);
    }

    /// Waits until `count` different ones have come; when the last one did, and all that came.
    pub fn wait(&self, count: u64) -> io::Result<(Instant, Account)> {
        let mut state = self.lock();
        while state.account.distinct() < count {
            state.wanted = count;
            let before = state.account.distinct();
            let (guard, waited) = self
                .inner
                .1
                .wait_timeout(state, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if waited.timed_out() && state.account.distinct() == before {
                let text = format!("{before} of {count} have come, and no more do");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        state.wanted = u64::MAX;
        Ok((state.last, state.account.clone()))
    }

    /// Reads PUBLISH packets from a stream, acknowledges them, and answers PINGREQ as a server.
    fn take(&self, stream: &mut TcpStream, is_server: bool) -> io::Result<()> {
        let mut reader = Reader::default();
        let (mut found, mut answers) = (Vec::new(), Vec::new());
        loop {
            let read = reader.read(stream, |received| match received {
                Received::Publish {
                    publisher,
                    number,
                    packet_id,
                    ..
                } => {
                    found.push((publisher, number));
                    if let Some(id) = packet_id {
                        packet::acknowledge(packet::PUBACK, id, &mut answers);
                    }
                }
                Received::Other if is_server => answers.extend_from_slice(&[0xd0, 0]),
                _ => {}
            })?;
            if read == 0 {
                return Ok(());
            }
            stream.write_all(&answers)?;
            answers.clear();
            if !found.is_empty() {
                let mut state = self.lock();
                for (publisher, number) in found.drain(..) {
                    state.account.add(publisher, number);
                }
                state.last = Instant::now();
                if state.account.distinct() >= state.wanted {
                    self.inner.1.notify_all();
                }
            }
        }
    }

    /// Is the upstream: a thread for each connection, until the process ends.
    pub fn serve(&self, listener: TcpListener) {
        let arrived = self.clone();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let arrived = arrived.clone();
                // A connection that ends badly ends its thread only.
                thread::spawn(move || {
                    stream.set_nodelay(true)?;
                    let mut connect = [0; 2];
                    stream.read_exact(&mut connect)?;
                    // Shorter than 128 bytes, as all of a bridge without credentials are.
                    stream.read_exact(&mut vec![0; usize::from(connect[1])])?;
                    stream.write_all(&[0x20, 2, 0, 0])?;
                    arrived.take(&mut stream, true)
                });
            }
        });
    }

    /// Subscribes at an upstream.
    pub fn subscribe(&self, upstream: SocketAddr) -> io::Result<()> {
        let mut stream = packet::connect(upstream, "bench-taker", true)?;
        packet::subscribe(&mut stream, "bench/#", 1)?;
        stream.set_read_timeout(None)?;
        let arrived = self.clone();
        thread::spawn(move || arrived.take(&mut stream, false));
        Ok(())
    }
}

/// Carries connections from `listener` to `to`, each byte `late`.
pub fn line(listener: TcpListener, to: SocketAddr, late: Duration) {
    thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let Ok(far) = TcpStream::connect(to) else {
                continue;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                    carry(from, to, late);
                }
            }
        }
    });
}

fn carry(mut from: TcpStream, to: TcpStream, late: Duration) {
    let (sender, receiver): (SyncSender<(Instant, Vec<u8>)>, _) = sync_channel(READS);
    let _ = to.set_nodelay(true);
    thread::spawn(move || write(to, &receiver));
    thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if sender
                .send((Instant::now() + late, buffer[..read].to_vec()))
                .is_err()
            {
                return;
            }
        }
    });
}

fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, data)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&data).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Publishers at the near side.
#[derive(Debug, Clone, Copy)]
pub struct Publishers {
    /// The broker with the bridge.
    pub address: SocketAddr,
    /// How many, each with a topic of its own.
    pub count: usize,
    /// Messages of each.
    pub messages: u64,
    /// Bytes of a payload.
    pub payload: usize,
    /// Unacknowledged messages of each.
    pub window: usize,
    /// Messages a second of each; as fast as it goes without.
    pub rate: Option<u64>,
}

impl Publishers {
    /// Publishes all and waits for the acknowledgements; when the first left.
    pub fn run(self) -> io::Result<Instant> {
        let mut streams = Vec::new();
        for index in 0..self.count {
            let id = format!("bench-publisher-{index}");
            streams.push(packet::connect(self.address, &id, true)?);
        }
        let start = Instant::now();
        let threads: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(index, stream)| thread::spawn(move || self.publish(index, stream, start)))
            .collect();
        for thread in threads {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a publisher panicked")))?;
        }
        Ok(start)
    }

    fn publish(self, index: usize, mut stream: TcpStream, start: Instant) -> io::Result<()> {
        let topic = format!("bench/out/line-{index}");
        let mut batch = Batch::new(&topic, 1, self.payload, index as u32, self.window.min(500));
        let mut reader = Reader::default();
        let (mut sent, mut acknowledged) = (0, 0);
        while acknowledged < self.messages {
            let mut due = self.messages.min(acknowledged + self.window as u64);
            if let Some(rate) = self.rate {
                let by_now = start.elapsed().as_secs_f64() * rate as f64;
                due = due.min(by_now as u64 + 1);
            }
            while sent < due {
                let count = ((due - sent) as usize).min(batch.capacity());
                stream.write_all(batch.numbered(sent, count, 0))?;
                sent += count as u64;
            }
            if self.rate.is_some() && sent < self.messages {
                stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            } else {
                stream.set_read_timeout(Some(PATIENCE))?;
            }
            let read = reader.read(&mut stream, |received| {
                acknowledged += u64::from(received == Received::Acknowledged);
            });
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && sent < self.messages => {}
                other => drop(other?),
            }
        }
        packet::disconnect(&mut stream)
    }
}
