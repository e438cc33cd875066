//! From a start of the daemon to its end: broker, store and bridge, and an upstream in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use iotedge_bridge::uplink::scripted::{self, Packet, Peer, ScriptedUpstream};
use iotedge_bridge::uplink::{Accepted, Ended, Event, Incoming, Layer};
use iotedge_bridge::{Bridge, Config, Direction};
use iotedge_broker::{Broker, Limits};
use iotedge_model::{Message, Now, QoS, Topic, UnixMillis};
use iotedge_ports::*;
use iotedge_store::{Options, Store};
use tempfile::TempDir;
use tokio::time::Instant;

use super::disk::{self, Synced};
use super::{Model, Rng};
use crate::common::{config, route};

const TOPICS: [&str; 5] = ["t/0", "t/1", "t/2", "u/0", "u/1"];

/// tokio's clock for those in the runtime; others are told the last time seen there.
struct SimulatedClock {
    base: Instant,
    last: AtomicU64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        if tokio::runtime::Handle::try_current().is_ok() {
            let mono = self.base.elapsed().as_millis() as u64;
            self.last.fetch_max(mono, Ordering::SeqCst);
        }
        let mono = self.last.load(Ordering::SeqCst);
        Now {
            mono,
            wall: UnixMillis(1_700_000_000_000 + mono),
            trusted: true,
        }
    }
}

#[derive(Default)]
struct Acknowledged(Mutex<Vec<u64>>);

impl AckSink for Acknowledged {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        if outcome.is_ok() {
            self.0.lock().unwrap().push(token);
        }
    }
}

/// What a life is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Plan {
    Steps(usize),
    /// No link, one batch, and a crash after which the disk has forgotten it.
    OutageAndForgetfulDisk,
}

pub enum End {
    Stopped(TempDir),
    /// What the crash left, and whether it was torn.
    Crashed(TempDir, bool),
}

pub struct Life<'a> {
    dir: TempDir,
    model: &'a mut Model,
    store: Store,
    broker: Arc<Broker>,
    bridge: Bridge,
    far: ScriptedUpstream,
    /// Has an outbound route for what comes in: a durable local taker.
    relay: ScriptedUpstream,
    peer: Option<Peer>,
    subscribed: bool,
    /// Published to us on this connection and not acknowledged.
    waiting: Vec<(u16, u64)>,
    /// Published by us on this connection and not acknowledged.
    down: BTreeMap<u16, u64>,
    down_id: u16,
    sink: Arc<Acknowledged>,
}

