use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{
    ClientId, Message, Principal, Properties, QoS, SharedFilter, Topic, TopicFilter,
};

use crate::{AckSink, Mailbox, Part, SessionMailbox};

/// A live connection's number; never given twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Is told that there is something to drain. Called from any thread and under the broker's lock:
/// must not block and must not call back.
pub trait Wake: Send + Sync {
    /// The mailbox has become non-empty since it was last drained to the end.
    fn wake(&self);
}

/// Why the broker ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Another connection took the client id over ([MQTT-3.1.4-2]).
    SessionTakenOver,
    /// It did not take its messages and its buffer is full.
    SlowConsumer,
    /// The certificate was revoked or switched off.
    NotAuthorized,
    /// The daemon stops.
    ServerShuttingDown,
    /// An operator closed it.
    AdministrativeAction,
}

/// What the broker holds of a connection.
pub trait ClientHandle: Wake {
    /// Ends the connection. Must not block and must not call back.
    fn close(&self, reason: CloseReason);
    /// Itself, as what is woken. (Rust 1.85 does not make one trait object of the other.)
    fn into_wake(self: Arc<Self>) -> Arc<dyn Wake>;
}

/// A will (MQTT 3.1.1, 3.1.2.5), already checked against the policies.
#[derive(Debug, Clone)]
pub struct Will {
    /// Topic.
    pub topic: Topic,
    /// Payload.
    pub payload: Bytes,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Seconds between the loss of the connection and the will (MQTT 5, 3.1.3.2.2).
    pub delay: u32,
    /// Message expiry in seconds.
    pub expiry: Option<u32>,
    /// MQTT 5 properties.
    pub properties: Option<Box<Properties>>,
}

/// A CONNECT that has passed authentication and policy.
pub struct ConnectRequest {
    /// The client id; the gateway has replaced an empty one.
    pub client_id: ClientId,
    /// Clean session (3.1.1) or clean start (5).
    pub clean: bool,
    /// Seconds that the session outlives the connection: 0 ends with it, `u32::MAX` never ends.
    /// A 3.1.1 client with clean session off asks for the configured default.
    pub session_expiry: u32,
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The will.
    pub will: Option<Will>,
    /// 4 for 3.1.1, 5 for 5.
    pub protocol_level: u8,
    /// Keep-alive in seconds, for status and events.
    pub keep_alive: u16,
    /// How many QoS 1 and 2 messages the client takes at once (MQTT 5, 3.1.2.11.3); a 3.1.1 client
    /// has no way to say it, which is `u16::MAX`. The broker's own window may be smaller.
    pub receive_maximum: NonZeroU16,
    /// The peer.
    pub remote: Option<SocketAddr>,
    /// The listener's address as configured.
    pub listener: Arc<str>,
    /// The connection.
    pub handle: Arc<dyn ClientHandle>,
    /// Is told when CONNACK may go, where it has to wait ([`Connected::promised`]).
    pub ack: (Arc<dyn AckSink>, u64),
    /// It makes no lifecycle events: the daemon's own.
    pub silent: bool,
}

/// A client that was not let in, for what its policies say or for who it is.
pub struct ConnectFailed {
    /// The client id that it asked for.
    pub client_id: ClientId,
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The peer.
    pub remote: Option<SocketAddr>,
}

/// Why the broker takes no such session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectRefused {
    /// The session belongs to a certificate and an anonymous client asked for it.
    NotYours,
    /// More clients than `broker.max_connections`, or sessions than `broker.max_sessions`.
    TooMany,
    /// The client id connects more often than `broker.max_connects_per_client` allows.
    TooSoon,
    /// The daemon stops.
    Stopping,
}

