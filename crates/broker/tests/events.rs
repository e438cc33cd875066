//! Lifecycle events: what is said of whom, in which order, and to whom.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotedge_broker::Limits;
use iotedge_model::{CertificateId, ClientId, Message, Now, Principal, QoS, SharedFilter};
use iotedge_ports::{
    BrokerPort, ConnectFailed, Detached, DisconnectReason, EndKind, RuleEngine, RuleOutput,
    SubscribeOptions, Subscription,
};
use serde_json::{Value, json};
use support::{Client, House, user};

fn house() -> (tempfile::TempDir, House) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    (dir, house)
}

/// Takes events and makes none.
fn watcher(house: &House) -> Client {
    let watcher = house.client("watcher").silent().connect();
    watcher.subscribe("$aws/events/#", QoS::AtLeastOnce);
    watcher
}

/// Topics (behind `$aws/events/`) and payloads of the events that are there now.
fn events(watcher: &Client) -> Vec<(String, Value)> {
    let got = watcher.drain();
    got.iter()
        .map(|outgoing| {
            let message = &outgoing.delivery.message;
            let topic = message.topic.as_str().strip_prefix("$aws/events/").unwrap();
            let body = serde_json::from_slice(&message.payload).unwrap();
            (topic.to_owned(), body)
        })
        .collect()
}

fn topics(watcher: &Client) -> Vec<String> {
    events(watcher)
        .into_iter()
        .map(|(topic, _)| topic)
        .collect()
}

fn end(house: &House, client: Client, reason: DisconnectReason) {
    house.broker.detach(Detached {
        connection: client.connected.connection,
        end: EndKind::Lost,
        session_expiry: None,
        reason,
    });
}

fn subscribe(house: &House, client: &Client, filters: &[&str]) {
    let subscriptions: Vec<Subscription> = filters
        .iter()
        .map(|filter| Subscription {
            filter: SharedFilter::new(filter).unwrap(),
            text: (*filter).into(),
            options: SubscribeOptions::v311(QoS::AtMostOnce),
        })
        .collect();
    let ack = (client.ears.clone() as Arc<_>, 1);
    let connection = client.connected.connection;
    house.broker.subscribe(connection, &subscriptions, ack);
}

fn unsubscribe(house: &House, client: &Client, filters: &[&str]) {
    let filters: Vec<Arc<str>> = filters.iter().map(|filter| (*filter).into()).collect();
    let ack = (client.ears.clone() as Arc<_>, 1);
    let connection = client.connected.connection;
    house.broker.unsubscribe(connection, &filters, ack);
}

#[test]
fn presence_events_have_all_that_is_documented() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    let id = CertificateId::from_digest(&[7; 32]);
    let principal = Arc::new(Principal::certificate(id.clone()));
    let client = house.client("thing-1").principal(principal).connect();
    house.clock.0.fetch_add(5_000, Ordering::Relaxed);
    end(&house, client, DisconnectReason::KeepAliveTimeout);
    let [(first, connected), (second, disconnected)] = &events(&watcher)[..] else {
        panic!("two events")
    };
    assert_eq!(first, "presence/connected/thing-1");
    assert_eq!(second, "presence/disconnected/thing-1");
    let session = connected["sessionIdentifier"].as_str().unwrap();
    assert_eq!(session.len(), 36, "a UUID: {session}");
    let version = connected["versionNumber"].as_u64().unwrap();
    assert_eq!(
        *connected,
        json!({
            "clientId": "thing-1",
            "timestamp": 1_700_000_000_000_u64,
            "eventType": "connected",
            "sessionIdentifier": session,
            "principalIdentifier": id.as_str(),
            "ipAddress": "192.0.2.7",
            "versionNumber": version,
        })
    );
    assert_eq!(
        *disconnected,
        json!({
            "clientId": "thing-1",
            "timestamp": 1_700_000_005_000_u64,
            "eventType": "disconnected",
            "sessionIdentifier": session,
            "principalIdentifier": id.as_str(),
            "clientInitiatedDisconnect": false,
            "disconnectReason": "MQTT_KEEP_ALIVE_TIMEOUT",
            "versionNumber": version,
        })
    );
}

