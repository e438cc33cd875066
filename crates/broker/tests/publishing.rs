//! Fan-out, retained messages, admission, routes and rules.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::sync::{Arc, Mutex};

use iotedge_broker::Limits;
use iotedge_model::{DropReason, Message, Now, QoS, Source, Topic, TopicFilter};
use iotedge_ports::{
    AttachRoute, BrokerPort, Delivery, DrainLimit, DrainState, Failure, Mailbox, OnFull, Outgoing,
    Part, PublishOutcome, Refusal, RouteRules, RuleEngine, RuleOutput, Service,
};
use iotedge_store::TakerKind;
use support::*;

fn route(on_full: OnFull, max_messages: u64, ears: &Arc<Ears>) -> AttachRoute {
    AttachRoute {
        name: "cloud/out".into(),
        filters: vec![TopicFilter::new("up/#").unwrap()],
        qos: QoS::AtLeastOnce,
        upstream: "cloud".into(),
        max_bytes: 1 << 30,
        max_messages,
        on_full,
        rules: RouteRules::default(),
        wake: ears.clone(),
    }
}

fn drain(mailbox: &Arc<dyn Mailbox>, n: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    let limit = DrainLimit {
        messages: n,
        bytes: 1 << 20,
    };
    mailbox.drain(limit, &mut out);
    out
}

fn receive(mailbox: &Arc<dyn Mailbox>, ears: &Ears, n: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    while out.len() < n {
        let wakes = ears.heard().wakes;
        let more = drain(mailbox, n - out.len());
        if more.is_empty() {
            ears.wait("a delivery", |heard| heard.wakes > wakes);
        }
        out.extend(more);
    }
    out
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|d| String::from_utf8_lossy(&d.message.payload).into_owned())
        .collect()
}

#[test]
fn overlapping_filters_deliver_once_with_the_highest_qos() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let client = house.client("c").connect();
    client.subscribe("a/#", QoS::AtMostOnce);
    client.subscribe("a/+", QoS::AtLeastOnce);
    house.publish("a/b", "x", QoS::AtLeastOnce);
    let got = client.drain();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].delivery.qos, QoS::AtLeastOnce);
    house.publish("a/b", "x", QoS::AtMostOnce);
    assert_eq!(
        client.drain()[0].delivery.qos,
        QoS::AtMostOnce,
        "the lower of both sides"
    );
}

#[test]
fn retained_messages_greet_new_subscriptions_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    for (topic, text) in [("r/1", "one"), ("r/2", "two"), ("r/3", "three")] {
        let mut retained = message(topic, text, QoS::AtLeastOnce);
        retained.retain = true;
        assert_eq!(house.publish_message(retained), PublishOutcome::Pending);
    }
    let mut cleared = message("r/2", "", QoS::AtLeastOnce);
    cleared.retain = true;
    house.publish_message(cleared);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    for persistent in [false, true] {
        let builder = house.client(if persistent { "p" } else { "c" });
        let client = if persistent {
            builder.persistent()
        } else {
            builder
        }
        .connect();
        client.subscribe("r/+", QoS::AtLeastOnce);
        let got = client.receive(2);
        assert_eq!(payloads(&got), ["one", "three"]);
        assert!(got.iter().all(|o| o.delivery.retain && !o.delivery.dup));
        assert!(got.iter().all(|o| client.acknowledge(o)));
        let mut live = message("r/1", "live", QoS::AtMostOnce);
        live.retain = persistent;
        house.publish_message(live);
        let got = client.receive(1);
        assert!(
            !got[0].delivery.retain,
            "an established subscription sees RETAIN 0"
        );
    }
}

#[test]
fn a_full_route_that_rejects_refuses_the_whole_publish() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let ears = Arc::new(Ears::default());
    let mailbox = house.broker.attach_route(route(OnFull::Reject, 2, &ears));
    let client = house.client("c").connect();
    client.subscribe("up/#", QoS::AtLeastOnce);
    house.publish("up/a", "1", QoS::AtLeastOnce);
    house.publish("up/a", "2", QoS::AtLeastOnce);
    client.drain();
    assert_eq!(
        house.publish("up/a", "3", QoS::AtLeastOnce),
        PublishOutcome::Refused(Refusal::QuotaExceeded)
    );
    assert!(
        client.drain().is_empty(),
        "nobody gets what one taker refuses"
    );
    house.publish("up/a", "qos 0", QoS::AtMostOnce);
    assert_eq!(
        payloads(&client.drain()),
        ["qos 0"],
        "only the route goes without it"
    );
    let taker = house.store.create_taker(TakerKind::Route, "cloud/out");
    let account = house.store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.dropped.get(&DropReason::QueueFull), Some(&1));
    let got = receive(&mailbox, &ears, 2);
    mailbox.acknowledge(&got);
    house.publish("up/a", "4", QoS::AtLeastOnce);
    assert_eq!(texts(&receive(&mailbox, &ears, 1)), ["4"]);
}