/// A session, attached.
pub struct Connected {
    /// The connection's number.
    pub connection: ConnectionId,
    /// Whether the session was there before ([MQTT-3.2.2-2]).
    pub session_present: bool,
    /// CONNACK may go at once. Otherwise it promises what is not on disk yet: a new session that
    /// stays, the end of an old one, a will. The sink is told when it is.
    pub promised: bool,
    /// Where its messages come out. What was sent on the last connection and not acknowledged
    /// comes first, with DUP and the same packet ids ([MQTT-4.4.0-1]).
    pub mailbox: Arc<dyn SessionMailbox>,
    /// The filters that a resumed session has: asked again of the policies ([`BrokerPort::unsubscribe`]
    /// those that are denied now).
    pub filters: Vec<Arc<str>>,
    /// Packet ids of QoS 2 messages that the session has taken and whose PUBREL has not come: a
    /// PUBLISH with one of them is the same message again, also after a restart.
    pub unreleased: Vec<NonZeroU16>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// DISCONNECT: the will is discarded ([MQTT-3.1.2-10]).
    ClientInitiated,
    /// A DISCONNECT that does not discard the will: any reason code but 0 (MQTT 5, 3.1.2.5).
    ClientInitiatedWithWill,
    /// Anything else: the will is published.
    Lost,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It sent DISCONNECT, or closed its WebSocket.
    ClientInitiated,
    /// It said what it must not say.
    ClientError,
    /// The network took it away.
    ConnectionLost,
    /// Another connection took its client id over.
    DuplicateClientId,
    /// Its policies did not allow what it did.
    AuthError,
    /// It may not be here any more: its certificate was revoked or switched off.
    ForbiddenAccess,
    /// It was silent for one and a half times its keep-alive.
    KeepAliveTimeout,
    /// Its WebSocket has lasted as long as it may.
    WebSocketExpired,
    /// The custom authorizer gave it no longer.
    CustomAuthExpired,
    /// It did not take its messages.
    SlowConsumer,
    /// A queue that its message was bound for was full.
    QuotaExceeded,
    /// The store took nothing.
    StoreUnavailable,
    /// Something failed here.
    ServerError,
    /// The daemon stops.
    ShuttingDown,
    /// An operator closed it.
    AdministrativeAction,
}

impl DisconnectReason {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "SLOW_CONSUMER",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::ShuttingDown => "SERVER_SHUTTING_DOWN",
            Self::AdministrativeAction => "ADMINISTRATIVE_ACTION",
            _ => self.event_value(),
        }
    }

    /// `disconnectReason` of the lifecycle event: one of the values that AWS IoT documents.
    pub fn event_value(self) -> &'static str {
        match self {
            Self::ClientInitiated => "CLIENT_INITIATED_DISCONNECT",
            Self::ClientError => "CLIENT_ERROR",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::DuplicateClientId => "DUPLICATE_CLIENTID",
            Self::AuthError => "AUTH_ERROR",
            Self::ForbiddenAccess => "FORBIDDEN_ACCESS",
            Self::KeepAliveTimeout => "MQTT_KEEP_ALIVE_TIMEOUT",
            Self::WebSocketExpired => "WEBSOCKET_TTL_EXPIRATION",
            Self::CustomAuthExpired => "CUSTOMAUTH_TTL_EXPIRATION",
            Self::QuotaExceeded => "THROTTLED",
            Self::StoreUnavailable | Self::ServerError => "SERVER_ERROR",
            Self::SlowConsumer | Self::ShuttingDown => "SERVER_INITIATED_DISCONNECT",
            Self::AdministrativeAction => "API_INITIATED_DISCONNECT",
        }
    }
}

/// What a connection gives back when it ends.
pub struct Detached {
    /// Which.
    pub connection: ConnectionId,
    /// How.
    pub end: EndKind,
    /// Seconds that the client asked for in its DISCONNECT, instead of what it asked for in its
    /// CONNECT (MQTT 5, 3.14.2.2.2).
    pub session_expiry: Option<u32>,
    /// Why, for its lifecycle event.
    pub reason: DisconnectReason,
}

/// What becomes of retained messages on SUBSCRIBE (MQTT 5, 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// Sent with each subscription; 3.1.1 always.
    #[default]
    Send,
    /// Sent if the subscription is new.
    SendIfNew,
    /// Not sent.
    DoNotSend,
}

