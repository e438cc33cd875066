//! Properties off the front of a body (MQTT 5, 2.2.2), each packet with its own.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{PayloadFormat, Properties, QoS, Topic, UserProperty};

use super::Role;
use super::reader::Reader;
use crate::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DecodeError,
    DisconnectProperties, Field, PacketType, Property, PublishProperties, Str, SubscribeProperties,
    UnsubscribeProperties, WillProperties,
};

type Boxed<P> = Result<Option<Box<P>>, DecodeError>;

/// Reads the length and all properties; `set` takes one's value, or says `false` when this packet
/// has no such property. Nothing is allocated for an empty section; one that says nothing but
/// defaults is `None` too.
fn read<P, F>(body: &mut Reader, mut set: F) -> Boxed<P>
where
    P: Default + PartialEq,
    F: FnMut(&mut P, Property, &mut Reader) -> Result<bool, DecodeError>,
{
    let len = body.variable_byte_integer()?;
    if len == 0 {
        return Ok(None);
    }
    let mut section = body.section(len)?;
    let packet = section.packet();
    let mut properties = Box::<P>::default();
    let mut seen = 0_u64;
    while !section.is_empty() {
        let id = section.variable_byte_integer()?;
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        let property = Property::from_id(id).ok_or(DecodeError::UnknownProperty { packet, id })?;
        let bit = 1_u64 << (property as u8);
        if seen & bit != 0 && !may_repeat(property, packet) {
            return Err(DecodeError::RepeatedProperty { packet, property });
        }
        seen |= bit;
        if !set(&mut properties, property, &mut section)? {
            return Err(DecodeError::WrongProperty { packet, property });
        }
    }
    Ok((*properties != P::default()).then_some(properties))
}

fn may_repeat(property: Property, packet: PacketType) -> bool {
    match property {
        Property::UserProperty => true,
        Property::SubscriptionIdentifier => packet == PacketType::Publish,
        _ => false,
    }
}