#[test]
fn a_client_that_says_goodbye_has_done_so_itself() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    house
        .client("c")
        .connect()
        .disconnect(EndKind::ClientInitiated);
    let last = &events(&watcher)[1].1;
    assert_eq!(last["clientInitiatedDisconnect"], true);
    assert_eq!(last["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");
}

#[test]
fn a_takeover_ends_the_old_connection_before_the_new_one_begins() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    let old = house.client("c").connect();
    let new = house.client("c").connect();
    // What the old connection's task does when it notices changes nothing.
    end(&house, old, DisconnectReason::ConnectionLost);
    let all = events(&watcher);
    let told: Vec<_> = all
        .iter()
        .map(|(topic, body)| (topic.as_str(), &body["disconnectReason"]))
        .collect();
    assert_eq!(
        told,
        [
            ("presence/connected/c", &Value::Null),
            ("presence/disconnected/c", &json!("DUPLICATE_CLIENTID")),
            ("presence/connected/c", &Value::Null),
        ]
    );
    let version = |n: usize| all[n].1["versionNumber"].as_u64().unwrap();
    assert_eq!(version(0), version(1));
    assert!(version(2) > version(1));
    assert_ne!(all[0].1["sessionIdentifier"], all[2].1["sessionIdentifier"]);
    drop(new);
}

/// Whoever takes over whom, and however the threads are mixed: one connection at a time, each with
/// its end.
#[test]
fn connections_begin_and_end_in_turns_however_many_ask_at_once() {
    let (_dir, house) = house();
    let watcher = house.client("watcher").silent().connect();
    watcher.subscribe("$aws/events/presence/#", QoS::AtMostOnce);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for n in 0..250 {
                    let client = house.client("c").connect();
                    if n % 3 == 0 {
                        client.disconnect(EndKind::Lost);
                    }
                }
            });
        }
    });
    let last = house.client("c").connect();
    last.disconnect(EndKind::Lost);
    let all = events(&watcher);
    assert_eq!(all.len(), 2 * (4 * 250 + 1));
    let mut newest = 0;
    for pair in all.chunks(2) {
        let [(came, connected), (went, disconnected)] = pair else {
            panic!("pairs")
        };
        assert_eq!(came, "presence/connected/c");
        assert_eq!(went, "presence/disconnected/c");
        let version = connected["versionNumber"].as_u64().unwrap();
        assert_eq!(disconnected["versionNumber"], version);
        assert!(version > newest);
        newest = version;
    }
}

#[test]
fn subscription_events_name_what_was_granted_and_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_subscriptions: 2,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let watcher = watcher(&house);
    let client = house.client("c").principal(user("u")).connect();
    let session = events(&watcher)[0].1["sessionIdentifier"].clone();
    subscribe(&house, &client, &["a/+", "b", "one too many"]);
    assert_eq!(
        events(&watcher),
        [(
            "subscriptions/subscribed/c".to_owned(),
            json!({
                "clientId": "c",
                "timestamp": 1_700_000_000_000_u64,
                "eventType": "subscribed",
                "sessionId": session,
                "sessionIdentifier": session,
                "principalIdentifier": "user:u",
                "topics": ["a/+", "b"],
            })
        )]
    );
    unsubscribe(&house, &client, &["b", "never there"]);
    let [(topic, body)] = &events(&watcher)[..] else {
        panic!("one event")
    };
    assert_eq!(topic, "subscriptions/unsubscribed/c");
    assert_eq!(body["eventType"], "unsubscribed");
    assert_eq!(body["topics"], json!(["b"]));
    unsubscribe(&house, &client, &["never there"]);
    assert!(events(&watcher).is_empty());
}

#[test]
fn a_resumed_session_keeps_its_identifier_and_versions_grow_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let house = House::open_at(dir.path(), 0);
        let watcher = watcher(&house);
        for _ in 0..2 {
            house
                .client("c")
                .persistent()
                .connect()
                .disconnect(EndKind::Lost);
        }
        seen.extend(events(&watcher));
        drop(watcher);
        house.close();
    }
    let identifiers: Vec<_> = seen.iter().map(|(_, b)| &b["sessionIdentifier"]).collect();
    assert!(identifiers.iter().all(|id| *id == identifiers[0]));
    let versions: Vec<_> = seen
        .iter()
        .map(|(_, b)| b["versionNumber"].as_u64())
        .collect();
    let pairs: Vec<_> = versions.chunks(2).map(|p| (p[0], p[1])).collect();
    assert!(pairs.iter().all(|(connected, gone)| connected == gone));
    assert!(pairs.windows(2).all(|w| w[0] < w[1]), "{pairs:?}");
}

