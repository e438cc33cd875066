//! Properties over all packets and all bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::*;
use proptest::prelude::*;

#[path = "support/exercise.rs"]
mod exercise;

fn any_str() -> impl Strategy<Value = Str> {
    proptest::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..40)
        .prop_map(|chars| Str::new(&chars.into_iter().collect::<String>()).unwrap())
}

fn filter() -> impl Strategy<Value = Str> {
    any_str().prop_filter("not empty", |s| !s.is_empty())
}

fn topic() -> impl Strategy<Value = Str> {
    filter().prop_map(|s| Str::new(&s.replace(['+', '#'], "é")).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|n| PacketId::new(n).unwrap())
}

/// Around the places where the remaining length takes one byte more.
fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![0..40_usize, 100..140_usize, 16_360..16_400_usize]
        .prop_flat_map(|len| any::<u8>().prop_map(move |byte| Bytes::from(vec![byte; len])))
}

fn publish() -> impl Strategy<Value = Packet> {
    (
        any::<bool>(),
        qos(),
        any::<bool>(),
        topic(),
        id(),
        payload(),
    )
        .prop_map(|(dup, qos, retain, topic, id, payload)| {
            let with_id = qos != QoS::AtMostOnce;
            Packet::Publish(Publish {
                dup: dup && with_id,
                qos,
                retain,
                topic,
                packet_id: with_id.then_some(id),
                payload,
                properties: None,
            })
        })
}

fn connect() -> impl Strategy<Value = Packet> {
    let will =
        (topic(), payload(), qos(), any::<bool>()).prop_map(|(topic, payload, qos, retain)| {
            LastWill {
                topic,
                payload,
                qos,
                retain,
                properties: None,
            }
        });
    let login = (any_str(), proptest::option::of(payload()));
    (
        any::<bool>(),
        any::<u16>(),
        any_str(),
        proptest::option::of(will),
        proptest::option::of(login),
    )
        .prop_map(|(clean, keep_alive, client_id, will, login)| {
            let (username, password) = match login {
                Some((name, password)) => (Some(name), password),
                None => (None, None),
            };
            Packet::Connect(Connect {
                version: Version::V311,
                clean,
                keep_alive,
                client_id,
                will,
                username,
                password,
            })
        })
}

fn connack() -> impl Strategy<Value = Packet> {
    (any::<bool>(), 0..6_u8).prop_map(|(present, code)| {
        Packet::ConnAck(ConnAck {
            session_present: present && code == 0,
            code: ConnectReturnCode::try_from(code).unwrap(),
        })
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let code = prop_oneof![
        qos().prop_map(SubAckCode::Granted),
        Just(SubAckCode::Failure)
    ];
    prop_oneof![
        publish(),
        connect(),
        connack(),
        id().prop_map(Packet::PubAck),
        id().prop_map(Packet::PubRec),
        id().prop_map(Packet::PubRel),
        id().prop_map(Packet::PubComp),
        id().prop_map(Packet::UnsubAck),
        (id(), proptest::collection::vec((filter(), qos()), 1..6))
            .prop_map(|(packet_id, filters)| Packet::Subscribe(Subscribe { packet_id, filters })),
        (id(), proptest::collection::vec(filter(), 1..6)).prop_map(|(packet_id, filters)| {
            Packet::Unsubscribe(Unsubscribe { packet_id, filters })
        }),
        (id(), proptest::collection::vec(code, 1..6))
            .prop_map(|(packet_id, codes)| Packet::SubAck(SubAck { packet_id, codes })),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        Just(Packet::Disconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(packet in packet()) {
        exercise::writes_back(&packet);
    }

    #[test]
    fn a_packet_cut_anywhere_waits_for_its_rest(packet in packet(), cut in any::<proptest::sample::Index>()) {
        let mut bytes = BytesMut::new();
        let role = match packet.packet_type() {
            PacketType::ConnAck => Role::Client,
            PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
                bytes.extend_from_slice(&[0x20, 2, 0, 0]);
                Role::Client
            }
            PacketType::Connect => Role::Server,
            _ => {
                bytes.extend_from_slice(&exercise::connect());
                Role::Server
            }
        };
        let mut decoder = Decoder::new(role, usize::MAX);
        if !bytes.is_empty() {
            decoder.decode(&mut bytes).unwrap().unwrap();
        }
        encode(&packet, &mut bytes).unwrap();
        let rest = bytes.split_off(cut.index(bytes.len()));
        prop_assert_eq!(decoder.decode(&mut bytes), Ok(None));
        prop_assert!(decoder.missing() <= rest.len());
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(decoder.decode(&mut bytes), Ok(Some(packet)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn the_header_alone_and_the_payload_make_the_whole(packet in publish()) {
        let Packet::Publish(p) = &packet else { unreachable!() };
        let mut whole = BytesMut::new();
        encode(&packet, &mut whole).unwrap();
        let mut parts = BytesMut::new();
        publish_header(&mut parts, &p.topic, p.payload.len(), p.qos, p.retain, p.dup, p.packet_id)
            .unwrap();
        parts.extend_from_slice(&p.payload);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise::exercise(&data);
    }

    #[test]
    fn any_bytes_behind_a_connect_are_read_or_refused(
        data in proptest::collection::vec(any::<u8>(), 0..200),
        first in any::<u8>(),
    ) {
        let mut bytes = exercise::connect().to_vec();
        bytes.push(first);
        bytes.push(u8::try_from(data.len() & 0x7f).unwrap());
        bytes.extend_from_slice(&data);
        exercise::exercise(&bytes);
    }
}

#[test]
fn a_stream_cut_at_each_byte_gives_the_same_packets() {
    let mut stream = exercise::connect();
    for packet in [
        Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            filters: vec![(Str::new("a/#").unwrap(), QoS::AtLeastOnce)],
        }),
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Str::new("été/x").unwrap(),
            packet_id: PacketId::new(7),
            payload: Bytes::from(vec![7; 200]),
            properties: None,
        }),
        Packet::PingReq,
        Packet::Disconnect,
    ] {
        encode(&packet, &mut stream).unwrap();
    }
    let (whole, end) = exercise::decode_pieces(Role::Server, &stream, stream.len());
    assert_eq!((whole.len(), end), (5, None));
    for cut in 1..stream.len() {
        let pieces = exercise::decode_pieces(Role::Server, &stream, cut);
        assert_eq!(pieces, (whole.clone(), None), "cut at {cut}");
    }
}

#[test]
fn a_publish_shares_the_buffer_it_came_in() {
    let mut buf = BytesMut::with_capacity(1024);
    buf.extend_from_slice(&exercise::connect());
    encode_publish(
        &mut buf,
        "a/b",
        b"payload",
        QoS::AtMostOnce,
        false,
        false,
        None,
    )
    .unwrap();
    let range = buf.as_ptr() as usize..buf.as_ptr() as usize + buf.len();
    let mut decoder = Decoder::new(Role::Server, 1024);
    decoder.decode(&mut buf).unwrap().unwrap();
    let Some(Packet::Publish(publish)) = decoder.decode(&mut buf).unwrap() else {
        panic!("PUBLISH");
    };
    assert!(range.contains(&(publish.payload.as_ptr() as usize)));
    assert!(range.contains(&(publish.topic.as_bytes().as_ptr() as usize)));
}
