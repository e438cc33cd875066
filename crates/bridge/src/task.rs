//! The shell around the pure parts: one task a link, one event loop a connection.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use iotedge_model::{Now, Principal, Source, Topic, TopicFilter, UnixMillis};
use iotedge_ports::{BrokerPort, Clock, Delivery, LinkState, Mailbox};
use iotedge_store::Documents;
use tokio::sync::{Notify, watch};

use crate::echo::Echoes;
use crate::flow::Flow;
use crate::gate::Gate;
use crate::inbound::{Inbound, Sink};
use crate::liveness::{Liveness, Received};
use crate::pacing::Pacing;
use crate::schedule::Schedule;
use crate::shared::{Desired, Shared};
use crate::uplink::{Accepted, Connection, Ended, Event, Kind, Layer};
use crate::window::Window;
use crate::{ConfigError, Direction};

mod aside;
mod carry;
mod closing;
mod connection;
mod end;
mod incoming;
mod outgoing;
mod peer;
mod quota;
mod retained;
mod subscriptions;
mod suspect;

use aside::Aside;
use end::{End, Fault};
use incoming::{Blocked, Intake};
use quota::Quota;
use subscriptions::Subscribing;
use suspect::Suspects;

/// An outbound route's place in the task.
pub(crate) struct OutRoute {
    /// In `config.routes`.
    pub(crate) index: usize,
    pub(crate) mailbox: Arc<dyn Mailbox>,
    /// Something may be in the mailbox.
    pub(crate) ready: Arc<AtomicBool>,
    /// Acknowledged by the upstream, not yet passed on.
    pub(crate) acked: Vec<Delivery>,
}

/// A delivery on the wire.
pub(crate) struct Sent {
    /// In `Task::out`.
    route: usize,
    /// `None`: a request of the peer, whose answer is a message.
    delivery: Option<Delivery>,
    /// Its bytes on the wire, at most.
    size: usize,
    /// Such a request's topic.
    request: Option<Topic>,
}

/// Whose SUBSCRIBE waits for its SUBACK.
pub(crate) enum Asked {
    /// The inbound routes'.
    Routes,
    /// The peer's, with these filters.
    Peer(Vec<String>),
}

/// How long DISCONNECT may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often the clock is looked at while the link waits for it.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What a link reaches out to.
pub(crate) struct Around {
    pub(crate) broker: Arc<dyn BrokerPort>,
    pub(crate) clock: Arc<dyn Clock>,
    /// For what a link keeps over restarts.
    pub(crate) kept: Option<Documents>,
}

/// `2026-11-21T16:40:00Z`; a time that no calendar has, as its milliseconds.
fn readable(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).ok();
    match seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
        Some(at) => at.to_string(),
        None => at.0.to_string(),
    }
}

fn pacing(config: &crate::Config, now: Now) -> Pacing {
    let largest = config.max_payload_bytes.unwrap_or(config.max_packet_bytes);
    let largest = u64::try_from(largest).unwrap_or(u64::MAX);
    Pacing::new(config.max_rate, config.max_byte_rate, largest, now.mono)
}

pub(crate) struct Task {
    shared: Arc<Shared>,
    broker: Arc<dyn BrokerPort>,
    clock: Arc<dyn Clock>,
    desired: watch::Receiver<Desired>,
    notify: Arc<Notify>,
    /// What topics of inbound routes match upstream, each with its place in `config.routes`.
    incoming: Vec<(usize, TopicFilter)>,
    principal: Arc<Principal>,
    source: Source,
    out: Vec<OutRoute>,
    /// Whose turn it is to send.
    schedule: Schedule,
    /// A mailbox had more and gave nothing: asked again after a moment.
    stalled: bool,
    window: Window<Sent>,
    /// How many bytes may be in it.
    flow: Flow,
    suspects: Suspects,
    aside: Aside,
    quota: Quota,
    /// Our own messages that a 3.1.1 upstream sends back.
    echoes: Echoes,
    /// When the SUBSCRIBE without SUBACK was handed over.
    subscribing: Option<tokio::time::Instant>,
    asked: Asked,
    guard: peer::Guard,
    inbound: Inbound,
    sink: Arc<Sink>,
    blocked: std::collections::VecDeque<Blocked>,
    blocked_bytes: usize,
    intake: Intake,
    /// The CONNACK of the connection.
    accepted: Accepted,
    liveness: Liveness,
    received: Received,
    /// Windows and the day's budget.
    gate: Gate,
    /// When the gate is looked at next, at the latest.
    next_look: tokio::time::Instant,
    /// Where the budget is kept.
    kept: Option<Documents>,
    /// Over all connections: an upstream counts that way too.
    pacing: Pacing,
    subscribe: Subscribing,
    /// Inbound acknowledgements handed over and not on the wire yet.
    acks_queued: usize,
    random: RandomState,
    rolls: u64,
}

