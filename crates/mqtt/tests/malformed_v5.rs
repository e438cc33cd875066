//! Version 5's malformed packets and protocol errors, as bytes on the wire, with the reason code
//! that answers each. Named after the statement, or the section where there is none.
//! This half: strings, properties, and the packets that open and end a connection.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use bytes::BytesMut;
use iotedge_mqtt::DecodeError as E;
use iotedge_mqtt::*;

#[path = "support/wire_v5.rs"]
mod wire_v5;

use wire_v5::*;

#[test]
fn mqtt_1_5_4_1_strings_are_utf_8() {
    let expected = E::Utf8(Field::Property(Property::ReasonString));
    refused(
        server(b"\x40\x08\x00\x01\x00\x04\x1f\x00\x01\xff"),
        expected,
        MALFORMED,
    );
    let surrogate = publish(b"t", b"\x03\x00\x03\xed\xa0\x80");
    let expected = E::Utf8(Field::Property(Property::ContentType));
    refused(server(&surrogate), expected, MALFORMED);
}

#[test]
fn mqtt_1_5_4_2_strings_have_no_nul() {
    let expected = E::Nul(Field::Property(Property::ContentType));
    refused(
        server(&publish(b"t", b"\x03\x00\x01\x00")),
        expected,
        MALFORMED,
    );
}

#[test]
fn mqtt_1_5_5_1_variable_byte_integers_are_as_short_as_can_be() {
    refused(server(b"\xc0\x80\x00"), E::RemainingLength, MALFORMED);
    let long = [&b"\x10\x8d\x00"[..], &CONNECT[2..]].concat();
    refused(
        decode(Role::Server, &[], &long),
        E::RemainingLength,
        MALFORMED,
    );
    let publish = E::VariableByteInteger(PacketType::Publish);
    refused(server(b"\x30\x05\x00\x01t\x80\x00"), publish, MALFORMED);
    refused(
        server(b"\x30\x08\x00\x01t\x80\x80\x80\x80\x01"),
        publish,
        MALFORMED,
    );
    let subscribe = E::VariableByteInteger(PacketType::Subscribe);
    refused(
        server(b"\x82\x0a\x00\x01\x03\x0b\x81\x00\x00\x01f\x00"),
        subscribe,
        MALFORMED,
    );
}

#[test]
fn mqtt_1_5_7_1_both_strings_of_a_pair_are_strings() {
    let expected = E::Utf8(Field::Property(Property::UserProperty));
    for pair in [
        &b"\x26\x00\x01\xff\x00\x01b"[..],
        b"\x26\x00\x01a\x00\x01\xff",
    ] {
        refused(server(&publish(b"t", pair)), expected, MALFORMED);
    }
}

#[test]
fn mqtt_2_1_3_1_reserved_flags_have_their_values() {
    for (first, packet) in [
        (0x83, PacketType::Subscribe),
        (0xa0, PacketType::Unsubscribe),
        (0x60, PacketType::PubRel),
        (0xe1, PacketType::Disconnect),
        (0xf1, PacketType::Auth),
    ] {
        let flags = first & 0x0f;
        let expected = E::ReservedFlags { packet, flags };
        refused(server(&[first]), expected, MALFORMED);
    }
}

#[test]
fn section_2_2_2_2_an_identifier_is_of_the_table() {
    let packet = PacketType::Publish;
    for (properties, id) in [(&b"\x00"[..], 0), (b"\x2b\x00", 0x2b), (b"\x80\x01", 128)] {
        let expected = E::UnknownProperty { packet, id };
        refused(server(&publish(b"t", properties)), expected, MALFORMED);
    }
}