/// The options of one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Highest QoS of deliveries.
    pub qos: QoS,
    /// Not what the same connection published (MQTT 5).
    pub no_local: bool,
    /// Keep the RETAIN flag as published (MQTT 5).
    pub retain_as_published: bool,
    /// Retained messages at SUBSCRIBE.
    pub retain_handling: RetainHandling,
    /// Subscription identifier (MQTT 5).
    pub identifier: Option<NonZeroU32>,
}

impl SubscribeOptions {
    /// As a 3.1.1 client asks.
    pub fn v311(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
            identifier: None,
        }
    }
}

/// One filter of a SUBSCRIBE that policy allows.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The filter.
    pub filter: SharedFilter,
    /// The filter as the client wrote it.
    pub text: Arc<str>,
    /// Options.
    pub options: SubscribeOptions,
}

/// The answer for one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeResult {
    /// Granted.
    Granted(QoS),
    /// Granted, and the session had the filter before (MQTT 5, 3.8.3.1: retain handling asks).
    Replaced(QoS),
    /// More than the limit.
    QuotaExceeded,
}

/// Why a publication was not accepted. Nobody got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A durable taker that refuses when full is full.
    QuotaExceeded,
    /// It is larger than all that such a taker may ever hold: trying again is of no use.
    TooLarge,
    /// The store takes nothing (disk full, broken).
    StoreUnavailable,
    /// The daemon stops.
    Stopping,
    /// The connection that publishes is no longer attached.
    Detached,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Accepted, and nothing to wait for: acknowledge now. `matched` says whether anyone takes it.
    Done {
        /// Whether any taker was found.
        matched: bool,
    },
    /// Accepted; the sink is told when it may be acknowledged.
    Pending,
    /// Not accepted.
    Refused(Refusal),
}

/// A taker whose queue in memory fills faster than it empties. A publisher that meets one reads no
/// further for a while, so that a burst is slowed down and not lost.
pub trait Pressure: Send + Sync {
    /// Whether there is room again. Otherwise `waiter` is woken once when there is.
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool;

    /// The publisher has waited long enough: nobody waits for this taker again before it has made
    /// room, and it alone bears what follows.
    fn give_up(&self);
}

/// A message to publish, and after the call what became of it.
pub struct Publication {
    /// The message. Taken by the call.
    pub message: Option<Message>,
    /// Who is told when it is durable, with a number of its own. `None` for QoS 0 and for
    /// publishers that do not wait.
    pub ack: Option<(Arc<dyn AckSink>, u64)>,
    /// The answer.
    pub outcome: PublishOutcome,
    /// The connection that publishes, for MQTT 5's no local.
    pub connection: Option<ConnectionId>,
    /// The packet id of a QoS 2 PUBLISH of that connection: kept with the message until
    /// [`SessionMailbox::release`] where the session outlives its connection, so that the same
    /// message is not accepted twice.
    pub inbound: Option<NonZeroU16>,
    /// A taker that the publisher should wait for before it publishes more.
    pub pressure: Option<Arc<dyn Pressure>>,
    /// The one queue that it is for; `None` for all who take its topic.
    pub target: Option<crate::Target>,
}

impl Publication {
    /// One to hand in.
    pub fn new(message: Message, ack: Option<(Arc<dyn AckSink>, u64)>) -> Self {
        Self {
            message: Some(message),
            ack,
            outcome: PublishOutcome::Refused(Refusal::Stopping),
            connection: None,
            inbound: None,
            pressure: None,
            target: None,
        }
    }
}

/// A room that takes messages inside the process.
pub trait Service: Send + Sync {
    /// A message on one of its filters, in the publisher's order. Must not block. `done` is there
    /// when the publisher waits: finish it when the effect is durable.
    fn deliver(&self, message: &Arc<Message>, done: Option<Part>);
}