impl Task {
    pub(crate) fn new(
        shared: Arc<Shared>,
        around: Around,
        notify: Arc<Notify>,
        out: Vec<OutRoute>,
    ) -> Result<Self, ConfigError> {
        let mut incoming = Vec::new();
        for (at, route) in shared.config.routes.iter().enumerate() {
            if route.direction == Direction::In {
                let filter = route
                    .remote_topics()
                    .map_err(|reason| ConfigError::Filter {
                        route: route.name.clone(),
                        key: "remote_prefix",
                        reason,
                    })?;
                incoming.push((at, filter));
            }
        }
        let gate = closing::gate(&shared.config, around.kept.as_ref());
        shared
            .spent
            .store(gate.used(), std::sync::atomic::Ordering::Relaxed);
        let pacing = pacing(&shared.config, around.clock.now());
        let priority = |out: &OutRoute| shared.config.routes.get(out.index).map(|r| r.priority);
        let schedule = Schedule::new(out.iter().map(|out| priority(out).unwrap_or_default()));
        let suspects = Suspects::new(&shared.config.backoff);
        Ok(Self {
            incoming,
            principal: Arc::new(Principal::service("bridge")),
            source: Source::Upstream {
                name: Arc::from(shared.config.name.as_str()),
            },
            desired: shared.desired.subscribe(),
            window: Window::new(usize::from(shared.config.max_in_flight)),
            flow: Flow::default(),
            sink: Arc::new(Sink::new(notify.clone())),
            shared,
            broker: around.broker,
            clock: around.clock,
            accepted: Accepted::unlimited(0),
            liveness: Liveness::new(0, tokio::time::Instant::now()),
            received: Received::new(0),
            pacing,
            gate,
            next_look: tokio::time::Instant::now(),
            kept: around.kept,
            subscribe: Subscribing::default(),
            intake: Intake::new(notify.clone()),
            notify,
            out,
            schedule,
            stalled: false,
            suspects,
            aside: Aside::default(),
            quota: Quota::default(),
            echoes: Echoes::default(),
            subscribing: None,
            asked: Asked::Routes,
            guard: peer::Guard::default(),
            inbound: Inbound::default(),
            blocked: std::collections::VecDeque::new(),
            blocked_bytes: 0,
            acks_queued: 0,
            random: RandomState::new(),
            rolls: 0,
        })
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Any number: jitter and trace ids need no better dice than the hasher's keys.
    fn dice(&mut self) -> u64 {
        self.rolls += 1;
        self.random.hash_one((self.rolls, self.now().mono))
    }

    pub(crate) async fn run(mut self) {
        loop {
            let desired = *self.desired.borrow_and_update();
            match desired {
                Desired::Run => {}
                Desired::Paused => {
                    self.show_pause();
                    // Its sender lives in `shared`, which this task holds.
                    let _ = self.desired.changed().await;
                    continue;
                }
                Desired::Stopped => {
                    self.keep_budget(true);
                    self.shared.link().stopped(self.now());
                    self.log();
                    return;
                }
            }
            if self.is_closed() {
                self.wait_for_gate().await;
                continue;
            }
            self.shared.link().connecting(self.now());
            self.shared.tell(&*self.broker);
            let end = self.connect().await;
            self.blame(&end);
            self.disconnected();
            self.ended(end).await;
        }
    }

    /// Remembers which message was the oldest on a connection that the other side or the network
    /// ended.
    fn blame(&mut self, end: &End) {
        self.blame_peer(matches!(end, End::Lost(_)));
        let End::Lost(fault) = end else {
            return;
        };
        let now = self.now().mono;
        // Ids of what is not in the store name nothing.
        let written = self.window.waits_since().is_some();
        let oldest = self.window.oldest().filter(|_| written).and_then(|sent| {
            let delivery = sent.delivery.as_ref().filter(|d| d.durable)?;
            Some((aside::face(sent.route, delivery), sent.size))
        });
        self.suspects.lost(oldest, fault, now);
    }

    /// Notes why the connection ended and waits as long as that demands.
    async fn ended(&mut self, end: End) {
        let (now, dice) = (self.now(), self.dice());
        match &end {
            End::Desired => return,
            End::Lost(Fault { text: reason, .. })
            | End::Silent(reason)
            | End::Held(reason)
            | End::Clock(reason) => self.shared.link().lost(reason, now, dice),
            End::Refused(reason) => self.shared.link().refused(reason, now, dice),
        }
        self.log();
        let pause = self.shared.link().wait(now).unwrap_or_default();
        let mut desired = self.desired.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.trusted(), if matches!(end, End::Clock(_)) => {}
            _ = desired.changed() => {}
        }
    }

