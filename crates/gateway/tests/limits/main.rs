//! Every limit at its edge, in both profiles and both versions: what is just within it is taken,
//! one more is refused with the reason code and the words that version 5 has, or as 3.1.1 does it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod connect;
mod publish;
mod rates;
mod subscribe;
#[path = "../support/mod.rs"]
mod support;
mod words;

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_broker::Limits as BrokerLimits;
use iotedge_gateway::{Limits, Profile};
use iotedge_model::{Properties, QoS, UserProperty};
use iotedge_mqtt::{
    Connect, LastWill, Packet, Publish, ReasonCode, Str, SubAckCode, SubscribeProperties,
    Unsubscribe,
};
use support::v5::{client, hello, message, open, with};
use support::{Client, House, connect, publish, subscription};

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

fn aws(limits: Limits) -> Limits {
    Limits {
        profile: Profile::AwsIot,
        ..limits
    }
}

async fn house(limits: Limits) -> House {
    House::open(limits).await
}

/// [`house`], where a variable has its name.
async fn another(limits: Limits) -> House {
    House::open(limits).await
}

fn text(words: Option<Str>) -> String {
    words.map_or(String::new(), |words| words.as_str().into())
}

/// The PUBACK's reason and words.
async fn refused(client: &mut Client, packet: Packet) -> (ReasonCode, String) {
    client.send(&packet).await;
    let Packet::PubAck(ack) = client.receive().await else {
        panic!("no PUBACK")
    };
    (
        ack.reason,
        text(ack.properties.and_then(|p| p.reason_string)),
    )
}

/// The DISCONNECT's reason and words, behind which the connection is closed.
async fn ended(client: &mut Client, packet: Packet) -> (ReasonCode, String) {
    client.send(&packet).await;
    let Packet::Disconnect(end) = client.receive().await else {
        panic!("no DISCONNECT")
    };
    assert_eq!(client.next().await, None, "closed behind DISCONNECT");
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    (end.reason, words.as_str().into())
}

/// A 3.1.1 client is thrown out without a word.
async fn closed(house: &House, packet: Packet) {
    let mut client = house.client("old").await;
    client.send(&packet).await;
    assert_eq!(client.next().await, None);
}

/// Both versions are thrown out for this; what version 5 is told.
async fn both_ended(house: &House, packet: Packet) -> (ReasonCode, String) {
    closed(house, plain(packet.clone())).await;
    ended(&mut client(house, "five").await, packet).await
}

/// SUBACK's codes and words.
async fn suback(client: &mut Client, filters: &[(&str, QoS)]) -> (Vec<SubAckCode>, String) {
    client.send(&subscription(filters)).await;
    let Packet::SubAck(ack) = client.receive().await else {
        panic!("no SUBACK")
    };
    (
        ack.codes,
        text(ack.properties.and_then(|p| p.reason_string)),
    )
}

fn retained(packet: Packet) -> Packet {
    with(packet, |publish, _| publish.retain = true)
}

fn of_qos_2(packet: Packet) -> Packet {
    with(packet, |publish, _| publish.qos = TWO)
}

fn plain(packet: Packet) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish {
            properties: None,
            ..publish
        }),
        other => other,
    }
}

/// What a CONNECT is refused with, and the words.
async fn no_connack(house: &House, connect: Connect) -> (ReasonCode, String) {
    let (mut client, ack) = open(house, connect).await;
    assert_eq!(client.next().await, None, "closed behind the refusal");
    let words = ack.properties.and_then(|p| p.reason_string).expect("words");
    (ack.reason, words.as_str().into())
}

/// What 3.1.1 answers to a CONNECT.
async fn old_connack(house: &House, connect: Connect) -> Option<ReasonCode> {
    let mut client = Client::dial(house.mqtt()).await;
    client.send(&Packet::Connect(connect)).await;
    match client.next().await {
        None => None,
        Some(Packet::ConnAck(ack)) => Some(ack.reason),
        Some(other) => panic!("no CONNACK but {other:?}"),
    }
}

fn willing(id: &str, topic: &str, bytes: usize, qos: QoS, retain: bool) -> Connect {
    let mut connect = hello(id, |_| {});
    connect.will = Some(LastWill {
        topic: Str::new(topic).unwrap(),
        payload: Bytes::from(vec![b'x'; bytes]),
        qos,
        retain,
        properties: None,
    });
    connect
}

fn old(mut connect: Connect) -> Connect {
    connect.version = iotedge_mqtt::Version::V311;
    connect.properties = None;
    connect
}
