//! Packets to bytes. Every function checks first and writes then: after an error `out` is as it
//! was. What is written, [`crate::Decoder`] reads back as the same packet; an empty struct of
//! properties as `None`.

mod connect;
mod properties;
mod publish;
mod wire;

use bytes::{BufMut, BytesMut};

use self::properties::{Section, WriteProperties};
use self::wire::{filter_len, put_field, put_header};
use crate::{
    Ack, AckProperties, Auth, ConnAck, ConnectReturnCode, Disconnect, EncodeError, Packet,
    PacketType, ReasonCode, SubAck, SubAckCode, Subscribe, SubscriptionOptions, UnsubAck,
    Unsubscribe, Version,
};

pub use publish::{
    PublishHead, encode_publish, encode_publish_for, publish_header, publish_header_for,
    publish_len,
};

/// Writes `packet` behind what is in `out`, in 3.1.1. See [`encode_for`].
pub fn encode(packet: &Packet, out: &mut BytesMut) -> Result<(), EncodeError> {
    encode_for(Version::V311, packet, out)
}

/// Writes `packet` behind what is in `out`, as `version` has it.
///
/// 3.1.1 has fewer words. What it can say is said: CONNACK's reasons as
/// [`ReasonCode::return_code`] maps them, each refusal in SUBACK as 0x80, UNSUBACK without its
/// codes, a PUBCOMP or PUBREL of an unknown id as any other. What would be lost with the meaning
/// of the packet is an error: properties, subscription options, an error in PUBACK, PUBREC or
/// DISCONNECT, AUTH.
pub fn encode_for(
    version: Version,
    packet: &Packet,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) if connect.version != version => Err(EncodeError::OtherVersion),
        Packet::Connect(connect) => connect::encode(connect, out),
        Packet::ConnAck(ack) => connack(version, ack, out),
        Packet::Publish(publish) => publish::encode_packet(version, publish, out),
        Packet::PubAck(ack) => acknowledgement(version, PacketType::PubAck, ack, out),
        Packet::PubRec(ack) => acknowledgement(version, PacketType::PubRec, ack, out),
        Packet::PubRel(ack) => acknowledgement(version, PacketType::PubRel, ack, out),
        Packet::PubComp(ack) => acknowledgement(version, PacketType::PubComp, ack, out),
        Packet::Subscribe(request) => subscribe(version, request, out),
        Packet::SubAck(ack) => suback(version, ack, out),
        Packet::Unsubscribe(request) => unsubscribe(version, request, out),
        Packet::UnsubAck(ack) => unsuback(version, ack, out),
        Packet::PingReq => put_empty(out, PacketType::PingReq),
        Packet::PingResp => put_empty(out, PacketType::PingResp),
        Packet::Disconnect(end) => disconnect(version, end, out),
        Packet::Auth(step) => auth(version, step, out),
    }
}

/// [`encode_for`] for a receiver that takes packets of `max_packet_bytes`. A packet that is longer
/// goes without its user properties, then without its reason string (5: [MQTT-3.2.2-19],
/// [MQTT-3.2.2-20] and the same of the other packets); a PUBLISH, whose properties are its
/// content, never.
pub fn encode_within(
    version: Version,
    packet: &Packet,
    max_packet_bytes: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    encode_for(version, packet, out)?;
    let mut size = out.len() - start;
    if size <= max_packet_bytes {
        return Ok(());
    }
    let mut shorter = packet.clone();
    for drop_part in [drop_user, drop_reason_string] {
        out.truncate(start);
        drop_part(&mut shorter);
        encode_for(version, &shorter, out)?;
        size = out.len() - start;
        if size <= max_packet_bytes {
            return Ok(());
        }
    }
    out.truncate(start);
    Err(EncodeError::ReceiverLimit {
        size,
        max: max_packet_bytes,
    })
}

fn ack_properties(packet: &mut Packet) -> Option<&mut AckProperties> {
    match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties.as_deref_mut()
        }
        Packet::SubAck(ack) => ack.properties.as_deref_mut(),
        Packet::UnsubAck(ack) => ack.properties.as_deref_mut(),
        _ => None,
    }
}

