//! Connections by the client library.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use iotedge_model::QoS;
use iotedge_ports::Clock;
use rumqttc::{Outgoing, Transport};

use super::counted::Traffic;
use super::dial::{self, Dial};
use super::relay::{Door, Relay};
use super::{
    Accepted, Connecting, Connection, Connector, Ended, Event, Filter, Finishing, Layer, Outcome,
    Publish, v4, v5,
};
use crate::endpoint::Endpoint;
use crate::{Config, ConfigError, Version};

/// The largest remaining length that there is (MQTT 3.1.1, 2.2.3).
const MAX_PROTOCOL_BYTES: usize = 268_435_455;
/// Acknowledgements of inbound messages that the library holds at most.
pub(crate) const MAX_ACKS: usize = 128;
/// The slowest link that is no dead one, in bytes a second.
pub(crate) const SLOWEST: u64 = 2048;
/// A session of version 5 that does not expire (MQTT 5, 3.1.2.11.2), as 3.1.1 has it. Servers
/// shorten it.
const FOREVER: u32 = u32::MAX;

/// Makes connections by rumqttc, each with a fresh event loop over a way of our own.
pub(crate) struct Library {
    config: Arc<Config>,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    traffic: Arc<Traffic>,
    /// Names of the relay's sockets.
    random: RandomState,
}

/// User name and password.
type Login = Option<(String, String)>;

/// What the library of either version says of its own doing; `None`: nobody needs it.
pub(super) fn outgoing(done: &Outgoing) -> Result<Option<Event>, Ended> {
    Ok(Some(match done {
        Outgoing::Publish(packet_id) => Event::Published(*packet_id),
        Outgoing::PubAck(_) | Outgoing::PubRec(_) => Event::AckSent,
        Outgoing::Subscribe(_) | Outgoing::Unsubscribe(_) => Event::SubscribeSent,
        Outgoing::PingReq => Event::PingSent,
        Outgoing::Disconnect => Event::Left,
        Outgoing::AwaitAck(id) => {
            let text = format!("packet id {id} is still in use");
            return Err(Ended::lost(Layer::Mqtt, text));
        }
        _ => return Ok(None),
    }))
}

/// How long writing one packet may take, in seconds.
fn writing_timeout(config: &Config) -> u64 {
    let connecting = config.connect_timeout.as_secs();
    let bytes = u64::try_from(config.max_packet_bytes).unwrap_or(u64::MAX);
    (bytes / SLOWEST).max(connecting).max(60)
}

