//! What must hold for any bytes: used by the fuzz target, the corpus replay and the property
//! tests.

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::{
    DecodeError, Decoder, Inbound, Outbound, Packet, PubRec, QoS, Received, Role, encode,
};

const MAX_PACKET_BYTES: usize = 4096;

/// Decodes `data` for both roles, whole and cut into pieces, writes back what was read, and
/// drives the session state with it.
pub fn exercise(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        let (whole, end) = decode_pieces(role, data, data.len().max(1));
        for piece in [1, 3] {
            assert_eq!(decode_pieces(role, data, piece), (whole.clone(), end));
        }
        for packet in &whole {
            writes_back(packet);
        }
        drive_session(&whole);
    }
}

/// All packets that come of `data` when it arrives in pieces, and the error that ends them.
pub fn decode_pieces(role: Role, data: &[u8], piece: usize) -> (Vec<Packet>, Option<DecodeError>) {
    let mut decoder = Decoder::new(role, MAX_PACKET_BYTES);
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
                    return (packets, Some(error));
                }
            }
        }
    }
    (packets, None)
}

/// What was read can be written and is read as the same packet again.
pub fn writes_back(packet: &Packet) {
    let mut out = BytesMut::from(&b"before"[..]);
    encode(packet, &mut out).expect("a decoded packet can be written");
    let mut written = out.split_off(6);
    assert_eq!(&out[..], b"before");
    let (role, mut buf) = match packet {
        Packet::ConnAck(_) => (Role::Client, BytesMut::new()),
        Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
            (Role::Client, BytesMut::from(&[0x20, 2, 0, 0][..]))
        }
        Packet::Connect(_) => (Role::Server, BytesMut::new()),
        _ => (Role::Server, connect()),
    };
    let opened = !buf.is_empty();
    buf.unsplit(written.split());
    let mut decoder = Decoder::new(role, usize::MAX);
    if opened {
        decoder.decode(&mut buf).expect("opens").expect("whole");
    }
    assert_eq!(decoder.decode(&mut buf), Ok(Some(packet.clone())));
    assert!(buf.is_empty());
}

/// The shortest CONNECT.
pub fn connect() -> BytesMut {
    BytesMut::from(&b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"[..])
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
                        inbound.ready(token);
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
            Packet::PubAck(id) => drop(outbound.puback(*id)),
            Packet::PubRec(id) => {
                if let PubRec::Released(item) = outbound.pubrec(*id) {
                    *item = Bytes::new();
                }
            }
            Packet::PubComp(id) => drop(outbound.pubcomp(*id)),
            Packet::PubRel(id) => {
                if let Some(token) = inbound.pubrel(*id) {
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
