//! What must hold for any bytes: used by the fuzz target, the corpus replay and the property
//! tests.

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::{
    DecodeError, Decoder, Inbound, Outbound, Packet, PubRec, PublishHead, PublishPropertiesRef,
    QoS, ReasonCode, Received, Role, Version, encode_for, encode_within, publish_len,
};

const MAX_PACKET_BYTES: usize = 4096;

/// Decodes `data` for both roles and versions, as it stands, behind an opening, and as the body
/// and the properties of each packet; whole and cut into pieces. Writes back what was read, and
/// drives the session state with it.
pub fn exercise(data: &[u8]) {
    stream(Role::Server, Version::V311, data);
    stream(Role::Client, Version::V311, data);
    stream(Role::Client, Version::V5, data);
    for role in [Role::Server, Role::Client] {
        behind_opening(role, data);
        if let Some((&first, body)) = data.split_first() {
            behind_opening(role, &frame(first, &[body]));
        }
    }
    let properties = with_length(data);
    for role in [Role::Server, Role::Client] {
        for &(first, before, behind) in SHAPES {
            behind_opening(role, &frame(first, &[before, &properties, behind]));
        }
    }
    let connect = frame(
        0x10,
        &[b"\x00\x04MQTT\x05\x02\x00\x00", &properties, b"\x00\x01c"],
    );
    stream(Role::Server, Version::V311, &connect);
    let will = [
        &b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c"[..],
        &properties,
    ];
    let will = frame(0x10, &[will[0], will[1], b"\x00\x01w\x00\x01m"]);
    stream(Role::Server, Version::V311, &will);
    let connack = frame(0x20, &[&[0, 0], &properties]);
    stream(Role::Client, Version::V5, &connack);
}

/// The first byte of each packet that has properties, and what stands before and behind them.
const SHAPES: &[(u8, &[u8], &[u8])] = &[
    (0x30, b"\x00\x01t", b"payload"),
    (0x32, b"\x00\x00\x00\x07", b"payload"),
    (0x40, b"\x00\x07\x10", b""),
    (0x50, b"\x00\x07\x97", b""),
    (0x62, b"\x00\x07\x92", b""),
    (0x70, b"\x00\x07\x00", b""),
    (0x82, b"\x00\x07", b"\x00\x01f\x2d"),
    (0x90, b"\x00\x07", b"\x00\x01\x87"),
    (0xa2, b"\x00\x07", b"\x00\x01f"),
    (0xb0, b"\x00\x07", b"\x00\x11"),
    (0xe0, b"\x04", b""),
    (0xf0, b"\x18", b""),
];

fn frame(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend_from_slice(&with_length(&parts.concat()));
    bytes
}

/// `bytes` behind their length as a variable byte integer.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes.len();
    loop {
        let more = rest > 0x7f;
        out.push((rest & 0x7f) as u8 | u8::from(more) << 7);
        rest >>= 7;
        if !more {
            out.extend_from_slice(bytes);
            return out;
        }
    }
}

fn behind_opening(role: Role, data: &[u8]) {
    let mut bytes = opening(role, Version::V5).to_vec();
    bytes.extend_from_slice(data);
    stream(role, Version::V5, &bytes);
}

fn stream(role: Role, version: Version, data: &[u8]) {
    let (whole, end) = decode_pieces(role, version, data, data.len().max(1));
    for piece in [1, 3] {
        assert_eq!(
            decode_pieces(role, version, data, piece),
            (whole.clone(), end)
        );
    }
    let spoken = match whole.first() {
        Some(Packet::Connect(connect)) => connect.version,
        _ => version,
    };
    for packet in &whole {
        writes_back(packet, role, spoken);
    }
    drive_session(&whole);
}

/// All packets that come of `data` when it arrives in pieces, and the error that ends them.
pub fn decode_pieces(
    role: Role,
    version: Version,
    data: &[u8],
    piece: usize,
) -> (Vec<Packet>, Option<DecodeError>) {
    let mut decoder = Decoder::new(role, MAX_PACKET_BYTES);
    if role == Role::Client {
        decoder = decoder.with_version(version);
    }
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for part in data.chunks(piece) {
        buf.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => {
                    assert!(decoder.missing() > 0);
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buf), Err(error), "an error stays");
                    assert!(!error.to_string().is_empty());
                    assert!(error.reason_code().is_error());
                    return (packets, Some(error));
                }
            }
        }
    }
    (packets, None)
}

