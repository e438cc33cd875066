//! The bodies of all packets but CONNECT.

use bytes::{Buf, Bytes, BytesMut};
use iotedge_model::{QoS, Topic, TopicError};

use super::FixedHeader;
use super::connect::connect;
use super::reader::Reader;
use crate::{
    ConnAck, ConnectReturnCode, DecodeError, Field, Packet, PacketId, PacketType, Publish, Str,
    SubAck, SubAckCode, Subscribe, Unsubscribe,
};

/// Takes the body that `header` announces; all of it is at the front of `buf`.
pub(super) fn decode(header: FixedHeader, buf: &mut BytesMut) -> Result<Packet, DecodeError> {
    let packet = header.packet;
    Ok(match packet {
        PacketType::Publish => Packet::Publish(publish(header, buf)?),
        PacketType::PubAck => Packet::PubAck(packet_id(packet, buf)?),
        PacketType::PubRec => Packet::PubRec(packet_id(packet, buf)?),
        PacketType::PubRel => Packet::PubRel(packet_id(packet, buf)?),
        PacketType::PubComp => Packet::PubComp(packet_id(packet, buf)?),
        PacketType::UnsubAck => Packet::UnsubAck(packet_id(packet, buf)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect,
        PacketType::Connect => Packet::Connect(connect(reader(header, buf))?),
        PacketType::ConnAck => Packet::ConnAck(connack(reader(header, buf))?),
        PacketType::Subscribe => Packet::Subscribe(subscribe(reader(header, buf))?),
        PacketType::SubAck => Packet::SubAck(suback(reader(header, buf))?),
        PacketType::Unsubscribe => Packet::Unsubscribe(unsubscribe(reader(header, buf))?),
    })
}

fn reader(header: FixedHeader, buf: &mut BytesMut) -> Reader {
    Reader::new(header.packet, buf.split_to(header.remaining).freeze())
}

/// The whole body of an acknowledgement; its length was checked with the fixed header.
fn packet_id(packet: PacketType, buf: &mut BytesMut) -> Result<PacketId, DecodeError> {
    let id = buf
        .try_get_u16()
        .map_err(|_| DecodeError::Truncated(packet))?;
    PacketId::new(id).ok_or(DecodeError::PacketIdZero(packet))
}

/// PUBLISH, without a copy and without an allocation: two more references to the buffer.
fn publish(header: FixedHeader, buf: &mut BytesMut) -> Result<Publish, DecodeError> {
    let truncated = DecodeError::Truncated(PacketType::Publish);
    let qos = QoS::try_from((header.flags >> 1) & 3).map_err(|_| DecodeError::PublishQos)?;
    let mut rest = buf.split_to(header.remaining).freeze();
    let topic_len = usize::from(rest.try_get_u16().map_err(|_| truncated)?);
    if topic_len > rest.len() {
        return Err(truncated);
    }
    let topic = topic(rest.split_to(topic_len))?;
    let packet_id = if qos == QoS::AtMostOnce {
        None
    } else {
        let id = rest.try_get_u16().map_err(|_| truncated)?;
        Some(PacketId::new(id).ok_or(DecodeError::PacketIdZero(PacketType::Publish))?)
    };
    Ok(Publish {
        dup: header.flags & 0b1000 != 0,
        qos,
        retain: header.flags & 1 != 0,
        topic,
        packet_id,
        // An empty payload must not keep the buffer alive.
        payload: if rest.is_empty() { Bytes::new() } else { rest },
        properties: None,
    })
}

fn topic(bytes: Bytes) -> Result<Str, DecodeError> {
    let field = Field::TopicName;
    let topic = Str::from_bytes(bytes).map_err(|e| DecodeError::of_str(field, e))?;
    match Topic::check(&topic) {
        Ok(()) => Ok(topic),
        Err(TopicError::Nul) => Err(DecodeError::Nul(field)),
        Err(reason) => Err(DecodeError::InvalidTopic { field, reason }),
    }
}

fn connack(mut body: Reader) -> Result<ConnAck, DecodeError> {
    let flags = body.u8()?;
    if flags & !1 != 0 {
        return Err(DecodeError::ConnAckFlags(flags));
    }
    let code = ConnectReturnCode::try_from(body.u8()?).map_err(DecodeError::ConnAckCode)?;
    let session_present = flags == 1;
    if session_present && code != ConnectReturnCode::Accepted {
        return Err(DecodeError::SessionPresentOnRefusal);
    }
    body.finish()?;
    Ok(ConnAck {
        session_present,
        code,
    })
}

fn subscribe(mut body: Reader) -> Result<Subscribe, DecodeError> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = body.filter()?;
        let asked = body.u8()?;
        let qos = QoS::try_from(asked).map_err(|_| DecodeError::SubscribeQos(asked))?;
        filters.push((filter, qos));
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyFilterList(PacketType::Subscribe));
    }
    Ok(Subscribe { packet_id, filters })
}

fn suback(mut body: Reader) -> Result<SubAck, DecodeError> {
    let packet_id = body.packet_id()?;
    let mut codes = Vec::new();
    while !body.is_empty() {
        codes.push(SubAckCode::try_from(body.u8()?).map_err(DecodeError::SubAckCode)?);
    }
    if codes.is_empty() {
        return Err(DecodeError::EmptyCodeList);
    }
    Ok(SubAck { packet_id, codes })
}

fn unsubscribe(mut body: Reader) -> Result<Unsubscribe, DecodeError> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(body.filter()?);
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyFilterList(PacketType::Unsubscribe));
    }
    Ok(Unsubscribe { packet_id, filters })
}
