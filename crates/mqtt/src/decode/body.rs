//! The bodies of all packets but CONNECT.

use bytes::{Buf, Bytes, BytesMut};
use iotedge_model::{QoS, Topic, TopicError};

use super::connect::connect;
use super::reader::Reader;
use super::{FixedHeader, Role, Spoken, properties};
use crate::{
    Ack, Auth, ConnAck, ConnectReturnCode, DecodeError, Disconnect, Field, Packet, PacketId,
    PacketType, Publish, ReasonCode, RetainHandling, Str, SubAck, SubAckCode, Subscribe,
    SubscriptionOptions, UnsubAck, Unsubscribe, Version,
};

/// Takes the body that `header` announces; all of it is at the front of `buf`. A CONNECT sets
/// `spoken`.
pub(super) fn decode(
    header: FixedHeader,
    role: Role,
    spoken: &mut Spoken,
    buf: &mut BytesMut,
) -> Result<Packet, DecodeError> {
    let version = spoken.version;
    let packet = header.packet;
    if packet == PacketType::PingReq {
        return Ok(Packet::PingReq);
    }
    if packet == PacketType::PingResp {
        return Ok(Packet::PingResp);
    }
    if header.remaining == 2 {
        // The short acknowledgements, and the only ones of 3.1.1, take no reference to the buffer.
        match packet {
            PacketType::PubAck => return Ok(Packet::PubAck(short(packet, buf)?)),
            PacketType::PubRec => return Ok(Packet::PubRec(short(packet, buf)?)),
            PacketType::PubRel => return Ok(Packet::PubRel(short(packet, buf)?)),
            PacketType::PubComp => return Ok(Packet::PubComp(short(packet, buf)?)),
            _ => {}
        }
    }
    let body = buf.split_to(header.remaining).freeze();
    let body = Reader::new(packet, body, header.user_bytes);
    Ok(match packet {
        PacketType::Publish => Packet::Publish(publish(header.flags, body, role, version)?),
        PacketType::PubAck => Packet::PubAck(ack(body)?),
        PacketType::PubRec => Packet::PubRec(ack(body)?),
        PacketType::PubRel => Packet::PubRel(ack(body)?),
        PacketType::PubComp => Packet::PubComp(ack(body)?),
        PacketType::Connect => Packet::Connect(connect(body, spoken)?),
        PacketType::ConnAck => Packet::ConnAck(connack(body, version, header.remaining)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe(body, version)?),
        PacketType::SubAck => Packet::SubAck(suback(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(unsubscribe(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(unsuback(body, version)?),
        PacketType::Disconnect => Packet::Disconnect(disconnect(body, role)?),
        PacketType::Auth => Packet::Auth(auth(body)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
    })
}

/// An acknowledgement of a packet id alone: success.
fn short(packet: PacketType, buf: &mut BytesMut) -> Result<Ack, DecodeError> {
    let id = buf
        .try_get_u16()
        .map_err(|_| DecodeError::Truncated(packet))?;
    let id = PacketId::new(id).ok_or(DecodeError::PacketIdZero(packet))?;
    Ok(id.into())
}

/// 3.1.1's length was checked with the fixed header: what is behind the id is version 5's.
fn ack(mut body: Reader) -> Result<Ack, DecodeError> {
    let packet_id = body.packet_id()?;
    if body.is_empty() {
        return Ok(packet_id.into());
    }
    let reason = body.reason()?;
    let properties = if body.is_empty() {
        None
    } else {
        properties::ack(&mut body)?
    };
    body.finish()?;
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

/// PUBLISH, without a copy and, where it has no properties, without an allocation: two more
/// references to the buffer.
fn publish(
    flags: u8,
    mut body: Reader,
    role: Role,
    version: Version,
) -> Result<Publish, DecodeError> {
    let qos = QoS::try_from((flags >> 1) & 3).map_err(|_| DecodeError::PublishQos)?;
    let topic = topic(body.binary()?, version)?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(body.packet_id()?),
    };
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::publish(&mut body, role)?,
    };
    let alias = properties.as_ref().and_then(|p| p.topic_alias);
    if topic.as_str().is_empty() && alias.is_none() {
        return Err(DecodeError::NoTopic);
    }
    let payload = body.rest();
    Ok(Publish {
        dup: flags & 0b1000 != 0,
        qos,
        retain: flags & 1 != 0,
        topic,
        packet_id,
        // An empty payload must not keep the buffer alive.
        payload: if payload.is_empty() {
            Bytes::new()
        } else {
            payload
        },
        properties,
    })
}

fn topic(bytes: Bytes, version: Version) -> Result<Str, DecodeError> {
    if bytes.is_empty() && version == Version::V5 {
        // An alias may stand for it.
        return Ok(Str::default());
    }
    let field = Field::TopicName;
    let topic = Str::from_bytes(bytes).map_err(|e| DecodeError::of_str(field, e))?;
    match Topic::check(&topic) {
        Ok(()) => Ok(topic),
        Err(TopicError::Nul) => Err(DecodeError::Nul(field)),
        Err(reason) => Err(DecodeError::InvalidTopic { field, reason }),
    }
}

fn connack(mut body: Reader, version: Version, remaining: usize) -> Result<ConnAck, DecodeError> {
    let flags = body.u8()?;
    if flags & !1 != 0 {
        return Err(DecodeError::ConnAckFlags(flags));
    }
    // A server that speaks 3.1.1 alone refuses version 5 in its own form, two bytes long.
    let reason = if version == Version::V311 || remaining == 2 {
        let code = body.u8()?;
        let code = ConnectReturnCode::try_from(code).map_err(DecodeError::ConnAckCode)?;
        if version == Version::V5 && code == ConnectReturnCode::Accepted {
            return Err(DecodeError::Truncated(PacketType::ConnAck));
        }
        ReasonCode::from(code)
    } else {
        body.reason()?
    };
    let session_present = flags == 1;
    if session_present && reason != ReasonCode::Success {
        return Err(DecodeError::SessionPresentOnRefusal);
    }
    let properties = if version == Version::V311 || remaining == 2 {
        None
    } else {
        properties::connack(&mut body)?
    };
    body.finish()?;
    Ok(ConnAck {
        session_present,
        reason,
        properties,
    })
}

fn subscribe(mut body: Reader, version: Version) -> Result<Subscribe, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::subscribe(&mut body)?,
    };
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = body.filter()?;
        let asked = body.u8()?;
        let options = match version {
            Version::V311 => QoS::try_from(asked)
                .map_err(|_| DecodeError::SubscribeQos(asked))?
                .into(),
            Version::V5 => options(&filter, asked)?,
        };
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyFilterList(PacketType::Subscribe));
    }
    Ok(Subscribe {
        packet_id,
        filters,
        properties,
    })
}

