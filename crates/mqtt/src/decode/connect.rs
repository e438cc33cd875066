//! CONNECT (MQTT 3.1.1 and MQTT 5, 3.1).

use iotedge_model::{QoS, Topic};

use super::reader::Reader;
use super::{Spoken, properties};
use crate::{Connect, DecodeError, Field, LastWill, Version};

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// Sets each part of `spoken` as soon as it is read, so that what is wrong behind it is answered in
/// its version, and in a packet that the client takes.
pub(super) fn connect(mut body: Reader, spoken: &mut Spoken) -> Result<Connect, DecodeError> {
    let version = version(&mut body)?;
    spoken.version = version;
    let flags = body.u8()?;
    check_flags(flags, version)?;
    let keep_alive = body.u16()?;
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::connect(&mut body)?,
    };
    spoken.max_packet_bytes = properties.as_ref().and_then(|p| p.maximum_packet_size);
    let client_id = body.str(Field::ClientId)?;
    let will = if flags & WILL == 0 {
        None
    } else {
        Some(will(&mut body, flags, version)?)
    };
    let username = if flags & USER_NAME == 0 {
        None
    } else {
        Some(body.str(Field::UserName)?)
    };
    let password = if flags & PASSWORD == 0 {
        None
    } else {
        Some(body.binary()?)
    };
    body.finish()?;
    Ok(Connect {
        version,
        clean: flags & CLEAN != 0,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

/// The name, then the level: nothing behind an unsupported level is looked at, since only its own
/// version knows what it means.
fn version(body: &mut Reader) -> Result<Version, DecodeError> {
    let name = body.str(Field::ProtocolName)?;
    let level = body.u8()?;
    match (name.as_str(), level) {
        ("MQTT", 4) => Ok(Version::V311),
        ("MQTT", 5) => Ok(Version::V5),
        ("MQTT", level) | ("MQIsdp", level @ 3) => {
            Err(DecodeError::UnsupportedProtocolLevel { level })
        }
        _ => Err(DecodeError::ProtocolName),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::ConnectReservedFlag);
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::WillFlags);
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeError::WillQos);
    }
    // Version 5 allows it (5: [MQTT-3.1.2-19]).
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}

fn will(body: &mut Reader, flags: u8, version: Version) -> Result<LastWill, DecodeError> {
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties::will(body)?,
    };
    let topic = body.str(Field::WillTopic)?;
    Topic::check(&topic).map_err(|reason| DecodeError::InvalidTopic {
        field: Field::WillTopic,
        reason,
    })?;
    Ok(LastWill {
        topic,
        payload: body.binary()?,
        qos: QoS::try_from((flags & WILL_QOS) >> 3).map_err(|_| DecodeError::WillQos)?,
        retain: flags & WILL_RETAIN != 0,
        properties,
    })
}
