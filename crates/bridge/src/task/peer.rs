//! What a peer of the link asks of the connection (see [`crate::peering`]).

use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{QoS, Topic};
use iotedge_ports::RequestRefused;
use tokio::time::Instant;

use super::{Asked, End, Sent, Task, carry};
use crate::peering::Command;
use crate::uplink::{Connection, Filter, Publish};

/// Connections lost in a row while a request waited before the peer has to wait.
const LOSSES: u32 = 3;
/// How long it waits first, twice as long each time, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// A connection that lasted so long with a peer was not lost for what it asked.
const STABLE: Duration = Duration::from_secs(30);
/// PUBACK's "not authorized" and "quota exceeded" (MQTT 5, 3.4.2.1).
const NOT_AUTHORIZED: u8 = 0x87;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Keeps the peer off where the upstream answers its requests by closing the connection (as AWS IoT
/// does where no policy allows them): the routes are to have their link.
#[derive(Default)]
pub(crate) struct Guard {
    losses: u32,
    until: Option<Instant>,
    /// Since when it is there on this connection.
    since: Option<Instant>,
}

impl Guard {
    /// Lets it in, unless it has to wait; `true`: now.
    fn admit(&mut self, now: Instant) -> bool {
        if self.since.is_some() || self.until.is_some_and(|until| now < until) {
            return false;
        }
        (self.since, self.until) = (Some(now), None);
        true
    }

    /// How long it has to wait.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// The connection is gone; `busy`: it was lost while a request waited. How long the peer has to
    /// wait, if that is new.
    fn gone(&mut self, busy: bool, now: Instant) -> Option<Duration> {
        let since = self.since.take()?;
        if now.saturating_duration_since(since) >= STABLE {
            self.losses = 0;
        }
        if !busy {
            return None;
        }
        self.losses += 1;
        let beyond = self.losses.checked_sub(LOSSES)?;
        let wait = FIRST_WAIT * 2u32.pow(beyond.min(10));
        let wait = wait.min(LONGEST_WAIT);
        self.until = Some(now + wait);
        Some(wait)
    }
}

impl Task {
    /// The connection is gone: was it for what the peer has asked?
    pub(super) fn blame_peer(&mut self, lost: bool) {
        let subscribes = self.subscribing.is_some() && matches!(self.asked, Asked::Peer(_));
        let busy = lost && (subscribes || self.window.has(|sent| sent.request.is_some()));
        if let Some(wait) = self.guard.gone(busy, Instant::now()) {
            tracing::warn!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = self.shared.config.name,
                seconds = wait.as_secs(),
                "connections end while shadow requests wait, maybe for what the upstream's policies \
                 do not allow: shadows wait, so that routes go on"
            );
        }
    }

    /// The PUBACK of a request says no.
    pub(super) fn request_refused(&self, topic: Option<&Topic>, reason: u8, why: String) {
        tracing::warn!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            reason = why,
            "the upstream refuses a request"
        );
        let why = match reason {
            NOT_AUTHORIZED => RequestRefused::NotAuthorized(why),
            QUOTA_EXCEEDED => RequestRefused::Quota(why),
            _ => RequestRefused::Other(why),
        };
        if let Some(topic) = topic {
            self.shared.peering.refused(topic, &why);
        }
    }

    /// Hands over what the peer asks, as far as there is room.
    pub(super) fn serve_peer(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        if !self.shared.peering.is_joined() {
            return Ok(());
        }
        if self.guard.admit(Instant::now()) {
            self.shared.peering.set_up(true);
        }
        // A message that goes alone goes alone.
        while !self.suspects.wants_alone(self.now().mono) {
            let subscribe = self.subscribing.is_none();
            let publish = self.has_room();
            let command = self.shared.peering.next(|command| match command {
                Command::Subscribe(_) => subscribe,
                Command::Unsubscribe(_) => true,
                Command::Publish(..) => publish,
            });
            let Some(command) = command else {
                break;
            };
            self.serve(connection, command)?;
        }
        Ok(())
    }

    fn serve(&mut self, connection: &mut dyn Connection, command: Command) -> Result<(), End> {
        let handed = match command {
            Command::Subscribe(filters) => {
                let lines = filters.iter().map(|filter| Filter {
                    filter: filter.clone(),
                    qos: QoS::AtLeastOnce,
                    no_local: true,
                    retain_as_published: true,
                    retained: true,
                });
                let handed = connection.subscribe(lines.collect());
                self.subscribing = Some(Instant::now());
                self.asked = Asked::Peer(filters);
                handed
            }
            Command::Unsubscribe(filter) => connection.unsubscribe(filter),
            Command::Publish(topic, payload) => return self.request(connection, topic, payload),
        };
        handed.map_err(|ended| self.failed(ended))
    }

    fn request(
        &mut self,
        connection: &mut dyn Connection,
        topic: Topic,
        payload: Bytes,
    ) -> Result<(), End> {
        let publish = Publish {
            topic: topic.to_string(),
            payload,
            qos: QoS::AtLeastOnce.min(self.accepted.maximum_qos),
            retain: false,
            expiry: None,
            properties: None,
        };
        let bytes = carry::packet_bytes(&publish);
        let most = carry::largest(&self.shared.config, &self.accepted);
        let body = self.shared.config.max_payload_bytes;
        if bytes > most || body.is_some_and(|body| publish.payload.len() > body) {
            let most = body.map_or(most, |body| body.min(most));
            let why = RequestRefused::TooLarge { bytes, most };
            self.shared.peering.refused(&topic, &why);
            return Ok(());
        }
        let handed = connection.publish(publish);
        self.suspects.sends();
        let sent = Sent {
            route: usize::MAX,
            delivery: None,
            size: bytes,
            request: Some(topic),
        };
        self.pacing.take(bytes);
        self.window.push(sent, bytes);
        handed.map_err(|ended| self.failed(ended))
    }
}