#[test]
fn a_full_route_that_drops_the_oldest_keeps_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let ears = Arc::new(Ears::default());
    let mailbox = house
        .broker
        .attach_route(route(OnFull::DropOldest, 3, &ears));
    house.publish("up/a", "1", QoS::AtLeastOnce);
    let first = receive(&mailbox, &ears, 1);
    for n in 2..=5 {
        house.publish("up/a", &n.to_string(), QoS::AtLeastOnce);
    }
    assert_eq!(texts(&receive(&mailbox, &ears, 2)), ["4", "5"]);
    mailbox.acknowledge(&first);
    let taker = house.store.create_taker(TakerKind::Route, "cloud/out");
    let account = house.store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.dropped.get(&DropReason::QueueFull), Some(&2));
}

#[test]
fn a_rewound_route_sends_again_what_was_not_acknowledged_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let ears = Arc::new(Ears::default());
    let mailbox = house
        .broker
        .attach_route(route(OnFull::Reject, 1_000, &ears));
    for n in 0..6 {
        house.publish("up/a", &n.to_string(), QoS::AtLeastOnce);
    }
    let got = receive(&mailbox, &ears, 4);
    mailbox.acknowledge(&got[..1]);
    mailbox.acknowledge(&got[2..3]);
    mailbox.rewind();
    let again = receive(&mailbox, &ears, 4);
    assert_eq!(texts(&again), ["1", "3", "4", "5"]);
    let dups: Vec<bool> = again.iter().map(|d| d.dup).collect();
    assert_eq!(dups, [true, true, false, false]);
    mailbox.acknowledge(&again);
    let taker = house.store.create_taker(TakerKind::Route, "cloud/out");
    let account = house.store.account(taker);
    assert_eq!(
        (account.accepted, account.delivered, account.queued),
        (6, 6, 0)
    );
}

#[test]
fn a_route_gets_what_waited_before_it_was_attached_and_nothing_of_its_own_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let ears = Arc::new(Ears::default());
    let house = House::open(dir.path(), Limits::default());
    drop(
        house
            .broker
            .attach_route(route(OnFull::Reject, 1_000, &ears)),
    );
    for n in 0..500 {
        house.publish("up/a", &n.to_string(), QoS::AtLeastOnce);
    }
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let mailbox = house
        .broker
        .attach_route(route(OnFull::Reject, 1_000, &ears));
    let mut inbound = message("up/a", "from the cloud", QoS::AtLeastOnce);
    inbound.source = Source::Upstream {
        name: "cloud".into(),
    };
    assert_eq!(
        house.publish_message(inbound),
        PublishOutcome::Done { matched: false }
    );
    house.publish("up/a", "last", QoS::AtLeastOnce);
    let got = receive(&mailbox, &ears, 501);
    let mut expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    expected.push("last".into());
    assert_eq!(texts(&got), expected);
    let mut rest = Vec::new();
    let limit = DrainLimit {
        messages: 10,
        bytes: 1 << 20,
    };
    assert_eq!(mailbox.drain(limit, &mut rest), DrainState::Empty);
    assert!(rest.is_empty());
}

#[test]
fn a_slow_clean_session_loses_qos_0_and_is_closed_for_qos_1() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        outbox_messages: 4,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let client = house.client("c").connect();
    client.subscribe("#", QoS::AtLeastOnce);
    for n in 0..6 {
        house.publish("a", &n.to_string(), QoS::AtMostOnce);
    }
    assert!(client.ears.heard().closed.is_none());
    house.publish("a", "kept or closed", QoS::AtLeastOnce);
    assert_eq!(
        client.ears.heard().closed,
        Some(iotedge_ports::CloseReason::SlowConsumer)
    );
    assert_eq!(payloads(&client.drain()), ["0", "1", "2", "3"]);
}

#[test]
fn a_slow_persistent_session_reads_the_rest_from_the_store_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        outbox_messages: 4,
        max_inflight: 1_000,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let client = house.client("c").persistent().connect();
    client.subscribe("#", QoS::AtLeastOnce);
    for n in 0..50 {
        house.publish("a", &n.to_string(), QoS::AtLeastOnce);
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&client.receive(50)), expected);
    house.publish("a", "live again", QoS::AtLeastOnce);
    assert_eq!(payloads(&client.receive(1)), ["live again"]);
}

/// Publishes `next/{n+1}` for `n/{n}`.
struct Counting;

impl RuleEngine for Counting {
    fn evaluate(&self, message: &Message, _now: &Now, out: &mut RuleOutput) {
        if message.topic.as_str().starts_with("loop") {
            let mut next = message.clone();
            next.hops += 1;
            next.source = Source::Rule {
                name: "loop".into(),
            };
            next.topic = Topic::new(&format!("loop/{}", next.hops)).unwrap();
            out.published.push(next);
        }
    }
}

