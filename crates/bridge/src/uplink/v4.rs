//! MQTT 3.1.1 by rumqttc.

use std::task::{Context, Poll};

use iotedge_model::QoS;
use rumqttc::mqttbytes::v4;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Outgoing, Packet, Request,
    StateError, SubscribeFilter, SubscribeReasonCode,
};

use super::driver::{self, Driver};
use super::library::closed;
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
    Ok(Some(match event {
        rumqttc::Event::Outgoing(out) => match out {
            Outgoing::Publish(packet_id) => Event::Published(packet_id),
            Outgoing::PubAck(_) | Outgoing::PubRec(_) => Event::AckSent,
            Outgoing::Subscribe(_) => Event::SubscribeSent,
            Outgoing::PingReq => Event::PingSent,
            Outgoing::Disconnect => Event::Left,
            Outgoing::AwaitAck(id) => {
                let text = format!("packet id {id} is still in use");
                return Err(Ended::lost(Layer::Mqtt, text));
            }
            _ => return Ok(None),
        },
        rumqttc::Event::Incoming(packet) => match packet {
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
        },
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
        self.client
            .try_publish(publish.topic, qos, publish.retain, publish.payload)
            .map_err(|e| closed("PUBLISH", &e))?;
        self.driver.handed_over();
        Ok(())
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        let filters = filters
            .into_iter()
            .map(|f| SubscribeFilter::new(f.filter, library_qos(f.qos)));
        self.client
            .try_subscribe_many(filters)
            .map_err(|e| closed("SUBSCRIBE", &e))?;
        self.driver.handed_over();
        Ok(())
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        let mut publish = rumqttc::Publish::new("", library_qos(qos), Vec::new());
        publish.pkid = packet_id;
        self.client
            .try_ack(&publish)
            .map_err(|e| closed("PUBACK", &e))?;
        self.driver.handed_over();
        Ok(())
    }

    fn ping(&mut self) {
        self.driver.ping();
    }

    fn disconnect(&mut self) -> Result<(), Ended> {
        self.client
            .try_disconnect()
            .map_err(|e| closed("DISCONNECT", &e))?;
        self.driver.handed_over();
        Ok(())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        self.driver.poll_event(cx)
    }

    fn buffered(&mut self) -> Option<Event> {
        self.driver.buffered()
    }
}
