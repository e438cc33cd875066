//! What a route makes of a message: topic, payload and properties on the other side.

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{DropReason, HOPS, Message, Now, Properties, QoS, TopicError, UserProperty};
use iotedge_ports::Delivery;

use crate::payload::{self, ENCODING, GZIP, Unpacked};
use crate::uplink::{Accepted, Incoming, Publish};
use crate::{Config, Idempotency, Route, Version};

/// The user property that names a message's key.
const KEY: &str = "idempotency-key";

/// Why a message does not go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// It is dropped with this reason.
    Dropped(DropReason),
    /// It is kept aside as a dead letter: the upstream can not take it.
    Buried(String),
}

/// The PUBLISH for a delivery, and its bytes on the wire at most.
pub(super) fn outgoing(
    config: &Config,
    accepted: &Accepted,
    route: &Route,
    delivery: &Delivery,
    now: &Now,
) -> Result<(Publish, usize), Stays> {
    let message = &*delivery.message;
    if message.is_expired(now) {
        return Err(Stays::Dropped(DropReason::Expired));
    }
    let topic = route
        .map(message.topic.as_str(), &message.client_id)
        .map_err(|why| Stays::Buried(no_topic(route, message.topic.as_str(), why)))?;
    config.takes_topic(topic.as_str()).map_err(|why| {
        Stays::Buried(format!("the upstream never takes the topic {topic}: {why}"))
    })?;
    let key = route
        .idempotency
        .as_ref()
        .map(|_| format!("{}-{}", config.gateway_id, message.id.0));
    let (payload, packed) = body(route, message, key.as_deref());
    let mut publish = Publish {
        topic: topic.to_string(),
        payload,
        // Routes take at most QoS 1.
        qos: delivery.qos.min(route.qos).min(accepted.maximum_qos),
        retain: delivery.retain && route.keep_retain && accepted.retain_available,
        expiry: None,
        properties: None,
    };
    if config.version == Version::V5 {
        publish.expiry = expiry(route, message, now);
        let key = key.filter(|_| route.idempotency == Some(Idempotency::Property));
        publish.properties = properties(config, message, packed, key);
    }
    let size = packet_bytes(&publish);
    let most = largest(config, accepted);
    let body = config.max_payload_bytes.unwrap_or(usize::MAX);
    if publish.payload.len() > body {
        let bytes = publish.payload.len();
        let why = format!("its payload of {bytes} bytes is larger than the upstream's {body}");
        return Err(Stays::Buried(why));
    }
    if size > most {
        let why = format!("its packet of {size} bytes is larger than the upstream's {most}");
        return Err(Stays::Buried(why));
    }
    Ok((publish, size))
}

/// Why a route makes no topic of one.
fn no_topic(route: &Route, topic: &str, why: TopicError) -> String {
    let asked = route.topic.as_ref().and_then(|t| t.highest_level());
    let levels = topic.split('/').count();
    match asked.filter(|asked| *asked > levels) {
        Some(asked) => format!(
            "the route makes no topic of {topic:?}: it has no level {asked}, which remote_topic asks for"
        ),
        None => format!("the route makes no topic of {topic:?}: {why}"),
    }
}

/// The payload with its key, packed; whether it is.
fn body(route: &Route, message: &Message, key: Option<&str>) -> (Bytes, bool) {
    let mut body = message.payload.clone();
    if let (Some(Idempotency::Json(name)), Some(key)) = (&route.idempotency, key) {
        if let Some(with) = payload::with_member(&body, name, key) {
            body = Bytes::from(with);
        }
    }
    match route.compress.then(|| payload::compress(&body)).flatten() {
        Some(packed) => (Bytes::from(packed), true),
        None => (body, false),
    }
}

/// Seconds that it still lives: by its own expiry, and by the route's time (MQTT 5, 3.3.2.3.3).
fn expiry(route: &Route, message: &Message, now: &Now) -> Option<u32> {
    let of_route = route.rules.ttl.map(|ttl| {
        let seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        if !(message.trusted && now.trusted) {
            return seconds;
        }
        let waited = now.wall.0.saturating_sub(message.accepted_at.0) / 1000;
        seconds.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX))
    });
    let own = message.remaining_expiry(now);
    [own, of_route].into_iter().flatten().min()
}

