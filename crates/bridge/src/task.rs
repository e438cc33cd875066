//! The shell around the pure parts: one task a link, one event loop a connection.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use iotedge_model::{Now, Principal, Source, TopicFilter};
use iotedge_ports::{BrokerPort, Clock, Delivery, Mailbox};
use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, Transport};
use tokio::sync::{Notify, watch};

use crate::config::Endpoint;
use crate::inbound::{Inbound, Sink};
use crate::shared::{Desired, Shared};
use crate::window::Window;
use crate::{ConfigError, Direction, tls};

mod connection;
mod incoming;
mod outgoing;
mod suspect;

use incoming::{Blocked, Refused};
use suspect::Suspect;

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
    delivery: Delivery,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// An operator or the daemon wants something else.
    Desired,
    /// It failed.
    Lost(String),
    /// We ended it: what comes in can not be taken now.
    Held(String),
    /// The upstream or our own files say no.
    Refused(String),
}

/// The largest remaining length that there is (MQTT 3.1.1, 2.2.3).
const MAX_PROTOCOL_BYTES: usize = 268_435_455;
/// Acknowledgements of inbound messages that the client library holds at most.
const MAX_ACKS: usize = 128;

/// A PUBLISH: fixed header, the topic's length and the packet id are nine bytes at most.
fn packet_bytes(topic: &str, payload: &[u8]) -> usize {
    topic.len() + payload.len() + 9
}

pub(crate) struct Task {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    broker: Arc<dyn BrokerPort>,
    clock: Arc<dyn Clock>,
    desired: watch::Receiver<Desired>,
    notify: Arc<Notify>,
    /// The upstream filters of inbound routes, each with its place in `config.routes`.
    incoming: Vec<(usize, TopicFilter)>,
    principal: Arc<Principal>,
    source: Source,
    out: Vec<OutRoute>,
    /// Whose turn it is to send.
    turn: usize,
    /// A mailbox had more and gave nothing: asked again after a moment.
    stalled: bool,
    window: Window<Sent>,
    suspect: Suspect,
    /// When the SUBSCRIBE without SUBACK was handed over.
    subscribing: Option<tokio::time::Instant>,
    inbound: Inbound,
    sink: Arc<Sink>,
    blocked: std::collections::VecDeque<Blocked>,
    blocked_bytes: usize,
    refused: Option<Refused>,
    /// Inbound acknowledgements handed to the library and not on the wire yet.
    acks_queued: usize,
    random: RandomState,
    rolls: u64,
}