#[test]
fn a_rule_that_feeds_itself_is_stopped_after_ten_hops() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    house.broker.bind_rules(Arc::new(Counting));
    let client = house.client("c").connect();
    client.subscribe("loop/#", QoS::AtLeastOnce);
    house.publish("loop", "x", QoS::AtMostOnce);
    assert_eq!(
        client.drain().len(),
        11,
        "the message and ten republications"
    );
}

struct Slow(Mutex<Vec<Part>>);

impl Service for Slow {
    fn deliver(&self, _message: &Arc<Message>, done: Option<Part>) {
        self.0.lock().unwrap().extend(done);
    }
}

#[test]
fn a_publisher_waits_for_the_services_that_take_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let service = Arc::new(Slow(Mutex::new(Vec::new())));
    house
        .broker
        .attach_service(&[TopicFilter::new("$aws/x").unwrap()], service.clone());
    let ears = Arc::new(Ears::default());
    let publish = |token| {
        let ack = Some((ears.clone() as Arc<_>, token));
        let mut batch = [iotedge_ports::Publication::new(
            message("$aws/x", "1", QoS::AtLeastOnce),
            ack,
        )];
        house.broker.publish(&mut batch);
        assert_eq!(batch[0].outcome, PublishOutcome::Pending);
    };
    publish(1);
    assert!(ears.heard().acked.is_empty());
    service.0.lock().unwrap().pop().unwrap().finish(Ok(()));
    assert_eq!(ears.heard().acked, [(1, Ok(()))]);
    publish(2);
    drop(service.0.lock().unwrap().pop());
    assert_eq!(ears.heard().acked[1], (2, Err(Failure::Store)));
}

#[test]
fn the_retained_limit_refuses_new_topics_only() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(
        dir.path(),
        Limits {
            retained_max: 1,
            ..Limits::default()
        },
    );
    let retained = |topic: &str| {
        let mut message = message(topic, "x", QoS::AtLeastOnce);
        message.retain = true;
        house.publish_message(message)
    };
    assert_eq!(retained("a"), PublishOutcome::Pending);
    assert_eq!(
        retained("b"),
        PublishOutcome::Refused(Refusal::QuotaExceeded)
    );
    assert_eq!(retained("a"), PublishOutcome::Pending);
}

#[test]
fn a_publisher_is_told_to_wait_for_a_taker_that_fills_up_and_woken_when_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(
        dir.path(),
        Limits {
            outbox_messages: 80,
            ..Limits::default()
        },
    );
    let client = house.client("c").connect();
    client.subscribe("#", QoS::AtMostOnce);
    let publisher = Arc::new(Ears::default());
    let waiter: Arc<dyn iotedge_ports::Wake> = publisher.clone();
    let publish = || {
        let message = message("a", "x", QoS::AtMostOnce);
        let mut batch = [iotedge_ports::Publication::new(message, None)];
        house.broker.publish(&mut batch);
        let [publication] = batch;
        publication.pressure
    };
    for _ in 0..9 {
        assert!(publish().is_none());
    }
    let pressure = publish().expect("the tenth of eighty is an eighth");
    assert!(!pressure.relieved_or_wake(&waiter));
    assert_eq!(publisher.heard().wakes, 0);
    assert_eq!(client.drain().len(), 10);
    assert_eq!(publisher.heard().wakes, 1);
    assert!(pressure.relieved_or_wake(&waiter));
    for _ in 0..20 {
        publish();
    }
    pressure.give_up();
    assert!(publish().is_none(), "nobody waits for it any more");
    assert!(pressure.relieved_or_wake(&waiter));
    client.drain();
    for _ in 0..10 {
        publish();
    }
    assert!(publish().is_some(), "it has kept up again");
}

#[test]
fn publishers_that_wait_go_on_in_their_order_and_not_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        outbox_messages: 800,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let client = house.client("c").connect();
    client.subscribe("#", QoS::AtMostOnce);
    let batch = |count| -> Vec<_> {
        let messages = (0..count).map(|_| message("a", "x", QoS::AtMostOnce));
        messages
            .map(|m| iotedge_ports::Publication::new(m, None))
            .collect()
    };
    let mut full = batch(100);
    house.broker.publish(&mut full);
    let pressure = full
        .pop()
        .unwrap()
        .pressure
        .expect("100 are an eighth of 800");
    let waiting = [(); 5].map(|()| Arc::new(Ears::default()));
    for ears in &waiting {
        let waiter: Arc<dyn iotedge_ports::Wake> = ears.clone();
        assert!(!pressure.relieved_or_wake(&waiter));
    }
    let woken = || waiting.each_ref().map(|ears| ears.heard().wakes);
    let take = |messages| {
        let mut out: Vec<Outgoing> = Vec::new();
        let limit = DrainLimit {
            messages,
            bytes: 1 << 20,
        };
        client.connected.mailbox.drain(limit, &mut out);
    };
    take(1);
    assert_eq!(woken(), [1, 0, 0, 0, 0]);
    take(15);
    assert_eq!(woken(), [1, 1, 1, 1, 0]);
    take(100);
    assert_eq!(woken(), [1; 5], "all, when nothing waits any more");
}

