//! The task of one serial port.
//!
//! 1. Lines are published in the order they were read, one at a time.
//! 2. What was read and is not accepted yet never exceeds [`READ_BUFFER`] bytes or [`WINDOW`]
//!    lines: beyond that the port is not read, and its own buffer and flow control hold the rest.
//!    So that is the most that a kill can lose.
//! 3. A line that the broker refuses, or that could not be committed, is published again; nothing
//!    is read meanwhile.
//! 4. The port may go and come at any time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{Message, Principal, QoS, Source};
use iotedge_ports::{AckSink, BrokerPort, Publication, PublishOutcome, Refusal};
use iotedge_telemetry::event;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_serial::SerialStream;

use super::acks::Acks;
use super::config::SerialDevice;
use crate::Reject;
use crate::framer::Frame;
use crate::status::{DeviceState, DeviceStatus, StatusCell};

/// Most bytes that were read and are not accepted yet.
pub const READ_BUFFER: usize = 4096;
/// Most lines that were published and are not accepted yet.
pub const WINDOW: usize = 64;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long a stop waits for answers.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A serial port that is being read. Dropped without [`SerialPort::stop`] it
/// stops too, with nobody waiting for it.
pub struct SerialPort {
    status: Arc<StatusCell>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SerialPort {
    /// Starts to read in a task of the current runtime.
    pub fn start(device: SerialDevice, broker: Arc<dyn BrokerPort>) -> Self {
        let status = Arc::new(StatusCell::new(device.name.clone()));
        let (stop, stopping) = watch::channel(false);
        let worker = Worker {
            principal: Arc::new(Principal::service(&format!("serial:{}", device.name))),
            device,
            broker,
            acks: Arc::default(),
            status: status.clone(),
            stopping,
            pending: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes: 0,
            next_token: 0,
            hold: None,
        };
        Self {
            status,
            stop,
            task: tokio::spawn(worker.run()),
        }
    }

    /// How it stands.
    pub fn status(&self) -> DeviceStatus {
        self.status.read()
    }

    /// Reads no more, waits up to five seconds until what was read is accepted, and ends.
    pub async fn stop(self) -> DeviceStatus {
        // The task may have ended by itself.
        let _ = self.stop.send(true);
        let Self {
            status, mut task, ..
        } = self;
        if timeout(STOP_WAIT + Duration::from_secs(1), &mut task)
            .await
            .is_err()
        {
            task.abort();
        }
        status.read()
    }
}

/// A line on its way.
struct Line {
    token: u64,
    payload: Bytes,
    /// What it takes of [`READ_BUFFER`].
    cost: usize,
    answer: Option<bool>,
}

struct Worker {
    device: SerialDevice,
    broker: Arc<dyn BrokerPort>,
    principal: Arc<Principal>,
    acks: Arc<Acks>,
    status: Arc<StatusCell>,
    stopping: watch::Receiver<bool>,
    /// Decoded, not published.
    pending: VecDeque<Line>,
    /// Published, not accepted.
    in_flight: VecDeque<Line>,
    /// Cost of both.
    bytes: usize,
    next_token: u64,
    /// After a failed commit nothing is published before this moment.
    hold: Option<Instant>,
}

/// Why the reading of an open port ended.
enum End {
    Gone(String),
    Stop,
}

/// Doubling waits.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_RETRY)
    }

    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (self.0 * 2).min(LAST_RETRY);
        now
    }
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        while !self.is_stopping() {
            let reason = match self.open() {
                Ok(port) => {
                    self.say(DeviceState::Reading, None);
                    let lines = self.status.read().lines;
                    let end = self.read(port).await;
                    if self.device.framer.reset() {
                        self.reject(Reject::Cut);
                    }
                    if self.status.read().lines > lines {
                        backoff = Backoff::new();
                    }
                    match end {
                        End::Gone(reason) => reason,
                        End::Stop => break,
                    }
                }
                Err(error) => error.to_string(),
            };
            self.say(DeviceState::Absent, Some(reason));
            let again = Instant::now() + backoff.next();
            self.serve_until(again).await;
        }
        self.finish().await;
        self.say(DeviceState::Stopped, None);
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    fn open(&self) -> tokio_serial::Result<SerialStream> {
        let device = &self.device;
        let builder = tokio_serial::new(&device.path, device.baud)
            .data_bits(device.data_bits)
            .parity(device.parity)
            .stop_bits(device.stop_bits)
            .flow_control(device.flow_control);
        SerialStream::open(&builder)
    }

    /// Reads until the port goes or the daemon stops.
    async fn read(&mut self, mut port: SerialStream) -> End {
        let mut buffer = [0; READ_BUFFER];
        let mut retry: Option<Instant> = None;
        let mut backoff = Backoff::new();
        loop {
            match self.publish_pending() {
                Published::All => {
                    backoff = Backoff::new();
                    retry = None;
                    self.say(DeviceState::Reading, None);
                }
                Published::Refused(Refusal::Stopping) => return End::Stop,
                Published::Refused(refusal) => {
                    self.say(DeviceState::Blocked, Some(refusal_text(refusal).to_owned()));
                    retry.get_or_insert_with(|| Instant::now() + backoff.next());
                }
                Published::WindowFull => retry = None,
            }
            let room = READ_BUFFER
                .saturating_sub(self.bytes)
                .saturating_sub(self.device.framer.partial());
            let may_read = self.pending.is_empty() && self.in_flight.len() < WINDOW && room > 0;
            let into = buffer.get_mut(..room).unwrap_or(&mut []);
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => return End::Stop,
                () = self.acks.wait() => self.settle(),
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => retry = None,
                read = port.read(into), if may_read => match read {
                    Ok(0) => return End::Gone("the port was closed".into()),
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or(&[]);
                        self.frame(bytes);
                    }
                    Err(error) => return End::Gone(error.to_string()),
                },
            }
        }
    }

    /// Without a port: goes on publishing what was read before.
    async fn serve_until(&mut self, end: Instant) {
        loop {
            // A refused line waits for the next round, which is no further away than any retry.
            let _ = self.publish_pending();
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => return,
                () = self.acks.wait() => self.settle(),
                () = sleep_until(end) => return,
            }
        }
    }

    /// Publishes what was read and waits for the answers.
    async fn finish(&mut self) {
        let end = Instant::now() + STOP_WAIT;
        loop {
            let refused = matches!(
                self.publish_pending(),
                Published::Refused(Refusal::Stopping)
            );
            if refused || (self.pending.is_empty() && self.in_flight.is_empty()) {
                break;
            }
            let again = (Instant::now() + FIRST_RETRY).min(end);
            tokio::select! {
                () = self.acks.wait() => self.settle(),
                () = sleep_until(again) => {}
            }
            if Instant::now() >= end {
                break;
            }
        }
        for _ in 0..self.pending.len() {
            self.reject(Reject::Cut);
        }
    }

    fn frame(&mut self, bytes: &[u8]) {
        let Self {
            device,
            status,
            pending,
            bytes: held,
            next_token,
            ..
        } = self;
        let mut rejects = Vec::new();
        device.framer.push(bytes, |frame| {
            status.line();
            let decoded = match frame {
                Frame::Line(line) => device.decoder.decode(line).map(|p| (p, line.len())),
                Frame::TooLong => Err(Reject::TooLong),
            };
            match decoded {
                Ok((payload, cost)) => {
                    *held += cost;
                    pending.push_back(Line {
                        token: *next_token,
                        payload,
                        cost,
                        answer: None,
                    });
                    *next_token += 1;
                }
                Err(reject) => rejects.push(reject),
            }
        });
        for reject in rejects {
            self.reject(reject);
        }
    }

    /// Publishes in order until the window is full or a line is refused.
    fn publish_pending(&mut self) -> Published {
        if self.hold.is_some_and(|end| Instant::now() < end) {
            return Published::Refused(Refusal::StoreUnavailable);
        }
        while let Some(line) = self.pending.front() {
            // A failed line goes again before any new one.
            let failed = self.in_flight.iter().any(|l| l.answer.is_some());
            if failed || self.in_flight.len() >= WINDOW {
                return Published::WindowFull;
            }
            let ack = (self.device.qos > QoS::AtMostOnce).then(|| {
                let sink: Arc<dyn AckSink> = self.acks.clone();
                (sink, line.token)
            });
            let mut publication = [Publication::new(self.message(line.payload.clone()), ack)];
            self.broker.publish(&mut publication);
            let [publication] = publication;
            match publication.outcome {
                PublishOutcome::Refused(refusal) => return Published::Refused(refusal),
                outcome => {
                    let Some(line) = self.pending.pop_front() else {
                        break;
                    };
                    // Without an answer to wait for, the broker's word is the acceptance.
                    if matches!(outcome, PublishOutcome::Done { .. })
                        || self.device.qos == QoS::AtMostOnce
                    {
                        self.bytes = self.bytes.saturating_sub(line.cost);
                        self.status.accepted();
                    } else {
                        self.in_flight.push_back(line);
                    }
                }
            }
        }
        Published::All
    }

    fn message(&self, payload: Bytes) -> Message {
        let source = Source::Device {
            name: self.device.name.clone(),
        };
        let (principal, topic) = (self.principal.clone(), self.device.topic.clone());
        Message {
            retain: self.device.retain,
            ..Message::from_inside(principal, source, topic, payload, self.device.qos)
        }
    }

    /// Takes the broker's answers. Failed lines go back to the front, in order, once every line
    /// published after them has its answer too.
    fn settle(&mut self) {
        for (token, outcome) in self.acks.take() {
            if let Some(line) = self.in_flight.iter_mut().find(|l| l.token == token) {
                line.answer = Some(outcome.is_ok());
            }
        }
        let (status, bytes) = (&self.status, &mut self.bytes);
        self.in_flight.retain(|line| {
            let accepted = line.answer == Some(true);
            if accepted {
                status.accepted();
                *bytes = bytes.saturating_sub(line.cost);
            }
            !accepted
        });
        if self.in_flight.iter().all(|l| l.answer == Some(false)) && !self.in_flight.is_empty() {
            self.hold = Some(Instant::now() + FIRST_RETRY);
            while let Some(mut line) = self.in_flight.pop_back() {
                line.answer = None;
                self.pending.push_front(line);
            }
        }
    }

    fn reject(&self, reject: Reject) {
        if self.status.rejected(reject) == 0 && reject != Reject::Empty && reject != Reject::Header
        {
            tracing::warn!(
                event = event::DEVICE,
                device = &*self.device.name,
                reason = reject.as_str(),
                "a line was rejected; further ones of this reason are only counted"
            );
        }
    }

    /// Sets the state and logs it if it is news.
    fn say(&self, state: DeviceState, reason: Option<String>) {
        let text = reason.clone().unwrap_or_default();
        if !self.status.set(state, reason) {
            return;
        }
        let name = &*self.device.name;
        match state {
            DeviceState::Absent | DeviceState::Blocked => {
                tracing::warn!(
                    event = event::DEVICE,
                    device = name,
                    state = state.as_str(),
                    reason = text,
                    path = self.device.path,
                    "serial port {state}"
                );
            }
            DeviceState::Reading | DeviceState::Stopped => {
                tracing::info!(
                    event = event::DEVICE,
                    device = name,
                    state = state.as_str(),
                    path = self.device.path,
                    "serial port {state}"
                );
            }
        }
    }
}

/// Ends when the daemon stops or the [`SerialPort`] is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone.
    let _ = stopping.wait_for(|s| *s).await;
}

enum Published {
    /// Nothing waits.
    All,
    /// As many lines as may be are without their answer.
    WindowFull,
    /// The broker does not take the first one now.
    Refused(Refusal),
}

fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::QuotaExceeded | Refusal::TooLarge => "a queue that this topic goes to is full",
        Refusal::StoreUnavailable => "the store takes nothing",
        Refusal::Stopping | Refusal::Detached => "the daemon stops",
    }
}
