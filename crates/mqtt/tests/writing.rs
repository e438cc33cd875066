//! What each version writes: bytes where they are short, and what cannot be written at all.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of a test fail as the test does

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::*;

fn bytes(version: Version, packet: &Packet) -> Result<Vec<u8>, EncodeError> {
    let mut out = BytesMut::new();
    let result = encode_for(version, packet, &mut out);
    if result.is_err() {
        assert!(out.is_empty(), "nothing is written before an error");
    }
    result.map(|()| out.to_vec())
}

fn id() -> PacketId {
    PacketId::new(1).unwrap()
}

fn text(text: &str) -> Str {
    Str::new(text).unwrap()
}

fn user(name: &str) -> Vec<UserProperty> {
    vec![UserProperty {
        name: name.into(),
        value: "v".into(),
    }]
}

#[test]
fn acknowledgements_are_as_short_as_they_can_be() {
    let v5 = |packet: Packet| bytes(Version::V5, &packet).unwrap();
    assert_eq!(v5(Packet::PubAck(id().into())), [0x40, 2, 0, 1]);
    let reason = ReasonCode::PacketIdentifierNotFound;
    let ack = Packet::PubRel(Ack::new(id(), reason));
    assert_eq!(v5(ack), [0x62, 3, 0, 1, 0x92]);
    assert_eq!(v5(Packet::Disconnect(Disconnect::default())), [0xe0, 0]);
    let taken = Packet::Disconnect(ReasonCode::SessionTakenOver.into());
    assert_eq!(v5(taken), [0xe0, 1, 0x8e]);
    assert_eq!(v5(Packet::Auth(Auth::default())), [0xf0, 0]);
    let refused = ConnAck::from(ReasonCode::UnsupportedProtocolVersion);
    assert_eq!(v5(Packet::ConnAck(refused)), [0x20, 3, 0, 0x84, 0]);
}

#[test]
fn to_3_1_1_goes_what_it_has_a_word_for() {
    let v311 = |packet: Packet| bytes(Version::V311, &packet);
    for (reason, code) in [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::Banned, 5),
    ] {
        let written = v311(Packet::ConnAck(reason.into()));
        assert_eq!(written, Ok(vec![0x20, 2, 0, code]));
    }
    let codes = vec![
        SubAckCode::Granted(QoS::ExactlyOnce),
        SubAckCode::Refused(ReasonCode::QuotaExceeded),
    ];
    let suback = Packet::SubAck(SubAck {
        packet_id: id(),
        codes,
        properties: None,
    });
    assert_eq!(v311(suback), Ok(vec![0x90, 4, 0, 1, 2, 0x80]));
    let unsuback = Packet::UnsubAck(UnsubAck {
        packet_id: id(),
        codes: vec![ReasonCode::NoSubscriptionExisted],
        properties: None,
    });
    assert_eq!(v311(unsuback), Ok(vec![0xb0, 2, 0, 1]));
    let unknown = Ack::new(id(), ReasonCode::PacketIdentifierNotFound);
    assert_eq!(v311(Packet::PubComp(unknown)), Ok(vec![0x70, 2, 0, 1]));
}

#[test]
fn to_3_1_1_nothing_goes_that_would_lose_its_meaning() {
    use EncodeError as E;
    let v311 = |packet: Packet| bytes(Version::V311, &packet).unwrap_err();
    let packet = PacketType::PubAck;
    let reason = ReasonCode::QuotaExceeded;
    assert_eq!(
        v311(Packet::PubAck(Ack::new(id(), reason))),
        E::ReasonCode { packet, reason }
    );
    let packet = PacketType::Disconnect;
    let reason = ReasonCode::DisconnectWithWillMessage;
    assert_eq!(
        v311(Packet::Disconnect(reason.into())),
        E::ReasonCode { packet, reason }
    );
    assert_eq!(
        v311(Packet::Auth(Auth::default())),
        E::NotIn311(PacketType::Auth)
    );
    let mut options = SubscriptionOptions::from(QoS::AtLeastOnce);
    options.no_local = true;
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: id(),
        filters: vec![(text("f"), options)],
        properties: None,
    });
    assert_eq!(v311(subscribe), E::SubscriptionOptions);
    let properties = Some(Box::new(AckProperties {
        reason_string: Some(text("why")),
        user: vec![],
    }));
    let ack = Ack {
        properties,
        ..id().into()
    };
    assert_eq!(v311(Packet::PubAck(ack)), E::Properties(PacketType::PubAck));
}

