//! Each malformed case and its reason, as bytes on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::*;

const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
const CONNACK: &[u8] = &[0x20, 2, 0, 0];

fn error_of(role: Role, opening: &[u8], bytes: &[u8]) -> DecodeError {
    let mut decoder = Decoder::new(role, 1000);
    let mut buf = BytesMut::from(opening);
    if !opening.is_empty() {
        decoder.decode(&mut buf).unwrap().unwrap();
    }
    buf.extend_from_slice(bytes);
    match decoder.decode(&mut buf) {
        Err(error) => error,
        other => panic!("{bytes:02x?} gave {other:?}"),
    }
}

/// The error of a packet behind CONNECT.
fn server(bytes: &[u8]) -> DecodeError {
    error_of(Role::Server, CONNECT, bytes)
}

/// The error of a packet behind CONNACK.
fn client(bytes: &[u8]) -> DecodeError {
    error_of(Role::Client, CONNACK, bytes)
}

/// The error of a first packet with this body.
fn connect(body: &[u8]) -> DecodeError {
    let mut bytes = vec![0x10, u8::try_from(body.len()).unwrap()];
    bytes.extend_from_slice(body);
    error_of(Role::Server, &[], &bytes)
}

#[test]
fn the_fixed_header_is_refused_before_the_body_arrives() {
    let size = |size| DecodeError::PacketTooLarge { size, max: 1000 };
    assert_eq!(server(&[0x30, 0xe6, 0x07]), size(1001));
    assert_eq!(server(&[0x30, 0xff, 0xff, 0xff, 0x7f]), size(268_435_460));
    assert_eq!(
        server(&[0x30, 0x80, 0x80, 0x80, 0x80]),
        DecodeError::RemainingLength
    );
    assert_eq!(server(&[0x00]), DecodeError::ReservedType(0));
    assert_eq!(server(&[0xf0]), DecodeError::ReservedType(15));
    assert_eq!(server(&[0x36]), DecodeError::PublishQos);
    assert_eq!(server(&[0x3e]), DecodeError::PublishQos);
    assert_eq!(server(&[0x38]), DecodeError::DupWithQos0);
    assert_eq!(
        server(&[0xc0, 0x01]),
        DecodeError::WrongLength {
            packet: PacketType::PingReq,
            remaining: 1
        }
    );
    assert_eq!(
        server(&[0x40, 0x03]),
        DecodeError::WrongLength {
            packet: PacketType::PubAck,
            remaining: 3
        }
    );
}

#[test]
fn the_largest_packet_is_taken_whole() {
    let mut buf = BytesMut::from(CONNECT);
    encode_publish(
        &mut buf,
        "t",
        &[0; 994],
        QoS::AtMostOnce,
        false,
        false,
        None,
    )
    .unwrap();
    let mut decoder = Decoder::new(Role::Server, 1000);
    decoder.decode(&mut buf).unwrap().unwrap();
    assert_eq!(buf.len(), 1000);
    assert!(decoder.decode(&mut buf).unwrap().is_some());
}

#[test]
fn reserved_flags_are_refused_for_every_type() {
    for (first, packet) in [
        (0x41, PacketType::PubAck),
        (0x52, PacketType::PubRec),
        (0x60, PacketType::PubRel),
        (0x63, PacketType::PubRel),
        (0x7f, PacketType::PubComp),
        (0x80, PacketType::Subscribe),
        (0xa0, PacketType::Unsubscribe),
        (0xc1, PacketType::PingReq),
        (0xe1, PacketType::Disconnect),
    ] {
        let flags = first & 0x0f;
        assert_eq!(
            server(&[first]),
            DecodeError::ReservedFlags { packet, flags }
        );
    }
    for (first, packet) in [
        (0x91, PacketType::SubAck),
        (0xb8, PacketType::UnsubAck),
        (0xd4, PacketType::PingResp),
    ] {
        let flags = first & 0x0f;
        assert_eq!(
            client(&[first]),
            DecodeError::ReservedFlags { packet, flags }
        );
    }
    assert_eq!(
        error_of(Role::Server, &[], &[0x11]),
        DecodeError::ReservedFlags {
            packet: PacketType::Connect,
            flags: 1
        }
    );
}

