//! Packets to bytes. Every function checks first and writes then: after an error `out` is as it
//! was. What is written, [`crate::Decoder`] reads back as the same packet.

use bytes::{BufMut, BytesMut};
use iotedge_model::{QoS, Topic};

use crate::{
    Connect, ConnectReturnCode, EncodeError, Field, MAX_REMAINING_LENGTH, Packet, PacketId,
    PacketType, Publish, SubAck, Subscribe, Unsubscribe, Version,
};

/// Writes `packet` behind what is in `out`.
pub fn encode(packet: &Packet, out: &mut BytesMut) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => encode_connect(connect, out),
        Packet::ConnAck(ack) => {
            if ack.session_present && ack.code != ConnectReturnCode::Accepted {
                return Err(EncodeError::SessionPresentOnRefusal);
            }
            out.put_slice(&[0x20, 2, u8::from(ack.session_present), ack.code as u8]);
            Ok(())
        }
        Packet::Publish(publish) => encode_publish_packet(publish, out),
        Packet::PubAck(id) => put_acknowledgement(out, PacketType::PubAck, *id),
        Packet::PubRec(id) => put_acknowledgement(out, PacketType::PubRec, *id),
        Packet::PubRel(id) => put_acknowledgement(out, PacketType::PubRel, *id),
        Packet::PubComp(id) => put_acknowledgement(out, PacketType::PubComp, *id),
        Packet::UnsubAck(id) => put_acknowledgement(out, PacketType::UnsubAck, *id),
        Packet::Subscribe(subscribe) => encode_subscribe(subscribe, out),
        Packet::SubAck(ack) => encode_suback(ack, out),
        Packet::Unsubscribe(unsubscribe) => encode_unsubscribe(unsubscribe, out),
        Packet::PingReq => put_empty(out, PacketType::PingReq),
        Packet::PingResp => put_empty(out, PacketType::PingResp),
        Packet::Disconnect => put_empty(out, PacketType::Disconnect),
    }
}

/// Writes a PUBLISH with one copy of the payload. The topic is taken as a valid topic name, as
/// [`Topic`] holds it; only its length is checked.
pub fn encode_publish(
    out: &mut BytesMut,
    topic: &str,
    payload: &[u8],
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    put_publish(
        out,
        topic,
        payload.len(),
        payload,
        qos,
        retain,
        dup,
        packet_id,
    )
}

/// Writes all of a PUBLISH but its payload of `payload_len` bytes, which must follow: for writes
/// that gather shared segments. See [`encode_publish`].
pub fn publish_header(
    out: &mut BytesMut,
    topic: &str,
    payload_len: usize,
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    put_publish(out, topic, payload_len, &[], qos, retain, dup, packet_id)
}

#[allow(clippy::too_many_arguments)] // the fields of one packet, kept flat on the hot path
#[inline]
fn put_publish(
    out: &mut BytesMut,
    topic: &str,
    payload_len: usize,
    payload: &[u8],
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    let id_len = match (qos, packet_id) {
        (QoS::AtMostOnce, None) if dup => return Err(EncodeError::DupWithQos0),
        (QoS::AtMostOnce, None) => 0,
        (QoS::AtMostOnce, Some(_)) => return Err(EncodeError::PacketIdWithQos0),
        (_, None) => return Err(EncodeError::NoPacketId),
        (_, Some(_)) => 2,
    };
    let remaining = payload_len
        .saturating_add(field_len(Field::TopicName, topic.as_bytes())?)
        .saturating_add(id_len);
    let flags = u8::from(dup) << 3 | u8::from(qos) << 1 | u8::from(retain);
    put_header(
        out,
        PacketType::Publish,
        flags,
        remaining,
        remaining - payload_len + payload.len(),
    )?;
    put_field(out, topic.as_bytes());
    if let Some(id) = packet_id {
        out.put_u16(id.get());
    }
    out.put_slice(payload);
    Ok(())
}

fn encode_publish_packet(publish: &Publish, out: &mut BytesMut) -> Result<(), EncodeError> {
    if publish.properties.is_some() {
        return Err(EncodeError::Properties(PacketType::Publish));
    }
    check_topic(Field::TopicName, &publish.topic)?;
    encode_publish(
        out,
        &publish.topic,
        &publish.payload,
        publish.qos,
        publish.retain,
        publish.dup,
        publish.packet_id,
    )
}

