//! Clients of version 5.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use iotedge_model::{Properties, QoS};
use iotedge_mqtt::{
    ConnAck, Connect, ConnectProperties, Disconnect, DisconnectProperties, LastWill, Packet,
    Publish, PublishProperties, ReasonCode, Str, SubAckCode, Subscribe, SubscribeProperties,
    SubscriptionOptions, Version, WillProperties,
};

use super::{Client, House, connect, publish};

/// A version 5 CONNECT with these properties.
pub fn hello(id: &str, set: impl FnOnce(&mut ConnectProperties)) -> Connect {
    let mut properties = ConnectProperties::default();
    set(&mut properties);
    Connect {
        version: Version::V5,
        properties: Some(Box::new(properties)),
        ..connect(id)
    }
}

pub async fn open(house: &House, connect: Connect) -> (Client, ConnAck) {
    let mut client = Client::dial_as(Version::V5, house.mqtt()).await;
    client.send(&Packet::Connect(connect)).await;
    match client.receive().await {
        Packet::ConnAck(ack) => (client, ack),
        other => panic!("no CONNACK but {other:?}"),
    }
}

pub async fn client(house: &House, id: &str) -> Client {
    let (client, ack) = open(house, hello(id, |_| {})).await;
    assert_eq!(ack.reason, ReasonCode::Success);
    client
}

/// With a session that outlives its connection by an hour.
pub async fn keeper(house: &House, id: &str, clean: bool) -> (Client, bool) {
    let mut connect = hello(id, |p| p.session_expiry = 3_600);
    connect.clean = clean;
    let (client, ack) = open(house, connect).await;
    (client, ack.session_present)
}

/// A PUBLISH with these properties.
pub fn with(packet: Packet, set: impl FnOnce(&mut Publish, &mut PublishProperties)) -> Packet {
    let Packet::Publish(mut publish) = packet else {
        panic!("no PUBLISH")
    };
    let mut properties = PublishProperties::default();
    set(&mut publish, &mut properties);
    publish.properties = Some(Box::new(properties));
    Packet::Publish(publish)
}

pub async fn puback(client: &mut Client) -> ReasonCode {
    match client.receive().await {
        Packet::PubAck(ack) => ack.reason,
        other => panic!("no PUBACK but {other:?}"),
    }
}

pub async fn message(client: &mut Client) -> Publish {
    match client.receive().await {
        Packet::Publish(publish) => publish,
        other => panic!("no PUBLISH but {other:?}"),
    }
}

/// The reason of the DISCONNECT, behind which the connection is closed ([MQTT-3.14.4-1]).
pub async fn thrown_out(client: &mut Client) -> ReasonCode {
    let reason = match client.receive().await {
        Packet::Disconnect(end) => end.reason,
        other => panic!("no DISCONNECT but {other:?}"),
    };
    assert_eq!(client.next().await, None, "closed behind DISCONNECT");
    reason
}

pub async fn leave(mut client: Client, reason: ReasonCode, session_expiry: Option<u32>) {
    let properties = session_expiry.map(|_| {
        Box::new(DisconnectProperties {
            session_expiry,
            ..DisconnectProperties::default()
        })
    });
    client
        .send(&Packet::Disconnect(Disconnect { reason, properties }))
        .await;
    assert_eq!(client.next().await, None, "nothing is said to who has gone");
}

pub async fn subscribe(
    client: &mut Client,
    filters: &[(&str, SubscriptionOptions)],
    id: Option<u32>,
) -> Vec<SubAckCode> {
    let packet = Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        filters: filters
            .iter()
            .map(|(f, o)| (Str::new(f).unwrap(), *o))
            .collect(),
        properties: id.map(|id| {
            Box::new(SubscribeProperties {
                subscription_id: NonZeroU32::new(id),
                ..SubscribeProperties::default()
            })
        }),
    });
    client.send(&packet).await;
    match client.receive().await {
        Packet::SubAck(ack) => ack.codes,
        other => panic!("no SUBACK but {other:?}"),
    }
}

pub fn will(delay: u32) -> Option<LastWill> {
    Some(LastWill {
        topic: Str::new("will").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Some(Box::new(WillProperties {
            delay,
            message_expiry: Some(60),
            message: Some(Box::new(Properties {
                content_type: Some("text/plain".into()),
                ..Properties::default()
            })),
        })),
    })
}

/// Nothing comes before what this brings: publishes it and takes it.
pub async fn nothing_before(house: &House, watcher: &mut Client, topic: &str) {
    let mut publisher = client(house, "marker").await;
    publisher.send(&publish(topic, "marker", None)).await;
    assert_eq!(message(watcher).await.payload, "marker");
}

pub const ONE: QoS = QoS::AtLeastOnce;