#[test]
fn section_2_2_2_2_a_property_stands_where_the_table_allows_it() {
    let wrong = |packet, property| E::WrongProperty { packet, property };
    refused(
        server(&publish(b"t", b"\x11\x00\x00\x00\x01")),
        wrong(PacketType::Publish, Property::SessionExpiryInterval),
        MALFORMED,
    );
    refused(
        connect(2, b"\x23\x00\x01", b"\x00\x00"),
        wrong(PacketType::Connect, Property::TopicAlias),
        MALFORMED,
    );
    refused(
        connack(0, 0, b"\x17\x01"),
        wrong(PacketType::ConnAck, Property::RequestProblemInformation),
        MALFORMED,
    );
    refused(
        server(b"\x40\x06\x00\x01\x00\x02\x01\x00"),
        wrong(PacketType::PubAck, Property::PayloadFormatIndicator),
        MALFORMED,
    );
    refused(
        server(&subscribe(b"\x1f\x00\x00", b"f", 0)),
        wrong(PacketType::Subscribe, Property::ReasonString),
        MALFORMED,
    );
    refused(
        server(b"\xa2\x08\x00\x01\x02\x0b\x01\x00\x01f"),
        wrong(PacketType::Unsubscribe, Property::SubscriptionIdentifier),
        MALFORMED,
    );
    refused(
        server(b"\xe0\x05\x00\x03\x21\x00\x01"),
        wrong(PacketType::Disconnect, Property::ReceiveMaximum),
        MALFORMED,
    );
    refused(
        server(b"\xf0\x05\x18\x03\x21\x00\x01"),
        wrong(PacketType::Auth, Property::ReceiveMaximum),
        MALFORMED,
    );
    // A will's properties stand behind the client id.
    refused(
        connect(6, b"", b"\x00\x00\x02\x25\x01\x00\x01w\x00\x00"),
        wrong(PacketType::Connect, Property::RetainAvailable),
        MALFORMED,
    );
}

#[test]
fn section_2_2_2_2_properties_end_with_their_length() {
    let truncated = E::Truncated(PacketType::Publish);
    refused(server(b"\x30\x04\x00\x01t\x05"), truncated, MALFORMED);
    refused(server(b"\x30\x03\x00\x01t"), truncated, MALFORMED);
    // The expiry interval reaches into the payload.
    refused(
        server(b"\x30\x08\x00\x01t\x02\x02\x00\x00\x00"),
        truncated,
        MALFORMED,
    );
}

#[test]
fn each_section_a_property_stands_once() {
    let twice = |property| E::RepeatedProperty {
        packet: PacketType::Connect,
        property,
    };
    for (property, bytes) in [
        (
            Property::SessionExpiryInterval,
            &b"\x11\x00\x00\x00\x00"[..],
        ),
        (Property::ReceiveMaximum, b"\x21\x00\x01"),
        (Property::MaximumPacketSize, b"\x27\x00\x00\x00\x01"),
        (Property::TopicAliasMaximum, b"\x22\x00\x00"),
        (Property::RequestResponseInformation, b"\x19\x00"),
        (Property::RequestProblemInformation, b"\x17\x01"),
        (Property::AuthenticationMethod, b"\x15\x00\x01m"),
        (Property::AuthenticationData, b"\x16\x00\x00"),
    ] {
        refused(
            connect(2, &bytes.repeat(2), b"\x00\x00"),
            twice(property),
            PROTOCOL,
        );
    }
    for (property, bytes) in [
        (Property::WillDelayInterval, &b"\x18\x00\x00\x00\x00"[..]),
        (Property::PayloadFormatIndicator, b"\x01\x01"),
        (Property::MessageExpiryInterval, b"\x02\x00\x00\x00\x01"),
        (Property::ContentType, b"\x03\x00\x00"),
        (Property::ResponseTopic, b"\x08\x00\x01r"),
        (Property::CorrelationData, b"\x09\x00\x00"),
    ] {
        let payload = [
            b"\x00\x00",
            &section(&bytes.repeat(2))[..],
            b"\x00\x01w\x00\x00",
        ];
        refused(
            connect(6, b"", &payload.concat()),
            twice(property),
            PROTOCOL,
        );
    }
    let expected = E::RepeatedProperty {
        packet: PacketType::Subscribe,
        property: Property::SubscriptionIdentifier,
    };
    refused(
        server(&subscribe(b"\x0b\x01\x0b\x02", b"f", 0)),
        expected,
        PROTOCOL,
    );
    let expected = E::RepeatedProperty {
        packet: PacketType::Publish,
        property: Property::TopicAlias,
    };
    refused(
        server(&publish(b"t", b"\x23\x00\x01\x23\x00\x01")),
        expected,
        PROTOCOL,
    );
}