fn configs() -> [Config; 2] {
    let mut cloud = config("mqtt://cloud");
    cloud.routes.push(route(Direction::Out, "t/#"));
    cloud.routes.push(route(Direction::Out, "u/#"));
    cloud.routes.push(route(Direction::In, "down/#"));
    let mut relay = config("mqtt://relay");
    relay.name = "relay".into();
    relay.routes.push(route(Direction::Out, "down/#"));
    [cloud, relay]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

impl<'a> Life<'a> {
    fn begin(dir: TempDir, model: &'a mut Model) -> Self {
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, mut opened) = Store::open(dir.path(), options).unwrap();
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock {
            base: Instant::now(),
            last: AtomicU64::new(0),
        });
        let broker = Arc::new(Broker::new(
            store.clone(),
            &mut opened,
            clock.clone(),
            Limits::default(),
        ));
        let port: Arc<dyn BrokerPort> = broker.clone();
        let [(cloud, far), (near, relay)] = [scripted::pair(), scripted::pair()];
        let [to_cloud, to_relay] = configs();
        let bridge = Bridge::start_over(
            vec![(to_cloud, cloud), (to_relay, near)],
            &port,
            &clock,
            store.clone(),
            &tokio::runtime::Handle::current(),
        )
        .unwrap();
        Self {
            dir,
            model,
            store,
            broker,
            bridge,
            far,
            relay,
            peer: None,
            subscribed: false,
            waiting: Vec::new(),
            down: BTreeMap::new(),
            down_id: 0,
            sink: Arc::new(Acknowledged::default()),
        }
    }

    pub fn live(dir: TempDir, model: &'a mut Model, rng: &mut Rng, plan: Plan) -> End {
        runtime().block_on(async {
            let mut life = Self::begin(dir, model);
            let Plan::Steps(steps) = plan else {
                life.publish(rng, 20).await;
                return life.crash(rng, true);
            };
            for _ in 0..steps {
                life.step(rng).await;
                life.check();
            }
            if rng.one_in(3) {
                life.stop().await
            } else {
                life.crash(rng, false)
            }
        })
    }

    /// Until every queue is empty; gives the numbers that lie with the dead letters.
    pub fn drain(dir: TempDir, model: &'a mut Model) -> BTreeSet<u64> {
        runtime().block_on(async {
            let mut life = Self::begin(dir, model);
            life.connect(u16::MAX).await;
            let mut relay = life
                .relay
                .accept(Accepted::unlimited(30))
                .await
                .expect("a try of the relay");
            let mut rounds = 0;
            while life.queued() > 0 || !life.model.down_waiting.is_empty() {
                rounds += 1;
                assert!(rounds < 5_000, "{:#?}", life.bridge.status());
                life.read();
                life.acknowledge(usize::MAX, None).await;
                while let Some(packet) = relay.try_next() {
                    if let Packet::Publish(id, publish) = packet {
                        life.model.down_arrived.push(number(&publish.payload));
                        relay.ack(id, 0);
                    }
                }
                life.settle().await;
                tokio::time::advance(Duration::from_millis(250)).await;
            }
            life.check();
            let letters = life.store.dead_letters(None, 100_000).unwrap();
            let kept = letters.iter().map(|l| number(&l.message.payload)).collect();
            life.stop().await;
            kept
        })
    }

    async fn step(&mut self, rng: &mut Rng) {
        match rng.below(20) {
            0..=4 => {
                let count = 1 + rng.below(20);
                self.publish(rng, count).await;
            }
            5..=7 => self.accept(rng).await,
            8..=9 => self.read(),
            10..=12 => {
                self.read();
                let most = 1 + rng.below(30);
                self.acknowledge(most, Some(rng)).await;
            }
            13 => self.refuse(rng).await,
            14..=15 => self.deliver(1 + rng.below(6)),
            16 => self.cut(rng),
            17 => {
                let seconds = [1, 10, 100, 1000][rng.below(4)];
                tokio::time::advance(Duration::from_secs(seconds)).await;
            }
            18 => {
                self.model.tell("paused and resumed");
                self.bridge.pause("cloud", "a test").unwrap();
                self.settle().await;
                self.bridge.resume("cloud").unwrap();
            }
            // Acknowledges what was never sent.
            _ => {
                if let Some(peer) = &self.peer {
                    peer.ack(60_000, 0);
                }
            }
        }
        self.settle().await;
    }

    /// All that happens without time passing has happened, and is committed.
    async fn settle(&mut self) {
        for _ in 0..2 {
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            let (done, told) = mpsc::sync_channel(1);
            self.store.flush(Box::new(move |outcome| {
                outcome.unwrap();
                done.send(()).unwrap();
            }));
            // Blocks the one thread there is: time stands still meanwhile.
            told.recv().unwrap();
        }
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    fn hand_in(&mut self, rng: &mut Rng, count: usize) {
        let mut batch = Vec::new();
        for _ in 0..count {
            let n = self.model.next;
            self.model.next += 1;
            let mut payload = format!("{n} ").into_bytes();
            payload.resize(payload.len() + [0, 30, 200, 3000][rng.below(4)], b'.');
            let topic = Topic::new(TOPICS[rng.below(TOPICS.len())]).unwrap();
            let message = Message::internal("test", topic, Bytes::from(payload), QoS::AtLeastOnce);
            let sink: Arc<dyn AckSink> = self.sink.clone();
            batch.push(Publication::new(message, Some((sink, n))));
        }
        let first = self.model.next - count as u64;
        self.model
            .tell(format!("{first} to {} published", self.model.next - 1));
        self.broker.publish(&mut batch);
        for (publication, n) in batch.iter().zip(first..) {
            match publication.outcome {
                PublishOutcome::Pending => {}
                PublishOutcome::Done { .. } => self.sink.acked(n, Ok(())),
                PublishOutcome::Refused(refusal) => panic!("{n}: {refusal:?}"),
            }
        }
    }

    fn note_acknowledged(&mut self) {
        self.model
            .acked
            .extend(self.sink.0.lock().unwrap().drain(..));
    }

    async fn publish(&mut self, rng: &mut Rng, count: usize) {
        self.hand_in(rng, count);
        self.settle().await;
        self.note_acknowledged();
        let last = self.model.next - 1;
        assert!(
            self.model.acked.contains(&last),
            "{last} is not acknowledged"
        );
    }

    fn state(&self) -> LinkState {
        self.bridge.status().remove(0).state
    }

    async fn accept(&mut self, rng: &mut Rng) {
        if self.peer.is_some() && self.state() == LinkState::Connected {
            return;
        }
        if rng.one_in(4) {
            let attempt = tokio::time::timeout(Duration::from_secs(600), self.far.next_try());
            if let Ok(Some(attempt)) = attempt.await {
                let why = [Layer::Dns, Layer::Tcp, Layer::Connack][rng.below(3)];
                attempt.refuse(Ended::lost(why, "not now"));
            }
            return;
        }
        self.connect([1, 2, 5, 20, u16::MAX][rng.below(5)]).await;
    }

    async fn connect(&mut self, receive_maximum: u16) {
        let accepted = Accepted {
            receive_maximum,
            session_present: true,
            ..Accepted::unlimited(30)
        };
        let accept = self.far.accept(accepted);
        let peer = tokio::time::timeout(Duration::from_secs(600), accept).await;
        let Ok(Some(peer)) = peer else { return };
        self.peer = Some(peer);
        self.model
            .tell(format!("connected, receive maximum {receive_maximum}"));
        self.model.counts.connections += 1;
        self.subscribed = false;
        self.waiting.clear();
        self.down.clear();
        self.down_id = 0;
        self.settle().await;
    }

    /// Takes what has come on the connection.
    fn read(&mut self) {
        while let Some(packet) = self.peer.as_mut().and_then(Peer::try_next) {
            match packet {
                Packet::Publish(id, publish) => {
                    let n = number(&publish.payload);
                    self.model.arrives(&publish.topic, n);
                    if self.waiting.iter().any(|(used, _)| *used == id) {
                        panic!("packet id {id} is in use");
                    }
                    self.waiting.push((id, n));
                }
                Packet::Subscribe(filters) => {
                    let codes = vec![1; filters.len()];
                    self.send(Event::Subscribed(codes));
                    if !self.subscribed {
                        self.subscribed = true;
                        for n in self.model.down_waiting.clone() {
                            self.send_down(n);
                        }
                    }
                }
                Packet::Ack(id, _) => {
                    let n = self
                        .down
                        .remove(&id)
                        .expect("an acknowledgement for nothing");
                    self.model.down_waiting.remove(&n);
                }
                Packet::Ping => self.send(Event::Pong),
                Packet::Unsubscribe(_) | Packet::Disconnect => {}
            }
        }
    }

    fn send(&self, event: Event) {
        if let Some(peer) = &self.peer {
            peer.send(event);
        }
    }

    /// PUBACK for at most so many, in any order (`None`: in theirs).
    async fn acknowledge(&mut self, most: usize, mut rng: Option<&mut Rng>) {
        let before = self.bridge.status().remove(0).connects;
        let mut told = Vec::new();
        while !self.waiting.is_empty() && told.len() < most {
            let at = rng
                .as_deref_mut()
                .map_or(0, |r| r.below(self.waiting.len()));
            let (id, n) = self.waiting.remove(at);
            if let Some(peer) = &self.peer {
                peer.ack(id, 0);
            }
            told.push(n);
        }
        let up = self.state() == LinkState::Connected;
        self.settle().await;
        // On a connection that the link has left an acknowledgement is not heard.
        let status = self.bridge.status().remove(0);
        if up && status.state == LinkState::Connected && status.connects == before {
            self.model.tell(format!("{told:?} confirmed"));
            self.model.confirmed.extend(told);
        }
    }

    /// One message is refused for good.
    async fn refuse(&mut self, rng: &mut Rng) {
        self.read();
        if self.waiting.is_empty() || self.state() != LinkState::Connected {
            return;
        }
        let at = rng.below(self.waiting.len());
        let (id, n) = self.waiting.remove(at);
        if let Some(peer) = &self.peer {
            peer.ack(id, 0x99);
        }
        self.settle().await;
        if self.state() == LinkState::Connected {
            self.model.refused.insert(n);
        }
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let n = self.model.down_next;
            self.model.down_next += 1;
            self.model.down_waiting.insert(n);
            if self.subscribed {
                self.send_down(n);
            }
        }
    }

    fn send_down(&mut self, n: u64) {
        self.down_id += 1;
        self.down.insert(self.down_id, n);
        if let Some(peer) = &self.peer {
            peer.deliver(Incoming {
                topic: "down/x".into(),
                payload: Bytes::from(format!("{n} ")),
                qos: QoS::AtLeastOnce,
                retain: false,
                dup: false,
                packet_id: self.down_id,
                expiry: None,
                properties: None,
            });
        }
    }

    /// The connection ends, with or without having read what came on it.
    fn cut(&mut self, rng: &mut Rng) {
        if rng.one_in(2) {
            self.read();
        }
        self.model.tell("cut");
        self.subscribed = false;
        if let Some(peer) = self.peer.take() {
            peer.end(Ended::lost(Layer::Mqtt, "cut"));
        }
    }

    fn queued(&self) -> u64 {
        let status = self.bridge.status();
        let routes = status.iter().flat_map(|upstream| &upstream.routes);
        routes.map(|route| route.queued).sum()
    }

    /// What is true after every step.
    fn check(&mut self) {
        let mut accepted = 0;
        for upstream in self.bridge.status() {
            for route in &upstream.routes {
                let dropped: u64 = route.dropped.values().sum();
                let sum = route.delivered + route.queued + dropped;
                assert_eq!(route.accepted, sum, "{route:#?}");
                let only = route
                    .dropped
                    .keys()
                    .all(|reason| reason == "upstream-refused");
                assert!(only, "{route:#?}");
                if route.direction == "out" && &*upstream.name == "cloud" {
                    accepted += route.accepted;
                }
            }
        }
        let (acked, sent) = (self.model.acked.len() as u64, self.model.next);
        assert!(
            acked <= accepted,
            "{} acknowledged and lost",
            acked - accepted
        );
        assert!(
            acked <= accepted && accepted <= sent,
            "{acked} {accepted} {sent}"
        );
    }

    async fn stop(mut self) -> End {
        self.bridge.stop().await;
        self.broker.stop();
        self.settle().await;
        let Self {
            dir,
            store,
            broker,
            bridge,
            ..
        } = self;
        drop((bridge, broker));
        store.close();
        End::Stopped(dir)
    }

    /// In the middle of a commit, as likely as not.
    fn crash(mut self, rng: &mut Rng, forgets: bool) -> End {
        self.note_acknowledged();
        let synced: Synced = disk::synced(self.dir.path());
        let more = rng.below(30);
        if more > 0 && !forgets {
            self.hand_in(rng, more);
        }
        let (left, torn) = disk::crash(self.dir.path(), &synced, rng, forgets);
        End::Crashed(left, torn)
    }
}

fn number(payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}
