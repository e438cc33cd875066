//! Properties to bytes (MQTT 5, 2.2.2): written twice by the same code, first to be checked and
//! measured, then for good.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};
use iotedge_model::{PayloadFormat, Properties, QoS, UserProperty};

use super::wire::{field_len, put_field, put_variable_byte_integer, variable_byte_integer_len};
use crate::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    EncodeError, Field, MAX_REMAINING_LENGTH, Property, PublishPropertiesRef, Str,
    SubscribeProperties, UnsubscribeProperties, WillProperties,
};

/// Where properties go.
pub(super) trait Sink {
    fn bytes(&mut self, bytes: &[u8]);
    fn field(&mut self, field: Field, bytes: &[u8]);
    fn variable_byte_integer(&mut self, value: u32);
    fn fail(&mut self, error: EncodeError);
}

impl Sink for BytesMut {
    fn bytes(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn field(&mut self, _: Field, bytes: &[u8]) {
        put_field(self, bytes);
    }

    fn variable_byte_integer(&mut self, value: u32) {
        put_variable_byte_integer(self, value as usize);
    }

    // What fails is not written: it was measured before.
    fn fail(&mut self, _: EncodeError) {}
}

/// Measures and keeps the first error.
struct Measure {
    len: usize,
    error: Option<EncodeError>,
}

impl Sink for Measure {
    fn bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    fn field(&mut self, field: Field, bytes: &[u8]) {
        match field_len(field, bytes) {
            Ok(len) => self.len = self.len.saturating_add(len),
            Err(error) => self.fail(error),
        }
    }

    fn variable_byte_integer(&mut self, value: u32) {
        self.len += variable_byte_integer_len(value as usize);
    }

    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }
}

/// Properties that can be written.
pub(super) trait WriteProperties {
    fn write(&self, sink: &mut impl Sink);
}

/// Checked properties with their length.
pub(super) struct Section<'a, P> {
    properties: Option<&'a P>,
    len: usize,
}

impl<'a, P: WriteProperties> Section<'a, P> {
    pub(super) fn new(properties: Option<&'a P>) -> Result<Self, EncodeError> {
        let mut measure = Measure {
            len: 0,
            error: None,
        };
        if let Some(properties) = properties {
            properties.write(&mut measure);
        }
        match measure {
            Measure {
                error: Some(error), ..
            } => Err(error),
            Measure { len, .. } if len > MAX_REMAINING_LENGTH => {
                Err(EncodeError::PacketTooLarge(len))
            }
            Measure { len, .. } => Ok(Self { properties, len }),
        }
    }

    /// Whether there is no property.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes, those of the length in front included.
    pub(super) fn len(&self) -> usize {
        variable_byte_integer_len(self.len) + self.len
    }

    pub(super) fn put(self, out: &mut BytesMut) {
        put_variable_byte_integer(out, self.len);
        if let Some(properties) = self.properties {
            properties.write(out);
        }
    }
}

fn byte(sink: &mut impl Sink, property: Property, value: u8) {
    sink.bytes(&[property as u8, value]);
}

/// A byte that is left out where it says the default.
fn flag(sink: &mut impl Sink, property: Property, value: bool, default: bool) {
    if value != default {
        byte(sink, property, value.into());
    }
}

fn two(sink: &mut impl Sink, property: Property, value: u16) {
    let [a, b] = value.to_be_bytes();
    sink.bytes(&[property as u8, a, b]);
}

fn four(sink: &mut impl Sink, property: Property, value: u32) {
    let [a, b, c, d] = value.to_be_bytes();
    sink.bytes(&[property as u8, a, b, c, d]);
}

fn maybe_four(sink: &mut impl Sink, property: Property, value: Option<u32>) {
    if let Some(value) = value {
        four(sink, property, value);
    }
}

fn binary(sink: &mut impl Sink, property: Property, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        sink.bytes(&[property as u8]);
        sink.field(Field::Property(property), bytes);
    }
}

fn text(sink: &mut impl Sink, property: Property, text: &Option<Str>) {
    binary(sink, property, text.as_ref().map(|t| t.as_str().as_bytes()));
}

/// A string that was not read from a packet.
fn checked(sink: &mut impl Sink, property: Property, text: &str) {
    let field = Field::Property(property);
    if text.as_bytes().contains(&0) {
        sink.fail(EncodeError::Nul(field));
    }
    sink.field(field, text.as_bytes());
}

fn subscription_id(sink: &mut impl Sink, id: u32) {
    if id == 0 || id as usize > MAX_REMAINING_LENGTH {
        sink.fail(EncodeError::SubscriptionId(id));
    }
    sink.bytes(&[Property::SubscriptionIdentifier as u8]);
    sink.variable_byte_integer(id);
}

fn users(sink: &mut impl Sink, user: &[UserProperty]) {
    for UserProperty { name, value } in user {
        sink.bytes(&[Property::UserProperty as u8]);
        checked(sink, Property::UserProperty, name);
        checked(sink, Property::UserProperty, value);
    }
}

/// What travels with a message: the same to every receiver, and built once for all.
fn travelling(sink: &mut impl Sink, properties: &Properties) {
    if let Some(bytes) = properties.wire.get() {
        sink.bytes(bytes);
        return;
    }
    let mut measure = Measure {
        len: 0,
        error: None,
    };
    each(&mut measure, properties);
    match measure.error {
        Some(error) => sink.fail(error),
        None => sink.bytes(properties.wire.get_or_build(|| {
            let mut bytes = BytesMut::with_capacity(measure.len);
            each(&mut bytes, properties);
            Vec::from(bytes).into()
        })),
    }
}