#[test]
fn user_properties_repeat_and_keep_their_order() {
    let pair = |name: &str| UserProperty {
        name: name.into(),
        value: "v".into(),
    };
    let bytes = b"\x26\x00\x01b\x00\x01v\x26\x00\x01a\x00\x01v\x26\x00\x01b\x00\x01v";
    let Ok(Packet::Publish(publish)) = server(&publish(b"t", bytes)) else {
        panic!("PUBLISH");
    };
    let user = publish.properties.unwrap().message.unwrap().user;
    assert_eq!(user, [pair("b"), pair("a"), pair("b")]);
}

#[test]
fn section_3_1_2_11_3_receive_maximum_is_not_0() {
    let expected = E::PropertyValue {
        property: Property::ReceiveMaximum,
        value: 0,
    };
    refused(connect(2, b"\x21\x00\x00", b"\x00\x00"), expected, PROTOCOL);
    refused(connack(0, 0, b"\x21\x00\x00"), expected, PROTOCOL);
}

#[test]
fn section_3_1_2_11_4_maximum_packet_size_is_not_0() {
    let expected = E::PropertyValue {
        property: Property::MaximumPacketSize,
        value: 0,
    };
    let property = b"\x27\x00\x00\x00\x00";
    refused(connect(2, property, b"\x00\x00"), expected, PROTOCOL);
    refused(connack(0, 0, property), expected, PROTOCOL);
}

#[test]
fn each_section_a_byte_is_0_or_1_where_nothing_else_has_a_meaning() {
    let two = |property| E::PropertyValue { property, value: 2 };
    for property in [
        Property::RequestResponseInformation,
        Property::RequestProblemInformation,
    ] {
        let bytes = [property as u8, 2];
        refused(connect(2, &bytes, b"\x00\x00"), two(property), PROTOCOL);
    }
    for property in [
        Property::MaximumQos,
        Property::RetainAvailable,
        Property::WildcardSubscriptionAvailable,
        Property::SubscriptionIdentifierAvailable,
        Property::SharedSubscriptionAvailable,
    ] {
        refused(connack(0, 0, &[property as u8, 2]), two(property), PROTOCOL);
    }
    let property = Property::PayloadFormatIndicator;
    refused(server(&publish(b"t", &[1, 2])), two(property), PROTOCOL);
}

#[test]
fn section_3_1_2_11_10_authentication_data_needs_a_method() {
    let expected = E::NoAuthenticationMethod(PacketType::Connect);
    refused(
        connect(2, b"\x16\x00\x01d", b"\x00\x00"),
        expected,
        PROTOCOL,
    );
    let expected = E::NoAuthenticationMethod(PacketType::ConnAck);
    refused(connack(0, 0, b"\x16\x00\x01d"), expected, PROTOCOL);
}

