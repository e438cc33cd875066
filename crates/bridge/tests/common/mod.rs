//! A broker in memory, a mosquitto, and an upstream that does exactly what a test says.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iotedge_bridge::uplink::scripted::{self, ScriptedUpstream};
use iotedge_bridge::{Backoff, Bridge, Config, ConfigError, Direction, Route};
use iotedge_model::{
    DropReason, Message, MessageId, Now, Principal, QoS, SubscriptionIds, Topic, UnixMillis,
};
use iotedge_ports::*;
use iotedge_store::{Options, Store};

pub mod certificates;
pub mod front;
pub mod mosquitto;
pub mod proxy;
pub mod upstream;

pub struct SystemClock(pub Instant);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Now {
            mono: self.0.elapsed().as_millis() as u64,
            wall: UnixMillis(wall.as_millis() as u64),
            trusted: true,
        }
    }
}

/// The system's clock, as far ahead as a test says.
pub struct AheadClock {
    system: SystemClock,
    ahead: AtomicU64,
    untrusted: AtomicBool,
    /// Tokio's clock, which a test may have paused.
    start: tokio::time::Instant,
}

impl AheadClock {
    pub fn trust(&self, trusted: bool) {
        self.untrusted.store(!trusted, Ordering::SeqCst);
    }

    pub fn advance(&self, by: Duration) {
        let millis = by.as_millis() as u64;
        self.ahead.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for AheadClock {
    fn now(&self) -> Now {
        let ahead = self.ahead.load(Ordering::SeqCst);
        let mut now = self.system.now();
        now.mono = self.start.elapsed().as_millis() as u64 + ahead;
        now.wall.0 += ahead;
        now.trusted = !self.untrusted.load(Ordering::SeqCst);
        now
    }
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<u64, Delivery>,
    next: u64,
    cursor: u64,
    drained: BTreeSet<u64>,
    acknowledged: Vec<u64>,
    discarded: Vec<(u64, DropReason)>,
}

/// A route's queue, as the broker keeps it.
pub struct MemoryMailbox {
    state: Mutex<Rows>,
    wake: Arc<dyn Wake>,
}

impl MemoryMailbox {
    pub fn push(&self, topic: &str, payload: impl Into<Bytes>, qos: QoS) -> u64 {
        self.change(topic, payload, qos, |_| {})
    }

    /// [`MemoryMailbox::push`] of a message with more to it.
    pub fn change(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: QoS,
        change: impl FnOnce(&mut Message),
    ) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = state.next;
        let mut message = Message::internal("t", Topic::new(topic).unwrap(), payload.into(), qos);
        message.id = MessageId(id);
        change(&mut message);
        let delivery = Delivery {
            message: Arc::new(message),
            qos,
            retain: false,
            dup: false,
            durable: true,
            share: None,
            identifiers: SubscriptionIds::NONE,
        };
        state.rows.insert(id, delivery);
        drop(state);
        self.wake.wake();
        id
    }

    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap().rows.len()
    }

    pub fn acknowledged(&self) -> Vec<u64> {
        self.state.lock().unwrap().acknowledged.clone()
    }

    pub fn discarded(&self) -> Vec<(u64, DropReason)> {
        self.state.lock().unwrap().discarded.clone()
    }
}

impl Mailbox for MemoryMailbox {
    fn settled(&self, (sink, token): (Arc<dyn AckSink>, u64)) {
        sink.acked(token, Ok(()));
    }

    fn drain(&self, limit: DrainLimit, out: &mut Vec<Delivery>) -> DrainState {
        let mut state = self.state.lock().unwrap();
        let from = state.cursor + 1;
        let ids: Vec<u64> = state.rows.range(from..).map(|(id, _)| *id).collect();
        for id in ids.iter().take(limit.messages) {
            let mut delivery = state.rows[id].clone();
            delivery.dup = !state.drained.insert(*id);
            out.push(delivery);
            state.cursor = *id;
        }
        if ids.len() > limit.messages {
            DrainState::More
        } else {
            DrainState::Empty
        }
    }

    fn acknowledge(&self, deliveries: &[Delivery]) {
        let mut state = self.state.lock().unwrap();
        for delivery in deliveries {
            let id = delivery.message.id.0;
            assert!(state.rows.remove(&id).is_some(), "{id} acknowledged twice");
            state.acknowledged.push(id);
        }
    }

    fn discard(&self, deliveries: &[Delivery], reason: DropReason) {
        let mut state = self.state.lock().unwrap();
        for delivery in deliveries {
            let id = delivery.message.id.0;
            assert!(state.rows.remove(&id).is_some());
            state.discarded.push((id, reason));
        }
    }