#[test]
fn each_side_gets_only_what_the_other_sends() {
    for (first, packet) in [
        (0x20, PacketType::ConnAck),
        (0x90, PacketType::SubAck),
        (0xb0, PacketType::UnsubAck),
        (0xd0, PacketType::PingResp),
    ] {
        let role = Role::Server;
        assert_eq!(
            server(&[first]),
            DecodeError::UnexpectedPacket { packet, role }
        );
        assert_eq!(
            error_of(role, &[], &[first]),
            DecodeError::UnexpectedPacket { packet, role }
        );
    }
    for (first, packet) in [
        (0x10, PacketType::Connect),
        (0x82, PacketType::Subscribe),
        (0xa2, PacketType::Unsubscribe),
        (0xc0, PacketType::PingReq),
        (0xe0, PacketType::Disconnect),
    ] {
        let role = Role::Client;
        assert_eq!(
            client(&[first]),
            DecodeError::UnexpectedPacket { packet, role }
        );
    }
}

#[test]
fn the_first_packet_is_connect_and_comes_once() {
    assert_eq!(
        error_of(Role::Server, &[], &[0x30]),
        DecodeError::WrongFirstPacket {
            packet: PacketType::Publish,
            expected: PacketType::Connect
        }
    );
    assert_eq!(
        error_of(Role::Client, &[], &[0x30]),
        DecodeError::WrongFirstPacket {
            packet: PacketType::Publish,
            expected: PacketType::ConnAck
        }
    );
    assert_eq!(server(CONNECT), DecodeError::Repeated(PacketType::Connect));
    assert_eq!(client(CONNACK), DecodeError::Repeated(PacketType::ConnAck));
}

#[test]
fn nothing_follows_disconnect() {
    let mut decoder = Decoder::new(Role::Server, 1000);
    let mut buf = BytesMut::from(CONNECT);
    decoder.decode(&mut buf).unwrap().unwrap();
    buf.extend_from_slice(&[0xe0, 0]);
    assert_eq!(
        decoder.decode(&mut buf),
        Ok(Some(Packet::Disconnect(Disconnect::default())))
    );
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    buf.extend_from_slice(&[0xc0, 0]);
    assert_eq!(decoder.decode(&mut buf), Err(DecodeError::AfterDisconnect));
}

