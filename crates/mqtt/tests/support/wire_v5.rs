//! Packets of version 5 as bytes, and what each side reads of them.
#![allow(dead_code)] // each test program uses its part

use bytes::BytesMut;
use iotedge_mqtt::*;

pub const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00";
pub const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

pub fn decoder(role: Role) -> Decoder {
    match role {
        Role::Server => Decoder::new(role, 1000),
        Role::Client => Decoder::new(role, 1000).with_version(Version::V5),
    }
}

pub fn decode(role: Role, opening: &[u8], bytes: &[u8]) -> Result<Packet, DecodeError> {
    let mut decoder = decoder(role);
    let mut buf = BytesMut::from(opening);
    if !opening.is_empty() {
        decoder.decode(&mut buf).unwrap().unwrap();
    }
    buf.extend_from_slice(bytes);
    decoder
        .decode(&mut buf)
        .map(|packet| packet.expect("whole"))
}

/// What a server reads behind CONNECT.
pub fn server(bytes: &[u8]) -> Result<Packet, DecodeError> {
    decode(Role::Server, CONNECT, bytes)
}

/// What a client reads behind CONNACK.
pub fn client(bytes: &[u8]) -> Result<Packet, DecodeError> {
    decode(Role::Client, CONNACK, bytes)
}

pub fn frame(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
    bytes.extend_from_slice(&body);
    bytes
}

/// Properties behind their length.
pub fn section(properties: &[u8]) -> Vec<u8> {
    frame(0, &[properties])[1..].to_vec()
}

/// A first packet for a server, with these flags, properties and payload.
pub fn connect(flags: u8, properties: &[u8], payload: &[u8]) -> Result<Packet, DecodeError> {
    let head = [&b"\x00\x04MQTT\x05"[..], &[flags, 0, 0]].concat();
    let bytes = frame(0x10, &[&head, &section(properties), payload]);
    decode(Role::Server, &[], &bytes)
}

/// A first packet for a client.
pub fn connack(flags: u8, code: u8, properties: &[u8]) -> Result<Packet, DecodeError> {
    let bytes = frame(0x20, &[&[flags, code], &section(properties)]);
    decode(Role::Client, &[], &bytes)
}

pub fn publish(topic: &[u8], properties: &[u8]) -> Vec<u8> {
    let len = u16::try_from(topic.len()).unwrap().to_be_bytes();
    frame(0x30, &[&len, topic, &section(properties), b"payload"])
}

pub fn subscribe(properties: &[u8], filter: &[u8], options: u8) -> Vec<u8> {
    let len = u16::try_from(filter.len()).unwrap().to_be_bytes();
    let head = [&[0, 1][..], &section(properties)].concat();
    frame(0x82, &[&head, &len, filter, &[options]])
}

#[track_caller]
pub fn refused(result: Result<Packet, DecodeError>, expected: DecodeError, reason: ReasonCode) {
    assert_eq!(result, Err(expected));
    assert_eq!(expected.reason_code(), reason);
}

pub const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
pub const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;
