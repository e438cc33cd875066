//! One client: its state, its subscriptions, its connection. Blocking; network work happens only
//! inside calls, and callbacks run on the calling thread inside calls that wait.
//!
//! 1. One operation at a time: whoever moves `state` from idle owns the connection until it moves
//!    it back. A callback's own thread may begin one within; others are told [`Error::NotIdle`].
//! 2. No lock is held while a callback runs.
//! 3. After a callback everything may have changed, the connection included: it is looked at
//!    again.

mod operation;
mod outbox;
mod reconnect;
mod state;
mod table;
mod waiting;
mod wake;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iotedge_mqtt::{Connect, PacketId, Publish, QoS, Str, SubAckCode};

use self::operation::Operation;
use self::outbox::Outbox;
pub(crate) use self::outbox::{Done, Post};
use self::reconnect::Backoff;
pub(crate) use self::state::State;
use self::table::Table;
pub(crate) use self::waiting::Ran;
pub(crate) use self::wake::Wake;
use crate::connection::{Connection, Outcome};
use crate::error::{Error, Result};
use crate::log;

/// Where to connect and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Name or address; also what the server's certificate must be valid for.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// The certificates that may have signed the server's, in PEM.
    pub(crate) ca: PathBuf,
    /// Client certificate chain and private key, in PEM.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server must be the one it says.
    pub(crate) verify: bool,
    /// The protocol to ask for by ALPN; without one, AWS IoT's on port 443.
    pub(crate) alpn: Option<Vec<u8>>,
    /// A Unix socket to connect to instead, without TLS: nothing else here counts then.
    pub(crate) local: Option<PathBuf>,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.local {
            Some(path) => write!(f, "{}", path.display()),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What a client is made with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The server.
    pub(crate) endpoint: Endpoint,
    /// How long an answer may take, and the TCP connection.
    pub(crate) command_timeout: Duration,
    /// How long the TLS handshake may take.
    pub(crate) tls_timeout: Duration,
    /// Packets to send are smaller than this.
    pub(crate) tx_limit: usize,
    /// Received packets are smaller than this; others are skipped and told.
    pub(crate) rx_limit: usize,
    /// Subscriptions at most.
    pub(crate) max_subscriptions: usize,
    /// The first wait before reconnecting; doubles.
    pub(crate) reconnect_min: Duration,
    /// The longest.
    pub(crate) reconnect_max: Duration,
    /// Whether to reconnect at all.
    pub(crate) auto_reconnect: bool,
    /// Whether attempts end when the longest wait is over.
    pub(crate) gives_up: bool,
    /// Posted messages that may wait for their acknowledgement at the server; 0 without posting.
    pub(crate) max_in_flight: u16,
    /// Bytes of posted messages that are not acknowledged yet, at most.
    pub(crate) max_queued_bytes: usize,
}

/// Is given a message of a subscription.
pub(crate) type Handler = Arc<dyn Fn(&Publish) + Send + Sync>;
/// Is called when a lost connection was made again, with its subscriptions.
pub(crate) type ReturnHandler = Arc<dyn Fn(&Client) + Send + Sync>;
/// Is told that the connection is lost.
pub(crate) type LossHandler = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Client {
    settings: Settings,
    state: AtomicI32,
    auto_reconnect: AtomicBool,
    losses: AtomicU32,
    connection: Mutex<Option<Connection>>,
    table: Mutex<Table>,
    backoff: Mutex<Backoff>,
    outbox: Mutex<Outbox>,
    /// For those who post, and for programs with a loop of their own.
    wake: Option<Wake>,
}