    /// The clock is trusted. It tells nobody, so it is asked.
    async fn trusted(&self) {
        while !self.now().trusted {
            tokio::time::sleep(CLOCK_LOOK).await;
        }
    }

    fn show_pause(&self) {
        let (now, pause) = (self.now(), self.shared.paused().clone());
        let (reason, since) = match pause {
            Some(pause) => (format!("paused by {}", pause.by), pause.since),
            None => ("paused while it is tested".to_owned(), now.wall),
        };
        self.shared.link().paused(&reason, since, now);
        self.log();
    }

    fn log(&self) {
        let link = self.shared.link();
        let next_retry = link.next_retry().map(readable);
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    event = iotedge_telemetry::event::UPSTREAM,
                    upstream = self.shared.config.name,
                    state = ?link.state(),
                    reason = link.reason(),
                    next_retry,
                    "upstream link"
                )
            };
        }
        // Somebody has to change something.
        match link.state() {
            LinkState::Misconfigured => tell!(warn),
            _ => tell!(info),
        }
        drop(link);
        self.shared.tell(&*self.broker);
    }

    /// From name resolution to the connection's end.
    async fn connect(&mut self) -> End {
        let (shared, clock, broker) =
            (self.shared.clone(), self.clock.clone(), self.broker.clone());
        let progress = |layer: Layer| {
            // The lock is let go of before the broker is called.
            let entered = shared.link().progress(layer, clock.now());
            if entered {
                shared.tell(&*broker);
            }
        };
        let connecting = tokio::time::timeout(
            self.shared.config.connect_timeout,
            shared.connector.connect(&progress),
        );
        let first = tokio::select! {
            first = connecting => first,
            _ = self.desired.changed() => return End::Desired,
        };
        match first {
            Ok(Ok((mut connection, accepted))) => {
                self.shared.link().connected(self.now());
                self.log();
                let now = tokio::time::Instant::now();
                self.liveness = Liveness::new(accepted.keep_alive, now);
                let mono = self.now().mono;
                self.echoes.connected(accepted.session_present, mono);
                self.received = Received::new(self.shared.connector.traffic().1);
                self.accepted = accepted;
                self.window.set_limit(self.window_limit());
                self.flow = Flow::default();
                self.suspects.connected(self.now().mono);
                let end = self.connected(&mut *connection).await;
                if matches!(end, End::Desired) {
                    let _ = tokio::time::timeout(FAREWELL, connection.finish()).await;
                }
                end
            }
            Ok(Err(ended)) => self.failed(ended),
            Err(_) => self.failed(Ended::lost(Layer::Tcp, "no connection within the timeout")),
        }
    }

    /// How many messages may wait for PUBACK.
    fn window_limit(&self) -> usize {
        let server = self.accepted.receive_maximum.max(1);
        usize::from(self.shared.config.max_in_flight.min(server))
    }

    /// An end in an operator's words.
    fn failed(&self, ended: Ended) -> End {
        let host = self.shared.config.host();
        let hint = match (ended.layer, ended.code) {
            (Layer::Connack | Layer::Mqtt, None) => self.shared.config.hint(),
            _ => "",
        };
        // The address says it already where it is the name.
        let text = match ended.text.starts_with(&host) {
            true => format!("{}{hint}", ended.text),
            false => format!("{host}: {}{hint}", ended.text),
        };
        match ended.kind {
            Kind::Lost => End::Lost(Fault::new(&ended, text)),
            Kind::Clock => End::Clock(text),
            Kind::Refused => End::Refused(text),
        }
    }

    /// Nothing of the old connection is left: the mailboxes give again what was not acknowledged.
    fn disconnected(&mut self) {
        self.pass_on_acknowledgements();
        let mono = self.now().mono;
        self.echoes.disconnected(mono);
        self.window.clear();
        self.aside.clear();
        self.shared.peering.set_up(false);
        self.subscribing = None;
        self.subscribe = Subscribing::default();
        self.acks_queued = 0;
        self.forget_blocked();
        self.inbound.disconnected();
        for route in &self.out {
            route.mailbox.rewind();
            route
                .ready
                .store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// What was read before an error was met still counts.
    fn last_words(&mut self, connection: &mut dyn Connection) {
        while let Some(event) = connection.buffered() {
            if let Event::Acknowledged(ack) = event {
                // What it says against the connection is late: that has ended.
                let _ = self.upstream_acknowledged(&ack);
            }
        }
    }
}