/// A durable taker that is no session: a bridge's outbound route.
pub struct AttachRoute {
    /// Its name for ever: `upstream/route`. Its rows survive restarts under it.
    pub name: Arc<str>,
    /// What it takes.
    pub filters: Vec<TopicFilter>,
    /// Highest QoS.
    pub qos: QoS,
    /// The upstream whose own inbound messages are not sent back.
    pub upstream: Arc<str>,
    /// Byte limit of its queue.
    pub max_bytes: u64,
    /// Message limit of its queue.
    pub max_messages: u64,
    /// What happens at the limit.
    pub on_full: crate::OnFull,
    /// How long messages wait, and in what order they go.
    pub rules: crate::RouteRules,
    /// Is told of arrivals.
    pub wake: Arc<dyn Wake>,
}

/// The broker, as everyone else sees it. Every call is synchronous and short.
pub trait BrokerPort: Send + Sync {
    /// Attaches a client to its session, new or resumed; takes over from a live connection.
    fn connect(&self, request: ConnectRequest) -> Result<Connected, ConnectRefused>;

    /// Asks the live connection of a client id to end, when it has done what its client had said
    /// before: its DISCONNECT may be among it. `true`: there is one that `principal` may follow, and
    /// `successor` is woken when it has detached. For who is about to [`BrokerPort::connect`], which
    /// takes over from one that is still there.
    fn make_way(
        &self,
        client_id: &ClientId,
        principal: &Principal,
        successor: Arc<dyn Wake>,
    ) -> bool {
        let _ = (client_id, principal, successor);
        false
    }

    /// Tells of a client that was not let in, for its lifecycle event.
    fn connect_failed(&self, failed: ConnectFailed) {
        let _ = failed;
    }

    /// Ends a connection: its will, its session's fate. Nothing for a connection that was taken
    /// over or already detached.
    fn detach(&self, detached: Detached);

    /// Adds subscriptions. The sink is told when they are durable, where the session is; `Ok(true)`
    /// in the second place says that there is nothing to wait for.
    fn subscribe(
        &self,
        connection: ConnectionId,
        subscriptions: &[Subscription],
        ack: (Arc<dyn AckSink>, u64),
    ) -> (Vec<SubscribeResult>, bool);

    /// Queues the retained messages that these subscriptions ask for. Called after the SUBACK is
    /// written, with those that [`BrokerPort::subscribe`] granted; what it replaced is left out
    /// where the retain handling says [`RetainHandling::SendIfNew`].
    fn send_retained(&self, connection: ConnectionId, subscriptions: &[Subscription]);

    /// Removes filters by their text; says for each whether it was there. `true` in the second
    /// place: nothing to wait for.
    fn unsubscribe(
        &self,
        connection: ConnectionId,
        filters: &[Arc<str>],
        ack: (Arc<dyn AckSink>, u64),
    ) -> (Vec<bool>, bool);

    /// Publishes a batch in order; each gets its outcome.
    fn publish(&self, batch: &mut [Publication]);

    /// A room takes messages from now on. Filters of services match `$` topics like any other.
    fn attach_service(&self, filters: &[TopicFilter], service: Arc<dyn Service>);

    /// A route takes messages from now on, and what waits from before.
    fn attach_route(&self, route: AttachRoute) -> Arc<dyn Mailbox>;

    /// A rule action's outbox takes messages from now on ([`crate::Target::Outbox`]), and what waits
    /// from before. Attached again under the same name, it has a new mailbox and the same number.
    fn attach_outbox(&self, outbox: crate::AttachOutbox) -> (crate::OutboxId, Arc<dyn Mailbox>);

    /// An outbox goes for good; what waits in it is counted as dropped.
    fn remove_outbox(&self, outbox: crate::OutboxId);

    /// The retained message of one topic.
    fn retained(&self, topic: &Topic) -> Option<Arc<Message>>;

    /// Retained messages in the order of their topics, from behind `after`, at most `most`.
    fn retained_after(&self, after: Option<&Topic>, most: usize) -> Vec<Arc<Message>>;

    /// Closes every connection of this principal; says how many.
    fn close_principal(&self, principal: &Principal, reason: CloseReason) -> usize;
}
