//! CONNECT (3.1).

use bytes::{BufMut, BytesMut};

use super::properties::Section;
use super::wire::{check_topic, field_len, put_field, put_header};
use super::{put_section, section, section_len};
use crate::{Connect, EncodeError, Field, LastWill, PacketType, Version, WillProperties};

pub(super) fn encode(connect: &Connect, out: &mut BytesMut) -> Result<(), EncodeError> {
    let packet = PacketType::Connect;
    let version = connect.version;
    check_login(connect)?;
    let properties = section(version, packet, &connect.properties)?;
    let mut flags = u8::from(connect.clean) << 1;
    let mut remaining = 10 + field_len(Field::ClientId, connect.client_id.as_bytes())?;
    remaining = remaining.saturating_add(section_len(&properties));
    let mut will_properties = None;
    if let Some(will) = &connect.will {
        flags |= 0x04 | u8::from(will.qos) << 3 | u8::from(will.retain) << 5;
        will_properties = section(version, packet, &will.properties)?;
        remaining = remaining.saturating_add(will_len(will, &will_properties)?);
    }
    if let Some(username) = &connect.username {
        flags |= 0x80;
        remaining = remaining.saturating_add(field_len(Field::UserName, username.as_bytes())?);
    }
    if let Some(password) = &connect.password {
        flags |= 0x40;
        remaining = remaining.saturating_add(field_len(Field::Password, password)?);
    }
    put_header(out, packet, 0, remaining)?;
    put_field(out, b"MQTT");
    out.put_slice(&[version.level(), flags]);
    out.put_u16(connect.keep_alive);
    put_section(properties, out);
    put_field(out, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        put_section(will_properties, out);
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

fn check_login(connect: &Connect) -> Result<(), EncodeError> {
    if connect.version == Version::V311 && connect.password.is_some() && connect.username.is_none()
    {
        return Err(EncodeError::PasswordWithoutUserName);
    }
    if let Some(p) = &connect.properties {
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(EncodeError::NoAuthenticationMethod(PacketType::Connect));
        }
    }
    Ok(())
}

fn will_len(
    will: &LastWill,
    properties: &Option<Section<'_, WillProperties>>,
) -> Result<usize, EncodeError> {
    check_topic(Field::WillTopic, &will.topic)?;
    let topic = field_len(Field::WillTopic, will.topic.as_bytes())?;
    let payload = field_len(Field::WillMessage, &will.payload)?;
    Ok(topic + payload + section_len(properties))
}
