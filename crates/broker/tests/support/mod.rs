//! A broker on a store in a temporary folder, and clients without sockets.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // a test may panic, and uses what it needs

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use iotedge_broker::{Broker, Limits};
use iotedge_model::{
    ClientId, DropReason, Message, MessageId, Now, Principal, PrincipalKind, QoS, SharedFilter,
    Source, Topic, TraceId, UnixMillis,
};
use iotedge_ports::{
    AckSink, BrokerPort, ClientHandle, Clock, CloseReason, ConnectRefused, ConnectRequest,
    Connected, Detached, DisconnectReason, DrainLimit, DrainState, EndKind, Failure, Outgoing,
    OutgoingPublish, Outlet, Publication, PublishOutcome, Sending, SubscribeOptions, Subscription,
    Wake, Will,
};
use iotedge_store::{Options, Store};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// The token of a CONNACK that waits.
pub const CONNACK: u64 = 97;

#[derive(Default)]
pub struct TestClock(pub AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.0.load(Ordering::Relaxed);
        Now {
            mono,
            wall: UnixMillis(1_700_000_000_000 + mono),
            trusted: true,
        }
    }
}

/// Hears of commits, wakes and closes.
#[derive(Default)]
pub struct Ears {
    state: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Default, Clone)]
pub struct Heard {
    pub acked: Vec<(u64, Result<(), Failure>)>,
    pub closed: Option<CloseReason>,
    pub wakes: usize,
}

impl Ears {
    pub fn heard(&self) -> Heard {
        self.state.lock().unwrap().clone()
    }

    /// Waits until `enough` says so.
    pub fn wait(&self, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
        let guard = self.state.lock().unwrap();
        let (guard, timeout) = self
            .changed
            .wait_timeout_while(guard, PATIENCE, |heard| !enough(heard))
            .unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}");
        guard.clone()
    }

    fn change(&self, f: impl FnOnce(&mut Heard)) {
        f(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Wake for Ears {
    fn wake(&self) {
        self.change(|heard| heard.wakes += 1);
    }
}

impl ClientHandle for Ears {
    fn close(&self, reason: CloseReason) {
        self.change(|heard| heard.closed = Some(reason));
    }

    fn into_wake(self: Arc<Self>) -> Arc<dyn Wake> {
        self
    }
}

impl AckSink for Ears {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        self.change(|heard| heard.acked.push((token, outcome)));
    }
}

pub struct House {
    pub broker: Broker,
    pub store: Store,
    pub clock: Arc<TestClock>,
}

impl House {
    pub fn open(dir: &Path, limits: Limits) -> Self {
        Self::open_with(
            dir,
            limits,
            Options {
                min_free_disk: 0,
                ..Options::default()
            },
        )
    }

    /// A process that starts `millis` after the beginning of time.
    pub fn open_at(dir: &Path, millis: u64) -> Self {
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let clock = TestClock(AtomicU64::new(millis));
        Self::start(dir, Limits::default(), options, clock)
    }

    pub fn open_with(dir: &Path, limits: Limits, options: Options) -> Self {
        Self::start(dir, limits, options, TestClock::default())
    }

    fn start(dir: &Path, limits: Limits, options: Options, clock: TestClock) -> Self {
        let (store, mut opened) = Store::open(dir, options).unwrap();
        let clock = Arc::new(clock);
        let broker = Broker::new(store.clone(), &mut opened, clock.clone(), limits);
        Self {
            broker,
            store,
            clock,
        }
    }

    /// Ends as a stop does: what was handed to the store is written.
    pub fn close(self) {
        drop(self.broker);
        self.store.close();
    }

    /// Time passes, and the broker notices.
    pub fn pass(&self, millis: u64) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
        self.broker.tick();
    }

    pub fn client(&self, id: &str) -> ClientBuilder<'_> {
        ClientBuilder {
            house: self,
            id: id.to_owned(),
            clean: true,
            principal: user("someone"),
            will: None,
            session_expiry: None,
            receive_maximum: NonZeroU16::MAX,
            protocol_level: 4,
            silent: false,
        }
    }

    /// Publishes and waits for whatever there is to wait for.
    pub fn publish(&self, topic: &str, payload: &str, qos: QoS) -> PublishOutcome {
        self.publish_message(message(topic, payload, qos))
    }

    pub fn publish_message(&self, message: Message) -> PublishOutcome {
        let ears = Arc::new(Ears::default());
        let ack = (message.qos > QoS::AtMostOnce).then(|| (ears.clone() as Arc<_>, 1));
        let mut batch = [Publication::new(message, ack)];
        self.broker.publish(&mut batch);
        let [publication] = batch;
        if publication.outcome == PublishOutcome::Pending {
            let heard = ears.wait("the commit", |heard| !heard.acked.is_empty());
            assert_eq!(heard.acked, [(1, Ok(()))]);
        }
        publication.outcome
    }
}

pub fn user(name: &str) -> Arc<Principal> {
    Arc::new(Principal {
        kind: PrincipalKind::User { name: name.into() },
    })
}

pub fn anonymous() -> Arc<Principal> {
    Arc::new(Principal {
        kind: PrincipalKind::Anonymous {
            listener: "l".into(),
        },
    })
}

pub fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message {
        id: MessageId(0),
        trace: TraceId(0),
        hops: 0,
        principal: user("publisher"),
        client_id: "publisher".into(),
        source_ip: None,
        source: Source::Mqtt,
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: None,
        properties: None,
    }
}

pub struct ClientBuilder<'a> {
    house: &'a House,
    id: String,
    clean: bool,
    principal: Arc<Principal>,
    will: Option<Will>,
    session_expiry: Option<u32>,
    receive_maximum: NonZeroU16,
    protocol_level: u8,
    silent: bool,
}

