//! Connections by the client library.

use std::sync::Arc;
use std::time::Duration;

use iotedge_ports::Clock;
use rumqttc::Transport;

use super::{Accepted, Connecting, Connection, Connector, Ended, Layer, v4, v5};
use crate::config::Endpoint;
use crate::{Config, ConfigError, Version, tls};

/// The largest remaining length that there is (MQTT 3.1.1, 2.2.3).
const MAX_PROTOCOL_BYTES: usize = 268_435_455;
/// Acknowledgements of inbound messages that the library holds at most.
pub(crate) const MAX_ACKS: usize = 128;
/// The slowest link that is no dead one, in bytes a second.
pub(crate) const SLOWEST: u64 = 2048;
/// A session of version 5 that does not expire (MQTT 5, 3.1.2.11.2), as 3.1.1 has it. Servers
/// shorten it.
const FOREVER: u32 = u32::MAX;

/// Makes connections by rumqttc, each with a fresh event loop.
pub(crate) struct Library {
    config: Arc<Config>,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
}

pub(super) fn closed(packet: &str, error: &dyn std::fmt::Display) -> Ended {
    let text = format!("the client library takes no {packet}: {error}");
    Ended::lost(Layer::Mqtt, text)
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
        })
    }

    fn transport(&self) -> Result<Transport, Ended> {
        if !self.endpoint.tls {
            return Ok(Transport::Tcp);
        }
        let tls = tls::client_config(&self.config, &self.clock)
            .map_err(|e| Ended::refused(Layer::Settings, e.to_string()))?;
        let tls = rumqttc::TlsConfiguration::Rustls(Arc::new(tls));
        Ok(Transport::tls_with_config(tls))
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

    async fn v4(&self) -> Result<(v4::V4, Accepted), Ended> {
        let (config, end) = (&*self.config, &self.endpoint);
        let mut options =
            rumqttc::MqttOptions::new(config.client_id.as_str(), end.host.as_str(), end.port);
        options.set_transport(self.transport()?);
        options.set_keep_alive(self.keep_alive());
        options.set_clean_session(config.clean_session);
        // Inbound the protocol's limit: what the library can not read it can not acknowledge, and
        // it would come again for ever.
        options.set_max_packet_size(MAX_PROTOCOL_BYTES, config.max_packet_bytes);
        options.set_inflight(self.packet_ids());
        options.set_manual_acks(true);
        if let Some(username) = &config.username {
            let password = config.password.as_deref().unwrap_or_default();
            options.set_credentials(username.as_str(), password);
        }
        let (client, mut events) = rumqttc::AsyncClient::new(options, self.capacity());
        // The library takes this one for writing a packet too, which may last.
        let writing = writing_timeout(config);
        events.network_options.set_connection_timeout(writing);
        events.network_options.set_tcp_nodelay(true);
        v4::connect(client, events, config.keep_alive).await
    }

    async fn v5(&self) -> Result<(v5::V5, Accepted), Ended> {
        let (config, end) = (&*self.config, &self.endpoint);
        let mut options =
            rumqttc::v5::MqttOptions::new(config.client_id.as_str(), end.host.as_str(), end.port);
        options.set_transport(self.transport()?);
        options.set_keep_alive(self.keep_alive());
        options.set_clean_start(config.clean_session);
        let expiry = if config.clean_session { 0 } else { FOREVER };
        options.set_session_expiry_interval(Some(expiry));
        let largest = u32::try_from(MAX_PROTOCOL_BYTES).unwrap_or(u32::MAX);
        options.set_max_packet_size(Some(largest));
        options.set_outgoing_inflight_upper_limit(self.packet_ids());
        options.set_manual_acks(true);
        options.set_connection_timeout(writing_timeout(config));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some(username) = &config.username {
            let password = config.password.as_deref().unwrap_or_default();
            options.set_credentials(username.as_str(), password);
        }
        let (client, events) = rumqttc::v5::AsyncClient::new(options, self.capacity());
        v5::connect(client, events, config.keep_alive).await
    }
}

impl Connector for Library {
    fn connect<'a>(&'a self, progress: &'a (dyn Fn(Layer) + Send + Sync)) -> Connecting<'a> {
        Box::pin(async move {
            progress(Layer::Dns);
            Ok(match self.config.version {
                Version::V3 => {
                    let (connection, accepted) = self.v4().await?;
                    (Box::new(connection) as Box<dyn Connection>, accepted)
                }
                Version::V5 => {
                    let (connection, accepted) = self.v5().await?;
                    (Box::new(connection) as Box<dyn Connection>, accepted)
                }
            })
        })
    }
}