impl Library {
    pub(crate) fn new(config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: Endpoint::parse(&config.url)?,
            config,
            clock,
            traffic: Arc::default(),
            random: RandomState::new(),
        })
    }

    /// Read anew: a changed password serves the next connection.
    fn login(&self) -> Result<Login, Ended> {
        let Some(username) = &self.config.username else {
            return Ok(None);
        };
        let password = match &self.config.password_file {
            Some(path) => dial::password(path)?,
            None => String::new(),
        };
        Ok(Some((username.clone(), password)))
    }

    /// All that can be under way at once fits, so that handing over never waits.
    fn capacity(&self) -> usize {
        usize::from(self.config.max_in_flight) + MAX_ACKS + 8
    }

    /// The library gives packet ids 1 to this in turn, to SUBSCRIBE too: above the window by what
    /// subscriptions can take of it, no id is met again while it waits.
    fn packet_ids(&self) -> u16 {
        self.config.max_in_flight.saturating_add(64)
    }

    fn keep_alive(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.keep_alive))
    }

    async fn v4(&self, door: &str, login: Login) -> Result<(v4::V4, Accepted), Ended> {
        let config = &*self.config;
        let mut options = rumqttc::MqttOptions::new(config.client_id.as_str(), door, 0);
        options.set_transport(Transport::Unix);
        options.set_keep_alive(self.keep_alive());
        options.set_clean_session(config.clean_session);
        // Inbound the protocol's limit: what the library can not read it can not acknowledge, and
        // it would come again for ever.
        options.set_max_packet_size(MAX_PROTOCOL_BYTES, config.max_packet_bytes);
        options.set_inflight(self.packet_ids());
        options.set_manual_acks(true);
        if let Some((username, password)) = login {
            options.set_credentials(username, password);
        }
        let (client, mut events) = rumqttc::AsyncClient::new(options, self.capacity());
        // The library takes this one for writing a packet too, which may last.
        let writing = writing_timeout(config);
        events.network_options.set_connection_timeout(writing);
        v4::connect(client, events, config.keep_alive).await
    }

    async fn v5(&self, door: &str, login: Login) -> Result<(v5::V5, Accepted), Ended> {
        let config = &*self.config;
        let mut options = rumqttc::v5::MqttOptions::new(config.client_id.as_str(), door, 0);
        options.set_transport(Transport::Unix);
        options.set_keep_alive(self.keep_alive());
        options.set_clean_start(config.clean_session);
        let expiry = if config.clean_session { 0 } else { FOREVER };
        options.set_session_expiry_interval(Some(expiry));
        let largest = u32::try_from(MAX_PROTOCOL_BYTES).unwrap_or(u32::MAX);
        options.set_max_packet_size(Some(largest));
        options.set_outgoing_inflight_upper_limit(self.packet_ids());
        options.set_manual_acks(true);
        options.set_connection_timeout(writing_timeout(config));
        if let Some((username, password)) = login {
            options.set_credentials(username, password);
        }
        let (client, events) = rumqttc::v5::AsyncClient::new(options, self.capacity());
        v5::connect(client, events, config.keep_alive).await
    }
}

/// A connection and what carries it.
struct Relayed<C> {
    connection: C,
    relay: Relay,
}

/// The reason behind the end that the library saw: a broken way, told better by who walked it.
fn behind(ended: Ended, relay: &Relay) -> Ended {
    match (ended.code, relay.reason()) {
        (None, Some(reason)) => reason,
        _ => ended,
    }
}

impl<C: Connection + 'static> Connection for Relayed<C> {
    fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        self.connection.publish(publish)
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        self.connection.subscribe(filters)
    }

    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended> {
        self.connection.unsubscribe(filter)
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        self.connection.acknowledge(packet_id, qos)
    }

    fn ping(&mut self) {
        self.connection.ping();
    }

    fn disconnect(&mut self) -> Result<(), Ended> {
        self.connection.disconnect()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        let polled = self.connection.poll_event(cx);
        polled.map_err(|ended| behind(ended, &self.relay))
    }

    fn buffered(&mut self) -> Option<Event> {
        self.connection.buffered()
    }

    fn finish(self: Box<Self>) -> Finishing {
        let Self { connection, relay } = *self;
        drop(connection);
        Box::pin(relay.finished())
    }
}

fn relayed<C: Connection + 'static>(
    outcome: Result<(C, Accepted), Ended>,
    relay: Relay,
) -> Outcome {
    match outcome {
        Ok((connection, accepted)) => Ok((Box::new(Relayed { connection, relay }), accepted)),
        Err(ended) => Err(behind(ended, &relay)),
    }
}

impl Connector for Library {
    fn connect<'a>(&'a self, progress: &'a (dyn Fn(Layer) + Send + Sync)) -> Connecting<'a> {
        Box::pin(async move {
            let login = self.login()?;
            let dial = Dial {
                config: &self.config,
                endpoint: &self.endpoint,
                clock: &self.clock,
                traffic: &self.traffic,
                progress,
            };
            let wire = dial.dial().await?;
            progress(Layer::Connack);
            let door = Door::open([self.random.hash_one(0), self.random.hash_one(1)])?;
            let name = door.name.clone();
            let relay = door.carry(wire, self.clock.now().trusted);
            match self.config.version {
                Version::V3 => relayed(self.v4(&name, login).await, relay),
                Version::V5 => relayed(self.v5(&name, login).await, relay),
            }
        })
    }

    fn traffic(&self) -> (u64, u64) {
        (self.traffic.sent(), self.traffic.received())
    }
}
