//! What each packet does.

use iotedge_model::QoS;
use iotedge_mqtt::{Disconnect, Packet, PacketId, ReasonCode};
use iotedge_ports::{DisconnectReason, EndKind};
use iotedge_telemetry::{METRICS, Metric};

use super::end::End;
use super::pump::Pump;

impl Pump {
    /// `acked`: PUBACKs that are noted together, before any other packet but PUBLISH.
    pub(super) fn packet(&mut self, packet: Packet, acked: &mut Vec<PacketId>) -> Result<(), End> {
        if !matches!(packet, Packet::Publish(_) | Packet::PubAck(_)) {
            // Everything else comes after what was said before it.
            self.pubacks(acked);
            self.flush_batch()?;
        }
        match packet {
            Packet::Publish(publish) => self.publish(publish)?,
            // A version 5 client that refuses a message has it all the same (5: 4.3.2).
            Packet::PubAck(ack) => acked.push(ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe)?,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe)?,
            Packet::PingReq => {
                METRICS.count(Metric::PingSuccess, self.peer.protocol);
                self.send(&Packet::PingResp);
                self.decisions.rest();
            }
            Packet::Disconnect(disconnect) => return Err(self.disconnect(&disconnect)),
            // "AWS IoT doesn't support the following packets: PUBREC, PUBREL, and PUBCOMP."
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) if self.has_no_qos_2() => {
                let what = "a packet of QoS 2, and max_qos is less";
                return Err(self.protocol_error(what, ReasonCode::ProtocolError));
            }
            Packet::PubRec(ack) => self.pubrec(&ack),
            Packet::PubRel(ack) => self.pubrel(ack.packet_id),
            Packet::PubComp(ack) => self.pubcomp(ack.packet_id),
            // No connection has an authentication method: CONNECT with one is refused.
            Packet::Auth(_) => {
                let what = "AUTH on a connection without an authentication method";
                return Err(self.protocol_error(what, ReasonCode::ProtocolError));
            }
            // The decoder lets none of these reach a server.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                return Err(self.protocol_error("a packet for clients", ReasonCode::ProtocolError));
            }
        }
        Ok(())
    }

    fn has_no_qos_2(&self) -> bool {
        let limits = &self.context.limits;
        limits.is_aws() && limits.max_qos < QoS::ExactlyOnce
    }

    fn disconnect(&mut self, disconnect: &Disconnect) -> End {
        let asked = disconnect
            .properties
            .as_deref()
            .and_then(|p| p.session_expiry);
        if self.terms.session_expiry == 0 && asked.is_some_and(|seconds| seconds > 0) {
            // 5: 3.14.2.2.2
            let what = "DISCONNECT gives a session a life that CONNECT did not";
            return self.protocol_error(what, ReasonCode::ProtocolError);
        }
        End {
            // 5: [MQTT-3.14.4-3] discards the will for this reason alone.
            kind: if disconnect.reason == ReasonCode::Success {
                EndKind::ClientInitiated
            } else {
                EndKind::ClientInitiatedWithWill
            },
            reason: DisconnectReason::ClientInitiated,
            // Nothing is said to a client that has gone.
            code: ReasonCode::Success,
            session_expiry: asked.map(|s| s.min(self.context.limits.max_session_expiry)),
        }
    }
}
