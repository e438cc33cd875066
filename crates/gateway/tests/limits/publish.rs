//! What a PUBLISH may be, and a message.

use super::*;

#[tokio::test]
async fn a_topic_has_its_limits() {
    let limits = Limits {
        max_topic_levels: 3,
        max_topic_bytes: 12,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    for topic in ["a/b/c", "0123456789ab", "éééééé"] {
        let (code, words) = refused(&mut five, publish(topic, "x", Some(1))).await;
        assert_eq!(
            (code, words),
            (ReasonCode::NoMatchingSubscribers, String::new())
        );
    }
    for (topic, said) in [
        ("a/b/c/d", "max_topic_levels (3)"),
        ("0123456789abc", "max_topic_bytes (12)"),
    ] {
        let (code, words) = refused(&mut five, publish(topic, "x", Some(1))).await;
        assert_eq!(code, ReasonCode::TopicNameInvalid);
        assert!(words.contains(said), "{words}");
        let (code, words) = ended(&mut five, publish(topic, "x", None)).await;
        assert_eq!(code, ReasonCode::TopicNameInvalid);
        assert!(words.contains(said), "{words}");
        five = client(&house, "five").await;
        closed(&house, publish(topic, "x", Some(1))).await;
    }
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    assert_eq!(
        refused(&mut five, publish("a/b/c", "x", Some(1))).await.0,
        ReasonCode::Success
    );
    let (code, _) = ended(&mut five, publish("a/b/c/d", "x", Some(1))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
    closed(&house, publish("a/b/c/d", "x", Some(1))).await;
}

#[tokio::test]
async fn a_payload_has_its_limit() {
    let limits = Limits {
        max_payload_bytes: 10,
        ..Limits::default()
    };
    let (just, long) = ("0123456789", "0123456789a");
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, publish("a", just, Some(1))).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, words) = refused(&mut five, publish("a", long, Some(1))).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert!(words.contains("max_payload_bytes (10)"), "{words}");
    let (code, _) = ended(&mut five, publish("a", long, None)).await;
    assert_eq!(code, ReasonCode::PacketTooLarge);
    closed(&house, publish("a", long, Some(1))).await;
    let house = another(aws(limits)).await;
    for id in [Some(1), None] {
        let mut five = client(&house, "five").await;
        let (code, _) = ended(&mut five, publish("a", long, id)).await;
        assert_eq!(code, ReasonCode::QuotaExceeded);
    }
}

#[tokio::test]
async fn a_packet_has_its_limit() {
    let house = house(Limits {
        max_packet_bytes: 100,
        ..Limits::default()
    })
    .await;
    // Two bytes of fixed header, three of topic, two of packet id, one of properties.
    let just = "x".repeat(100 - 8);
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, publish("a", &just, Some(1))).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, _) = ended(&mut five, publish("a", &format!("{just}x"), Some(1))).await;
    assert_eq!(code, ReasonCode::PacketTooLarge);
    closed(&house, publish("a", &format!("{just}xx"), Some(1))).await;
}

#[tokio::test]
async fn user_properties_have_their_limit() {
    let house = house(Limits {
        max_user_property_bytes: 100,
        ..Limits::default()
    })
    .await;
    let user = |bytes: usize| {
        vec![UserProperty {
            name: "n".into(),
            value: "x".repeat(bytes - 1).into(),
        }]
    };
    let packet = |bytes| {
        with(publish("a", "x", Some(1)), |_, p| {
            p.message = Some(Box::new(Properties {
                user: user(bytes),
                ..Properties::default()
            }));
        })
    };
    let mut five = client(&house, "five").await;
    let (code, _) = refused(&mut five, packet(100)).await;
    assert_eq!(code, ReasonCode::NoMatchingSubscribers);
    let (code, words) = ended(&mut five, packet(101)).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert!(words.contains("user properties"), "{words}");
    let (code, _) = no_connack(&house, hello("five", |p| p.user = user(101))).await;
    assert_eq!(code, ReasonCode::QuotaExceeded);
}

