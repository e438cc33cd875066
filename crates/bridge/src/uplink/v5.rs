//! MQTT 5 by rumqttc.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use iotedge_model::{PayloadFormat, Properties, QoS, Topic, UserProperty};
use rumqttc::v5::mqttbytes::QoS as LibraryQoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode as Code, Filter as LibraryFilter, Packet, PubAckReason,
    Publish as LibraryPublish, PublishProperties, RetainForwardRule, SubscribeReasonCode as Sub,
};
use rumqttc::v5::{self, AsyncClient, ConnectionError, EventLoop, Request, StateError};

use super::driver::{self, Driver};
use super::library::outgoing;
use super::{Accepted, Acknowledged, Connection, Ended, Event, Filter, Incoming, Layer, Publish};

/// A connection.
pub(super) struct V5 {
    client: AsyncClient,
    driver: Driver,
}

/// Waits for CONNACK.
pub(super) async fn connect(
    client: AsyncClient,
    mut events: EventLoop,
    keep_alive: u16,
) -> Result<(V5, Accepted), Ended> {
    let first = events
        .poll()
        .await
        .map_err(|e| failed(&e, Layer::Connack))?;
    let v5::Event::Incoming(Packet::ConnAck(ack)) = first else {
        return Err(Ended::lost(Layer::Connack, "something else came first"));
    };
    let accepted = accepted(&ack, keep_alive)?;
    let driver = Driver::new(events);
    Ok((V5 { client, driver }, accepted))
}

fn accepted(ack: &ConnAck, keep_alive: u16) -> Result<Accepted, Ended> {
    let mut accepted = Accepted {
        session_present: ack.session_present,
        ..Accepted::unlimited(keep_alive)
    };
    let Some(said) = &ack.properties else {
        return Ok(accepted);
    };
    if said.receive_max == Some(0) || said.max_packet_size == Some(0) {
        // MQTT 5, 3.2.2.3.3 and 3.2.2.3.6.
        let text = "CONNACK has a receive maximum or a packet size of 0";
        return Err(Ended::lost(Layer::Connack, text));
    }
    accepted.receive_maximum = said.receive_max.unwrap_or(u16::MAX);
    accepted.maximum_packet_size = said.max_packet_size;
    accepted.retain_available = said.retain_available != Some(0);
    accepted.maximum_qos = match said.max_qos {
        Some(0) => QoS::AtMostOnce,
        Some(1) => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    accepted.keep_alive = said.server_keep_alive.unwrap_or(keep_alive);
    Ok(accepted)
}

fn library_qos(qos: QoS) -> LibraryQoS {
    match qos {
        QoS::AtMostOnce => LibraryQoS::AtMostOnce,
        QoS::AtLeastOnce => LibraryQoS::AtLeastOnce,
        QoS::ExactlyOnce => LibraryQoS::ExactlyOnce,
    }
}

fn model_qos(qos: LibraryQoS) -> QoS {
    match qos {
        LibraryQoS::AtMostOnce => QoS::AtMostOnce,
        LibraryQoS::AtLeastOnce => QoS::AtLeastOnce,
        LibraryQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn code(code: Code) -> u8 {
    match code {
        Code::Success => 0,
        Code::RefusedProtocolVersion => 1,
        Code::BadClientId => 2,
        Code::ServiceUnavailable => 3,
        Code::UnspecifiedError => 0x80,
        Code::MalformedPacket => 0x81,
        Code::ProtocolError => 0x82,
        Code::ImplementationSpecificError => 0x83,
        Code::UnsupportedProtocolVersion => 0x84,
        Code::ClientIdentifierNotValid => 0x85,
        Code::BadUserNamePassword => 0x86,
        Code::NotAuthorized => 0x87,
        Code::ServerUnavailable => 0x88,
        Code::ServerBusy => 0x89,
        Code::Banned => 0x8A,
        Code::BadAuthenticationMethod => 0x8C,
        Code::TopicNameInvalid => 0x90,
        Code::PacketTooLarge => 0x95,
        Code::QuotaExceeded => 0x97,
        Code::PayloadFormatInvalid => 0x99,
        Code::RetainNotSupported => 0x9A,
        Code::QoSNotSupported => 0x9B,
        Code::UseAnotherServer => 0x9C,
        Code::ServerMoved => 0x9D,
        Code::ConnectionRateExceeded => 0x9F,
    }
}

fn failed(error: &ConnectionError, layer: Layer) -> Ended {
    match error {
        ConnectionError::ConnectionRefused(refused) => Ended::connack(code(*refused), None),
        ConnectionError::Timeout(_) => Ended::lost(layer, "no connection within the timeout"),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            Ended::lost(layer, "the other side closed the connection")
        }
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code,
            reason_string,
        }) => Ended::disconnect(*reason_code as u8, reason_string.as_deref()),
        other => Ended::lost(layer, other.to_string()),
    }
}