fn each(sink: &mut impl Sink, properties: &Properties) {
    match properties.payload_format {
        None => {}
        Some(PayloadFormat::Bytes) => byte(sink, Property::PayloadFormatIndicator, 0),
        Some(PayloadFormat::Utf8) => byte(sink, Property::PayloadFormatIndicator, 1),
    }
    if let Some(content_type) = &properties.content_type {
        sink.bytes(&[Property::ContentType as u8]);
        checked(sink, Property::ContentType, content_type);
    }
    let topic = properties.response_topic.as_ref();
    binary(
        sink,
        Property::ResponseTopic,
        topic.map(|t| t.as_str().as_bytes()),
    );
    binary(
        sink,
        Property::CorrelationData,
        properties.correlation_data.as_deref(),
    );
    users(sink, &properties.user);
}

fn receive_maximum(sink: &mut impl Sink, value: NonZeroU16) {
    if value != NonZeroU16::MAX {
        two(sink, Property::ReceiveMaximum, value.get());
    }
}

fn authentication(sink: &mut impl Sink, method: &Option<Str>, data: &Option<bytes::Bytes>) {
    text(sink, Property::AuthenticationMethod, method);
    binary(sink, Property::AuthenticationData, data.as_deref());
}

impl WriteProperties for ConnectProperties {
    fn write(&self, sink: &mut impl Sink) {
        if self.session_expiry != 0 {
            four(sink, Property::SessionExpiryInterval, self.session_expiry);
        }
        receive_maximum(sink, self.receive_maximum);
        let size = self.maximum_packet_size.map(NonZeroU32::get);
        maybe_four(sink, Property::MaximumPacketSize, size);
        if self.topic_alias_maximum != 0 {
            two(sink, Property::TopicAliasMaximum, self.topic_alias_maximum);
        }
        let response = self.request_response_information;
        flag(sink, Property::RequestResponseInformation, response, false);
        let problem = self.request_problem_information;
        flag(sink, Property::RequestProblemInformation, problem, true);
        users(sink, &self.user);
        authentication(sink, &self.authentication_method, &self.authentication_data);
    }
}

impl WriteProperties for WillProperties {
    fn write(&self, sink: &mut impl Sink) {
        if self.delay != 0 {
            four(sink, Property::WillDelayInterval, self.delay);
        }
        maybe_four(sink, Property::MessageExpiryInterval, self.message_expiry);
        if let Some(message) = &self.message {
            travelling(sink, message);
        }
    }
}

impl WriteProperties for ConnAckProperties {
    fn write(&self, sink: &mut impl Sink) {
        maybe_four(sink, Property::SessionExpiryInterval, self.session_expiry);
        receive_maximum(sink, self.receive_maximum);
        if self.maximum_qos != QoS::ExactlyOnce {
            byte(sink, Property::MaximumQos, self.maximum_qos.into());
        }
        flag(sink, Property::RetainAvailable, self.retain_available, true);
        let size = self.maximum_packet_size.map(NonZeroU32::get);
        maybe_four(sink, Property::MaximumPacketSize, size);
        text(
            sink,
            Property::AssignedClientIdentifier,
            &self.assigned_client_id,
        );
        if self.topic_alias_maximum != 0 {
            two(sink, Property::TopicAliasMaximum, self.topic_alias_maximum);
        }
        text(sink, Property::ReasonString, &self.reason_string);
        users(sink, &self.user);
        for (property, available) in [
            (
                Property::WildcardSubscriptionAvailable,
                self.wildcard_subscription_available,
            ),
            (
                Property::SubscriptionIdentifierAvailable,
                self.subscription_identifier_available,
            ),
            (
                Property::SharedSubscriptionAvailable,
                self.shared_subscription_available,
            ),
        ] {
            flag(sink, property, available, true);
        }
        if let Some(seconds) = self.server_keep_alive {
            two(sink, Property::ServerKeepAlive, seconds);
        }
        text(
            sink,
            Property::ResponseInformation,
            &self.response_information,
        );
        text(sink, Property::ServerReference, &self.server_reference);
        authentication(sink, &self.authentication_method, &self.authentication_data);
    }
}

impl WriteProperties for PublishPropertiesRef<'_> {
    #[inline]
    fn write(&self, sink: &mut impl Sink) {
        maybe_four(sink, Property::MessageExpiryInterval, self.message_expiry);
        if let Some(alias) = self.topic_alias {
            two(sink, Property::TopicAlias, alias.get());
        }
        for id in self.subscription_ids {
            subscription_id(sink, *id);
        }
        if let Some(message) = self.message {
            travelling(sink, message);
        }
    }
}

impl WriteProperties for AckProperties {
    fn write(&self, sink: &mut impl Sink) {
        text(sink, Property::ReasonString, &self.reason_string);
        users(sink, &self.user);
    }
}

impl WriteProperties for SubscribeProperties {
    fn write(&self, sink: &mut impl Sink) {
        if let Some(id) = self.subscription_id {
            subscription_id(sink, id.get());
        }
        users(sink, &self.user);
    }
}

impl WriteProperties for UnsubscribeProperties {
    fn write(&self, sink: &mut impl Sink) {
        users(sink, &self.user);
    }
}

impl WriteProperties for DisconnectProperties {
    fn write(&self, sink: &mut impl Sink) {
        maybe_four(sink, Property::SessionExpiryInterval, self.session_expiry);
        text(sink, Property::ReasonString, &self.reason_string);
        users(sink, &self.user);
        text(sink, Property::ServerReference, &self.server_reference);
    }
}

impl WriteProperties for AuthProperties {
    fn write(&self, sink: &mut impl Sink) {
        authentication(sink, &self.method, &self.data);
        text(sink, Property::ReasonString, &self.reason_string);
        users(sink, &self.user);
    }
}