/// What was read can be written and is read as the same packet again.
pub fn writes_back(packet: &Packet, role: Role, version: Version) {
    let mut out = BytesMut::from(&b"before"[..]);
    encode_for(version, packet, &mut out).expect("a decoded packet can be written");
    let mut written = out.split_off(6);
    assert_eq!(&out[..], b"before");
    check_length(packet, version, &written);
    let mut buf = match packet {
        Packet::ConnAck(_) | Packet::Connect(_) => BytesMut::new(),
        _ => opening(role, version),
    };
    let opened = !buf.is_empty();
    buf.unsplit(written.split());
    let mut decoder = Decoder::new(role, usize::MAX);
    if role == Role::Client {
        decoder = decoder.with_version(version);
    }
    if opened {
        decoder.decode(&mut buf).expect("opens").expect("whole");
    }
    assert_eq!(decoder.decode(&mut buf), Ok(Some(packet.clone())));
    assert_eq!(decoder.version(), version);
    assert!(buf.is_empty());
}

/// The length is foretold, and a receiver's limit is kept.
fn check_length(packet: &Packet, version: Version, written: &[u8]) {
    if let Packet::Publish(publish) = packet {
        let head = PublishHead {
            topic: &publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            properties: publish
                .properties
                .as_ref()
                .map_or_else(PublishPropertiesRef::default, |p| p.by_ref()),
        };
        let len = publish_len(version, &head, publish.payload.len());
        assert_eq!(len, Ok(written.len()));
    }
    let mut out = BytesMut::new();
    let full = encode_within(version, packet, written.len(), &mut out);
    assert_eq!((full, &out[..]), (Ok(()), written));
    out.clear();
    match encode_within(version, packet, written.len() - 1, &mut out) {
        Ok(()) => assert!(out.len() < written.len()),
        Err(_) => assert!(out.is_empty()),
    }
}

/// The shortest CONNECT of 3.1.1.
#[allow(dead_code)] // not used by the fuzz target
pub fn connect() -> BytesMut {
    opening(Role::Server, Version::V311)
}

/// The shortest CONNECT for a server, the shortest CONNACK for a client.
pub fn opening(role: Role, version: Version) -> BytesMut {
    BytesMut::from(match (role, version) {
        (Role::Server, Version::V311) => &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"[..],
        (Role::Server, Version::V5) => b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
        (Role::Client, Version::V311) => b"\x20\x02\x00\x00",
        (Role::Client, Version::V5) => b"\x20\x03\x00\x00\x00",
    })
}

/// Any order of packets leaves the session state whole.
fn drive_session(packets: &[Packet]) {
    let mut outbound: Outbound<Bytes> = Outbound::new(8);
    let mut inbound = Inbound::new(8);
    for packet in packets {
        match packet {
            Packet::Publish(publish) => {
                if let Some(id) = publish.packet_id {
                    if let Received::New(token) = inbound.received(id, publish.qos) {
                        if publish.retain {
                            inbound.ready_with(token, ReasonCode::QuotaExceeded);
                        } else {
                            inbound.ready(token);
                        }
                    }
                }
                if publish.qos == QoS::AtMostOnce || outbound.free() == 0 {
                    assert_eq!(outbound.push(publish.qos, publish.payload.clone()), None);
                } else {
                    assert!(
                        outbound
                            .push(publish.qos, publish.payload.clone())
                            .is_some()
                    );
                }
            }
            Packet::PubAck(ack) => drop(outbound.puback(ack.packet_id)),
            Packet::PubRec(ack) => {
                if let PubRec::Released(item) = outbound.pubrec(ack.packet_id) {
                    *item = Bytes::new();
                }
            }
            Packet::PubComp(ack) => drop(outbound.pubcomp(ack.packet_id)),
            Packet::PubRel(ack) => {
                if let Some(token) = inbound.pubrel(ack.packet_id) {
                    inbound.ready(token);
                }
            }
            Packet::Subscribe(subscribe) => drop(outbound.forget(subscribe.packet_id)),
            _ => while inbound.next_ready().is_some() {},
        }
        assert!(outbound.len() <= 8 && inbound.len() <= 8);
    }
    let mut ids: Vec<_> = outbound.iter().map(|entry| entry.packet_id).collect();
    let len = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), len, "no id twice in flight");
}
