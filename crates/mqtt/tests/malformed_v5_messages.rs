//! Version 5's malformed packets and protocol errors, as bytes on the wire, with the reason code
//! that answers each. Named after the statement, or the section where there is none.
//! This half: reason codes, messages and subscriptions.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use iotedge_mqtt::DecodeError as E;
use iotedge_mqtt::*;

#[path = "support/wire_v5.rs"]
mod wire_v5;

use wire_v5::*;

/// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1],
/// [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1].
#[test]
fn a_reason_code_is_of_its_packets_table() {
    let none = |packet, code| E::ReasonCode { packet, code };
    let expected = none(PacketType::ConnAck, 0x92);
    refused(connack(0, 0x92, b""), expected, PROTOCOL);
    for (first, packet, code) in [
        (0x40, PacketType::PubAck, 0x92),
        (0x50, PacketType::PubRec, 0x01),
        (0x62, PacketType::PubRel, 0x10),
        (0x70, PacketType::PubComp, 0x80),
    ] {
        let expected = none(packet, code);
        refused(server(&[first, 3, 0, 1, code]), expected, PROTOCOL);
    }
    let expected = none(PacketType::SubAck, 3);
    refused(client(&[0x90, 4, 0, 1, 0, 3]), expected, PROTOCOL);
    let expected = none(PacketType::UnsubAck, 1);
    refused(client(&[0xb0, 4, 0, 1, 0, 1]), expected, PROTOCOL);
    let expected = none(PacketType::Disconnect, 0x84);
    refused(server(&[0xe0, 1, 0x84]), expected, PROTOCOL);
    let expected = none(PacketType::Auth, 0x87);
    refused(server(&[0xf0, 2, 0x87, 0]), expected, PROTOCOL);
    let expected = none(PacketType::Disconnect, 0x7f);
    refused(server(&[0xe0, 1, 0x7f]), expected, PROTOCOL);
}

#[test]
fn mqtt_3_3_1_2_qos_0_has_no_dup() {
    refused(server(&[0x38]), E::DupWithQos0, MALFORMED);
}

#[test]
fn mqtt_3_3_1_4_qos_3_is_none() {
    refused(server(&[0x36]), E::PublishQos, MALFORMED);
}

#[test]
fn section_3_3_2_1_an_empty_topic_needs_an_alias() {
    refused(server(&publish(b"", b"")), E::NoTopic, PROTOCOL);
    let other = b"\x02\x00\x00\x00\x01";
    refused(server(&publish(b"", other)), E::NoTopic, PROTOCOL);
    let Ok(Packet::Publish(publish)) = server(&publish(b"", b"\x23\x00\x07")) else {
        panic!("PUBLISH");
    };
    assert!(publish.topic.is_empty());
    assert_eq!(publish.properties.unwrap().topic_alias.unwrap().get(), 7);
    assert_eq!(publish.payload, "payload");
}

#[test]
fn mqtt_3_3_2_2_a_topic_name_has_no_wildcards() {
    let expected = E::InvalidTopic {
        field: Field::TopicName,
        reason: TopicError::WildcardInName,
    };
    refused(
        server(&publish(b"a/+", b"")),
        expected,
        ReasonCode::TopicNameInvalid,
    );
}

#[test]
fn mqtt_3_3_2_8_topic_alias_0_is_never_sent() {
    let expected = E::PropertyValue {
        property: Property::TopicAlias,
        value: 0,
    };
    refused(
        server(&publish(b"t", b"\x23\x00\x00")),
        expected,
        ReasonCode::TopicAliasInvalid,
    );
}

#[test]
fn mqtt_3_3_2_14_a_response_topic_has_no_wildcards() {
    let expected = E::InvalidTopic {
        field: Field::Property(Property::ResponseTopic),
        reason: TopicError::WildcardInName,
    };
    refused(server(&publish(b"t", b"\x08\x00\x01#")), expected, PROTOCOL);
}

#[test]
fn mqtt_3_3_4_6_a_client_sends_no_subscription_identifier() {
    let bytes = publish(b"t", b"\x0b\x05\x0b\x80\x01");
    let expected = E::PropertyDirection {
        packet: PacketType::Publish,
        property: Property::SubscriptionIdentifier,
        role: Role::Server,
    };
    refused(server(&bytes), expected, PROTOCOL);
    let Ok(Packet::Publish(publish)) = client(&bytes) else {
        panic!("PUBLISH");
    };
    assert_eq!(publish.properties.unwrap().subscription_ids, [5, 128]);
}