#[test]
fn a_connect_is_written_in_its_own_version() {
    let connect = Packet::Connect(Connect {
        version: Version::V5,
        clean: true,
        keep_alive: 0,
        client_id: text("c"),
        will: None,
        username: None,
        password: None,
        properties: None,
    });
    let wrong = bytes(Version::V311, &connect);
    assert_eq!(wrong, Err(EncodeError::OtherVersion));
    let right = bytes(Version::V5, &connect).unwrap();
    assert_eq!(right, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c");
}

#[test]
fn version_5_refuses_what_the_standard_excludes() {
    use EncodeError as E;
    let v5 = |packet: Packet| bytes(Version::V5, &packet).unwrap_err();
    let packet = PacketType::PubRel;
    let reason = ReasonCode::QuotaExceeded;
    assert_eq!(
        v5(Packet::PubRel(Ack::new(id(), reason))),
        E::ReasonCode { packet, reason }
    );
    let mut options = SubscriptionOptions::from(QoS::AtLeastOnce);
    options.no_local = true;
    let shared = Packet::Subscribe(Subscribe {
        packet_id: id(),
        filters: vec![(text("$share/g/f"), options)],
        properties: None,
    });
    assert_eq!(v5(shared), E::NoLocalOnShared);
    let auth = Packet::Auth(ReasonCode::ContinueAuthentication.into());
    assert_eq!(v5(auth), E::NoAuthenticationMethod(PacketType::Auth));
    let mut ack = Ack::from(id());
    ack.properties = Some(Box::new(AckProperties {
        reason_string: None,
        user: user("a\0b"),
    }));
    let nul = E::Nul(Field::Property(Property::UserProperty));
    assert_eq!(v5(Packet::PubAck(ack)), nul);
}

#[test]
fn publish_properties_go_by_reference() {
    let properties = Properties {
        content_type: Some("x".into()),
        ..Properties::default()
    };
    let mut head = PublishHead {
        topic: "t",
        qos: QoS::AtMostOnce,
        retain: false,
        dup: false,
        packet_id: None,
        properties: PublishPropertiesRef {
            message_expiry: Some(9),
            topic_alias: std::num::NonZeroU16::new(2),
            subscription_ids: &[1, 300],
            message: Some(&properties),
        },
    };
    let mut out = BytesMut::new();
    encode_publish_for(Version::V5, &head, b"p", &mut out).unwrap();
    let expected =
        b"\x30\x16\x00\x01t\x11\x02\x00\x00\x00\x09\x23\x00\x02\x0b\x01\x0b\xac\x02\x03\x00\x01xp";
    assert_eq!(&out[..], expected);
    out.clear();
    encode_publish_for(Version::V311, &head, b"p", &mut out).unwrap();
    assert_eq!(&out[..], b"\x30\x04\x00\x01tp");
    head.properties.subscription_ids = &[0];
    let wrong = encode_publish_for(Version::V5, &head, b"p", &mut out);
    assert_eq!(wrong, Err(EncodeError::SubscriptionId(0)));
    head.properties = PublishPropertiesRef::default();
    head.topic = "";
    assert!(encode_publish_for(Version::V5, &head, b"p", &mut out).is_err());
}

/// [MQTT-3.2.2-19], [MQTT-3.2.2-20] and the same of the other packets.
#[test]
fn a_small_receiver_gets_no_user_properties_and_then_no_reason_string() {
    let mut ack = Ack::new(id(), ReasonCode::QuotaExceeded);
    ack.properties = Some(Box::new(AckProperties {
        reason_string: Some(text("full")),
        user: user("name"),
    }));
    let packet = Packet::PubAck(ack);
    let within = |max| {
        let mut out = BytesMut::from(&b"x"[..]);
        let result = encode_within(Version::V5, &packet, max, &mut out);
        assert_eq!(out[0], b'x');
        result.map(|()| out.len() - 1)
    };
    assert_eq!(within(100), Ok(23));
    assert_eq!(within(22), Ok(13));
    assert_eq!(within(12), Ok(5));
    let error = EncodeError::ReceiverLimit { size: 5, max: 4 };
    assert_eq!(within(4), Err(error));
}

#[test]
fn a_publish_is_not_shortened_for_a_small_receiver() {
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: text("t"),
        packet_id: None,
        payload: Bytes::from_static(b"payload"),
        properties: Some(Box::new(PublishProperties {
            message: Some(Box::new(Properties {
                user: user("name"),
                ..Properties::default()
            })),
            ..PublishProperties::default()
        })),
    });
    let mut out = BytesMut::new();
    let result = encode_within(Version::V5, &packet, 20, &mut out);
    assert!(matches!(result, Err(EncodeError::ReceiverLimit { .. })));
    assert!(out.is_empty());
}
