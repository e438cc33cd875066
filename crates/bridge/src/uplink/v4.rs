//! MQTT 3.1.1 by rumqttc.

use std::task::{Context, Poll};

use iotedge_model::QoS;
use rumqttc::mqttbytes::v4;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Packet, Request, StateError,
    SubscribeFilter, SubscribeReasonCode,
};

use super::driver::{self, Driver};
use super::library::outgoing;
use super::{Accepted, Acknowledged, Connection, Ended, Event, Filter, Incoming, Layer, Publish};

/// A connection.
pub(super) struct V4 {
    client: AsyncClient,
    driver: Driver,
}

/// Waits for CONNACK.
pub(super) async fn connect(
    client: AsyncClient,
    mut events: EventLoop,
    keep_alive: u16,
) -> Result<(V4, Accepted), Ended> {
    let first = events
        .poll()
        .await
        .map_err(|e| failed(&e, Layer::Connack))?;
    let rumqttc::Event::Incoming(Packet::ConnAck(ack)) = first else {
        return Err(Ended::lost(Layer::Connack, "something else came first"));
    };
    let accepted = Accepted {
        session_present: ack.session_present,
        ..Accepted::unlimited(keep_alive)
    };
    let driver = Driver::new(events);
    Ok((V4 { client, driver }, accepted))
}

fn library_qos(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn model_qos(qos: rumqttc::QoS) -> QoS {
    match qos {
        rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttc::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttc::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0,
        ConnectReturnCode::RefusedProtocolVersion => 1,
        ConnectReturnCode::BadClientId => 2,
        ConnectReturnCode::ServiceUnavailable => 3,
        ConnectReturnCode::BadUserNamePassword => 4,
        ConnectReturnCode::NotAuthorized => 5,
    }
}

fn failed(error: &ConnectionError, layer: Layer) -> Ended {
    match error {
        ConnectionError::ConnectionRefused(refused) => Ended::connack(code(*refused), None),
        ConnectionError::NetworkTimeout => Ended::lost(layer, "no connection within the timeout"),
        ConnectionError::FlushTimeout => Ended::lost(layer, "writing takes too long"),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            Ended::lost(layer, "the other side closed the connection")
        }
        other => Ended::lost(layer, other.to_string()),
    }
}

fn event(event: rumqttc::Event) -> Result<Option<Event>, Ended> {
    let packet = match event {
        rumqttc::Event::Outgoing(done) => return outgoing(&done),
        rumqttc::Event::Incoming(packet) => packet,
    };
    Ok(Some(match packet {
        Packet::PubAck(ack) => Event::Acknowledged(Acknowledged {
            packet_id: ack.pkid,
            reason: 0,
            said: None,
        }),
        Packet::SubAck(ack) => Event::Subscribed(
            ack.return_codes
                .iter()
                .map(|code| match code {
                    SubscribeReasonCode::Success(qos) => *qos as u8,
                    SubscribeReasonCode::Failure => 0x80,
                })
                .collect(),
        ),
        Packet::Publish(publish) => Event::Incoming(Box::new(Incoming {
            topic: publish.topic,
            payload: publish.payload,
            qos: model_qos(publish.qos),
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.pkid,
            expiry: None,
            properties: None,
        })),
        Packet::PingResp => Event::Pong,
        _ => return Ok(None),
    }))
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
        self.pending.push_back(Request::PingReq(v4::PingReq));
    }
}

impl Connection for V4 {
    fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        let qos = library_qos(publish.qos);
        let outcome = self
            .client
            .try_publish(publish.topic, qos, publish.retain, publish.payload);
        self.driver.handed_over("PUBLISH", outcome)
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        let filters = filters
            .into_iter()
            .map(|f| SubscribeFilter::new(f.filter, library_qos(f.qos)));
        let outcome = self.client.try_subscribe_many(filters);
        self.driver.handed_over("SUBSCRIBE", outcome)
    }

    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended> {
        let outcome = self.client.try_unsubscribe(filter);
        self.driver.handed_over("UNSUBSCRIBE", outcome)
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        let mut publish = rumqttc::Publish::new("", library_qos(qos), Vec::new());
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
