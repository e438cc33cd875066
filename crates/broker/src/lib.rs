//! The broker: who takes which message, and what is kept for whom.
//!
//! # Invariants
//! 1. **Admission is whole.** Whether every durable taker that insists can have a message is decided
//!    before anyone gets it; a refused message reaches nobody. A session whose queue is full, and a
//!    route that may drop, go without it instead, counted.
//! 2. **Acknowledged means kept.** A publication's sink hears `Ok` after every durable taker's row,
//!    the retained row and every service's effect are committed, and not before.
//! 3. **Ids are order.** A message's id is given under the broker's lock and its rows are handed to
//!    the store under the same lock, so that the rows of a taker become visible in id order: a
//!    reader that has seen row *n* never misses a row before it.
//! 4. **Memory does not hold a queue.** A taker has at most [`Limits::outbox_messages`] deliveries
//!    in memory; behind that its rows wait in the store and are read in batches.
//! 5. **A row goes when its taker has acknowledged it**, or when it is dropped with a reason that
//!    is counted.
//! 6. **Exactly once.** A QoS 2 message of a session that outlives its connection is one transaction
//!    with its packet id: rows, retained message and id are there together or not at all, and until
//!    PUBREL a PUBLISH with that id is nothing but acknowledged. Before that commit the message
//!    comes out for nobody, and PUBREC not at all. What the same publisher sends meanwhile keeps
//!    its place: behind it in the queues that have rows, and where there is no row held until the
//!    same commit or a later one. Outbound, a packet id is committed before its PUBLISH leaves
//!    (what was drained after it waits with it), a receipt before its PUBREL. Sessions that end
//!    with their connection keep all of this in memory, and hold nothing back.
//! 7. **One connection a session.** A connection that was taken over gets nothing and changes
//!    nothing from then on.
//!
//! One synchronous struct behind a lock with short critical sections; no task, no socket, no
//! channel. Whoever publishes does the work on its own thread.
#![forbid(unsafe_code)]

mod client;
mod core;
mod events;
mod group;
mod late;
mod outbox;
mod pace;
mod promise;
mod publish;
mod received;
mod retained;
mod session;
mod status;
mod succession;
mod sys;
mod tree;
mod will;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use iotedge_model::{ClientId, Message, Principal, Topic, TopicFilter};
use iotedge_ports::{
    AckSink, AttachOutbox, AttachRoute, BrokerPort, Clock, CloseReason, ConnectFailed,
    ConnectRefused, ConnectRequest, Connected, ConnectionId, Detached, Mailbox, OutboxId,
    Publication, RuleEngine, Service, SubscribeResult, Subscription, Wake,
};
use iotedge_store::{DeadLetterError, Done, Opened, Store, TakerId};

pub use status::{BrokerStatus, ClientStatus};

use crate::core::Core;
use crate::events::Announcer;
use crate::sys::Sys;

/// What the broker bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Live clients.
    pub max_connections: usize,
    /// Connections that one client id may open in a second; `None` for any number.
    pub max_connects_per_client: Option<u32>,
    /// Unacknowledged QoS ≥ 1 deliveries for a client.
    pub max_inflight: u16,
    /// Messages that wait for one session in the store.
    pub max_queued_messages: u64,
    /// Their bytes.
    pub max_queued_bytes: u64,
    /// Deliveries that wait for one taker in memory.
    pub outbox_messages: usize,
    /// Their bytes.
    pub outbox_bytes: usize,
    /// Subscriptions of a session.
    pub max_subscriptions: usize,
    /// Levels of a filter.
    pub max_topic_levels: usize,
    /// Retained messages.
    pub retained_max: usize,
    /// Their bytes, all of which are in memory.
    pub retained_max_bytes: usize,
    /// Sessions that outlive their connection.
    pub max_sessions: usize,
    /// How often a rule may republish what came of a rule.
    pub max_hops: u8,
    /// How often the broker's counters are published on `$SYS/broker/…`; zero for never.
    pub sys_interval: Duration,
    /// Whether what clients do is published on `$aws/events/…`.
    pub lifecycle_events: bool,
    /// Whether a client's `a/#` matches `a` (MQTT 3.1.1, 4.7.1.2). AWS IoT Core says no.
    pub wildcards_match_parent: bool,
    /// Whether a subscription with wildcards brings retained messages. AWS IoT Core says no.
    pub retained_to_wildcards: bool,
    /// What this gateway is called in the hop lists of messages ([`iotedge_model::HOPS`]): one that
    /// comes back from another gateway is acknowledged and goes to nobody. `None`: it has no name.
    pub gateway_id: Option<Arc<str>>,
    /// Whether a client resumes its session with another version of MQTT. AWS IoT Core says no.
    pub resume_across_versions: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connects_per_client: None,
            max_inflight: 100,
            max_queued_messages: 1_000_000,
            max_queued_bytes: 256 << 20,
            outbox_messages: 16_384,
            outbox_bytes: 4 << 20,
            max_subscriptions: 1_000,
            max_topic_levels: 128,
            retained_max: 100_000,
            retained_max_bytes: 64 << 20,
            max_sessions: 100_000,
            max_hops: 10,
            sys_interval: Duration::from_secs(10),
            lifecycle_events: true,
            wildcards_match_parent: true,
            retained_to_wildcards: true,
            gateway_id: None,
            resume_across_versions: true,
        }
    }
}

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