fn puback(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn suback(reason: &Sub) -> u8 {
    match reason {
        Sub::Success(qos) => *qos as u8,
        Sub::Failure | Sub::Unspecified => 0x80,
        Sub::ImplementationSpecific => 0x83,
        Sub::NotAuthorized => 0x87,
        Sub::TopicFilterInvalid => 0x8F,
        Sub::PkidInUse => 0x91,
        Sub::QuotaExceeded => 0x97,
        Sub::SharedSubscriptionsNotSupported => 0x9E,
        Sub::SubscriptionIdNotSupported => 0xA1,
        Sub::WildcardSubscriptionsNotSupported => 0xA2,
    }
}

fn event(event: v5::Event) -> Result<Option<Event>, Ended> {
    let packet = match event {
        v5::Event::Outgoing(done) => return outgoing(&done),
        v5::Event::Incoming(packet) => packet,
    };
    Ok(Some(match packet {
        Packet::PubAck(ack) => Event::Acknowledged(Acknowledged {
            packet_id: ack.pkid,
            reason: puback(ack.reason),
            said: ack.properties.and_then(|p| p.reason_string),
        }),
        Packet::SubAck(ack) => Event::Subscribed(ack.return_codes.iter().map(suback).collect()),
        Packet::Publish(publish) => Event::Incoming(Box::new(incoming(publish)?)),
        Packet::PingResp(_) => Event::Pong,
        _ => return Ok(None),
    }))
}

fn incoming(publish: LibraryPublish) -> Result<Incoming, Ended> {
    let topic = String::from_utf8(publish.topic.to_vec())
        .map_err(|_| Ended::lost(Layer::Mqtt, "a topic is no UTF-8"))?;
    let (expiry, properties) = match publish.properties {
        Some(said) => (said.message_expiry_interval, properties(said)),
        None => (None, None),
    };
    Ok(Incoming {
        topic,
        payload: publish.payload,
        qos: model_qos(publish.qos),
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.pkid,
        expiry,
        properties,
    })
}

/// Those that travel with a message (MQTT 5, 3.3.2.3); `None`: there are none.
fn properties(said: PublishProperties) -> Option<Box<Properties>> {
    let properties = Properties {
        payload_format: said.payload_format_indicator.map(|f| match f {
            1 => PayloadFormat::Utf8,
            _ => PayloadFormat::Bytes,
        }),
        content_type: said.content_type.map(Arc::from),
        // One that is no topic name names nobody.
        response_topic: said.response_topic.and_then(|t| Topic::new(&t).ok()),
        correlation_data: said.correlation_data.map(|data| data.to_vec()),
        user: said
            .user_properties
            .into_iter()
            .map(|(name, value)| UserProperty {
                name: Arc::from(name),
                value: Arc::from(value),
            })
            .collect(),
        ..Properties::default()
    };
    (properties != Properties::default()).then(|| Box::new(properties))
}

fn library_properties(publish: &Publish) -> Option<PublishProperties> {
    if publish.expiry.is_none() && publish.properties.is_none() {
        return None;
    }
    let mut said = PublishProperties {
        message_expiry_interval: publish.expiry,
        ..PublishProperties::default()
    };
    if let Some(ours) = &publish.properties {
        said.payload_format_indicator = ours.payload_format.map(|f| match f {
            PayloadFormat::Bytes => 0,
            PayloadFormat::Utf8 => 1,
        });
        said.content_type = ours.content_type.as_deref().map(str::to_owned);
        said.response_topic = ours.response_topic.as_ref().map(ToString::to_string);
        said.correlation_data = ours.correlation_data.clone().map(Bytes::from);
        let user = ours.user.iter();
        said.user_properties = user
            .map(|p| (p.name.to_string(), p.value.to_string()))
            .collect();
    }
    Some(said)
}

impl driver::EventLoop for EventLoop {
    async fn poll(&mut self) -> Result<Option<Event>, Ended> {
        match EventLoop::poll(self).await {
            Ok(polled) => event(polled),
            Err(error) => Err(failed(&error, Layer::Mqtt)),
        }
    }

    fn more(&mut self) -> Option<Result<Option<Event>, Ended>> {
        Some(event(self.state.events.pop_front()?))
    }

    fn ping(&mut self) {
        self.pending.push_back(Request::PingReq);
    }
}

impl Connection for V5 {
    fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        let qos = library_qos(publish.qos);
        let sent = match library_properties(&publish) {
            Some(said) => self.client.try_publish_with_properties(
                publish.topic,
                qos,
                publish.retain,
                publish.payload,
                said,
            ),
            None => self
                .client
                .try_publish(publish.topic, qos, publish.retain, publish.payload),
        };
        self.driver.handed_over("PUBLISH", sent)
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        let filters = filters.into_iter().map(|f| {
            let mut filter = LibraryFilter::new(f.filter, library_qos(f.qos));
            filter.nolocal = f.no_local;
            filter.preserve_retain = f.retain_as_published;
            if !f.retained {
                filter.retain_forward_rule = RetainForwardRule::Never;
            }
            filter
        });
        let outcome = self.client.try_subscribe_many(filters);
        self.driver.handed_over("SUBSCRIBE", outcome)
    }

    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended> {
        let outcome = self.client.try_unsubscribe(filter);
        self.driver.handed_over("UNSUBSCRIBE", outcome)
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        let mut publish = LibraryPublish::new("", library_qos(qos), Bytes::new(), None);
        publish.pkid = packet_id;
        let outcome = self.client.try_ack(&publish);
        self.driver.handed_over("PUBACK", outcome)
    }

    fn ping(&mut self) {
        self.driver.ping();
    }

    fn disconnect(&mut self) -> Result<(), Ended> {
        let outcome = self.client.try_disconnect();
        self.driver.handed_over("DISCONNECT", outcome)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        self.driver.poll_event(cx)
    }

    fn buffered(&mut self) -> Option<Event> {
        self.driver.buffered()
    }
}
