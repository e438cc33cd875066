//! PUBLISH (3.3), the hot path: nothing is allocated beyond room in `out`.

use bytes::{BufMut, BytesMut};
use iotedge_model::{QoS, TopicError};

use super::properties::Section;
use super::wire::{
    check_topic, field_len, put_field, put_header_reserving, variable_byte_integer_len,
};
use crate::{
    EncodeError, Field, MAX_REMAINING_LENGTH, PacketId, PacketType, Publish, PublishPropertiesRef,
    Version,
};

/// All of a PUBLISH but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishHead<'a> {
    /// Taken as a valid topic name, as [`iotedge_model::Topic`] holds it; only its length is
    /// checked. Empty in version 5 where `properties` has a topic alias.
    pub topic: &'a str,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// It may have been sent before.
    pub dup: bool,
    /// There exactly with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Not written in 3.1.1, which cannot carry them.
    pub properties: PublishPropertiesRef<'a>,
}

/// Writes a 3.1.1 PUBLISH with one copy of the payload. The topic is taken as a valid topic name,
/// as [`iotedge_model::Topic`] holds it; only its length is checked.
pub fn encode_publish(
    out: &mut BytesMut,
    topic: &str,
    payload: &[u8],
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    let head = PublishHead {
        topic,
        qos,
        retain,
        dup,
        packet_id,
        properties: PublishPropertiesRef::default(),
    };
    put(Version::V311, &head, payload.len(), payload, out)
}

/// Writes all of a 3.1.1 PUBLISH but its payload of `payload_len` bytes, which must follow: for
/// writes that gather shared segments. See [`encode_publish`].
pub fn publish_header(
    out: &mut BytesMut,
    topic: &str,
    payload_len: usize,
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    let head = PublishHead {
        topic,
        qos,
        retain,
        dup,
        packet_id,
        properties: PublishPropertiesRef::default(),
    };
    put(Version::V311, &head, payload_len, &[], out)
}

/// Writes a PUBLISH in `version` with one copy of the payload. To a 3.1.1 receiver the properties
/// do not go: it loses what 3.1.1 cannot carry.
pub fn encode_publish_for(
    version: Version,
    head: &PublishHead<'_>,
    payload: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    put(version, head, payload.len(), payload, out)
}

/// [`encode_publish_for`] without the payload of `payload_len` bytes, which must follow.
pub fn publish_header_for(
    version: Version,
    head: &PublishHead<'_>,
    payload_len: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    put(version, head, payload_len, &[], out)
}

/// Bytes of the whole packet that [`encode_publish_for`] writes, to hold against the receiver's
/// maximum packet size (5: [MQTT-3.1.2-24]).
pub fn publish_len(
    version: Version,
    head: &PublishHead<'_>,
    payload_len: usize,
) -> Result<usize, EncodeError> {
    let (remaining, _) = measure(version, head, payload_len)?;
    if remaining > MAX_REMAINING_LENGTH {
        return Err(EncodeError::PacketTooLarge(remaining));
    }
    Ok(1 + variable_byte_integer_len(remaining) + remaining)
}

type Properties<'a> = Section<'a, PublishPropertiesRef<'a>>;

/// Checks `head`, and gives the remaining length and version 5's properties.
#[inline]
fn measure<'a>(
    version: Version,
    head: &'a PublishHead<'a>,
    payload_len: usize,
) -> Result<(usize, Option<Properties<'a>>), EncodeError> {
    let id_len = match (head.qos, head.packet_id) {
        (QoS::AtMostOnce, None) if head.dup => return Err(EncodeError::DupWithQos0),
        (QoS::AtMostOnce, None) => 0,
        (QoS::AtMostOnce, Some(_)) => return Err(EncodeError::PacketIdWithQos0),
        (_, None) => return Err(EncodeError::NoPacketId),
        (_, Some(_)) => 2,
    };
    if head.topic.is_empty() && (version == Version::V311 || head.properties.topic_alias.is_none())
    {
        return Err(EncodeError::InvalidTopic {
            field: Field::TopicName,
            reason: TopicError::Empty,
        });
    }
    let section = match version {
        Version::V311 => None,
        Version::V5 => Some(Section::new(Some(&head.properties))?),
    };
    let remaining = payload_len
        .saturating_add(field_len(Field::TopicName, head.topic.as_bytes())?)
        .saturating_add(id_len)
        .saturating_add(section.as_ref().map_or(0, Section::len));
    Ok((remaining, section))
}

#[inline]
fn put(
    version: Version,
    head: &PublishHead<'_>,
    payload_len: usize,
    payload: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let (remaining, section) = measure(version, head, payload_len)?;
    let flags = u8::from(head.dup) << 3 | u8::from(head.qos) << 1 | u8::from(head.retain);
    put_header_reserving(
        out,
        PacketType::Publish,
        flags,
        remaining,
        remaining - payload_len + payload.len(),
    )?;
    put_field(out, head.topic.as_bytes());
    if let Some(id) = head.packet_id {
        out.put_u16(id.get());
    }
    if let Some(section) = section {
        section.put(out);
    }
    out.put_slice(payload);
    Ok(())
}

/// A packet as a value: its properties must not get lost.
pub(super) fn encode_packet(
    version: Version,
    publish: &Publish,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version == Version::V311 && publish.properties.is_some() {
        return Err(EncodeError::Properties(PacketType::Publish));
    }
    if !publish.topic.is_empty() {
        check_topic(Field::TopicName, &publish.topic)?;
    }
    let head = PublishHead {
        topic: &publish.topic,
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.packet_id,
        properties: publish
            .properties
            .as_ref()
            .map_or_else(PublishPropertiesRef::default, |p| p.by_ref()),
    };
    put(version, &head, publish.payload.len(), &publish.payload, out)
}