pub(super) fn connect(body: &mut Reader) -> Boxed<ConnectProperties> {
    let read: Option<Box<ConnectProperties>> =
        read(body, |p: &mut ConnectProperties, property, r| {
            match property {
                Property::SessionExpiryInterval => p.session_expiry = r.u32()?,
                Property::ReceiveMaximum => p.receive_maximum = non_zero_u16(r, property)?,
                Property::MaximumPacketSize => {
                    p.maximum_packet_size = Some(non_zero_u32(r, property)?);
                }
                Property::TopicAliasMaximum => p.topic_alias_maximum = r.u16()?,
                Property::RequestResponseInformation => {
                    p.request_response_information = flag(r, property)?;
                }
                Property::RequestProblemInformation => {
                    p.request_problem_information = flag(r, property)?;
                }
                Property::UserProperty => p.user.push(user(r)?),
                Property::AuthenticationMethod => {
                    p.authentication_method = Some(text(r, property)?);
                }
                Property::AuthenticationData => p.authentication_data = Some(r.binary()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    if let Some(p) = &read {
        check_method(
            PacketType::Connect,
            &p.authentication_method,
            &p.authentication_data,
        )?;
    }
    Ok(read)
}

/// Data needs a method (3.1.2.11.10, 3.2.2.3.18).
fn check_method(
    packet: PacketType,
    method: &Option<Str>,
    data: &Option<Bytes>,
) -> Result<(), DecodeError> {
    if data.is_some() && method.is_none() {
        return Err(DecodeError::NoAuthenticationMethod(packet));
    }
    Ok(())
}

pub(super) fn will(body: &mut Reader) -> Boxed<WillProperties> {
    read(body, |p: &mut WillProperties, property, r| {
        match property {
            Property::WillDelayInterval => p.delay = r.u32()?,
            Property::MessageExpiryInterval => p.message_expiry = Some(r.u32()?),
            _ => return travelling(&mut p.message, property, r),
        }
        Ok(true)
    })
}

pub(super) fn connack(body: &mut Reader) -> Boxed<ConnAckProperties> {
    let read: Option<Box<ConnAckProperties>> =
        read(body, |p: &mut ConnAckProperties, property, r| {
            match property {
                Property::SessionExpiryInterval => p.session_expiry = Some(r.u32()?),
                Property::ReceiveMaximum => p.receive_maximum = non_zero_u16(r, property)?,
                Property::MaximumQos => {
                    p.maximum_qos = if flag(r, property)? {
                        QoS::AtLeastOnce
                    } else {
                        QoS::AtMostOnce
                    };
                }
                Property::RetainAvailable => p.retain_available = flag(r, property)?,
                Property::MaximumPacketSize => {
                    p.maximum_packet_size = Some(non_zero_u32(r, property)?);
                }
                Property::AssignedClientIdentifier => {
                    p.assigned_client_id = Some(text(r, property)?);
                }
                Property::TopicAliasMaximum => p.topic_alias_maximum = r.u16()?,
                Property::ReasonString => p.reason_string = Some(text(r, property)?),
                Property::UserProperty => p.user.push(user(r)?),
                Property::WildcardSubscriptionAvailable => {
                    p.wildcard_subscription_available = flag(r, property)?;
                }
                Property::SubscriptionIdentifierAvailable => {
                    p.subscription_identifier_available = flag(r, property)?;
                }
                Property::SharedSubscriptionAvailable => {
                    p.shared_subscription_available = flag(r, property)?;
                }
                Property::ServerKeepAlive => p.server_keep_alive = Some(r.u16()?),
                Property::ResponseInformation => p.response_information = Some(text(r, property)?),
                Property::ServerReference => p.server_reference = Some(text(r, property)?),
                Property::AuthenticationMethod => {
                    p.authentication_method = Some(text(r, property)?);
                }
                Property::AuthenticationData => p.authentication_data = Some(r.binary()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    if let Some(p) = &read {
        check_method(
            PacketType::ConnAck,
            &p.authentication_method,
            &p.authentication_data,
        )?;
    }
    Ok(read)
}

pub(super) fn publish(body: &mut Reader, role: Role) -> Boxed<PublishProperties> {
    read(body, |p: &mut PublishProperties, property, r| {
        match property {
            Property::MessageExpiryInterval => p.message_expiry = Some(r.u32()?),
            Property::TopicAlias => p.topic_alias = Some(non_zero_u16(r, property)?),
            Property::SubscriptionIdentifier => {
                not_to(Role::Server, role, property, r)?;
                p.subscription_ids.push(subscription_id(r)?.get());
            }
            _ => return travelling(&mut p.message, property, r),
        }
        Ok(true)
    })
}

/// The properties that PUBLISH and the will hand on to receivers.
fn travelling(
    message: &mut Option<Box<Properties>>,
    property: Property,
    r: &mut Reader,
) -> Result<bool, DecodeError> {
    match property {
        Property::PayloadFormatIndicator => {
            kept(message).payload_format = Some(if flag(r, property)? {
                PayloadFormat::Utf8
            } else {
                PayloadFormat::Bytes
            });
        }
        Property::ContentType => kept(message).content_type = Some(shared(r, property)?),
        Property::ResponseTopic => {
            let field = Field::Property(property);
            let topic = Topic::new(&r.str(field)?)
                .map_err(|reason| DecodeError::InvalidTopic { field, reason })?;
            kept(message).response_topic = Some(topic);
        }
        Property::CorrelationData => kept(message).correlation_data = Some(r.binary()?.to_vec()),
        Property::UserProperty => kept(message).user.push(user(r)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn kept(message: &mut Option<Box<Properties>>) -> &mut Properties {
    message.get_or_insert_with(Box::default)
}

pub(super) fn ack(body: &mut Reader) -> Boxed<AckProperties> {
    read(body, |p: &mut AckProperties, property, r| {
        match property {
            Property::ReasonString => p.reason_string = Some(text(r, property)?),
            Property::UserProperty => p.user.push(user(r)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

pub(super) fn subscribe(body: &mut Reader) -> Boxed<SubscribeProperties> {
    read(body, |p: &mut SubscribeProperties, property, r| {
        match property {
            Property::SubscriptionIdentifier => p.subscription_id = Some(subscription_id(r)?),
            Property::UserProperty => p.user.push(user(r)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

pub(super) fn unsubscribe(body: &mut Reader) -> Boxed<UnsubscribeProperties> {
    read(body, |p: &mut UnsubscribeProperties, property, r| {
        match property {
            Property::UserProperty => p.user.push(user(r)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

pub(super) fn disconnect(body: &mut Reader, role: Role) -> Boxed<DisconnectProperties> {
    read(body, |p: &mut DisconnectProperties, property, r| {
        match property {
            Property::SessionExpiryInterval => {
                not_to(Role::Client, role, property, r)?;
                p.session_expiry = Some(r.u32()?);
            }
            Property::ReasonString => p.reason_string = Some(text(r, property)?),
            Property::UserProperty => p.user.push(user(r)?),
            Property::ServerReference => p.server_reference = Some(text(r, property)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

pub(super) fn auth(body: &mut Reader) -> Boxed<AuthProperties> {
    let read: Option<Box<AuthProperties>> = read(body, |p: &mut AuthProperties, property, r| {
        match property {
            Property::AuthenticationMethod => p.method = Some(text(r, property)?),
            Property::AuthenticationData => p.data = Some(r.binary()?),
            Property::ReasonString => p.reason_string = Some(text(r, property)?),
            Property::UserProperty => p.user.push(user(r)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if read.as_ref().is_none_or(|p| p.method.is_none()) {
        return Err(DecodeError::NoAuthenticationMethod(PacketType::Auth));
    }
    Ok(read)
}

/// A property that is never sent to `forbidden`.
fn not_to(forbidden: Role, role: Role, property: Property, r: &Reader) -> Result<(), DecodeError> {
    if role == forbidden {
        return Err(DecodeError::PropertyDirection {
            packet: r.packet(),
            property,
            role,
        });
    }
    Ok(())
}

/// A byte that is 0 or 1.
fn flag(r: &mut Reader, property: Property) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(DecodeError::PropertyValue {
            property,
            value: value.into(),
        }),
    }
}

fn non_zero_u16(r: &mut Reader, property: Property) -> Result<NonZeroU16, DecodeError> {
    NonZeroU16::new(r.u16()?).ok_or(DecodeError::PropertyValue { property, value: 0 })
}

fn non_zero_u32(r: &mut Reader, property: Property) -> Result<NonZeroU32, DecodeError> {
    NonZeroU32::new(r.u32()?).ok_or(DecodeError::PropertyValue { property, value: 0 })
}

fn subscription_id(r: &mut Reader) -> Result<NonZeroU32, DecodeError> {
    let id = r.variable_byte_integer()?;
    u32::try_from(id)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or(DecodeError::PropertyValue {
            property: Property::SubscriptionIdentifier,
            value: 0,
        })
}

/// A string that shares the buffer.
fn text(r: &mut Reader, property: Property) -> Result<Str, DecodeError> {
    r.str(Field::Property(property))
}

/// A string by itself, which may outlive the buffer.
fn shared(r: &mut Reader, property: Property) -> Result<Arc<str>, DecodeError> {
    Ok(Arc::from(text(r, property)?.as_str()))
}

fn user(r: &mut Reader) -> Result<UserProperty, DecodeError> {
    let name = text(r, Property::UserProperty)?;
    let value = text(r, Property::UserProperty)?;
    r.user_property(name.as_str().len() + value.as_str().len())?;
    Ok(UserProperty {
        name: Arc::from(name.as_str()),
        value: Arc::from(value.as_str()),
    })
}