impl Task {
    pub(crate) fn new(
        shared: Arc<Shared>,
        broker: Arc<dyn BrokerPort>,
        clock: Arc<dyn Clock>,
        notify: Arc<Notify>,
        out: Vec<OutRoute>,
    ) -> Result<Self, ConfigError> {
        let mut incoming = Vec::new();
        for (at, route) in shared.config.routes.iter().enumerate() {
            if route.direction == Direction::In {
                let filter = route
                    .remote_filter()
                    .map_err(|reason| ConfigError::Filter {
                        route: route.name.clone(),
                        key: "remote_prefix",
                        reason,
                    })?;
                incoming.push((at, filter));
            }
        }
        Ok(Self {
            incoming,
            principal: Arc::new(Principal::service("bridge")),
            source: Source::Upstream {
                name: Arc::from(shared.config.name.as_str()),
            },
            endpoint: Endpoint::parse(&shared.config.url)?,
            desired: shared.desired.subscribe(),
            window: Window::new(usize::from(shared.config.max_in_flight)),
            sink: Arc::new(Sink::new(notify.clone())),
            shared,
            broker,
            clock,
            notify,
            out,
            turn: 0,
            stalled: false,
            suspect: Suspect::default(),
            subscribing: None,
            inbound: Inbound::default(),
            blocked: std::collections::VecDeque::new(),
            blocked_bytes: 0,
            refused: None,
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
                    self.shared.link().paused(self.now());
                    self.log();
                    // Its sender lives in `shared`, which this task holds.
                    let _ = self.desired.changed().await;
                    continue;
                }
                Desired::Stopped => {
                    self.shared.link().stopped(self.now());
                    self.log();
                    return;
                }
            }
            self.shared.link().connecting(self.now());
            let end = self.connect().await;
            self.blame(&end);
            self.disconnected();
            self.ended(end).await;
        }
    }

    /// Remembers which message was the oldest on a connection that the other side or the network
    /// ended.
    fn blame(&mut self, end: &End) {
        if !matches!(end, End::Lost(_)) {
            return;
        }
        // Ids of what is not in the store name nothing.
        if let Some(sent) = self.window.oldest().filter(|s| s.delivery.durable) {
            self.suspect.blame((sent.route, sent.delivery.message.id));
        }
    }

    /// Notes why the connection ended and waits as long as that demands.
    async fn ended(&mut self, end: End) {
        let (now, dice) = (self.now(), self.dice());
        match &end {
            End::Desired => return,
            End::Lost(reason) | End::Held(reason) => self.shared.link().lost(reason, now, dice),
            End::Refused(reason) => self.shared.link().refused(reason, now, dice),
        }
        self.log();
        let pause = self.shared.link().wait(now).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.desired.changed() => {}
        }
    }

    fn log(&self) {
        let link = self.shared.link();
        tracing::info!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            state = ?link.state(),
            reason = link.reason(),
            next_retry = link.next_retry().map(|at| at.0),
            "upstream link"
        );
    }

    fn options(&self) -> Result<MqttOptions, End> {
        let config = &self.shared.config;
        let mut options = MqttOptions::new(
            config.client_id.as_str(),
            self.endpoint.host.as_str(),
            self.endpoint.port,
        );
        if self.endpoint.tls {
            let tls =
                tls::client_config(config, &self.clock).map_err(|e| End::Refused(e.to_string()))?;
            options.set_transport(Transport::tls_with_config(
                rumqttc::TlsConfiguration::Rustls(Arc::new(tls)),
            ));
        }
        options.set_keep_alive(Duration::from_secs(u64::from(config.keep_alive)));
        options.set_clean_session(config.clean_session);
        // Inbound the protocol's limit: what the library can not read it can not acknowledge, and
        // it would come again for ever.
        options.set_max_packet_size(MAX_PROTOCOL_BYTES, config.max_packet_bytes);
        // The library gives packet ids 1 to this in turn, to SUBSCRIBE too: above the window by
        // what subscriptions can take of it, no id is met again while it waits.
        options.set_inflight(config.max_in_flight.saturating_add(64));
        options.set_manual_acks(true);
        if let Some(username) = &config.username {
            options.set_credentials(
                username.as_str(),
                config.password.as_deref().unwrap_or_default(),
            );
        }
        Ok(options)
    }

    /// From name resolution to the connection's end.
    async fn connect(&mut self) -> End {
        let options = match self.options() {
            Ok(options) => options,
            Err(end) => return end,
        };
        // All that can be under way at once fits, so that handing over never waits.
        let capacity = usize::from(self.shared.config.max_in_flight) + MAX_ACKS + 8;
        let (client, mut events) = AsyncClient::new(options, capacity);
        // The library takes this one for writing a packet too, which may last.
        let writing = connection::writing_timeout(&self.shared.config);
        events.network_options.set_connection_timeout(writing);
        events.network_options.set_tcp_nodelay(true);
        let connecting = tokio::time::timeout(self.shared.config.connect_timeout, events.poll());
        let first = tokio::select! {
            first = connecting => first.unwrap_or(Err(ConnectionError::NetworkTimeout)),
            _ = self.desired.changed() => return End::Desired,
        };
        match first {
            Ok(_) => {
                self.shared.link().connected(self.now());
                self.log();
                self.connected(&client, &mut events).await
            }
            Err(error) => self.failed(&error),
        }
    }

    /// An error of the library in an operator's words.
    fn failed(&self, error: &ConnectionError) -> End {
        let Endpoint { host, port, .. } = &self.endpoint;
        match error {
            ConnectionError::ConnectionRefused(code) => {
                let text = match code {
                    ConnectReturnCode::ServiceUnavailable => {
                        return End::Lost(format!(
                            "{host}:{port}: the server is unavailable (CONNACK 3)"
                        ));
                    }
                    ConnectReturnCode::RefusedProtocolVersion => "no MQTT 3.1.1 (CONNACK 1)",
                    ConnectReturnCode::BadClientId => "the client id is refused (CONNACK 2)",
                    ConnectReturnCode::BadUserNamePassword => {
                        "bad user name or password (CONNACK 4)"
                    }
                    ConnectReturnCode::NotAuthorized => "not authorized (CONNACK 5)",
                    ConnectReturnCode::Success => "CONNACK 0 taken for a refusal",
                };
                End::Refused(format!("{host}:{port}: {text}"))
            }
            ConnectionError::NetworkTimeout => {
                End::Lost(format!("{host}:{port}: no connection within the timeout"))
            }
            other => End::Lost(format!("{host}:{port}: {other}")),
        }
    }

    /// Nothing of the old connection is left: the mailboxes give again what was not acknowledged.
    fn disconnected(&mut self) {
        self.pass_on_acknowledgements();
        self.window.clear();
        self.subscribing = None;
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

    /// What the library read before it met an error still counts.
    fn last_words(&mut self, events: &mut EventLoop) {
        while let Some(event) = events.state.events.pop_front() {
            if let rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) = event {
                self.upstream_acknowledged(ack.pkid);
            }
        }
    }
}