    fn bury(&self, deliveries: &[Delivery], _reason: &str) {
        self.discard(deliveries, DropReason::UpstreamRefused);
    }

    fn rewind(&self) {
        self.state.lock().unwrap().cursor = 0;
    }

    fn retained_on_its_way(&self, topic: &Topic, _lately: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let mut messages = state.rows.values().map(|delivery| &delivery.message);
        messages.any(|message| message.retain && message.topic == *topic)
    }
}

/// What the broker does with inbound publications.
#[derive(Clone, Copy, PartialEq)]
pub enum Takes {
    AtOnce,
    Later,
    Not,
    /// Its store is full.
    NotNow,
    /// They are too large for a queue.
    Never,
}

type Waiting = (Arc<dyn AckSink>, u64);

/// The local broker.
pub struct MemoryBroker {
    pub mailboxes: Mutex<BTreeMap<String, Arc<MemoryMailbox>>>,
    pub attached: Mutex<Vec<String>>,
    pub takes: Mutex<Takes>,
    pub taken: Mutex<Vec<Message>>,
    pub waiting: Mutex<Vec<Waiting>>,
    pub refused: AtomicU64,
    /// States of links.
    pub told: Mutex<Vec<Message>>,
    /// What is retained, by topic.
    pub retained: Mutex<BTreeMap<String, Message>>,
    /// Of the taker of everything.
    pub pressure: Mutex<Option<Arc<dyn Pressure>>>,
}

impl MemoryBroker {
    pub fn payloads(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken
            .iter()
            .map(|m| String::from_utf8(m.payload.to_vec()).unwrap())
            .collect()
    }
}

impl BrokerPort for MemoryBroker {
    fn connect(&self, _: ConnectRequest) -> Result<Connected, ConnectRefused> {
        unreachable!()
    }
    fn detach(&self, _: Detached) {
        unreachable!()
    }
    fn subscribe(
        &self,
        _: ConnectionId,
        _: &[Subscription],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<SubscribeResult>, bool) {
        unreachable!()
    }
    fn send_retained(&self, _: ConnectionId, _: &[Subscription]) {
        unreachable!()
    }
    fn unsubscribe(
        &self,
        _: ConnectionId,
        _: &[Arc<str>],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<bool>, bool) {
        unreachable!()
    }
    fn publish(&self, batch: &mut [Publication]) {
        for publication in batch {
            let message = publication.message.take().unwrap();
            if message.topic.as_str().starts_with("$SYS/") {
                publication.outcome = PublishOutcome::Done { matched: false };
                self.told.lock().unwrap().push(message);
                continue;
            }
            publication.pressure = self.pressure.lock().unwrap().clone();
            publication.outcome = match *self.takes.lock().unwrap() {
                Takes::Never => PublishOutcome::Refused(Refusal::TooLarge),
                Takes::NotNow => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    PublishOutcome::Refused(Refusal::StoreUnavailable)
                }
                Takes::Not => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    PublishOutcome::Refused(Refusal::QuotaExceeded)
                }
                Takes::AtOnce => {
                    self.taken.lock().unwrap().push(message);
                    PublishOutcome::Done { matched: true }
                }
                Takes::Later => {
                    self.taken.lock().unwrap().push(message);
                    let ack = publication.ack.clone();
                    self.waiting.lock().unwrap().extend(ack);
                    PublishOutcome::Pending
                }
            };
        }
    }
    fn attach_service(&self, _: &[iotedge_model::TopicFilter], _: Arc<dyn Service>) {
        unreachable!()
    }
    fn attach_route(&self, route: AttachRoute) -> Arc<dyn Mailbox> {
        let mailbox = Arc::new(MemoryMailbox {
            state: Mutex::default(),
            wake: route.wake,
        });
        self.attached
            .lock()
            .unwrap()
            .push(format!("{} {}", route.name, route.filters[0]));
        self.mailboxes
            .lock()
            .unwrap()
            .insert(route.name.to_string(), mailbox.clone());
        mailbox
    }
    fn attach_outbox(
        &self,
        _: iotedge_ports::AttachOutbox,
    ) -> (iotedge_ports::OutboxId, Arc<dyn Mailbox>) {
        unreachable!("nobody here has rules")
    }
    fn remove_outbox(&self, _: iotedge_ports::OutboxId) {}
    fn retained(&self, topic: &Topic) -> Option<Arc<Message>> {
        let retained = self.retained.lock().unwrap();
        retained.get(topic.as_str()).cloned().map(Arc::new)
    }

    fn retained_after(&self, _after: Option<&Topic>, _most: usize) -> Vec<Arc<Message>> {
        Vec::new()
    }
    fn close_principal(&self, _: &Principal, _: CloseReason) -> usize {
        0
    }
}