pub(crate) struct Shared {
    /// For what goes on when a call is over.
    me: Weak<Shared>,
    core: Mutex<Core>,
    store: Store,
    clock: Arc<dyn Clock>,
    rules: OnceLock<Arc<dyn RuleEngine>>,
    limits: Limits,
    announcer: Announcer,
    /// `None` when switched off.
    sys: Option<Sys>,
}

impl Broker {
    /// Takes over what the store holds: sessions with their subscriptions, retained messages.
    /// Nothing is counted or scanned: a session's queue is read when its client comes.
    pub fn new(store: Store, opened: &mut Opened, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let core = Core::load(&store, opened, &clock, &limits);
        let sys = Sys::new(limits.sys_interval);
        Self(Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            core: Mutex::new(core),
            store,
            clock,
            rules: OnceLock::new(),
            limits,
            announcer: Announcer::default(),
            sys,
        }))
    }

    /// Binds the rules; once, before the first message.
    pub fn bind_rules(&self, rules: Arc<dyn RuleEngine>) {
        if self.0.rules.set(rules).is_err() {
            tracing::error!("rules were bound twice; the first stay");
        }
    }

    /// Ends sessions, retained messages and what waits for routes whose time is over, has queues that
    /// could not be read looked at again, and publishes the broker's counters when it is time. Call
    /// about once a second.
    pub fn tick(&self) {
        self.0.expire_retained();
        self.0.expire_sessions();
        self.0.expire_routed();
        self.0.look_again();
        self.0.publish_counters();
    }

    /// Refuses new clients and publications and closes every connection; what their ends make (wills
    /// that are due) is published still. Wills that wait for their delay go on in the next process.
    pub fn stop(&self) {
        let mut core = self.0.lock();
        core.stopping = true;
        for session in core.sessions.iter() {
            if let Some(live) = &session.live {
                live.handle.close(CloseReason::ServerShuttingDown);
            }
        }
    }

    /// Puts a dead letter back into the queue that it was in, behind all that waits there; its
    /// counters say accepted once more. `done` is told when that is on disk.
    ///
    /// # Errors
    /// At once and with `done` dropped, when the letter or its queue is not there.
    pub fn revive(&self, letter: u64, done: Done) -> Result<TakerId, DeadLetterError> {
        self.0.revive(letter, done)
    }

    /// What is going on.
    pub fn status(&self) -> BrokerStatus {
        status::status(&self.0)
    }
}

impl Shared {
    /// The lock. A panic under it means that the broker's state may be torn: the process ends and
    /// starts again from the store, where nothing acknowledged is missing.
    fn lock(&self) -> MutexGuard<'_, Core> {
        match self.core.lock() {
            Ok(guard) => guard,
            Err(poisoned) => {
                tracing::error!("the broker's state is torn by a panic; the process ends");
                drop(PoisonError::into_inner(poisoned));
                std::process::abort();
            }
        }
    }
}

impl BrokerPort for Broker {
    fn connect(&self, request: ConnectRequest) -> Result<Connected, ConnectRefused> {
        self.0.connect(request)
    }

    fn make_way(
        &self,
        client_id: &ClientId,
        principal: &Principal,
        successor: Arc<dyn Wake>,
    ) -> bool {
        self.0.make_way(client_id, principal, successor)
    }

    fn connect_failed(&self, failed: ConnectFailed) {
        self.0.connect_failed(failed);
    }

    fn detach(&self, detached: Detached) {
        self.0.detach(detached);
    }

    fn subscribe(
        &self,
        connection: ConnectionId,
        subscriptions: &[Subscription],
        ack: (Arc<dyn AckSink>, u64),
    ) -> (Vec<SubscribeResult>, bool) {
        self.0.subscribe(connection, subscriptions, ack)
    }

    fn send_retained(&self, connection: ConnectionId, subscriptions: &[Subscription]) {
        self.0.send_retained(connection, subscriptions);
    }

    fn unsubscribe(
        &self,
        connection: ConnectionId,
        filters: &[Arc<str>],
        ack: (Arc<dyn AckSink>, u64),
    ) -> (Vec<bool>, bool) {
        self.0.unsubscribe(connection, filters, ack)
    }

    fn publish(&self, batch: &mut [Publication]) {
        self.0.publish(batch);
    }

    fn attach_service(&self, filters: &[TopicFilter], service: Arc<dyn Service>) {
        self.0.lock().attach_service(filters, service);
    }

    fn attach_route(&self, route: AttachRoute) -> Arc<dyn Mailbox> {
        self.0.attach_route(route)
    }

    fn attach_outbox(&self, outbox: AttachOutbox) -> (OutboxId, Arc<dyn Mailbox>) {
        self.0.attach_outbox(outbox)
    }

    fn remove_outbox(&self, outbox: OutboxId) {
        self.0.remove_outbox(outbox);
    }

    fn retained(&self, topic: &Topic) -> Option<Arc<Message>> {
        let message = {
            let core = self.0.lock();
            core.retained.get(topic).or_else(|| core.sys.get(topic))?
        };
        (!message.is_expired(&self.0.clock.now())).then_some(message)
    }

    fn retained_after(&self, after: Option<&Topic>, most: usize) -> Vec<Arc<Message>> {
        let now = self.0.clock.now();
        self.0.lock().retained.after(after, most, &now)
    }

    fn close_principal(&self, principal: &Principal, reason: CloseReason) -> usize {
        self.0.lock().close_principal(principal, reason)
    }
}