/// Version 5's subscription options (5: 3.8.3.1).
fn options(filter: &str, byte: u8) -> Result<SubscriptionOptions, DecodeError> {
    if byte & 0b1100_0000 != 0 {
        return Err(DecodeError::SubscriptionOptions(byte));
    }
    let options = SubscriptionOptions {
        qos: QoS::try_from(byte & 3).map_err(|_| DecodeError::SubscribeQos(byte))?,
        no_local: byte & 0b100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandling),
        },
    };
    if options.no_local && filter.starts_with("$share/") {
        return Err(DecodeError::NoLocalOnShared);
    }
    Ok(options)
}

fn suback(mut body: Reader, version: Version) -> Result<SubAck, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::ack(&mut body)?,
    };
    let mut codes = Vec::new();
    while !body.is_empty() {
        codes.push(match version {
            Version::V311 => match body.u8()? {
                0x80 => SubAckCode::FAILURE,
                qos => SubAckCode::Granted(
                    QoS::try_from(qos).map_err(|_| DecodeError::SubAckCode(qos))?,
                ),
            },
            Version::V5 => match body.reason()? {
                ReasonCode::Success => SubAckCode::Granted(QoS::AtMostOnce),
                ReasonCode::GrantedQos1 => SubAckCode::Granted(QoS::AtLeastOnce),
                ReasonCode::GrantedQos2 => SubAckCode::Granted(QoS::ExactlyOnce),
                refused => SubAckCode::Refused(refused),
            },
        });
    }
    if codes.is_empty() {
        return Err(DecodeError::EmptyCodeList);
    }
    Ok(SubAck {
        packet_id,
        codes,
        properties,
    })
}

fn unsubscribe(mut body: Reader, version: Version) -> Result<Unsubscribe, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::unsubscribe(&mut body)?,
    };
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(body.filter()?);
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyFilterList(PacketType::Unsubscribe));
    }
    Ok(Unsubscribe {
        packet_id,
        filters,
        properties,
    })
}

fn unsuback(mut body: Reader, version: Version) -> Result<UnsubAck, DecodeError> {
    let packet_id = body.packet_id()?;
    if version == Version::V311 {
        body.finish()?;
        return Ok(packet_id.into());
    }
    let properties = properties::ack(&mut body)?;
    let mut codes = Vec::new();
    while !body.is_empty() {
        codes.push(body.reason()?);
    }
    if codes.is_empty() {
        return Err(DecodeError::EmptyCodeList);
    }
    Ok(UnsubAck {
        packet_id,
        codes,
        properties,
    })
}

/// An empty body is the normal one; 3.1.1's always is.
fn disconnect(mut body: Reader, role: Role) -> Result<Disconnect, DecodeError> {
    if body.is_empty() {
        return Ok(Disconnect::default());
    }
    let reason = body.reason()?;
    let properties = if body.is_empty() {
        None
    } else {
        properties::disconnect(&mut body, role)?
    };
    body.finish()?;
    Ok(Disconnect { reason, properties })
}

/// An empty body means success (5: 3.15.2.1).
fn auth(mut body: Reader) -> Result<Auth, DecodeError> {
    if body.is_empty() {
        return Ok(Auth::default());
    }
    let reason = body.reason()?;
    let properties = properties::auth(&mut body)?;
    body.finish()?;
    Ok(Auth { reason, properties })
}