impl ClientBuilder<'_> {
    pub fn version5(mut self) -> Self {
        self.protocol_level = 5;
        self
    }

    pub fn session_expiry(mut self, seconds: u32) -> Self {
        self.session_expiry = Some(seconds);
        self
    }

    pub fn receive_maximum(mut self, maximum: u16) -> Self {
        self.receive_maximum = NonZeroU16::new(maximum).unwrap();
        self
    }

    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.will.as_mut().expect("has a will").delay = seconds;
        self
    }

    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    pub fn persistent(mut self) -> Self {
        self.clean = false;
        self
    }

    pub fn principal(mut self, principal: Arc<Principal>) -> Self {
        self.principal = principal;
        self
    }

    pub fn will(mut self, topic: &str, payload: &str) -> Self {
        self.will = Some(Will {
            topic: Topic::new(topic).unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay: 0,
            expiry: None,
            properties: None,
        });
        self
    }

    pub fn try_connect(self) -> Result<Client, ConnectRefused> {
        let ears = Arc::new(Ears::default());
        let connected = self.house.broker.connect(ConnectRequest {
            client_id: ClientId::new(&self.id).unwrap(),
            clean: self.clean,
            session_expiry: self
                .session_expiry
                .unwrap_or(if self.clean { 0 } else { 3_600 }),
            principal: self.principal,
            will: self.will,
            protocol_level: self.protocol_level,
            keep_alive: 60,
            receive_maximum: self.receive_maximum,
            remote: Some(([192, 0, 2, 7], 4000).into()),
            listener: "test".into(),
            handle: ears.clone(),
            silent: self.silent,
            ack: (ears.clone(), CONNACK),
        })?;
        Ok(Client {
            broker: self.house.broker.clone(),
            ears,
            connected,
        })
    }

    pub fn connect(self) -> Client {
        self.try_connect()
            .unwrap_or_else(|refused| panic!("{refused:?}"))
    }
}

pub struct Client {
    pub broker: Broker,
    pub ears: Arc<Ears>,
    pub connected: Connected,
}

impl Client {
    pub fn subscribe(&self, filter: &str, qos: QoS) {
        self.subscribe_with(filter, SubscribeOptions::v311(qos));
    }

    pub fn unsubscribe(&self, filter: &str) {
        let ack = (self.ears.clone() as Arc<_>, 98);
        let (removed, _) =
            self.broker
                .unsubscribe(self.connected.connection, &[filter.into()], ack);
        assert_eq!(removed, [true]);
    }

    pub fn subscribe_with(&self, filter: &str, options: SubscribeOptions) {
        let subscription = Subscription {
            filter: SharedFilter::new(filter).unwrap(),
            text: filter.into(),
            options,
        };
        let subscriptions = [subscription];
        let ack = (self.ears.clone() as Arc<_>, 99);
        let (_, done) = self
            .broker
            .subscribe(self.connected.connection, &subscriptions, ack);
        if !done {
            self.ears
                .wait("SUBACK", |h| h.acked.iter().any(|(token, _)| *token == 99));
        }
        self.broker
            .send_retained(self.connected.connection, &subscriptions);
    }

    /// The deliveries that are there now.
    pub fn drain(&self) -> Vec<OutgoingPublish> {
        let publish = |outgoing| match outgoing {
            Outgoing::Publish(publish) => Some(publish),
            Outgoing::Release(_) => None,
        };
        self.drain_all().into_iter().filter_map(publish).collect()
    }

    /// Sends nothing of what is there now.
    pub fn refuse(&self, reason: DropReason) {
        struct Refusing(DropReason);
        impl Outlet for Refusing {
            fn publish(&mut self, _: Sending<'_>) -> Result<(), DropReason> {
                Err(self.0)
            }
            fn release(&mut self, _: NonZeroU16) {}
        }
        let limit = DrainLimit {
            messages: 1_000,
            bytes: 1 << 20,
        };
        let mailbox = &self.connected.mailbox;
        while mailbox.drain(limit, &mut Refusing(reason)) == DrainState::More {}
    }

    /// What is there now.
    pub fn drain_all(&self) -> Vec<Outgoing> {
        let mut out: Vec<Outgoing> = Vec::new();
        let limit = DrainLimit {
            messages: 1_000,
            bytes: 1 << 20,
        };
        while self.connected.mailbox.drain(limit, &mut out) == DrainState::More {}
        out
    }

    /// Waits for `n` deliveries.
    pub fn receive(&self, n: usize) -> Vec<OutgoingPublish> {
        let mut out = self.drain();
        while out.len() < n {
            let wakes = self.ears.heard().wakes;
            let mut more = self.drain();
            if more.is_empty() {
                self.ears.wait("a delivery", |heard| heard.wakes > wakes);
                more = self.drain();
            }
            out.append(&mut more);
        }
        out
    }

    pub fn acknowledge(&self, outgoing: &OutgoingPublish) -> bool {
        let id = outgoing.packet_id.expect("has a packet id");
        self.connected.mailbox.puback(&[id]) == 1
    }

    pub fn disconnect(self, end: EndKind) {
        self.broker.detach(Detached {
            connection: self.connected.connection,
            end,
            session_expiry: None,
            reason: if end == EndKind::Lost {
                DisconnectReason::ConnectionLost
            } else {
                DisconnectReason::ClientInitiated
            },
        });
    }
}

pub fn payloads(deliveries: &[OutgoingPublish]) -> Vec<String> {
    deliveries
        .iter()
        .map(|o| String::from_utf8_lossy(&o.delivery.message.payload).into_owned())
        .collect()
}
