//! What the client gets: deliveries from its mailbox to its socket.

use bytes::Bytes;
use std::cell::Cell;

use iotedge_model::DropReason;
use iotedge_mqtt::{
    Ack, EncodeError, Packet, PacketId, PublishHead, PublishPropertiesRef, ReasonCode, Version,
};
use iotedge_ports::{DrainLimit, DrainState, Outgoing, OutgoingPublish, PubRecOutcome};
use iotedge_telemetry::{METRICS, Metric};
use tokio::time::Instant;

use super::alias::Naming;
use super::auth::Asker;
use super::output::{Output, SHARED_BYTES};
use super::pump::{OUTPUT_HIGH, Pump};

/// Deliveries drained at once.
const DRAIN: DrainLimit = DrainLimit {
    messages: 512,
    bytes: 128 * 1024,
};

thread_local! {
    /// Room for one drain: used between two waits, so that no connection needs its own.
    static DRAINED: Cell<Vec<Outgoing>> = const { Cell::new(Vec::new()) };
}

impl Pump {
    /// Moves deliveries from the mailbox to the output, each after its Receive check.
    pub(super) fn drain(&mut self) {
        loop {
            self.more = true;
            if self.output.len() >= OUTPUT_HIGH {
                return;
            }
            let most = self.deliveries_left();
            if most == 0 {
                // The next second asks again.
                self.more = false;
                return;
            }
            let limit = DrainLimit {
                messages: DRAIN.messages.min(most),
                ..DRAIN
            };
            let mut drained = DRAINED.take();
            let state = self.mailbox.drain(limit, &mut drained);
            let (mut delivered, mut discarded) = (0, false);
            for outgoing in drained.drain(..) {
                match outgoing {
                    Outgoing::Publish(publish) if self.deliver(&publish) => delivered += 1,
                    Outgoing::Publish(_) => discarded = true,
                    Outgoing::Release(id) => {
                        self.send(&Packet::PubRel(Ack::new(id, ReasonCode::Success)));
                    }
                }
            }
            DRAINED.set(drained);
            self.note_deliveries(delivered);
            // What was discarded has made room in the window: look again.
            if state == DrainState::Empty && !discarded {
                self.more = false;
                return;
            }
        }
    }

    /// How many more the second has room for.
    fn deliveries_left(&mut self) -> usize {
        let window = self.rates.as_mut().and_then(|r| r.deliveries.as_mut());
        window.map_or(usize::MAX, |window| {
            usize::try_from(window.left(Instant::now())).unwrap_or(usize::MAX)
        })
    }

    fn note_deliveries(&mut self, n: u64) {
        if let Some(window) = self.rates.as_mut().and_then(|r| r.deliveries.as_mut()) {
            window.take(n, Instant::now());
        }
    }

    /// `false`: discarded.
    fn deliver(&mut self, outgoing: &OutgoingPublish) -> bool {
        let topic = &outgoing.delivery.message.topic;
        let asker = Asker::new(&self.context, &self.peer, &self.client_id);
        if !self.decisions.may_receive(asker, topic) {
            METRICS.count(Metric::PublishOutAuthError, self.peer.protocol);
            self.mailbox.discard(outgoing, DropReason::Policy);
            return false;
        }
        let written = if self.terms.is_v5() {
            self.write_v5(outgoing)
        } else {
            self.write_v311(outgoing)
        };
        match written {
            Ok(()) => METRICS.count(Metric::PublishOutSuccess, self.peer.protocol),
            Err(error) => {
                tracing::debug!(
                    client_id = %self.client_id,
                    %topic,
                    %error,
                    "a delivery could not be written and is dropped"
                );
                self.mailbox.discard(outgoing, DropReason::TooLarge);
            }
        }
        written.is_ok()
    }

