//! CONNECT and its answer.

use super::*;

#[tokio::test]
async fn connack_says_what_the_profile_allows() {
    let house = house(aws(Limits {
        max_qos: ONE,
        min_keep_alive: 30,
        max_keep_alive: Some(1_200),
        max_topic_alias: 8,
        subscription_identifiers: false,
        max_session_expiry: 3_600,
        ..Limits::default()
    }))
    .await;
    let ack = open(&house, hello("a", |p| p.session_expiry = 3_601))
        .await
        .1;
    let said = ack.properties.unwrap();
    assert_eq!(said.maximum_qos, ONE);
    assert_eq!(said.topic_alias_maximum, 8);
    assert!(said.retain_available && !said.subscription_identifier_available);
    assert_eq!(said.session_expiry, Some(3_600));
    for (asked, given) in [
        (0, 1_200),
        (29, 30),
        (30, 30),
        (1_200, 1_200),
        (1_201, 1_200),
    ] {
        let mut connect = hello("b", |_| {});
        connect.keep_alive = asked;
        let said = open(&house, connect).await.1.properties.unwrap();
        assert_eq!(said.server_keep_alive, Some(given), "{asked}");
    }
}

#[tokio::test]
async fn a_keep_alive_is_told_only_where_it_is_another() {
    let house = house(Limits {
        max_keep_alive: Some(100),
        retain_available: false,
        max_qos: ZERO,
        ..Limits::default()
    })
    .await;
    for (asked, given) in [(100, None), (101, Some(100)), (0, Some(100))] {
        let mut connect = hello("b", |_| {});
        connect.keep_alive = asked;
        let said = open(&house, connect).await.1.properties.unwrap();
        assert_eq!(said.server_keep_alive, given, "{asked}");
        assert!(!said.retain_available);
        assert_eq!(said.maximum_qos, ZERO);
    }
}

#[tokio::test]
async fn a_keep_alive_that_was_cut_is_kept_to() {
    let house = house(Limits {
        max_keep_alive: Some(1),
        ..Limits::default()
    })
    .await;
    let mut connect = connect("old");
    connect.keep_alive = 0;
    let mut silent = Client::dial(house.mqtt()).await;
    silent.send(&Packet::Connect(connect)).await;
    assert!(matches!(silent.receive().await, Packet::ConnAck(_)));
    assert_eq!(
        silent.next().await,
        None,
        "closed after one and a half seconds"
    );
}

#[tokio::test]
async fn a_client_id_has_its_limit() {
    let limits = Limits {
        max_client_id_bytes: 8,
        ..Limits::default()
    };
    let house = house(limits.clone()).await;
    // Two bytes each.
    open(&house, hello("éééé", |_| {})).await;
    let long = "ééééa";
    let (code, words) = no_connack(&house, hello(long, |_| {})).await;
    assert_eq!(code, ReasonCode::ClientIdentifierNotValid);
    assert!(words.contains("9 bytes"), "{words}");
    let code = old_connack(&house, connect(long)).await;
    assert_eq!(code, Some(ReasonCode::ClientIdentifierNotValid));
    open(&house, hello("$mine", |_| {})).await;
    let house = another(aws(limits)).await;
    let (code, words) = no_connack(&house, hello("$mine", |_| {})).await;
    assert_eq!(code, ReasonCode::ClientIdentifierNotValid);
    assert!(words.contains("reserved"), "{words}");
}

#[tokio::test]
async fn a_will_has_the_limits_of_a_publish() {
    let limits = Limits {
        max_payload_bytes: 4,
        max_topic_levels: 2,
        max_topic_bytes: 10,
        max_qos: ONE,
        retain_available: false,
        ..Limits::default()
    };
    for limits in [limits.clone(), aws(limits)] {
        let is_aws = limits.profile == Profile::AwsIot;
        let house = house(limits).await;
        open(&house, willing("w", "a/b", 4, ONE, false)).await;
        for (connect, code) in [
            (
                willing("w", "a/b/c", 4, ONE, false),
                ReasonCode::TopicNameInvalid,
            ),
            (
                willing("w", "01234567890", 4, ONE, false),
                ReasonCode::TopicNameInvalid,
            ),
            (
                willing("w", "a/b", 5, ONE, false),
                ReasonCode::QuotaExceeded,
            ),
            (
                willing("w", "a/b", 4, ONE, true),
                ReasonCode::RetainNotSupported,
            ),
            (
                willing("w", "a/b", 4, TWO, false),
                ReasonCode::QosNotSupported,
            ),
        ] {
            assert_eq!(no_connack(&house, connect).await.0, code);
        }
        let code = old_connack(&house, old(willing("w", "a/b", 4, TWO, false))).await;
        let expected = (!is_aws).then_some(ReasonCode::NotAuthorized);
        assert_eq!(code, expected, "AWS IoT Core says nothing");
    }
}
