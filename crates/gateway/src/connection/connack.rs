//! The CONNACK of a connection that is open.

use std::num::{NonZeroU16, NonZeroU32};

use iotedge_mqtt::{ConnAck, ConnAckProperties, Packet, ReasonCode, Str};

use super::open::Opened;
use crate::Limits;

/// How many QoS 1 messages a version 5 client may have unacknowledged: what `broker.max_inflight`
/// says, as far as version 5 can say it.
pub(crate) fn receive_maximum(limits: &Limits) -> NonZeroU16 {
    let maximum = u16::try_from(limits.max_inflight).unwrap_or(u16::MAX);
    NonZeroU16::new(maximum).unwrap_or(NonZeroU16::MIN)
}

pub(crate) fn connack(opened: &Opened, limits: &Limits) -> Packet {
    let properties = opened
        .terms
        .is_v5()
        .then(|| Box::new(properties(opened, limits)));
    Packet::ConnAck(ConnAck {
        session_present: opened.connected.session_present,
        reason: ReasonCode::Success,
        properties,
    })
}

/// What there is and what there is not (MQTT 5, 3.2.2.3).
fn properties(opened: &Opened, limits: &Limits) -> ConnAckProperties {
    let terms = &opened.terms;
    ConnAckProperties {
        session_expiry: terms.session_expiry_cut.then_some(terms.session_expiry),
        receive_maximum: receive_maximum(limits),
        maximum_qos: limits.max_qos,
        retain_available: limits.retain_available,
        maximum_packet_size: u32::try_from(limits.max_packet_bytes)
            .ok()
            .and_then(NonZeroU32::new),
        assigned_client_id: opened
            .assigned
            .then(|| Str::new(opened.client_id.as_str()).ok())
            .flatten(),
        topic_alias_maximum: limits.max_topic_alias,
        subscription_identifier_available: limits.subscription_identifiers,
        // AWS IoT Core always says it.
        server_keep_alive: (terms.keep_alive_changed || limits.is_aws())
            .then_some(terms.keep_alive),
        ..ConnAckProperties::default()
    }
}
