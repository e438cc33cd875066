//! Any packet of either version, for the property tests.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use iotedge_mqtt::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn any_str() -> impl Strategy<Value = Str> {
    vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..40)
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

fn small() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

/// `None` for 3.1.1 and for what says nothing but defaults.
fn v5<P: Default + PartialEq + std::fmt::Debug>(
    version: Version,
    properties: impl Strategy<Value = P>,
) -> impl Strategy<Value = Option<Box<P>>> {
    of(properties).prop_map(move |properties| {
        properties
            .filter(|p| version == Version::V5 && *p != P::default())
            .map(Box::new)
    })
}

fn user() -> impl Strategy<Value = Vec<UserProperty>> {
    vec(
        (any_str(), any_str()).prop_map(|(name, value)| UserProperty {
            name: name.as_str().into(),
            value: value.as_str().into(),
        }),
        0..3,
    )
}

fn travelling() -> impl Strategy<Value = Option<Box<Properties>>> {
    let format = prop_oneof![Just(PayloadFormat::Bytes), Just(PayloadFormat::Utf8)];
    let fields = (of(format), of(any_str()), of(topic()), of(small()), user());
    fields.prop_map(|(payload_format, content_type, response, data, user)| {
        let properties = Properties {
            payload_format,
            content_type: content_type.map(|t| t.as_str().into()),
            response_topic: response.map(|t| iotedge_model::Topic::new(&t).unwrap()),
            correlation_data: data.map(|d| d.to_vec()),
            user,
            wire: Default::default(),
        };
        (properties != Properties::default()).then(|| Box::new(properties))
    })
}

fn non_zero_u16() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|n| NonZeroU16::new(n).unwrap())
}

fn non_zero_u32() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_map(|n| NonZeroU32::new(n).unwrap())
}

fn authentication() -> impl Strategy<Value = (Option<Str>, Option<Bytes>)> {
    of((any_str(), of(small()))).prop_map(|both| match both {
        Some((method, data)) => (Some(method), data),
        None => (None, None),
    })
}

/// Every code that `packet` may carry.
fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let codes: Vec<ReasonCode> = (0..=u8::MAX)
        .filter_map(|code| ReasonCode::try_from(code).ok())
        .filter(|reason| reason.allowed_in(packet))
        .collect();
    proptest::sample::select(codes)
}

pub fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let ids = vec(1..=268_435_455_u32, 0..3);
    let properties = (of(any::<u32>()), of(non_zero_u16()), ids, travelling());
    let properties =
        properties.prop_map(
            |(message_expiry, topic_alias, ids, message)| PublishProperties {
                message_expiry,
                topic_alias,
                subscription_ids: ids,
                message,
            },
        );
    (
        (any::<bool>(), qos(), any::<bool>(), any::<bool>()),
        topic(),
        id(),
        payload(),
        v5(version, properties),
    )
        .prop_map(
            |((dup, qos, retain, alone), topic, id, payload, properties)| {
                let with_id = qos != QoS::AtMostOnce;
                let alias = properties.as_ref().is_some_and(|p| p.topic_alias.is_some());
                Packet::Publish(Publish {
                    dup: dup && with_id,
                    qos,
                    retain,
                    topic: if alone && alias {
                        Str::default()
                    } else {
                        topic
                    },
                    packet_id: with_id.then_some(id),
                    payload,
                    properties,
                })
            },
        )
}

fn will(version: Version) -> impl Strategy<Value = LastWill> {
    let properties = (any::<u32>(), of(any::<u32>()), travelling()).prop_map(
        |(delay, message_expiry, message)| WillProperties {
            delay,
            message_expiry,
            message,
        },
    );
    (
        topic(),
        payload(),
        qos(),
        any::<bool>(),
        v5(version, properties),
    )
        .prop_map(|(topic, payload, qos, retain, properties)| LastWill {
            topic,
            payload,
            qos,
            retain,
            properties,
        })
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    (
        (
            any::<u32>(),
            non_zero_u16(),
            of(non_zero_u32()),
            any::<u16>(),
        ),
        (any::<bool>(), any::<bool>()),
        user(),
        authentication(),
    )
        .prop_map(|(numbers, flags, user, authentication)| ConnectProperties {
            session_expiry: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: flags.0,
            request_problem_information: flags.1,
            user,
            authentication_method: authentication.0,
            authentication_data: authentication.1,
        })
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    (
        (any::<bool>(), any::<u16>()),
        any_str(),
        of(will(version)),
        of(any_str()),
        of(payload()),
        v5(version, connect_properties()),
    )
        .prop_map(
            move |(head, client_id, will, username, password, properties)| {
                let password = password.filter(|_| username.is_some() || version == Version::V5);
                Packet::Connect(Connect {
                    version,
                    clean: head.0,
                    keep_alive: head.1,
                    client_id,
                    will,
                    username,
                    password,
                    properties,
                })
            },
        )
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let texts = (of(any_str()), of(any_str()), of(any_str()), of(any_str()));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        (
            of(any::<u32>()),
            non_zero_u16(),
            of(non_zero_u32()),
            any::<u16>(),
        ),
        (qos(), of(any::<u16>())),
        texts,
        flags,
        user(),
        authentication(),
    )
        .prop_map(
            |(numbers, more, texts, flags, user, authentication)| ConnAckProperties {
                session_expiry: numbers.0,
                receive_maximum: numbers.1,
                maximum_packet_size: numbers.2,
                topic_alias_maximum: numbers.3,
                maximum_qos: more.0,
                server_keep_alive: more.1,
                assigned_client_id: texts.0,
                reason_string: texts.1,
                response_information: texts.2,
                server_reference: texts.3,
                retain_available: flags.0,
                wildcard_subscription_available: flags.1,
                subscription_identifier_available: flags.2,
                shared_subscription_available: flags.3,
                user,
                authentication_method: authentication.0,
                authentication_data: authentication.1,
            },
        )
}