#[test]
fn section_3_8_2_1_2_a_subscription_identifier_is_not_0() {
    let expected = E::PropertyValue {
        property: Property::SubscriptionIdentifier,
        value: 0,
    };
    refused(server(&subscribe(b"\x0b\x00", b"f", 0)), expected, PROTOCOL);
    refused(client(&publish(b"t", b"\x0b\x00")), expected, PROTOCOL);
}

#[test]
fn section_3_8_3_1_subscription_options_have_a_meaning() {
    refused(
        server(&subscribe(b"", b"f", 3)),
        E::SubscribeQos(3),
        PROTOCOL,
    );
    refused(
        server(&subscribe(b"", b"f", 0x30)),
        E::RetainHandling,
        PROTOCOL,
    );
    let Ok(Packet::Subscribe(subscribe)) = server(&subscribe(b"\x0b\x07", b"f", 0x2d)) else {
        panic!("SUBSCRIBE");
    };
    assert_eq!(
        subscribe.filters[0].1,
        SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        }
    );
    assert_eq!(
        subscribe.properties.unwrap().subscription_id.unwrap().get(),
        7
    );
}

#[test]
fn mqtt_3_8_3_2_a_subscription_has_a_filter() {
    let expected = E::EmptyFilterList(PacketType::Subscribe);
    refused(server(&[0x82, 3, 0, 1, 0]), expected, PROTOCOL);
    refused(
        server(&subscribe(b"", b"", 0)),
        E::EmptyFilter(PacketType::Subscribe),
        ReasonCode::TopicFilterInvalid,
    );
}

#[test]
fn mqtt_3_8_3_4_a_shared_subscription_cannot_be_no_local() {
    let shared = subscribe(b"", b"$share/g/f", 4);
    refused(server(&shared), E::NoLocalOnShared, PROTOCOL);
    assert!(server(&subscribe(b"", b"$share/g/f", 1)).is_ok());
    assert!(server(&subscribe(b"", b"$shared/f", 4)).is_ok());
}

#[test]
fn mqtt_3_8_3_5_reserved_subscription_options_are_0() {
    for options in [0x40, 0x80] {
        let expected = E::SubscriptionOptions(options);
        refused(server(&subscribe(b"", b"f", options)), expected, MALFORMED);
    }
}

#[test]
fn mqtt_3_10_3_2_an_unsubscription_has_a_filter() {
    let expected = E::EmptyFilterList(PacketType::Unsubscribe);
    refused(server(&[0xa2, 3, 0, 1, 0]), expected, PROTOCOL);
}

#[test]
fn mqtt_3_8_4_6_an_answer_has_a_code_for_each_filter() {
    refused(client(&[0x90, 3, 0, 1, 0]), E::EmptyCodeList, PROTOCOL);
    refused(client(&[0xb0, 3, 0, 1, 0]), E::EmptyCodeList, PROTOCOL);
}

#[test]
fn mqtt_2_2_1_3_a_packet_id_is_not_0() {
    let zero = |packet| E::PacketIdZero(packet);
    refused(
        server(b"\x32\x06\x00\x01t\x00\x00\x00"),
        zero(PacketType::Publish),
        PROTOCOL,
    );
    refused(server(&[0x40, 2, 0, 0]), zero(PacketType::PubAck), PROTOCOL);
    refused(
        server(&[0x40, 3, 0, 0, 0]),
        zero(PacketType::PubAck),
        PROTOCOL,
    );
    refused(
        server(&[0x82, 7, 0, 0, 0, 0, 1, b'f', 0]),
        zero(PacketType::Subscribe),
        PROTOCOL,
    );
}

#[test]
fn section_3_4_2_1_acknowledgements_have_short_forms() {
    let id = PacketId::new(1).unwrap();
    for (bytes, reason) in [
        (&[0x40, 2, 0, 1][..], ReasonCode::Success),
        (&[0x40, 3, 0, 1, 0x10], ReasonCode::NoMatchingSubscribers),
        (&[0x40, 4, 0, 1, 0x97, 0], ReasonCode::QuotaExceeded),
    ] {
        let expected = Packet::PubAck(Ack::new(id, reason));
        assert_eq!(server(bytes), Ok(expected));
    }
    let truncated = E::Truncated(PacketType::PubAck);
    refused(server(&[0x40, 1, 0]), truncated, MALFORMED);
    let packet = PacketType::PubAck;
    let expected = E::TrailingBytes { packet, count: 1 };
    refused(server(&[0x40, 5, 0, 1, 0, 0, 9]), expected, MALFORMED);
}
