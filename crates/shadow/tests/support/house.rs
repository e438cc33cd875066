//! The rooms around the service, as tests need them.
#![allow(clippy::unwrap_used, dead_code)] // each test file uses its part of it

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake as TaskWake, Waker};
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{
    Message, Now, Principal, QoS, Source, Topic, TopicFilter, TraceId, UnixMillis,
};
use iotedge_ports::*;
use iotedge_shadow::{CommitDone, Put, Settings, ShadowService, ShadowStore, StorageFailure};
use serde_json::Value;

/// Time that moves when a test says so.
pub struct TestClock(pub AtomicU64, pub AtomicBool);

impl TestClock {
    pub fn advance_seconds(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let wall = self.0.load(Ordering::SeqCst);
        Now {
            mono: wall,
            wall: UnixMillis(wall),
            trusted: self.1.load(Ordering::SeqCst),
        }
    }
}

/// Remembers what was published.
#[derive(Default)]
pub struct TestBroker(pub Mutex<Vec<Message>>);

impl TestBroker {
    pub fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.0.lock().unwrap())
            .into_iter()
            .map(|m| {
                let payload = serde_json::from_slice(&m.payload).unwrap();
                (m.topic.as_str().to_owned(), payload)
            })
            .collect()
    }
}

impl BrokerPort for TestBroker {
    fn connect(&self, _: ConnectRequest) -> Result<Connected, ConnectRefused> {
        Err(ConnectRefused::Stopping)
    }
    fn detach(&self, _: Detached) {}
    fn subscribe(
        &self,
        _: ConnectionId,
        _: &[Subscription],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<SubscribeResult>, bool) {
        (Vec::new(), true)
    }
    fn send_retained(&self, _: ConnectionId, _: &[Subscription]) {}
    fn unsubscribe(
        &self,
        _: ConnectionId,
        _: &[Arc<str>],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<bool>, bool) {
        (Vec::new(), true)
    }
    fn publish(&self, batch: &mut [Publication]) {
        for publication in batch {
            let message = publication.message.take().unwrap();
            assert_eq!(message.qos, QoS::AtLeastOnce);
            assert!(!message.retain);
            assert_eq!(message.source.to_column(), "service:shadow");
            self.0.lock().unwrap().push(message);
            publication.outcome = PublishOutcome::Done { matched: true };
        }
    }
    fn attach_service(&self, _: &[TopicFilter], _: Arc<dyn Service>) {}
    fn attach_route(&self, _: AttachRoute) -> Arc<dyn Mailbox> {
        panic!("the service attaches no route")
    }
    fn attach_outbox(
        &self,
        _: iotedge_ports::AttachOutbox,
    ) -> (iotedge_ports::OutboxId, Arc<dyn Mailbox>) {
        unreachable!("nobody here has rules")
    }
    fn remove_outbox(&self, _: iotedge_ports::OutboxId) {}
    fn retained(&self, _: &Topic) -> Option<Arc<Message>> {
        None
    }

    fn retained_after(&self, _after: Option<&Topic>, _most: usize) -> Vec<Arc<Message>> {
        Vec::new()
    }
    fn close_principal(&self, _: &Principal, _: CloseReason) -> usize {
        0
    }
}

#[derive(Default)]
struct MemoryState {
    entries: BTreeMap<String, Bytes>,
    held: Option<Vec<CommitDone>>,
    puts: usize,
    lists: usize,
}

/// A store that commits when a test says so.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<MemoryState>,
    changed: Condvar,
}

impl MemoryStore {
    /// From now on nothing is committed.
    pub fn hold(&self) {
        self.state.lock().unwrap().held = Some(Vec::new());
    }
    /// Commits all that was held, or fails it.
    pub fn release(&self, outcome: &Result<(), StorageFailure>) {
        let held = self.state.lock().unwrap().held.take();
        for done in held.into_iter().flatten() {
            done(outcome.clone());
        }
    }
    /// Waits until so many puts have come since the beginning.
    pub fn wait_for_puts(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let enough = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(10), |s| s.puts < count)
            .unwrap();
        assert!(!enough.1.timed_out(), "{} puts of {count}", enough.0.puts);
    }
    /// Waits until no more than so many documents are left.
    pub fn wait_for_forgetting(&self, most: usize) {
        let state = self.state.lock().unwrap();
        let enough = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(30), |s| s.entries.len() > most)
            .unwrap();
        let left = enough.0.entries.len();
        assert!(!enough.1.timed_out(), "{left} are left, not {most}");
    }
    pub fn puts(&self) -> usize {
        self.state.lock().unwrap().puts
    }
    /// How often it was listed.
    pub fn lists(&self) -> usize {
        self.state.lock().unwrap().lists
    }
    pub fn len(&self) -> usize {
        self.state.lock().unwrap().entries.len()
    }
}

