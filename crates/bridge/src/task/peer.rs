//! What a peer of the link asks of the connection (see [`crate::peering`]).

use iotedge_model::QoS;
use tokio::time::Instant;

use super::{Asked, End, Sent, Task, carry};
use crate::peering::Command;
use crate::uplink::{Connection, Filter, Publish};

/// The client library gives packet ids in turn to SUBSCRIBE and UNSUBSCRIBE, too, and has 64 more
/// than the window is long: so many of them may go while one PUBLISH waits for its PUBACK.
const SPARE_IDS: u64 = 48;

impl Task {
    /// Hands over what the peer asks, as far as there is room.
    pub(super) fn serve_peer(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        // A message that goes alone goes alone.
        while !self.suspects.wants_alone(self.now().mono) {
            let controls = self.may_control();
            let subscribe = controls && self.subscribing.is_none();
            let publish = self.has_room();
            let mut waits = false;
            let command = self.shared.peering.next(|command| {
                let may = match command {
                    Command::Subscribe(_) => subscribe,
                    Command::Unsubscribe(_) => controls,
                    Command::Publish(..) => publish,
                };
                waits = !may && !controls && !matches!(command, Command::Publish(..));
                may
            });
            self.control_waits = waits;
            let Some(command) = command else {
                break;
            };
            self.serve(connection, command)?;
        }
        Ok(())
    }

    /// Whether a SUBSCRIBE or UNSUBSCRIBE takes no packet id that is in use.
    fn may_control(&self) -> bool {
        let Some(oldest) = self.window.oldest() else {
            return self.window.is_empty();
        };
        // A server with a small receive maximum leaves no ids to spare.
        let spare = match self.accepted.receive_maximum {
            u16::MAX => SPARE_IDS,
            _ => 0,
        };
        self.controls - oldest.controls < spare
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
                self.controls += 1;
                handed
            }
            Command::Unsubscribe(filter) => {
                self.controls += 1;
                connection.unsubscribe(filter)
            }
            Command::Publish(topic, payload) => {
                let publish = Publish {
                    topic: topic.to_string(),
                    payload,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    expiry: None,
                    properties: None,
                };
                let size = carry::packet_bytes(&publish);
                if size > self.shared.config.max_packet_bytes {
                    tracing::warn!(
                        event = iotedge_telemetry::event::UPSTREAM,
                        upstream = self.shared.config.name,
                        topic = topic.as_str(),
                        bytes = size,
                        "a request is larger than max_packet_bytes and is not sent"
                    );
                    return Ok(());
                }
                let handed = connection.publish(publish);
                self.suspects.sends();
                let sent = Sent {
                    route: usize::MAX,
                    delivery: None,
                    size,
                    controls: self.controls,
                };
                self.pacing.take(size);
                self.window.push(sent, size);
                handed
            }
        };
        handed.map_err(|ended| self.failed(ended))
    }
}