fn properties(
    config: &Config,
    message: &Message,
    packed: bool,
    key: Option<String>,
) -> Option<Arc<Properties>> {
    let hop = Some(config.gateway_id.as_ref()).filter(|id| !id.is_empty());
    if message.properties.is_none() && hop.is_none() && !packed && key.is_none() {
        return None;
    }
    let mut all = match &message.properties {
        Some(properties) => (**properties).clone(),
        None => Properties::default(),
    };
    let mut add = |name: &str, value: &str| {
        all.user.push(UserProperty {
            name: Arc::from(name),
            value: Arc::from(value),
        });
    };
    if let Some(hop) = hop {
        let signed = message.properties.as_ref();
        if !signed.is_some_and(|properties| properties.came_by(hop)) {
            add(HOPS, hop);
        }
    }
    if let Some(key) = &key {
        add(KEY, key);
    }
    if packed {
        add(ENCODING, GZIP);
        // It is no text any more.
        all.payload_format = None;
    }
    Some(Arc::new(all))
}

/// The largest packet that may go.
pub(super) fn largest(config: &Config, accepted: &Accepted) -> usize {
    let server = accepted.maximum_packet_size.unwrap_or(u32::MAX);
    let server = usize::try_from(server).unwrap_or(usize::MAX);
    config.max_packet_bytes.min(server)
}

/// A PUBLISH at most: fixed header, the topic's length, the packet id and the length of the
/// properties are 13 bytes.
pub(super) fn packet_bytes(publish: &Publish) -> usize {
    let expiry = publish.expiry.map_or(0, |_| 5);
    let properties = publish.properties.as_ref().map_or(0, |p| property_bytes(p));
    publish.topic.len() + publish.payload.len() + expiry + properties + 13
}

/// MQTT 5, 3.3.2.3: an identifier each, and a length before each text.
fn property_bytes(properties: &Properties) -> usize {
    let user = properties.user.iter();
    let user: usize = user.map(|p| p.name.len() + p.value.len() + 5).sum();
    let text = |length: Option<usize>| length.map_or(0, |length| length + 3);
    properties.payload_format.map_or(0, |_| 2)
        + text(properties.content_type.as_ref().map(|t| t.len()))
        + text(properties.response_topic.as_ref().map(|t| t.as_str().len()))
        + text(properties.correlation_data.as_ref().map(Vec::len))
        + user
}

/// Payload, QoS, RETAIN flag and properties of a message that came from upstream.
pub(super) struct Taken {
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) properties: Option<Box<Properties>>,
}

/// What becomes of a message from upstream; `None`: what is packed in it is larger than it may be.
pub(super) fn incoming(config: &Config, route: &Route, publish: &Incoming) -> Option<Taken> {
    let mut taken = unpacked(route, publish, config.max_packet_bytes)?;
    if config.version == Version::V5 && !config.gateway_id.is_empty() {
        // Whoever takes it from here and sends it back finds us among those who have had it.
        let properties = taken.properties.get_or_insert_default();
        properties.user.push(UserProperty {
            name: Arc::from(HOPS),
            value: config.gateway_id.clone(),
        });
    }
    Some(taken)
}

fn unpacked(route: &Route, publish: &Incoming, most: usize) -> Option<Taken> {
    let mut taken = Taken {
        payload: publish.payload.clone(),
        qos: publish.qos.min(QoS::AtLeastOnce),
        retain: publish.retain && route.keep_retain,
        properties: publish.properties.clone(),
    };
    if route.rules.raise_qos {
        taken.qos = QoS::AtLeastOnce;
    }
    if !route.decompress {
        return Some(taken);
    }
    match payload::decompress(&publish.payload, most) {
        Unpacked::Plain => {}
        Unpacked::TooLarge => return None,
        Unpacked::Payload(payload) => {
            taken.payload = Bytes::from(payload);
            if let Some(properties) = &mut taken.properties {
                let packed = |p: &UserProperty| &*p.name == ENCODING && &*p.value == GZIP;
                properties.user.retain(|p| !packed(p));
            }
            taken.properties = taken.properties.filter(|p| **p != Properties::default());
        }
    }
    Some(taken)
}