fn encode_connect(connect: &Connect, out: &mut BytesMut) -> Result<(), EncodeError> {
    if connect.version != Version::V311 {
        return Err(EncodeError::UnsupportedVersion);
    }
    if connect.password.is_some() && connect.username.is_none() {
        return Err(EncodeError::PasswordWithoutUserName);
    }
    let mut flags = u8::from(connect.clean) << 1;
    let mut remaining = 10 + field_len(Field::ClientId, connect.client_id.as_bytes())?;
    if let Some(will) = &connect.will {
        if will.properties.is_some() {
            return Err(EncodeError::Properties(PacketType::Connect));
        }
        check_topic(Field::WillTopic, &will.topic)?;
        flags |= 0x04 | u8::from(will.qos) << 3 | u8::from(will.retain) << 5;
        remaining += field_len(Field::WillTopic, will.topic.as_bytes())?;
        remaining += field_len(Field::WillMessage, &will.payload)?;
    }
    if let Some(username) = &connect.username {
        flags |= 0x80;
        remaining += field_len(Field::UserName, username.as_bytes())?;
    }
    if let Some(password) = &connect.password {
        flags |= 0x40;
        remaining += field_len(Field::Password, password)?;
    }
    put_header(out, PacketType::Connect, 0, remaining, remaining)?;
    put_field(out, b"MQTT");
    out.put_slice(&[4, flags]);
    out.put_u16(connect.keep_alive);
    put_field(out, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        put_field(out, will.topic.as_bytes());
        put_field(out, &will.payload);
    }
    if let Some(username) = &connect.username {
        put_field(out, username.as_bytes());
    }
    if let Some(password) = &connect.password {
        put_field(out, password);
    }
    Ok(())
}

fn encode_subscribe(subscribe: &Subscribe, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Subscribe;
    if subscribe.filters.is_empty() {
        return Err(EncodeError::EmptyFilterList(packet));
    }
    let mut remaining = 2_usize;
    for (filter, _) in &subscribe.filters {
        remaining = remaining.saturating_add(filter_len(packet, filter)? + 1);
    }
    put_header(out, packet, 0b0010, remaining, remaining)?;
    out.put_u16(subscribe.packet_id.get());
    for (filter, qos) in &subscribe.filters {
        put_field(out, filter.as_bytes());
        out.put_u8(u8::from(*qos));
    }
    Ok(())
}

fn encode_suback(ack: &SubAck, out: &mut BytesMut) -> Result<(), EncodeError> {
    if ack.codes.is_empty() {
        return Err(EncodeError::EmptyCodeList);
    }
    let remaining = 2 + ack.codes.len();
    put_header(out, PacketType::SubAck, 0, remaining, remaining)?;
    out.put_u16(ack.packet_id.get());
    for code in &ack.codes {
        out.put_u8(u8::from(*code));
    }
    Ok(())
}

fn encode_unsubscribe(unsubscribe: &Unsubscribe, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Unsubscribe;
    if unsubscribe.filters.is_empty() {
        return Err(EncodeError::EmptyFilterList(packet));
    }
    let mut remaining = 2_usize;
    for filter in &unsubscribe.filters {
        remaining = remaining.saturating_add(filter_len(packet, filter)?);
    }
    put_header(out, packet, 0b0010, remaining, remaining)?;
    out.put_u16(unsubscribe.packet_id.get());
    for filter in &unsubscribe.filters {
        put_field(out, filter.as_bytes());
    }
    Ok(())
}

fn check_topic(field: Field, topic: &str) -> Result<(), EncodeError> {
    Topic::check(topic).map_err(|reason| EncodeError::InvalidTopic { field, reason })
}

fn filter_len(packet: PacketType, filter: &str) -> Result<usize, EncodeError> {
    if filter.is_empty() {
        return Err(EncodeError::EmptyFilter(packet));
    }
    field_len(Field::TopicFilter, filter.as_bytes())
}

/// Bytes of a field with its length in front.
fn field_len(field: Field, bytes: &[u8]) -> Result<usize, EncodeError> {
    let len = bytes.len();
    if len > usize::from(u16::MAX) {
        return Err(EncodeError::FieldTooLong { field, len });
    }
    Ok(2 + len)
}

/// Writes a field whose length [`field_len`] has checked.
fn put_field(out: &mut BytesMut, bytes: &[u8]) {
    // Checked before anything was written: never more than 65,535.
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

/// Writes the fixed header and makes room for `reserve` bytes behind it.
#[inline]
fn put_header(
    out: &mut BytesMut,
    packet: PacketType,
    flags: u8,
    remaining: usize,
    reserve: usize,
) -> Result<(), EncodeError> {
    if remaining > MAX_REMAINING_LENGTH {
        return Err(EncodeError::PacketTooLarge(remaining));
    }
    out.reserve(5 + reserve);
    out.put_u8((packet as u8) << 4 | flags);
    let mut rest = remaining;
    while rest > 0x7f {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
    Ok(())
}

fn put_acknowledgement(
    out: &mut BytesMut,
    packet: PacketType,
    id: PacketId,
) -> Result<(), EncodeError> {
    let [high, low] = id.get().to_be_bytes();
    let flags = packet.required_flags().unwrap_or(0);
    out.put_slice(&[(packet as u8) << 4 | flags, 2, high, low]);
    Ok(())
}

fn put_empty(out: &mut BytesMut, packet: PacketType) -> Result<(), EncodeError> {
    out.put_slice(&[(packet as u8) << 4, 0]);
    Ok(())
}