    fn write_v311(&mut self, outgoing: &OutgoingPublish) -> Result<(), EncodeError> {
        let delivery = &outgoing.delivery;
        let head = PublishHead {
            topic: delivery.message.topic.as_str(),
            qos: delivery.qos,
            retain: delivery.retain,
            // A QoS 0 PUBLISH is never a duplicate ([MQTT-3.3.1-2]).
            dup: delivery.dup && outgoing.packet_id.is_some(),
            packet_id: outgoing.packet_id,
            properties: PublishPropertiesRef::default(),
        };
        write(
            &mut self.output,
            Version::V311,
            &head,
            &delivery.message.payload,
        )
    }

    /// With all that travels with the message; nothing larger than the client takes
    /// ([MQTT-3.1.2-24], [MQTT-3.1.2-25]).
    fn write_v5(&mut self, outgoing: &OutgoingPublish) -> Result<(), EncodeError> {
        let delivery = &outgoing.delivery;
        let message = &delivery.message;
        let naming = self.aliases_out.name(&message.topic);
        let (topic, topic_alias) = match naming {
            Naming::Name => (message.topic.as_str(), None),
            Naming::New(alias) => (message.topic.as_str(), Some(alias)),
            Naming::Known(alias) => ("", Some(alias)),
        };
        let mut head = PublishHead {
            topic,
            qos: delivery.qos,
            retain: delivery.retain,
            dup: delivery.dup && outgoing.packet_id.is_some(),
            packet_id: outgoing.packet_id,
            properties: PublishPropertiesRef {
                message_expiry: outgoing.expiry,
                topic_alias,
                subscription_ids: &delivery.identifiers,
                message: message.properties.as_deref(),
            },
        };
        let (version, max) = (self.terms.version, self.terms.max_packet_bytes);
        let length = message.payload.len();
        let mut size = iotedge_mqtt::publish_len(version, &head, length)?;
        if size > max && matches!(naming, Naming::New(_)) {
            // The alias itself may be what is too much.
            head.properties.topic_alias = None;
            size = iotedge_mqtt::publish_len(version, &head, length)?;
        }
        if size > max {
            return Err(EncodeError::ReceiverLimit { size, max });
        }
        write(&mut self.output, version, &head, &message.payload)?;
        if let (Naming::New(alias), Some(_)) = (naming, head.properties.topic_alias) {
            self.aliases_out.said(&message.topic, alias);
        }
        Ok(())
    }

    pub(super) fn puback(&mut self, packet_id: PacketId) {
        if !self.mailbox.puback(packet_id) {
            tracing::debug!(client_id = %self.client_id, packet_id, "PUBACK for nothing in flight");
        }
    }

    pub(super) fn pubrec(&mut self, ack: &Ack) {
        let packet_id = ack.packet_id;
        if ack.reason.is_error() {
            // It has forgotten the packet id: no PUBREL (5: 4.3.3).
            if !self.mailbox.pubrec_refused(packet_id) {
                tracing::debug!(client_id = %self.client_id, packet_id, "PUBREC for nothing in flight");
            }
            return;
        }
        let reason = match self.mailbox.pubrec(packet_id) {
            PubRecOutcome::Pending => return,
            PubRecOutcome::Release => ReasonCode::Success,
            PubRecOutcome::Unknown => ReasonCode::PacketIdentifierNotFound,
        };
        let mut packet = Packet::PubRel(Ack::new(packet_id, reason));
        if reason.is_error() {
            self.explain_unknown_id(&mut packet);
        }
        self.send(&packet);
    }

    pub(super) fn pubcomp(&mut self, packet_id: PacketId) {
        if !self.mailbox.pubcomp(packet_id) {
            tracing::debug!(client_id = %self.client_id, packet_id, "PUBCOMP for nothing in flight");
        }
    }
}

/// A large payload is not copied: all who get it share the one that came in.
fn write(
    output: &mut Output,
    version: Version,
    head: &PublishHead<'_>,
    payload: &Bytes,
) -> Result<(), EncodeError> {
    if payload.len() < SHARED_BYTES {
        return iotedge_mqtt::encode_publish_for(version, head, payload, output.buffer());
    }
    iotedge_mqtt::publish_header_for(version, head, payload.len(), output.buffer())?;
    output.share(payload.clone());
    Ok(())
}
