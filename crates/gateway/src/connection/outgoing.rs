//! What the client gets: deliveries from its mailbox to its socket.

use bytes::{Bytes, BytesMut};
use iotedge_model::{DropReason, QoS, Topic};
use iotedge_mqtt::{
    Ack, EncodeError, Packet, PacketId, PublishHead, PublishPropertiesRef, ReasonCode, Version,
};
use iotedge_ports::{DrainLimit, DrainState, Frames, Outlet, PubRecOutcome, Run, RunPart, Sending};
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

/// The connection while its mailbox is drained.
struct Draining<'a> {
    pump: &'a mut Pump,
    delivered: u64,
}

impl Outlet for Draining<'_> {
    fn publish(&mut self, publish: Sending<'_>) -> Result<(), DropReason> {
        let outcome = self.pump.deliver(publish);
        self.delivered += u64::from(outcome.is_ok());
        outcome
    }

    fn run(&mut self, part: &RunPart, dropped: &mut dyn FnMut(DropReason)) {
        self.delivered += self.pump.deliver_run(part, dropped);
    }

    fn release(&mut self, id: PacketId) {
        let packet = Packet::PubRel(Ack::new(id, ReasonCode::Success));
        self.pump.send(&packet);
    }
}

impl Pump {
    /// Moves deliveries from the mailbox to the output, each after its Receive check.
    pub(super) fn drain(&mut self) {
        let mailbox = self.mailbox.clone();
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
            let mut draining = Draining {
                pump: self,
                delivered: 0,
            };
            let state = mailbox.drain(limit, &mut draining);
            let delivered = draining.delivered;
            if delivered > 0 {
                METRICS.add(Metric::PublishOutSuccess, self.peer.protocol, delivered);
                self.note_deliveries(delivered);
            }
            if state == DrainState::Empty {
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

    fn may_receive(&mut self, topic: &Topic) -> bool {
        let asker = Asker::new(&self.context, &self.peer, &self.client_id);
        self.decisions.may_receive(asker, topic)
    }

    fn deliver(&mut self, sending: Sending<'_>) -> Result<(), DropReason> {
        let topic = &sending.delivery.message.topic;
        if !self.may_receive(topic) {
            METRICS.count(Metric::PublishOutAuthError, self.peer.protocol);
            return Err(DropReason::Policy);
        }
        let written = if self.terms.is_v5() {
            self.write_v5(sending)
        } else {
            self.write_v311(sending)
        };
        written.map_err(|error| {
            tracing::debug!(
                client_id = %self.client_id,
                %topic,
                %error,
                "a delivery could not be written and is dropped"
            );
            DropReason::TooLarge
        })
    }

    /// How many of them are written.
    fn deliver_run(&mut self, part: &RunPart, dropped: &mut dyn FnMut(DropReason)) -> u64 {
        let Some(first) = part.messages().first() else {
            return 0;
        };
        if self.may_receive(&first.topic) && self.write_frames(part) {
            return part.len() as u64;
        }
        let mut delivered = 0;
        for delivery in part.deliveries() {
            let outcome = self.deliver(Sending {
                packet_id: None,
                delivery: &delivery,
                expiry: None,
            });
            match outcome {
                Ok(()) => delivered += 1,
                Err(reason) => dropped(reason),
            }
        }
        delivered
    }

    /// What all who get a run get alike. `false`: this client gets it otherwise.
    fn write_frames(&mut self, part: &RunPart) -> bool {
        let v5 = self.terms.is_v5();
        let own = v5 && (!part.identifiers.is_empty() || self.aliases_out.are_used());
        let version = self.terms.version;
        let Some(frames) = part
            .run
            .frames(v5, |run| frames(version, run))
            .filter(|_| !own)
        else {
            return false;
        };
        if v5 && frames.largest > self.terms.max_packet_bytes {
            return false;
        }
        let bytes = frames.part(part.from as usize, part.to as usize);
        if bytes.len() < SHARED_BYTES {
            self.output.buffer().extend_from_slice(&bytes);
        } else {
            self.output.share(bytes);
        }
        true
    }

    fn write_v311(&mut self, outgoing: Sending<'_>) -> Result<(), EncodeError> {
        let delivery = outgoing.delivery;
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
    fn write_v5(&mut self, outgoing: Sending<'_>) -> Result<(), EncodeError> {
        let delivery = outgoing.delivery;
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

    /// What was acknowledged in one read.
    pub(super) fn pubacks(&mut self, packet_ids: &mut Vec<PacketId>) {
        if packet_ids.is_empty() {
            return;
        }
        let known = self.mailbox.puback(packet_ids);
        if known < packet_ids.len() {
            let unknown = packet_ids.len() - known;
            tracing::debug!(client_id = %self.client_id, unknown, "PUBACKs for nothing in flight");
        }
        packet_ids.clear();
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

/// The packets of a run, for clients that have neither topic aliases nor subscription identifiers.
fn frames(version: Version, run: &Run) -> Option<Frames> {
    let heads = run.messages().iter().map(|message| {
        let head = PublishHead {
            topic: message.topic.as_str(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            packet_id: None,
            properties: PublishPropertiesRef {
                message: message.properties.as_deref(),
                ..PublishPropertiesRef::default()
            },
        };
        (head, &message.payload)
    });
    let (mut whole, mut largest) = (0, 0);
    let mut ends = Vec::with_capacity(run.messages().len());
    for (head, payload) in heads.clone() {
        let len = iotedge_mqtt::publish_len(version, &head, payload.len()).ok()?;
        whole += len;
        largest = largest.max(len);
        ends.push(whole);
    }
    let mut bytes = BytesMut::with_capacity(whole);
    for (head, payload) in heads {
        iotedge_mqtt::encode_publish_for(version, &head, payload, &mut bytes).ok()?;
    }
    Some(Frames {
        bytes: bytes.freeze(),
        ends: ends.into(),
        largest,
    })
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