fn drop_user(packet: &mut Packet) {
    let user = match packet {
        Packet::ConnAck(ack) => ack.properties.as_deref_mut().map(|p| &mut p.user),
        Packet::Disconnect(end) => end.properties.as_deref_mut().map(|p| &mut p.user),
        Packet::Auth(step) => step.properties.as_deref_mut().map(|p| &mut p.user),
        other => ack_properties(other).map(|p| &mut p.user),
    };
    if let Some(user) = user {
        user.clear();
    }
}

fn drop_reason_string(packet: &mut Packet) {
    let reason = match packet {
        Packet::ConnAck(ack) => ack.properties.as_deref_mut().map(|p| &mut p.reason_string),
        Packet::Disconnect(end) => end.properties.as_deref_mut().map(|p| &mut p.reason_string),
        Packet::Auth(step) => step.properties.as_deref_mut().map(|p| &mut p.reason_string),
        other => ack_properties(other).map(|p| &mut p.reason_string),
    };
    if let Some(reason) = reason {
        *reason = None;
    }
}

fn connack(version: Version, ack: &ConnAck, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::ConnAck;
    if ack.session_present && ack.reason != ReasonCode::Success {
        return Err(EncodeError::SessionPresentOnRefusal);
    }
    let present = u8::from(ack.session_present);
    check_reason(packet, ack.reason)?;
    let Some(section) = section(version, packet, &ack.properties)? else {
        let code: ConnectReturnCode = ack.reason.return_code();
        out.put_slice(&[0x20, 2, present, code as u8]);
        return Ok(());
    };
    if let Some(p) = &ack.properties {
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(EncodeError::NoAuthenticationMethod(packet));
        }
    }
    put_header(out, packet, 0, 2 + section.len())?;
    out.put_slice(&[present, ack.reason as u8]);
    section.put(out);
    Ok(())
}

fn acknowledgement(
    version: Version,
    packet: PacketType,
    ack: &Ack,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let Ack {
        packet_id,
        reason,
        properties,
    } = ack;
    check_reason(packet, *reason)?;
    let [high, low] = packet_id.get().to_be_bytes();
    let flags = packet.required_flags().unwrap_or(0);
    let first = (packet as u8) << 4 | flags;
    let section = section(version, packet, properties)?;
    match section {
        None if reason.is_error() && matches!(packet, PacketType::PubAck | PacketType::PubRec) => {
            return Err(EncodeError::ReasonCode {
                packet,
                reason: *reason,
            });
        }
        Some(section) if !section.is_empty() => {
            put_header(out, packet, flags, 3 + section.len())?;
            out.put_slice(&[high, low, *reason as u8]);
            section.put(out);
        }
        Some(_) if *reason != ReasonCode::Success => {
            out.put_slice(&[first, 3, high, low, *reason as u8]);
        }
        _ => out.put_slice(&[first, 2, high, low]),
    }
    Ok(())
}

fn subscribe(version: Version, request: &Subscribe, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Subscribe;
    if request.filters.is_empty() {
        return Err(EncodeError::EmptyFilterList(packet));
    }
    let section = section(version, packet, &request.properties)?;
    let mut remaining = 2 + section_len(&section);
    for (filter, options) in &request.filters {
        if version == Version::V311 && *options != SubscriptionOptions::from(options.qos) {
            return Err(EncodeError::SubscriptionOptions);
        }
        if options.no_local && filter.starts_with("$share/") {
            return Err(EncodeError::NoLocalOnShared);
        }
        remaining = remaining.saturating_add(filter_len(packet, filter)? + 1);
    }
    put_header(out, packet, 0b0010, remaining)?;
    out.put_u16(request.packet_id.get());
    put_section(section, out);
    for (filter, options) in &request.filters {
        put_field(out, filter.as_bytes());
        out.put_u8(
            u8::from(options.qos)
                | u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | (options.retain_handling as u8) << 4,
        );
    }
    Ok(())
}

fn suback(version: Version, ack: &SubAck, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::SubAck;
    if ack.codes.is_empty() {
        return Err(EncodeError::EmptyCodeList);
    }
    for code in &ack.codes {
        if let SubAckCode::Refused(reason) = *code {
            if !reason.is_error() {
                return Err(EncodeError::ReasonCode { packet, reason });
            }
            check_reason(packet, reason)?;
        }
    }
    let section = section(version, packet, &ack.properties)?;
    let remaining = (2 + ack.codes.len()).saturating_add(section_len(&section));
    put_header(out, packet, 0, remaining)?;
    out.put_u16(ack.packet_id.get());
    put_section(section, out);
    for code in &ack.codes {
        let reason = ReasonCode::from(*code);
        out.put_u8(if version == Version::V311 && reason.is_error() {
            ReasonCode::UnspecifiedError as u8
        } else {
            reason as u8
        });
    }
    Ok(())
}