pub fn config(url: &str) -> Config {
    Config {
        keep_alive: 30,
        max_in_flight: 20,
        max_packet_bytes: 200_000,
        connect_timeout: Duration::from_secs(5),
        backoff: Backoff {
            base: Duration::from_millis(20),
            max: Duration::from_millis(100),
            stable: Duration::from_secs(30),
            refused: Duration::from_millis(300),
        },
        ..Config::new("cloud", url, "gateway")
    }
}

pub fn route(direction: Direction, filter: &str) -> Route {
    Route::new(direction, filter)
}

pub struct Setup {
    pub broker: Arc<MemoryBroker>,
    pub bridge: Bridge,
    pub clock: Arc<AheadClock>,
    store: Store,
    _dir: tempfile::TempDir,
}

impl Setup {
    pub fn start(config: Config) -> Self {
        Self::run(true, |port, clock, store, runtime| {
            Bridge::start(vec![config], port, clock, store, runtime)
        })
    }

    /// With a clock that nobody trusts.
    pub fn untrusted(config: Config) -> Self {
        Self::run(false, |port, clock, store, runtime| {
            Bridge::start(vec![config], port, clock, store, runtime)
        })
    }

    /// Over an upstream in memory.
    pub fn scripted(config: Config) -> (Self, ScriptedUpstream) {
        let (connector, upstream) = scripted::pair();
        let setup = Self::run(true, |port, clock, store, runtime| {
            Bridge::start_over(vec![(config, connector)], port, clock, store, runtime)
        });
        (setup, upstream)
    }

    /// Stops, and starts over with another configuration.
    pub async fn again(&mut self, config: Config) -> ScriptedUpstream {
        self.bridge.stop().await;
        let (connector, upstream) = scripted::pair();
        let port: Arc<dyn BrokerPort> = self.broker.clone();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let (links, runtime) = (
            vec![(config, connector as _)],
            tokio::runtime::Handle::current(),
        );
        self.bridge =
            Bridge::start_over(links, &port, &clock, self.store.clone(), &runtime).unwrap();
        upstream
    }

    /// [`Setup::again`] with the upstream that the configuration names.
    pub async fn restart(&mut self, config: Config) {
        self.bridge.stop().await;
        let port: Arc<dyn BrokerPort> = self.broker.clone();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let runtime = tokio::runtime::Handle::current();
        let store = self.store.clone();
        self.bridge = Bridge::start(vec![config], &port, &clock, store, &runtime).unwrap();
    }

    fn run(
        trusted: bool,
        start: impl FnOnce(
            &Arc<dyn BrokerPort>,
            &Arc<dyn Clock>,
            Store,
            &tokio::runtime::Handle,
        ) -> Result<Bridge, ConfigError>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let broker = Arc::new(MemoryBroker {
            mailboxes: Mutex::default(),
            attached: Mutex::default(),
            takes: Mutex::new(Takes::AtOnce),
            taken: Mutex::default(),
            waiting: Mutex::default(),
            refused: AtomicU64::new(0),
            told: Mutex::default(),
            retained: Mutex::default(),
            pressure: Mutex::default(),
        });
        let port: Arc<dyn BrokerPort> = broker.clone();
        let ahead = Arc::new(AheadClock {
            system: SystemClock(Instant::now()),
            ahead: AtomicU64::new(0),
            untrusted: AtomicBool::new(!trusted),
            start: tokio::time::Instant::now(),
        });
        let clock: Arc<dyn Clock> = ahead.clone();
        let runtime = tokio::runtime::Handle::current();
        let bridge = start(&port, &clock, store.clone(), &runtime).unwrap();
        Self {
            broker,
            bridge,
            clock: ahead,
            store,
            _dir: dir,
        }
    }

    /// The queue of the only outbound route.
    pub fn mailbox(&self) -> Arc<MemoryMailbox> {
        let mailboxes = self.broker.mailboxes.lock().unwrap();
        mailboxes.values().next().unwrap().clone()
    }

    /// The queue of this route, by its whole name.
    pub fn mailbox_of(&self, name: &str) -> Arc<MemoryMailbox> {
        self.broker.mailboxes.lock().unwrap()[name].clone()
    }

    /// Milliseconds since 1970, by the bridge's clock.
    pub fn wall(&self) -> u64 {
        self.clock.now().wall.0
    }

    pub fn status(&self) -> UpstreamStatus {
        self.bridge.status().remove(0)
    }

    pub async fn state(&self, state: LinkState) {
        until(&format!("{state:?}"), || self.status().state == state).await;
    }
}

/// Waits for something that becomes true; fails when it does not within 30 seconds.
pub async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