/// Like a shadow that answers what a rule asks: the loop goes through a service.
struct Echo(std::sync::OnceLock<iotedge_broker::Broker>);

impl Service for Echo {
    fn deliver(&self, message: &Arc<Message>, _done: Option<Part>) {
        let mut answer = (**message).clone();
        answer.topic = Topic::new("loop/answer").unwrap();
        if let Some(broker) = self.0.get() {
            broker.publish(&mut [iotedge_ports::Publication::new(answer, None)]);
        }
    }
}

#[test]
fn a_loop_through_a_service_is_stopped_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    house.broker.bind_rules(Arc::new(Counting));
    let echo = Arc::new(Echo(std::sync::OnceLock::new()));
    echo.0.set(house.broker.clone()).ok().unwrap();
    house
        .broker
        .attach_service(&[TopicFilter::new("loop/1").unwrap()], echo);
    // Returns at all.
    house.publish("loop", "x", QoS::AtMostOnce);
}

#[test]
fn a_full_store_sheds_qos_0_for_routes_and_keeps_live_subscribers() {
    let dir = tempfile::tempdir().unwrap();
    let options = iotedge_store::Options {
        max_bytes: 1,
        min_free_disk: 0,
        ..iotedge_store::Options::default()
    };
    let house = House::open_with(dir.path(), Limits::default(), options);
    let ears = Arc::new(Ears::default());
    let _mailbox = house.broker.attach_route(route(OnFull::Reject, 10, &ears));
    let client = house.client("c").connect();
    client.subscribe("up/#", QoS::AtLeastOnce);
    house.publish("up/a", "qos 0", QoS::AtMostOnce);
    assert_eq!(payloads(&client.drain()), ["qos 0"]);
    let outcome = house.publish("up/a", "qos 1", QoS::AtLeastOnce);
    assert_eq!(outcome, PublishOutcome::Refused(Refusal::StoreUnavailable));
    let taker = house.store.create_taker(TakerKind::Route, "cloud/out");
    let account = house.store.account(taker);
    assert_eq!(account.dropped.get(&DropReason::StoreFull), Some(&1));
    assert!(account.balances(), "{account:?}");
}

#[test]
fn retained_messages_are_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        retained_max_bytes: 500,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let retained = |topic: &str, bytes: usize| {
        let mut message = message(topic, &"x".repeat(bytes), QoS::AtLeastOnce);
        message.retain = true;
        house.publish_message(message)
    };
    assert_eq!(retained("a", 300), PublishOutcome::Pending);
    let refused = PublishOutcome::Refused(Refusal::QuotaExceeded);
    assert_eq!(retained("b", 100), refused);
    assert_eq!(retained("a", 100), PublishOutcome::Pending);
    assert_eq!(retained("b", 100), PublishOutcome::Pending);
    assert_eq!(
        retained("a", 0),
        PublishOutcome::Pending,
        "clearing is never refused"
    );
}

#[test]
fn a_route_that_drops_the_oldest_drops_no_more_bytes_than_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let ears = Arc::new(Ears::default());
    let mut limited = route(OnFull::DropOldest, 1_000, &ears);
    let cost = message("up/a", "xxxx", QoS::AtLeastOnce).cost() as u64;
    limited.max_bytes = cost * 100;
    let mailbox = house.broker.attach_route(limited);
    for n in 0..130 {
        // The last thirty do not wait for commits: many overflows fall between two of them.
        if n == 100 {
            ears.wait("the commits", |heard| heard.acked.len() == 100);
        }
        let ack = Some((ears.clone() as Arc<_>, n));
        let message = message("up/a", &format!("{n:04}"), QoS::AtLeastOnce);
        let mut batch = [iotedge_ports::Publication::new(message, ack)];
        house.broker.publish(&mut batch);
        assert_eq!(batch[0].outcome, PublishOutcome::Pending);
    }
    ears.wait("the commits", |heard| heard.acked.len() == 130);
    let taker = house.store.create_taker(TakerKind::Route, "cloud/out");
    let account = house.store.account(taker);
    assert!(account.balances(), "{account:?}");
    assert_eq!(account.dropped.get(&DropReason::QueueFull), Some(&30));
    let expected: Vec<String> = (30..130).map(|n| format!("{n:04}")).collect();
    assert_eq!(texts(&receive(&mailbox, &ears, 100)), expected);
}
