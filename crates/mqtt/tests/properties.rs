//! Properties over all packets and all bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::*;
use proptest::prelude::*;

#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/packets.rs"]
mod packets;
#[path = "support/session.rs"]
mod session;

use packets::{reader_of, versioned};

/// A decoder that has read the opening of a connection, except where `packet` is the opening.
fn open(packet: &Packet, version: Version) -> Decoder {
    let role = reader_of(packet);
    let mut decoder = Decoder::new(role, usize::MAX);
    if role == Role::Client {
        decoder = decoder.with_version(version);
    }
    if !matches!(packet, Packet::Connect(_) | Packet::ConnAck(_)) {
        let mut opening = exercise::opening(role, version);
        decoder.decode(&mut opening).unwrap().unwrap();
    }
    decoder
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back((version, packet) in versioned()) {
        exercise::writes_back(&packet, reader_of(&packet), version);
    }

    #[test]
    fn the_session_machine_runs_any_programme(steps in prop::collection::vec(any::<u8>(), 0..400)) {
        session::exercise(&steps);
    }

    #[test]
    fn a_packet_cut_anywhere_waits_for_its_rest(
        (version, packet) in versioned(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut decoder = open(&packet, version);
        let mut bytes = BytesMut::new();
        encode_for(version, &packet, &mut bytes).unwrap();
        let rest = bytes.split_off(cut.index(bytes.len()));
        prop_assert_eq!(decoder.decode(&mut bytes), Ok(None));
        prop_assert!(decoder.missing() <= rest.len());
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(decoder.decode(&mut bytes), Ok(Some(packet)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn a_packet_damaged_anywhere_is_read_or_refused(
        (version, packet) in versioned(),
        place in any::<proptest::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut decoder = open(&packet, version);
        let mut bytes = BytesMut::new();
        encode_for(version, &packet, &mut bytes).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = value;
        while let Ok(Some(_)) = decoder.decode(&mut bytes) {}
    }

    #[test]
    fn the_header_alone_and_the_payload_make_the_whole(packet in packets::publish(Version::V311)) {
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
    fn the_hot_path_writes_what_the_packet_says(
        packet in packets::publish(Version::V5),
    ) {
        let Packet::Publish(p) = &packet else { unreachable!() };
        let mut whole = BytesMut::new();
        encode_for(Version::V5, &packet, &mut whole).unwrap();
        let properties = p.properties.as_ref().map(|p| p.by_ref()).unwrap_or_default();
        let head = PublishHead {
            topic: &p.topic,
            qos: p.qos,
            retain: p.retain,
            dup: p.dup,
            packet_id: p.packet_id,
            properties,
        };
        let mut hot = BytesMut::new();
        encode_publish_for(Version::V5, &head, &p.payload, &mut hot).unwrap();
        prop_assert_eq!(&whole, &hot);
        hot.clear();
        publish_header_for(Version::V5, &head, p.payload.len(), &mut hot).unwrap();
        hot.extend_from_slice(&p.payload);
        prop_assert_eq!(whole, hot);
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

fn a_session(version: Version) -> BytesMut {
    let mut stream = exercise::opening(Role::Server, version);
    for packet in [
        Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            filters: vec![(Str::new("a/#").unwrap(), QoS::AtLeastOnce.into())],
            properties: None,
        }),
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Str::new("été/x").unwrap(),
            packet_id: PacketId::new(7),
            payload: Bytes::from(vec![7; 200]),
            properties: (version == Version::V5).then(|| {
                Box::new(PublishProperties {
                    message_expiry: Some(7),
                    ..PublishProperties::default()
                })
            }),
        }),
        Packet::PingReq,
        Packet::Disconnect(Disconnect::default()),
    ] {
        encode_for(version, &packet, &mut stream).unwrap();
    }
    stream
}

#[test]
fn a_stream_cut_at_each_byte_gives_the_same_packets() {
    for version in [Version::V311, Version::V5] {
        let stream = a_session(version);
        let pieces = |cut| exercise::decode_pieces(Role::Server, version, &stream, cut);
        let (whole, end) = pieces(stream.len());
        assert_eq!((whole.len(), end), (5, None));
        for cut in 1..stream.len() {
            assert_eq!(pieces(cut), (whole.clone(), None), "cut at {cut}");
        }
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