#[test]
fn mqtt_3_1_2_1_the_protocol_name_is_mqtt() {
    let bytes = b"\x10\x0d\x00\x04MqTT\x05\x02\x00\x00\x00\x00\x00";
    refused(
        decode(Role::Server, &[], bytes),
        E::ProtocolName,
        ReasonCode::UnsupportedProtocolVersion,
    );
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_is_0() {
    refused(
        connect(3, b"", b"\x00\x00"),
        E::ConnectReservedFlag,
        MALFORMED,
    );
}

#[test]
fn mqtt_3_1_2_11_to_13_will_flags_need_a_will() {
    refused(connect(0x0a, b"", b"\x00\x00"), E::WillFlags, MALFORMED);
    refused(connect(0x22, b"", b"\x00\x00"), E::WillFlags, MALFORMED);
    refused(connect(0x1e, b"", b"\x00\x00"), E::WillQos, MALFORMED);
}

#[test]
fn mqtt_3_1_2_9_a_will_has_properties_topic_and_payload() {
    let truncated = E::Truncated(PacketType::Connect);
    refused(connect(6, b"", b"\x00\x00"), truncated, MALFORMED);
    refused(
        connect(6, b"", b"\x00\x00\x00\x00\x01w"),
        truncated,
        MALFORMED,
    );
    refused(
        connect(6, b"", b"\x00\x00\x00\x00\x01#\x00\x00"),
        E::InvalidTopic {
            field: Field::WillTopic,
            reason: TopicError::WildcardInName,
        },
        ReasonCode::TopicNameInvalid,
    );
}

#[test]
fn mqtt_3_1_2_19_a_password_needs_no_user_name() {
    let Ok(Packet::Connect(connect)) = connect(0x42, b"", b"\x00\x00\x00\x01p") else {
        panic!("CONNECT");
    };
    assert_eq!(
        (connect.username, connect.password.as_deref()),
        (None, Some(&b"p"[..]))
    );
}

#[test]
fn mqtt_3_1_4_1_a_wrong_connect_is_answered_in_its_own_version() {
    let mut decoder = decoder(Role::Server);
    let mut buf = BytesMut::from(&b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x00"[..]);
    let error = decoder.decode(&mut buf).unwrap_err();
    assert_eq!(decoder.version(), Version::V5);
    assert_eq!(error.connack(decoder.version()), Some(MALFORMED));
}

#[test]
fn mqtt_3_1_0_2_connect_comes_once() {
    refused(server(CONNECT), E::Repeated(PacketType::Connect), PROTOCOL);
}

#[test]
fn mqtt_3_2_0_1_only_auth_comes_before_connack() {
    let first = |bytes: &[u8]| decode(Role::Client, &[], bytes);
    let auth = first(b"\xf0\x06\x18\x04\x15\x00\x01m");
    assert!(matches!(auth, Ok(Packet::Auth(_))), "{auth:?}");
    let packet = PacketType::Disconnect;
    let expected = PacketType::ConnAck;
    refused(
        first(&[0xe0, 0]),
        E::WrongFirstPacket { packet, expected },
        PROTOCOL,
    );
}

#[test]
fn mqtt_3_2_0_2_connack_comes_once() {
    refused(client(CONNACK), E::Repeated(PacketType::ConnAck), PROTOCOL);
}

#[test]
fn mqtt_3_2_2_1_reserved_connack_flags_are_0() {
    refused(connack(2, 0, b""), E::ConnAckFlags(2), MALFORMED);
}

#[test]
fn mqtt_3_2_2_6_a_refusal_has_no_session() {
    refused(connack(1, 0x87, b""), E::SessionPresentOnRefusal, PROTOCOL);
}

#[test]
fn a_server_of_3_1_1_refuses_version_5_in_its_own_form() {
    let answer = decode(Role::Client, &[], &[0x20, 2, 0, 1]);
    let expected = ConnAck::from(ReasonCode::UnsupportedProtocolVersion);
    assert_eq!(answer, Ok(Packet::ConnAck(expected)));
    refused(
        decode(Role::Client, &[], &[0x20, 2, 0, 0]),
        E::Truncated(PacketType::ConnAck),
        MALFORMED,
    );
}

#[test]
fn section_3_14_2_1_disconnect_has_short_forms() {
    for (bytes, reason) in [
        (&[0xe0, 0][..], ReasonCode::Success),
        (&[0xe0, 1, 4], ReasonCode::DisconnectWithWillMessage),
        (&[0xe0, 2, 0x8e, 0], ReasonCode::SessionTakenOver),
    ] {
        let expected = Packet::Disconnect(reason.into());
        assert_eq!(server(bytes), Ok(expected.clone()));
        assert_eq!(client(bytes), Ok(expected));
    }
}

#[test]
fn mqtt_3_14_2_2_a_server_sends_no_session_expiry() {
    let bytes = b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09";
    let expected = E::PropertyDirection {
        packet: PacketType::Disconnect,
        property: Property::SessionExpiryInterval,
        role: Role::Client,
    };
    refused(client(bytes), expected, PROTOCOL);
    let Ok(Packet::Disconnect(end)) = server(bytes) else {
        panic!("DISCONNECT");
    };
    assert_eq!(end.properties.unwrap().session_expiry, Some(9));
}

#[test]
fn mqtt_3_14_4_1_nothing_follows_disconnect() {
    for role in [Role::Server, Role::Client] {
        let opening = if role == Role::Server {
            CONNECT
        } else {
            CONNACK
        };
        let mut decoder = decoder(role);
        let mut buf = BytesMut::from(opening);
        buf.extend_from_slice(&[0xe0, 0, 0x40, 2, 0, 1]);
        decoder.decode(&mut buf).unwrap().unwrap();
        decoder.decode(&mut buf).unwrap().unwrap();
        assert_eq!(decoder.decode(&mut buf), Err(E::AfterDisconnect));
    }
}

#[test]
fn section_3_15_2_2_2_auth_has_a_method() {
    let expected = E::NoAuthenticationMethod(PacketType::Auth);
    refused(server(b"\xf0\x02\x18\x00"), expected, PROTOCOL);
    refused(server(b"\xf0\x06\x19\x04\x16\x00\x01d"), expected, PROTOCOL);
    assert_eq!(server(&[0xf0, 0]), Ok(Packet::Auth(Auth::default())));
}

#[test]
fn section_3_15_auth_is_of_version_5_alone() {
    let mut decoder = Decoder::new(Role::Server, 1000);
    let mut buf = BytesMut::from(&b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\xf0\x00"[..]);
    decoder.decode(&mut buf).unwrap().unwrap();
    assert_eq!(decoder.decode(&mut buf), Err(E::ReservedType(15)));
}

#[test]
fn section_4_13_a_packet_too_large_is_refused_before_it_arrives() {
    let mut decoder = decoder(Role::Server);
    let mut buf = BytesMut::from(CONNECT);
    decoder.decode(&mut buf).unwrap().unwrap();
    buf.extend_from_slice(&[0x30, 0xe6, 0x07]);
    let error = decoder.decode(&mut buf).unwrap_err();
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
}

/// Not of the standard: an implementation's limit (5: 4.13).
#[test]
fn user_properties_have_a_limit() {
    let decode = |bytes: &[u8]| {
        let mut decoder = decoder(Role::Server).with_max_user_property_bytes(40);
        let mut buf = BytesMut::from(CONNECT);
        decoder.decode(&mut buf).unwrap().unwrap();
        buf.extend_from_slice(bytes);
        decoder.decode(&mut buf)
    };
    let pair = |name: usize, value: usize| {
        let field = |len: usize| [&[0, u8::try_from(len).unwrap()], &vec![b'x'; len][..]].concat();
        [&[0x26][..], &field(name), &field(value)].concat()
    };
    assert!(decode(&publish(b"t", &pair(20, 20))).is_ok());
    let long = E::UserProperties(PacketType::Publish);
    assert_eq!(decode(&publish(b"t", &pair(20, 21))), Err(long));
    // Empty ones cost memory too.
    let empty = pair(0, 0);
    assert!(decode(&publish(b"t", &[&empty[..], &empty].concat())).is_ok());
    let three = [&empty[..], &empty, &empty].concat();
    assert_eq!(decode(&publish(b"t", &three)), Err(long));
    assert_eq!(long.reason_code(), ReasonCode::QuotaExceeded);
}