#[tokio::test]
async fn without_retained_messages_none_is_taken_or_sent() {
    let house = house(Limits {
        retain_available: false,
        ..Limits::default()
    })
    .await;
    let mut five = client(&house, "five").await;
    let (code, words) = ended(&mut five, retained(publish("a", "x", Some(1)))).await;
    assert_eq!(code, ReasonCode::RetainNotSupported);
    assert!(words.contains("retain_available"), "{words}");
    closed(&house, plain(retained(publish("a", "x", None)))).await;
}

#[tokio::test]
async fn nothing_is_retained_on_a_reserved_topic() {
    let topic = "$aws/things/t/shadow/update";
    let house = house(Limits::default()).await;
    let mut five = client(&house, "five").await;
    let (code, words) = refused(&mut five, retained(publish(topic, "{}", Some(1)))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
    assert!(words.contains("retained"), "{words}");
    let house = another(aws(Limits::default())).await;
    let mut five = client(&house, "five").await;
    let (code, _) = ended(&mut five, retained(publish(topic, "{}", Some(1)))).await;
    assert_eq!(code, ReasonCode::TopicNameInvalid);
}

#[tokio::test]
async fn a_qos_above_the_highest_is_not_taken_but_granted_as_far_as_it_goes() {
    let limits = Limits {
        max_qos: ZERO,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &[("a", ONE), ("b", TWO)]).await;
    assert_eq!(codes, [SubAckCode::Granted(ZERO); 2]);
    assert_eq!(words, "");
    let (code, words) = ended(&mut five, publish("a", "x", Some(1))).await;
    assert_eq!(code, ReasonCode::QosNotSupported);
    assert!(words.contains("max_qos (0)"), "{words}");
    closed(&house, publish("a", "x", Some(1))).await;
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    let (code, words) = ended(&mut five, subscription(&[("a", ONE)])).await;
    assert_eq!(code, ReasonCode::QosNotSupported);
    assert!(words.contains("max_qos (0)"), "{words}");
    closed(&house, subscription(&[("a", TWO)])).await;
}

#[tokio::test]
async fn qos_2_is_refused_where_1_is_the_highest() {
    let limits = Limits {
        max_qos: ONE,
        ..Limits::default()
    };
    for limits in [limits.clone(), aws(limits)] {
        let house = house(limits).await;
        let (code, _) = both_ended(&house, of_qos_2(publish("a", "x", Some(1)))).await;
        assert_eq!(code, ReasonCode::QosNotSupported);
    }
}

#[tokio::test]
async fn a_message_lives_no_longer_than_the_limit() {
    let house = house(aws(Limits {
        max_message_expiry: Some(100),
        ..Limits::default()
    }))
    .await;
    let mut five = client(&house, "five").await;
    suback(&mut five, &[("a", ZERO)]).await;
    for (asked, got) in [(101, 99..=100), (50, 49..=50), (0, 0..=1)] {
        let packet = with(publish("a", "x", None), |_, p| {
            p.message_expiry = Some(asked)
        });
        five.send(&packet).await;
        let expiry = message(&mut five).await.properties.unwrap().message_expiry;
        assert!(got.contains(&expiry.unwrap()), "{asked}: {expiry:?}");
    }
}

#[tokio::test]
async fn an_alias_has_its_limit_in_both_directions() {
    let house = house(Limits {
        max_topic_alias: 1,
        ..Limits::default()
    })
    .await;
    let (mut five, _) = open(&house, hello("five", |p| p.topic_alias_maximum = 10)).await;
    suback(&mut five, &[("+", ZERO)]).await;
    for (topic, alias) in [("a", Some(1)), ("b", None)] {
        five.send(&publish(topic, "x", None)).await;
        let properties = message(&mut five).await.properties;
        let given = properties.and_then(|p| p.topic_alias).map(NonZeroU16::get);
        assert_eq!(given, alias, "{topic}");
    }
    let packet = |alias| {
        with(publish("c", "x", Some(1)), |_, p| {
            p.topic_alias = NonZeroU16::new(alias);
        })
    };
    let (code, _) = refused(&mut five, packet(1)).await;
    assert_eq!(code, ReasonCode::Success);
    let got = message(&mut five).await;
    assert_eq!(got.topic.as_str(), "c");
    let (code, words) = ended(&mut five, packet(2)).await;
    assert_eq!(code, ReasonCode::TopicAliasInvalid);
    assert!(words.contains("maximum of 1"), "{words}");
}