#[test]
fn other_protocol_levels_are_refused_with_an_answer() {
    for (body, level) in [
        (&b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00"[..], 6),
        (&b"\x00\x04MQTT\x03\x02\x00\x00\x00\x00"[..], 3),
        (&b"\x00\x04MQTT\x00"[..], 0),
        (&b"\x00\x04MQTT\x84\x02\x00\x00\x00\x00"[..], 0x84),
        (&b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01x"[..], 3),
    ] {
        let error = connect(body);
        assert_eq!(error, DecodeError::UnsupportedProtocolLevel { level });
        assert_eq!(
            error.connack(Version::V311).map(ReasonCode::return_code),
            Some(ConnectReturnCode::UnacceptableProtocolVersion)
        );
    }
}

#[test]
fn a_wrong_connect_is_refused_without_an_answer() {
    use DecodeError as E;
    let truncated = E::Truncated(PacketType::Connect);
    for (body, expected) in [
        (
            &b"\x00\x04mqtt\x04\x02\x00\x00\x00\x00"[..],
            E::ProtocolName,
        ),
        (b"\x00\x06MQIsdp\x04\x02\x00\x00\x00\x00", E::ProtocolName),
        (b"\x00\x00\x04\x02\x00\x00\x00\x00", E::ProtocolName),
        (
            b"\x00\x02\xc3\x28\x04\x02\x00\x00\x00\x00",
            E::Utf8(Field::ProtocolName),
        ),
        (b"", truncated),
        (b"\x00\x04MQT", truncated),
        (b"\x00\x04MQTT\x04\x02\x00\x00\x00\x05abc", truncated),
        (b"\x00\x04MQTT\x04\x02\x00", truncated),
        (
            b"\x00\x04MQTT\x04\x03\x00\x00\x00\x00",
            E::ConnectReservedFlag,
        ),
        (b"\x00\x04MQTT\x04\x0a\x00\x00\x00\x00", E::WillFlags),
        (b"\x00\x04MQTT\x04\x22\x00\x00\x00\x00", E::WillFlags),
        (
            b"\x00\x04MQTT\x04\x1e\x00\x00\x00\x00\x00\x01w\x00\x00",
            E::WillQos,
        ),
        (
            b"\x00\x04MQTT\x04\x42\x00\x00\x00\x00\x00\x01p",
            E::PasswordWithoutUserName,
        ),
        (b"\x00\x04MQTT\x04\x06\x00\x00\x00\x00", truncated),
        (b"\x00\x04MQTT\x04\x82\x00\x00\x00\x00", truncated),
        (b"\x00\x04MQTT\x04\xc2\x00\x00\x00\x00\x00\x01u", truncated),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02\xed\xa0",
            E::Utf8(Field::ClientId),
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x03\xed\xa0\x80",
            E::Utf8(Field::ClientId),
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00",
            E::Nul(Field::ClientId),
        ),
        (
            b"\x00\x04MQTT\x04\x82\x00\x00\x00\x00\x00\x01\xff",
            E::Utf8(Field::UserName),
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x01+\x00\x00",
            E::InvalidTopic {
                field: Field::WillTopic,
                reason: TopicError::WildcardInName,
            },
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x00\x00\x00",
            E::InvalidTopic {
                field: Field::WillTopic,
                reason: TopicError::Empty,
            },
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00\x01w",
            E::TrailingBytes {
                packet: PacketType::Connect,
                count: 3,
            },
        ),
    ] {
        assert_eq!(connect(body), expected, "{body:02x?}");
        assert_eq!(expected.connack(Version::V311), None);
    }
}

#[test]
fn an_empty_client_id_is_for_the_server_to_judge() {
    let mut buf = BytesMut::from(&b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x0a\x00\x00"[..]);
    let Ok(Some(Packet::Connect(connect))) = Decoder::new(Role::Server, 1000).decode(&mut buf)
    else {
        panic!("CONNECT");
    };
    assert!(connect.client_id.is_empty() && !connect.clean && connect.keep_alive == 10);
}

#[test]
fn a_wrong_publish_is_refused() {
    use DecodeError as E;
    let topic = |reason| E::InvalidTopic {
        field: Field::TopicName,
        reason,
    };
    let truncated = E::Truncated(PacketType::Publish);
    assert_eq!(server(&[0x30, 0]), truncated);
    assert_eq!(server(&[0x30, 1, 0]), truncated);
    assert_eq!(server(b"\x30\x04\x00\x03ab"), truncated);
    assert_eq!(server(b"\x32\x03\x00\x01a"), truncated);
    assert_eq!(server(b"\x32\x04\x00\x01a\x00"), truncated);
    assert_eq!(
        server(b"\x32\x05\x00\x01a\x00\x00"),
        E::PacketIdZero(PacketType::Publish)
    );
    assert_eq!(server(b"\x30\x02\x00\x00"), topic(TopicError::Empty));
    assert_eq!(
        server(b"\x30\x05\x00\x03a/+"),
        topic(TopicError::WildcardInName)
    );
    assert_eq!(
        server(b"\x30\x03\x00\x01#"),
        topic(TopicError::WildcardInName)
    );
    assert_eq!(server(b"\x30\x05\x00\x03a\x00b"), E::Nul(Field::TopicName));
    assert_eq!(server(b"\x30\x03\x00\x01\xff"), E::Utf8(Field::TopicName));
}

#[test]
fn a_topic_beyond_ascii_is_a_topic() {
    let mut decoder = Decoder::new(Role::Server, 1000);
    let mut buf = BytesMut::from(CONNECT);
    decoder.decode(&mut buf).unwrap();
    buf.extend_from_slice(b"\x30\x09\x00\x07\xc3\xa9t\xc3\xa9/x");
    let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut buf) else {
        panic!("PUBLISH");
    };
    assert_eq!(publish.topic, "été/x");
    assert!(publish.payload.is_empty());
}

#[test]
fn a_byte_order_mark_is_kept() {
    let topic = Str::from_bytes(Bytes::from_static(b"\xef\xbb\xbfa")).unwrap();
    assert_eq!(topic, "\u{feff}a");
}

#[test]
fn wrong_subscriptions_are_refused() {
    use DecodeError as E;
    let (subscribe, unsubscribe) = (PacketType::Subscribe, PacketType::Unsubscribe);
    assert_eq!(server(&[0x82, 2, 0, 1]), E::EmptyFilterList(subscribe));
    assert_eq!(server(&[0xa2, 2, 0, 1]), E::EmptyFilterList(unsubscribe));
    assert_eq!(
        server(b"\x82\x06\x00\x00\x00\x01a\x00"),
        E::PacketIdZero(subscribe)
    );
    assert_eq!(
        server(b"\xa2\x05\x00\x00\x00\x01a"),
        E::PacketIdZero(unsubscribe)
    );
    assert_eq!(server(b"\x82\x06\x00\x01\x00\x01a\x03"), E::SubscribeQos(3));
    assert_eq!(server(b"\x82\x06\x00\x01\x00\x01a\x04"), E::SubscribeQos(4));
    assert_eq!(
        server(b"\x82\x05\x00\x01\x00\x01a"),
        E::Truncated(subscribe)
    );
    assert_eq!(
        server(b"\x82\x05\x00\x01\x00\x00\x00"),
        E::EmptyFilter(subscribe)
    );
    assert_eq!(
        server(b"\xa2\x04\x00\x01\x00\x00"),
        E::EmptyFilter(unsubscribe)
    );
    assert_eq!(
        server(b"\x82\x06\x00\x01\x00\x01\x00\x00"),
        E::Nul(Field::TopicFilter)
    );
    assert_eq!(
        server(b"\xa2\x05\x00\x01\x00\x01\xff"),
        E::Utf8(Field::TopicFilter)
    );
    assert_eq!(server(&[0x82, 0]), E::Truncated(subscribe));
}

#[test]
fn acknowledgements_have_a_packet_id() {
    for (first, packet) in [
        (0x40, PacketType::PubAck),
        (0x50, PacketType::PubRec),
        (0x62, PacketType::PubRel),
        (0x70, PacketType::PubComp),
    ] {
        assert_eq!(server(&[first, 2, 0, 0]), DecodeError::PacketIdZero(packet));
    }
}

#[test]
fn wrong_answers_of_a_server_are_refused() {
    use DecodeError as E;
    let first = |bytes: &[u8]| error_of(Role::Client, &[], bytes);
    assert_eq!(first(&[0x20, 2, 2, 0]), E::ConnAckFlags(2));
    assert_eq!(first(&[0x20, 2, 0, 6]), E::ConnAckCode(6));
    assert_eq!(first(&[0x20, 2, 1, 5]), E::SessionPresentOnRefusal);
    assert_eq!(client(&[0x90, 3, 0, 1, 3]), E::SubAckCode(3));
    assert_eq!(client(&[0x90, 2, 0, 1]), E::EmptyCodeList);
    assert_eq!(
        client(&[0xb0, 2, 0, 0]),
        E::PacketIdZero(PacketType::UnsubAck)
    );
}

#[test]
fn what_cannot_be_written_leaves_the_buffer_alone() {
    use EncodeError as E;
    let mut out = BytesMut::from(&b"x"[..]);
    let id = PacketId::new(1);
    let (q0, q1) = (QoS::AtMostOnce, QoS::AtLeastOnce);
    let long = "t".repeat(65_536);
    for (result, expected) in [
        (
            encode_publish(&mut out, "t", b"", q1, false, false, None),
            E::NoPacketId,
        ),
        (
            encode_publish(&mut out, "t", b"", q0, false, false, id),
            E::PacketIdWithQos0,
        ),
        (
            encode_publish(&mut out, "t", b"", q0, false, true, None),
            E::DupWithQos0,
        ),
        (
            encode_publish(&mut out, &long, b"", q0, false, false, None),
            E::FieldTooLong {
                field: Field::TopicName,
                len: 65_536,
            },
        ),
        (
            publish_header(&mut out, "t", 268_435_453, q0, false, false, None),
            E::PacketTooLarge(268_435_456),
        ),
        (
            encode(
                &Packet::Subscribe(Subscribe {
                    packet_id: PacketId::MIN,
                    filters: vec![],
                    properties: None,
                }),
                &mut out,
            ),
            E::EmptyFilterList(PacketType::Subscribe),
        ),
        (
            encode(
                &Packet::ConnAck(ConnAck {
                    session_present: true,
                    reason: ReasonCode::NotAuthorized,
                    properties: None,
                }),
                &mut out,
            ),
            E::SessionPresentOnRefusal,
        ),
    ] {
        assert_eq!(result, Err(expected));
    }
    assert_eq!(&out[..], b"x");
    assert_eq!(Str::new(&long), Err(StrError::TooLong));
    assert_eq!(Str::new("a\0"), Err(StrError::Nul));
}