fn connack(version: Version) -> impl Strategy<Value = Packet> {
    let code = (0..6_u8).prop_map(|code| ConnectReturnCode::try_from(code).unwrap().into());
    let reason = match version {
        Version::V311 => code.boxed(),
        Version::V5 => reason(PacketType::ConnAck).boxed(),
    };
    (any::<bool>(), reason, v5(version, connack_properties())).prop_map(
        |(present, reason, properties)| {
            Packet::ConnAck(ConnAck {
                session_present: present && reason == ReasonCode::Success,
                reason,
                properties,
            })
        },
    )
}

fn ack_properties(version: Version) -> impl Strategy<Value = Option<Box<AckProperties>>> {
    let properties = (of(any_str()), user()).prop_map(|(reason_string, user)| AckProperties {
        reason_string,
        user,
    });
    v5(version, properties)
}

fn ack(version: Version, packet: PacketType) -> impl Strategy<Value = Ack> {
    (id(), reason(packet), ack_properties(version)).prop_map(
        move |(packet_id, reason, properties)| match version {
            Version::V311 => packet_id.into(),
            Version::V5 => Ack {
                packet_id,
                reason,
                properties,
            },
        },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    let options = (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V311 => qos.into(),
            Version::V5 => SubscriptionOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
        },
    );
    let properties = (of(1..=268_435_455_u32), user()).prop_map(|(id, user)| SubscribeProperties {
        subscription_id: id.and_then(NonZeroU32::new),
        user,
    });
    let filters = vec((filter(), options), 1..6);
    (id(), filters, v5(version, properties)).prop_map(|(packet_id, filters, properties)| {
        Packet::Subscribe(Subscribe {
            packet_id,
            filters,
            properties,
        })
    })
}

fn answers(version: Version) -> impl Strategy<Value = Packet> {
    let granted = qos().prop_map(SubAckCode::Granted);
    let refused = match version {
        Version::V311 => Just(SubAckCode::FAILURE).boxed(),
        Version::V5 => reason(PacketType::SubAck)
            .prop_filter("an error", |reason| reason.is_error())
            .prop_map(SubAckCode::Refused)
            .boxed(),
    };
    let suback = vec(prop_oneof![granted, refused], 1..6);
    let suback =
        (id(), suback, ack_properties(version)).prop_map(|(packet_id, codes, properties)| {
            Packet::SubAck(SubAck {
                packet_id,
                codes,
                properties,
            })
        });
    let unsuback = vec(reason(PacketType::UnsubAck), 1..6);
    let unsuback = (id(), unsuback, ack_properties(version)).prop_map(
        move |(packet_id, codes, properties)| {
            Packet::UnsubAck(match version {
                Version::V311 => packet_id.into(),
                Version::V5 => UnsubAck {
                    packet_id,
                    codes,
                    properties,
                },
            })
        },
    );
    prop_oneof![suback, unsuback]
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    let properties = user().prop_map(|user| UnsubscribeProperties { user });
    (id(), vec(filter(), 1..6), v5(version, properties)).prop_map(
        |(packet_id, filters, properties)| {
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                filters,
                properties,
            })
        },
    )
}

fn disconnect(version: Version) -> impl Strategy<Value = Packet> {
    let properties = (of(any::<u32>()), of(any_str()), user(), of(any_str())).prop_map(
        |(session_expiry, reason_string, user, server_reference)| DisconnectProperties {
            session_expiry,
            reason_string,
            user,
            server_reference,
        },
    );
    (reason(PacketType::Disconnect), v5(version, properties)).prop_map(
        move |(reason, properties)| {
            Packet::Disconnect(match version {
                Version::V311 => Disconnect::default(),
                Version::V5 => Disconnect { reason, properties },
            })
        },
    )
}

fn auth() -> impl Strategy<Value = Packet> {
    let properties = (any_str(), of(small()), of(any_str()), user()).prop_map(
        |(method, data, reason_string, user)| AuthProperties {
            method: Some(method),
            data,
            reason_string,
            user,
        },
    );
    (reason(PacketType::Auth), properties).prop_map(|(reason, properties)| {
        Packet::Auth(Auth {
            reason,
            properties: Some(Box::new(properties)),
        })
    })
}

/// Any packet that the version has.
pub fn packet(version: Version) -> BoxedStrategy<Packet> {
    let both = prop_oneof![
        publish(version),
        connect(version),
        connack(version),
        ack(version, PacketType::PubAck).prop_map(Packet::PubAck),
        ack(version, PacketType::PubRec).prop_map(Packet::PubRec),
        ack(version, PacketType::PubRel).prop_map(Packet::PubRel),
        ack(version, PacketType::PubComp).prop_map(Packet::PubComp),
        subscribe(version),
        answers(version),
        unsubscribe(version),
        disconnect(version),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
    ];
    match version {
        Version::V311 => both.boxed(),
        Version::V5 => prop_oneof![12 => both, 1 => auth()].boxed(),
    }
}

/// A packet of either version, with the version.
pub fn versioned() -> impl Strategy<Value = (Version, Packet)> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
        .prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet)))
}

/// Who may read `packet`.
pub fn reader_of(packet: &Packet) -> Role {
    match packet {
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
            Role::Client
        }
        Packet::Publish(publish) => match &publish.properties {
            Some(p) if !p.subscription_ids.is_empty() => Role::Client,
            _ => Role::Server,
        },
        _ => Role::Server,
    }
}
