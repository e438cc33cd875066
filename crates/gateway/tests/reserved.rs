//! What clients may do with topics that begin with `$`, whatever their policies say.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use bytes::Bytes;
use iotedge_gateway::Limits;
use iotedge_model::QoS;
use iotedge_mqtt::{LastWill, Packet, ReasonCode, Str, SubAckCode};
use support::v5::{client, leave, message, open, puback, subscribe};
use support::{Client, House, publish};

const DELTA: &str = "$aws/things/t/shadow/update/delta";
const UPDATE: &str = "$aws/things/t/shadow/update";

/// Without lifecycle events, which are on reserved topics too.
async fn quiet(limits: Limits) -> House {
    let broker = iotedge_broker::Limits {
        lifecycle_events: false,
        ..iotedge_broker::Limits::default()
    };
    House::open_with(limits, broker).await
}

/// Connects with a will, and is gone without a word.
async fn die(house: &House, topic: &str, retain: bool) {
    let mut hello = support::v5::hello("mortal", |_| {});
    hello.will = Some(LastWill {
        topic: Str::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(topic.as_bytes()),
        qos: QoS::AtMostOnce,
        retain,
        properties: None,
    });
    let (client, ack) = open(house, hello).await;
    assert_eq!(ack.reason, ReasonCode::Success, "{topic}");
    leave(client, ReasonCode::DisconnectWithWillMessage, None).await;
}

/// The topics of what `client` has got before a marker.
async fn so_far(house: &House, client: &mut Client) -> Vec<String> {
    let mut other = house.client("marker").await;
    other.send(&publish("marker", "", None)).await;
    let mut topics = Vec::new();
    loop {
        let got = message(client).await.topic.as_str().to_owned();
        if got == "marker" {
            return topics;
        }
        topics.push(got);
    }
}

#[tokio::test]
async fn filters_that_match_nothing_documented_are_refused() {
    let house = quiet(Limits::default()).await;
    let filters = [
        ("$aws/rules/#", false),
        ("$aws/nonsense", false),
        ("$share/group/$aws/rules/one", false),
        (DELTA, true),
        ("$aws/#", true),
        ("$SYS/#", true),
        ("$elsewhere/x", true),
    ];
    let mut new = client(&house, "new").await;
    let mut old = house.client("old").await;
    for (filter, allowed) in filters {
        let asked = [(filter, QoS::AtMostOnce.into())];
        let [code] = subscribe(&mut new, &asked, None).await[..] else {
            panic!("one code")
        };
        let refused = code == SubAckCode::Refused(ReasonCode::NotAuthorized);
        assert_eq!(refused, !allowed, "{filter}: {code:?}");
        let codes = old.subscribe(&[(filter, QoS::AtMostOnce)]).await;
        assert_eq!(codes == [SubAckCode::FAILURE], !allowed, "{filter}");
    }
}

#[tokio::test]
async fn what_is_not_a_request_cannot_be_published() {
    let house = quiet(Limits::default()).await;
    for topic in [
        DELTA,
        "$aws/events/presence/connected/c",
        "$SYS/broker/uptime",
        "$share/group/x",
    ] {
        let mut new = client(&house, "new").await;
        new.send(&publish(topic, "", Some(1))).await;
        assert_eq!(puback(&mut new).await, ReasonCode::NotAuthorized, "{topic}");
        let mut old = house.client("old").await;
        old.send(&publish(topic, "", Some(1))).await;
        assert_eq!(old.next().await, None, "{topic}");
    }
    let mut new = client(&house, "new").await;
    for topic in [UPDATE, "$aws/things/t/jobs/get", "$aws/rules/one/a"] {
        new.send(&publish(topic, "", Some(1))).await;
        assert!(!puback(&mut new).await.is_error(), "{topic}");
    }
}

#[tokio::test]
async fn other_topics_with_a_dollar_are_the_clients_but_not_at_aws() {
    let house = quiet(Limits::default()).await;
    let mut named = client(&house, "named").await;
    let asked = ["$x/#", "#", "marker"].map(|f| (f, QoS::AtMostOnce.into()));
    subscribe(&mut named, &asked, None).await;
    let mut wild = client(&house, "wild").await;
    let asked = ["#", "+/#", "marker"].map(|f| (f, QoS::AtMostOnce.into()));
    subscribe(&mut wild, &asked, None).await;
    let mut old = house.client("old").await;
    old.send(&publish("$x/a", "", Some(1))).await;
    old.receive().await;
    assert_eq!(so_far(&house, &mut named).await, ["$x/a"]);
    assert!(so_far(&house, &mut wild).await.is_empty());

    let house = quiet(Limits {
        profile: iotedge_gateway::Profile::AwsIot,
        ..Limits::default()
    })
    .await;
    let mut old = house.client("old").await;
    old.send(&publish("$x/a", "", Some(1))).await;
    assert_eq!(old.next().await, None);
}

#[tokio::test]
async fn basic_ingest_passes_every_client_by() {
    let house = quiet(Limits::default()).await;
    let mut watcher = client(&house, "w").await;
    let asked = ["$aws/#", "marker"].map(|f| (f, QoS::AtMostOnce.into()));
    subscribe(&mut watcher, &asked, None).await;
    let mut other = house.client("other").await;
    for topic in ["$aws/rules/one/a", "$aws/rules/one", UPDATE] {
        other.send(&publish(topic, "", Some(1))).await;
        other.receive().await;
    }
    assert_eq!(so_far(&house, &mut watcher).await, [UPDATE]);
}

#[tokio::test]
async fn a_will_on_a_reserved_topic_is_taken_and_published_where_it_may_be() {
    for (reserved_wills, published) in [(true, vec![UPDATE]), (false, vec![])] {
        let house = quiet(Limits {
            reserved_wills,
            ..Limits::default()
        })
        .await;
        let mut watcher = client(&house, "w").await;
        let asked = ["$aws/#", "$SYS/#", "marker"].map(|f| (f, QoS::AtMostOnce.into()));
        subscribe(&mut watcher, &asked, None).await;
        die(&house, UPDATE, false).await;
        die(&house, UPDATE, true).await;
        die(&house, DELTA, false).await;
        die(&house, "$SYS/broker/uptime", false).await;
        assert_eq!(so_far(&house, &mut watcher).await, published);
        let mut late = client(&house, "late").await;
        subscribe(&mut late, &asked, None).await;
        assert!(so_far(&house, &mut late).await.is_empty(), "not retained");
    }
}

#[tokio::test]
async fn a_will_that_policy_denies_refuses_the_connection() {
    let house = quiet(Limits::default()).await;
    let mut hello = support::v5::hello("c", |_| {});
    hello.will = Some(LastWill {
        topic: Str::new("forbidden").unwrap(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
    });
    let (mut client, ack) = open(&house, hello).await;
    assert_eq!(ack.reason, ReasonCode::NotAuthorized);
    assert_eq!(client.next().await, None::<Packet>);
}