fn unsubscribe(
    version: Version,
    request: &Unsubscribe,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let packet = PacketType::Unsubscribe;
    if request.filters.is_empty() {
        return Err(EncodeError::EmptyFilterList(packet));
    }
    let section = section(version, packet, &request.properties)?;
    let mut remaining = 2 + section_len(&section);
    for filter in &request.filters {
        remaining = remaining.saturating_add(filter_len(packet, filter)?);
    }
    put_header(out, packet, 0b0010, remaining)?;
    out.put_u16(request.packet_id.get());
    put_section(section, out);
    for filter in &request.filters {
        put_field(out, filter.as_bytes());
    }
    Ok(())
}

fn unsuback(version: Version, ack: &UnsubAck, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::UnsubAck;
    let Some(section) = section(version, packet, &ack.properties)? else {
        let [high, low] = ack.packet_id.get().to_be_bytes();
        out.put_slice(&[0xb0, 2, high, low]);
        return Ok(());
    };
    if ack.codes.is_empty() {
        return Err(EncodeError::EmptyCodeList);
    }
    for code in &ack.codes {
        check_reason(packet, *code)?;
    }
    let remaining = (2 + ack.codes.len()).saturating_add(section.len());
    put_header(out, packet, 0, remaining)?;
    out.put_u16(ack.packet_id.get());
    section.put(out);
    for code in &ack.codes {
        out.put_u8(*code as u8);
    }
    Ok(())
}

fn disconnect(version: Version, end: &Disconnect, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Disconnect;
    let reason = end.reason;
    check_reason(packet, reason)?;
    match section(version, packet, &end.properties)? {
        None if reason != ReasonCode::Success => {
            return Err(EncodeError::ReasonCode { packet, reason });
        }
        Some(section) if !section.is_empty() => {
            put_header(out, packet, 0, 1 + section.len())?;
            out.put_u8(reason as u8);
            section.put(out);
        }
        Some(_) if reason != ReasonCode::Success => {
            out.put_slice(&[0xe0, 1, reason as u8]);
        }
        _ => out.put_slice(&[0xe0, 0]),
    }
    Ok(())
}

fn auth(version: Version, step: &Auth, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Auth;
    check_reason(packet, step.reason)?;
    let Some(section) = section(version, packet, &step.properties)? else {
        return Err(EncodeError::NotIn311(packet));
    };
    if section.is_empty() && step.reason == ReasonCode::Success {
        return put_empty(out, packet);
    }
    if step.properties.as_ref().is_none_or(|p| p.method.is_none()) {
        return Err(EncodeError::NoAuthenticationMethod(packet));
    }
    put_header(out, packet, 0, 1 + section.len())?;
    out.put_u8(step.reason as u8);
    section.put(out);
    Ok(())
}

fn check_reason(packet: PacketType, reason: ReasonCode) -> Result<(), EncodeError> {
    if reason.allowed_in(packet) {
        Ok(())
    } else {
        Err(EncodeError::ReasonCode { packet, reason })
    }
}

/// The checked properties in version 5; `None` in 3.1.1, where there must be none.
fn section<'a, P: WriteProperties>(
    version: Version,
    packet: PacketType,
    properties: &'a Option<Box<P>>,
) -> Result<Option<Section<'a, P>>, EncodeError> {
    match version {
        Version::V5 => Section::new(properties.as_deref()).map(Some),
        Version::V311 if properties.is_some() => Err(EncodeError::Properties(packet)),
        Version::V311 => Ok(None),
    }
}

fn section_len<P: WriteProperties>(section: &Option<Section<'_, P>>) -> usize {
    section.as_ref().map_or(0, Section::len)
}

fn put_section<P: WriteProperties>(section: Option<Section<'_, P>>, out: &mut BytesMut) {
    if let Some(section) = section {
        section.put(out);
    }
}

fn put_empty(out: &mut BytesMut, packet: PacketType) -> Result<(), EncodeError> {
    out.put_slice(&[(packet as u8) << 4, 0]);
    Ok(())
}