#[test]
fn events_wait_for_durable_takers_and_the_stop_makes_some_too() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_at(dir.path(), 0);
    let watcher = house.client("w").persistent().silent().connect();
    watcher.subscribe("$aws/events/presence/+/c", QoS::AtLeastOnce);
    watcher.disconnect(EndKind::ClientInitiated);
    let client = house.client("c").connect();
    house.broker.stop();
    end(&house, client, DisconnectReason::ShuttingDown);
    house.close();
    let house = House::open_at(dir.path(), 0);
    let watcher = house.client("w").persistent().silent().connect();
    let waited = watcher.receive(2);
    let bodies: Vec<Value> = waited
        .iter()
        .map(|o| serde_json::from_slice(&o.delivery.message.payload).unwrap())
        .collect();
    assert_eq!(bodies[0]["eventType"], "connected");
    assert_eq!(bodies[1]["disconnectReason"], "SERVER_INITIATED_DISCONNECT");
}

#[test]
fn client_ids_that_make_no_topic_have_no_events_and_slashes_make_levels() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    for id in ["a+", "#", &"x".repeat(65_530)] {
        house.client(id).connect().disconnect(EndKind::Lost);
    }
    house.client("a/b").connect().disconnect(EndKind::Lost);
    assert_eq!(
        topics(&watcher),
        ["presence/connected/a/b", "presence/disconnected/a/b"]
    );
}

#[test]
fn the_daemons_own_clients_and_a_broker_that_is_told_so_make_no_events() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    let own = house.client("own").silent().connect();
    own.subscribe("a", QoS::AtMostOnce);
    own.disconnect(EndKind::ClientInitiated);
    assert!(events(&watcher).is_empty());

    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        lifecycle_events: false,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let watcher = self::watcher(&house);
    house.client("c").connect().disconnect(EndKind::Lost);
    assert!(events(&watcher).is_empty());
}

#[test]
fn a_client_that_may_not_connect_has_an_event_too() {
    let (_dir, house) = house();
    let watcher = watcher(&house);
    house.broker.connect_failed(ConnectFailed {
        client_id: ClientId::new("stranger").unwrap(),
        principal: user("u"),
        remote: Some("[::ffff:192.0.2.9]:1".parse().unwrap()),
    });
    let [(topic, body)] = &events(&watcher)[..] else {
        panic!("one event")
    };
    assert_eq!(topic, "presence/connect_failed/stranger");
    assert_eq!(
        *body,
        json!({
            "clientId": "stranger",
            "timestamp": 1_700_000_000_000_u64,
            "eventType": "connect_failed",
            "connectFailureReason": "AUTHORIZATION_FAILED",
            "sessionIdentifier": body["sessionIdentifier"],
            "principalIdentifier": "user:u",
            "ipAddress": "192.0.2.9",
        })
    );
}

/// Concerns one topic, and counts what it is given.
#[derive(Default)]
struct Rule {
    given: AtomicUsize,
}

impl RuleEngine for Rule {
    fn evaluate(&self, message: &Message, _now: &Now, _out: &mut RuleOutput) {
        assert_eq!(message.topic.as_str(), "$aws/events/presence/connected/c");
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    fn concern(&self, topic: &str) -> bool {
        topic == "$aws/events/presence/connected/c"
    }
}

#[test]
fn rules_get_the_events_that_concern_them_and_nothing_is_made_for_nobody() {
    let (_dir, house) = house();
    let rule = Arc::new(Rule::default());
    house.broker.bind_rules(rule.clone());
    for id in ["a", "b", "c"] {
        let client = house.client(id).connect();
        subscribe(&house, &client, &["x"]);
        client.disconnect(EndKind::Lost);
    }
    assert_eq!(rule.given.load(Ordering::Relaxed), 1);
}