/// A lock that a panic elsewhere has not spoilt: what it guards is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client that has not connected yet. Touches neither network nor files.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with_wake(settings, None)
    }

    /// One that messages can be posted to.
    pub(crate) fn with_wake(settings: Settings, wake: Option<Wake>) -> Self {
        Self {
            state: AtomicI32::new(State::Initialized as i32),
            auto_reconnect: AtomicBool::new(settings.auto_reconnect),
            losses: AtomicU32::new(0),
            connection: Mutex::new(None),
            table: Mutex::new(Table::new(settings.max_subscriptions)),
            backoff: Mutex::new(Backoff::default()),
            outbox: Mutex::new(Outbox::default()),
            wake,
            settings,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state().is_connected()
    }

    pub(crate) fn auto_reconnect(&self) -> bool {
        self.auto_reconnect.load(Ordering::Relaxed)
    }

    pub(crate) fn set_auto_reconnect(&self, on: bool) {
        self.auto_reconnect.store(on, Ordering::Relaxed);
    }

    /// How often the connection was lost.
    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    pub(crate) fn reset_losses(&self) {
        self.losses.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_loss_handler(&self, handler: Option<LossHandler>) {
        lock(&self.table).on_loss = handler;
    }

    /// Adds who is called when a lost connection was made again.
    pub(crate) fn on_return(&self, handler: ReturnHandler) {
        lock(&self.table).on_return.push(handler);
    }

    /// What the next connect without parameters uses.
    pub(crate) fn set_login(&self, login: Connect) {
        lock(&self.table).login = Some(login);
    }

    /// Connects: TCP, TLS, CONNECT and CONNACK. Without `login` the one before is used again.
    pub(crate) fn connect(&self, login: Option<Connect>) -> Result<()> {
        let before = self.state();
        if !before.may_connect() {
            return Err(Error::AlreadyConnected);
        }
        let login = {
            let mut table = lock(&self.table);
            if login.is_some() {
                table.login = login;
            }
            table
                .login
                .clone()
                .ok_or(Error::Missing("connect parameters"))?
        };
        if !self.swap(before, State::Connecting) {
            return Err(Error::AlreadyConnected);
        }
        let mut outcome = Connecting {
            client: self,
            becomes: State::DisconnectedError,
        };
        *lock(&self.connection) = None;
        let connection = Connection::open(&self.settings, &login)?;
        self.watch(&connection);
        *lock(&self.connection) = Some(connection);
        outcome.becomes = State::ConnectedIdle;
        drop(outcome);
        log::info(&format!("connected to {}", self.settings.endpoint));
        self.pump();
        self.rest();
        Ok(())
    }

    /// Sends DISCONNECT and closes. The loss handler is not called.
    pub(crate) fn disconnect(&self) -> Result<()> {
        loop {
            let state = self.state();
            if !state.is_connected() {
                return Err(Error::NotConnected);
            }
            if self.swap(state, State::Disconnecting) {
                break;
            }
        }
        let connection = lock(&self.connection).take();
        let sent = connection.map_or(Ok(()), Connection::disconnect);
        self.put(State::DisconnectedManually);
        self.give_up_posted(&Error::ManuallyDisconnected);
        sent
    }

    /// Ends the client for good; calls that are still going on find no connection.
    pub(crate) fn retire(&self) {
        self.put(State::Invalid);
        *lock(&self.connection) = None;
        lock(&self.table).clear();
        self.give_up_posted(&Error::ManuallyDisconnected);
    }

    /// Publishes. With QoS 1 and 2 it returns when the server has acknowledged.
    pub(crate) fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<Option<PacketId>> {
        iotedge_model::Topic::check(topic)?;
        let operation = self.begin(State::PublishInProgress)?;
        let id = self.with_connection(|c| c.publish(topic, payload, qos, retain))?;
        if let Some(id) = id {
            self.await_answer(&operation, id)?;
        }
        Ok(id)
    }

    /// Subscribes and returns the server's code. The handler stays unless the call fails; with
    /// `exclusive` it takes the place of earlier ones for the same filter, and stays only if the
    /// server grants.
    pub(crate) fn subscribe(
        &self,
        filter: &Str,
        qos: QoS,
        handler: Handler,
        exclusive: bool,
    ) -> Result<SubAckCode> {
        let operation = self.begin(State::SubscribeInProgress)?;
        let slot = lock(&self.table).add(filter, qos, handler, exclusive)?;
        let outcome = self.ask_to_subscribe(&operation, filter, qos);
        let mut table = lock(&self.table);
        match &outcome {
            Err(_) => table.remove(slot),
            Ok(SubAckCode::Refused(_)) if exclusive => table.remove(slot),
            Ok(_) if exclusive => table.remove_others(filter, slot),
            Ok(_) => {}
        }
        outcome
    }

    /// Unsubscribes; every handler of the filter goes.
    pub(crate) fn unsubscribe(&self, filter: &Str) -> Result<()> {
        let operation = self.begin(State::UnsubscribeInProgress)?;
        if !lock(&self.table).has(filter) {
            return Err(Error::NotSubscribed);
        }
        let id = self.with_connection(|c| c.unsubscribe(filter.clone()))?;
        self.await_answer(&operation, id)?;
        lock(&self.table).remove_filter(filter);
        Ok(())
    }

    /// Subscribes again to everything there is a handler for.
    pub(crate) fn resubscribe(&self) -> Result<()> {
        match self.state() {
            State::ConnectedIdle => {}
            state if state.is_connected() => return Err(Error::UnexpectedState),
            _ => return Err(Error::NotConnected),
        }
        let operation = self.begin(State::ResubscribeInProgress)?;
        let filters = lock(&self.table).filters();
        for (filter, qos) in filters {
            self.ask_to_subscribe(&operation, &filter, qos)?;
        }
        Ok(())
    }

    fn ask_to_subscribe(
        &self,
        operation: &Operation<'_>,
        filter: &Str,
        qos: QoS,
    ) -> Result<SubAckCode> {
        let id = self.with_connection(|c| c.subscribe(filter.clone(), qos))?;
        match self.await_answer(operation, id)? {
            Outcome::Subscribed(code) => Ok(code),
            // An answer of the wrong kind was not taken for it.
            Outcome::Done => Err(Error::UnexpectedState),
        }
    }

    pub(super) fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let mut connection = lock(&self.connection);
        work(connection.as_mut().ok_or(Error::NotConnected)?)
    }
}

/// Leaves the state right however connecting ends.
struct Connecting<'a> {
    client: &'a Client,
    becomes: State,
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.client.swap(State::Connecting, self.becomes);
    }
}
