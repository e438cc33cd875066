//! The bridge against a real mosquitto.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::certificates::certificates;
use common::mosquitto::{Mosquitto, Watcher};
use common::{Setup, config, route, until};
use iotedge_bridge::{Direction, Version};
use iotedge_model::QoS;
use iotedge_ports::LinkState;
use rcgen::ExtendedKeyUsagePurpose;

/// First occurrences, and how many came again.
fn unique(payloads: &[String]) -> (Vec<String>, usize) {
    let mut seen = HashSet::new();
    let first: Vec<_> = payloads
        .iter()
        .filter(|p| seen.insert((*p).clone()))
        .cloned()
        .collect();
    let again = payloads.len() - first.len();
    (first, again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_lose_nothing_and_repeat_only_what_was_in_flight() {
    outages(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_lose_nothing_with_mqtt_5_either() {
    outages(Version::V5).await;
}

async fn outages(version: Version) {
    let Some(mut mosquitto) = Mosquitto::open() else {
        return;
    };
    let watcher = Watcher::start(mosquitto.port, "watcher", "up/#").await;
    let mut config = config(&mosquitto.url());
    config.version = version;
    let mut out = route(Direction::Out, "t/#");
    out.remote_prefix = "up/".into();
    config.routes.push(out);
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    const OUTAGES: usize = 3;
    const EACH: usize = 500;
    for outage in 0..=OUTAGES {
        for n in 0..EACH {
            let payload = format!("{}", outage * EACH + n);
            mailbox.push("t/x", payload, QoS::AtLeastOnce);
        }
        if outage == OUTAGES {
            break;
        }
        // In the middle of it.
        let some = outage * EACH + EACH / 4;
        until("some acknowledged", || mailbox.acknowledged().len() > some).await;
        mosquitto.terminate();
        until("the outage noticed", || {
            setup.status().state != LinkState::Connected
        })
        .await;
        mosquitto.run();
    }
    let all = (OUTAGES + 1) * EACH;
    until("the queue empty", || mailbox.waiting() == 0).await;
    until("all at the watcher", || {
        unique(&watcher.payloads()).0.len() == all
    })
    .await;
    let (first, again) = unique(&watcher.payloads());
    let expected: Vec<_> = (0..all).map(|n| n.to_string()).collect();
    assert_eq!(first, expected, "in order");
    // The watcher's own session may repeat its window too.
    assert!(again <= OUTAGES * (20 + 100), "{again} came again");
    assert!(setup.status().routes[0].resent <= (OUTAGES * 20) as u64);
    assert!(setup.status().connects >= OUTAGES as u64);
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_upstream_gets_again_what_it_did_not_acknowledge() {
    let Some(mut mosquitto) = Mosquitto::open() else {
        return;
    };
    let mut config = config(&mosquitto.url());
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    setup.state(LinkState::Connected).await;
    for n in 0..2000 {
        mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
    until("some acknowledged", || mailbox.acknowledged().len() > 300).await;
    mosquitto.kill();
    until("the outage noticed", || {
        setup.status().state != LinkState::Connected
    })
    .await;
    let before = mailbox.acknowledged().len();
    assert_eq!(mailbox.waiting() + before, 2000);
    mosquitto.run();
    until("the queue empty", || mailbox.waiting() == 0).await;
    let acknowledged = mailbox.acknowledged();
    assert!(acknowledged.is_sorted(), "mosquitto acknowledges in order");
    assert_eq!(acknowledged.len(), 2000);
    let status = setup.status();
    assert!(status.routes[0].resent <= 20, "{}", status.routes[0].resent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_upstream_while_the_link_is_down_comes_after_it() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let mut config = config(&mosquitto.url());
    let mut inbound = route(Direction::In, "cmd/#");
    inbound.local_prefix = "cloud/".into();
    config.routes.push(inbound);
    let setup = Setup::start(config);
    setup.state(LinkState::Connected).await;
    let watcher = Watcher::start(mosquitto.port, "watcher", "cmd/#").await;
    let publish = async |n: usize| {
        let topic = "cmd/x";
        let qos = rumqttc::QoS::AtLeastOnce;
        watcher
            .client
            .publish(topic, qos, false, format!("{n}"))
            .await
            .unwrap();
    };
    publish(0).await;
    until("the first", || setup.broker.payloads().len() == 1).await;
    use iotedge_ports::UpstreamPort as _;
    setup.bridge.pause("cloud", "a test").unwrap();
    setup.state(LinkState::Paused).await;
    for n in 1..50 {
        publish(n).await;
    }
    until("all upstream", || watcher.payloads().len() == 50).await;
    setup.bridge.resume("cloud").unwrap();
    until("the others", || setup.broker.payloads().len() == 50).await;
    let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(setup.broker.payloads(), expected);
    let taken = setup.broker.taken.lock().unwrap();
    assert_eq!(taken[0].topic.as_str(), "cloud/cmd/x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_user_is_misconfigured() {
    let Some(mosquitto) = Mosquitto::start("allow_anonymous false", &[]) else {
        return;
    };
    let setup = Setup::start(config(&mosquitto.url()));
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("CONNACK 5"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_a_client_certificate_carries_messages() {
    let server = certificates("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let client = certificates("gateway", ExtendedKeyUsagePurpose::ClientAuth);
    let started = Mosquitto::start(
        "allow_anonymous true\ncafile DIR/clients.pem\ncertfile DIR/cert.pem\n\
         keyfile DIR/key.pem\nrequire_certificate true",
        &[
            ("clients.pem", &client.0),
            ("cert.pem", &server.1),
            ("key.pem", &server.2),
        ],
    );
    let Some(mosquitto) = started else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let mut config = config(&format!("mqtts://localhost:{}", mosquitto.port));
    config.ca = file("ca.pem", &server.0);
    config.certificate = file("cert.pem", &client.1);
    config.key = file("key.pem", &client.2);
    config.routes.push(route(Direction::Out, "t/#"));
    let setup = Setup::start(config.clone());
    let mailbox = setup.mailbox();
    for n in 0..100 {
        mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
    }
    until("all acknowledged", || {
        let status = setup.status();
        assert_ne!(status.state, LinkState::BackingOff, "{}", status.reason);
        mailbox.waiting() == 0
    })
    .await;
    setup.bridge.stop().await;

    // A server that a wrong CA signed for is not believed.
    config.ca = file("other.pem", &client.0);
    let setup = Setup::start(config.clone());
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("certificate"), "{reason}");

    // A file that is not there is a matter of configuration.
    config.key = Some(dir.path().join("nowhere.key"));
    let setup = Setup::start(config);
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("nowhere.key"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_upstream_keeps_no_subscription_that_no_route_wants() {
    subscriptions_follow_the_configuration(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_upstream_keeps_no_subscription_with_mqtt_5_either() {
    subscriptions_follow_the_configuration(Version::V5).await;
}

async fn subscriptions_follow_the_configuration(version: Version) {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let with = |filter: &str| {
        let mut config = config(&mosquitto.url());
        config.version = version;
        config.routes.push(route(Direction::In, "end"));
        config.routes.push(route(Direction::In, filter));
        config
    };
    let qos = rumqttc::QoS::AtLeastOnce;
    let watcher = Watcher::start(mosquitto.port, "watcher", "end").await;
    // Until it comes through, for it may be published before the SUBSCRIBE.
    let stands = async |setup: &Setup, topic: &str| {
        until(topic, || {
            let _ = watcher.client.try_publish(topic, qos, false, topic);
            setup.broker.payloads().iter().any(|p| p == topic)
        })
        .await;
    };
    let mut setup = Setup::start(with("a/#"));
    stands(&setup, "a/1").await;
    setup.restart(with("$share/g/b/#")).await;
    stands(&setup, "b/1").await;
    setup.bridge.stop().await;
    setup.broker.taken.lock().unwrap().clear();
    for topic in ["a/2", "b/2", "end"] {
        let sent = watcher.client.publish(topic, qos, false, topic);
        sent.await.unwrap();
    }
    until("all upstream", || watcher.payloads() == ["end"]).await;
    setup.restart(with("a/#")).await;
    until("the last", || {
        setup.broker.payloads().last().is_some_and(|p| p == "end")
    })
    .await;
    let came = setup.broker.payloads();
    assert!(!came.iter().any(|p| p == "a/2"), "{came:?}");
}