impl ShadowStore for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Bytes>, StorageFailure> {
        Ok(self.state.lock().unwrap().entries.get(key).cloned())
    }
    fn put(&self, puts: Vec<Put>) -> Result<(), StorageFailure> {
        let mut state = self.state.lock().unwrap();
        let mut committed = Vec::new();
        for put in puts {
            state.entries.insert(put.key, put.body);
            state.puts += 1;
            match &mut state.held {
                Some(held) => held.push(put.done),
                None => committed.push(put.done),
            }
        }
        drop(state);
        self.changed.notify_all();
        for done in committed {
            done(Ok(()));
        }
        Ok(())
    }
    fn forget(&self, key: &str) -> Result<(), StorageFailure> {
        self.state.lock().unwrap().entries.remove(key);
        self.changed.notify_all();
        Ok(())
    }
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StorageFailure> {
        let mut state = self.state.lock().unwrap();
        state.lists += 1;
        Ok(state
            .entries
            .iter()
            .filter(|(k, _)| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a))
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}

/// Allows everything, but not to `mallory`.
pub struct TestAuthorizer(pub Mutex<Vec<String>>);

impl Authorizer for TestAuthorizer {
    fn authorize(&self, request: &AuthRequest<'_>) -> Decision {
        let asked = format!("{} {}", request.action, request.resource);
        self.0.lock().unwrap().push(asked);
        match &*request.principal.id() {
            "user:mallory" | "anonymous:closed" => Decision::Deny("not these".into()),
            _ => Decision::Allow,
        }
    }
    fn generation(&self) -> u64 {
        0
    }
    fn status(&self, _: &Principal, _: Option<&iotedge_ports::Grant>) -> PrincipalStatus {
        PrincipalStatus::Active
    }
}

/// Collects acknowledgements.
#[derive(Default)]
pub struct Acks {
    outcomes: Mutex<Vec<(u64, Result<(), Failure>)>>,
    more: Condvar,
}

impl AckSink for Acks {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        self.outcomes.lock().unwrap().push((token, outcome));
        self.more.notify_all();
    }
}

impl Acks {
    /// Waits for so many and takes them.
    pub fn wait(&self, count: usize) -> Vec<(u64, Result<(), Failure>)> {
        let outcomes = self.outcomes.lock().unwrap();
        let (mut outcomes, timeout) = self
            .more
            .wait_timeout_while(outcomes, Duration::from_secs(10), |o| o.len() < count)
            .unwrap();
        assert!(!timeout.timed_out(), "{} of {count}", outcomes.len());
        std::mem::take(&mut *outcomes)
    }
    pub fn count(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }
}

/// The service with everything around it.
pub struct House {
    pub clock: Arc<TestClock>,
    pub broker: Arc<TestBroker>,
    pub service: Arc<ShadowService>,
    pub acks: Arc<Acks>,
    token: AtomicU64,
}

impl House {
    pub fn new(store: Arc<dyn ShadowStore>) -> Self {
        Self::with(store, Settings::default())
    }

    pub fn with(store: Arc<dyn ShadowStore>, settings: Settings) -> Self {
        let clock = Arc::new(TestClock(
            AtomicU64::new(1_700_000_000_000),
            AtomicBool::new(true),
        ));
        let broker = Arc::new(TestBroker::default());
        let service = ShadowService::start(store, broker.clone(), clock.clone(), settings).unwrap();
        Self {
            clock,
            broker,
            service,
            acks: Arc::new(Acks::default()),
            token: AtomicU64::new(0),
        }
    }

    /// Hands a message in; its acknowledgement comes to `acks`. Gives the token.
    pub fn send(&self, topic: &str, payload: impl Into<Bytes>) -> u64 {
        let token = self.token.fetch_add(1, Ordering::SeqCst);
        let mut message = Message::internal(
            "test",
            Topic::new(topic).unwrap(),
            payload.into(),
            QoS::AtLeastOnce,
        );
        message.source = Source::Mqtt;
        message.trace = TraceId(u128::from(token) + 1);
        let completion = Completion::new(self.acks.clone(), token);
        let part = completion.part();
        self.service.deliver(&Arc::new(message), Some(part));
        token
    }

    /// Hands a message in, waits for its acknowledgement and gives what was published.
    pub fn ask(&self, topic: &str, payload: impl Into<Bytes>) -> Vec<(String, Value)> {
        self.send(topic, payload);
        assert_eq!(self.acks.wait(1).remove(0).1, Ok(()));
        self.broker.take()
    }
}

struct Unpark(std::thread::Thread);

impl TaskWake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
