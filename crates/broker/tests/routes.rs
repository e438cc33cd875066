//! Routes: how long messages wait, and which goes first.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iotedge_broker::Limits;
use iotedge_model::{DropReason, MessageId, QoS, Topic, TopicFilter};
use iotedge_ports::{
    AttachRoute, BrokerPort, Delivery, DrainLimit, FreshOrder, FreshRule, Mailbox, OnFull,
    Publication, PublishOutcome, RouteRules,
};
use iotedge_store::{Account, Options, TakerKind};
use support::*;

struct Route {
    house: House,
    mailbox: Arc<dyn Mailbox>,
}

impl Route {
    fn with(dir: &Path, change: impl FnOnce(&mut AttachRoute)) -> Self {
        Self::of(House::open(dir, Limits::default()), change)
    }

    fn of(house: House, change: impl FnOnce(&mut AttachRoute)) -> Self {
        let mut route = AttachRoute {
            name: "cloud/out".into(),
            filters: vec![TopicFilter::new("up/#").unwrap()],
            qos: QoS::AtLeastOnce,
            upstream: "cloud".into(),
            max_bytes: 1 << 30,
            max_messages: 1_000_000,
            on_full: OnFull::Reject,
            rules: RouteRules::default(),
            wake: Arc::new(Ears::default()),
        };
        change(&mut route);
        let mailbox = house.broker.attach_route(route);
        Self { house, mailbox }
    }

    fn publish(&self, topic: &str, text: &str) -> PublishOutcome {
        self.house.publish(topic, text, QoS::AtLeastOnce)
    }

    /// Hands it in and does not wait for its commit.
    fn hand_in(&self, topic: &str, text: &str) {
        let mut batch = [Publication::new(
            message(topic, text, QoS::AtLeastOnce),
            None,
        )];
        self.house.broker.publish(&mut batch);
    }

    fn fresh(dir: &Path, share: u8, order: FreshOrder) -> Self {
        Self::with(dir, |route| {
            route.rules.fresh = Some(FreshRule { share, order });
        })
    }

    /// All that is published is committed.
    fn settle(&self) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |outcome| tell.send(outcome).unwrap());
        self.house.store.flush(done);
        told.recv().unwrap().unwrap();
    }

    fn drain(&self, messages: usize) -> Vec<Delivery> {
        let mut out = Vec::new();
        let bytes = 1 << 20;
        self.mailbox.drain(DrainLimit { messages, bytes }, &mut out);
        out
    }

    fn account(&self) -> Account {
        let store = &self.house.store;
        let taker = store.find_taker(TakerKind::Route, "cloud/out").unwrap();
        let account = store.account(taker);
        assert!(account.balances(), "{account:?}");
        account
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    let text = |d: &Delivery| String::from_utf8_lossy(&d.message.payload).into_owned();
    deliveries.iter().map(text).collect()
}

fn ttl(seconds: u64) -> impl FnOnce(&mut AttachRoute) {
    move |route| route.rules.ttl = Some(Duration::from_secs(seconds))
}

#[test]
fn what_waits_too_long_goes_without_a_link_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::with(dir.path(), ttl(10));
    route.publish("up/a", "old");
    route.settle();
    route.house.pass(6_000);
    route.publish("up/a", "new");
    route.settle();
    let millis = route.house.clock.0.load(Ordering::SeqCst);
    route.house.broker.tick();
    assert_eq!(route.account().queued, 2);
    let Route { house, mailbox } = route;
    drop(mailbox);
    house.close();
    let route = Route::of(House::open_at(dir.path(), millis + 4_000), ttl(10));
    route.house.broker.tick();
    let account = route.account();
    assert_eq!((account.queued, account.accepted), (1, 2), "{account:?}");
    assert_eq!(account.dropped[&DropReason::Expired], 1);
    assert_eq!(texts(&route.drain(10)), ["new"]);
    // In flight: the upstream has it, or gets it again and then it is too late.
    route.house.pass(60_000);
    route.house.broker.tick();
    assert_eq!(route.account().queued, 1);
    route.mailbox.rewind();
    assert!(route.drain(10).is_empty());
    route.settle();
    assert_eq!(route.account().dropped[&DropReason::Expired], 2);
}

#[test]
fn a_full_queue_has_room_when_what_it_holds_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::with(dir.path(), |route| {
        route.max_messages = 3;
        ttl(10)(route);
    });
    for n in 0..3 {
        route.publish("up/a", &n.to_string());
    }
    route.settle();
    assert!(matches!(
        route.publish("up/a", "3"),
        PublishOutcome::Refused(_)
    ));
    route.house.pass(10_000);
    assert_eq!(route.publish("up/a", "4"), PublishOutcome::Pending);
    route.settle();
    assert_eq!(texts(&route.drain(10)), ["4"]);
    assert_eq!(route.account().dropped[&DropReason::Expired], 3);
}

#[test]
fn fresh_messages_share_the_link_with_what_has_waited() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::fresh(dir.path(), 50, FreshOrder::Lane);
    for n in 0..40 {
        route.publish("up/a", &format!("old {n}"));
    }
    route.settle();
    // The link comes up.
    assert_eq!(texts(&route.drain(2)), ["old 0", "old 1"]);
    for n in 0..10 {
        route.publish("up/a", &format!("new {n}"));
    }
    route.settle();
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(route.drain(4));
    }
    let news = |sent: &[Delivery]| {
        let all = texts(sent).into_iter();
        all.filter(|t| t.starts_with("new")).collect::<Vec<_>>()
    };
    let expected: Vec<_> = (0..10).map(|n| format!("new {n}")).collect();
    assert_eq!(sent.len(), 20);
    assert_eq!(news(&sent), expected, "half of them, in order");
    while sent.len() < 48 {
        let more = route.drain(4);
        assert!(!more.is_empty(), "{} came", sent.len());
        sent.extend(more);
    }
    assert!(route.drain(4).is_empty());
    assert_eq!(news(&sent), expected, "and not again");
    let olds: Vec<_> = texts(&sent)
        .into_iter()
        .filter(|t| t.starts_with("old"))
        .collect();
    assert_eq!(
        olds,
        (2..40).map(|n| format!("old {n}")).collect::<Vec<_>>()
    );
    // A lost connection: all again, none forgotten.
    route.mailbox.rewind();
    let mut again = Vec::new();
    while again.len() < 50 {
        let more = route.drain(7);
        assert!(!more.is_empty(), "{} came again", again.len());
        again.extend(more);
    }
    route.mailbox.acknowledge(&again);
    route.settle();
    let account = route.account();
    assert_eq!((account.queued, account.delivered), (0, 50));
}

#[test]
fn a_lost_connection_with_only_fresh_ones_in_flight_forgets_nothing_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::fresh(dir.path(), 99, FreshOrder::Lane);
    for n in 0..20 {
        route.publish("up/a", &format!("old {n}"));
    }
    route.settle();
    let first = route.drain(1);
    route.mailbox.acknowledge(&first);
    route.publish("up/a", "new");
    route.settle();
    let fresh = loop {
        let next = route.drain(1);
        if texts(&next) == ["new"] {
            break next;
        }
        route.mailbox.acknowledge(&next);
    };
    assert_eq!(fresh.len(), 1);
    route.mailbox.rewind();
    let left = usize::try_from(route.account().queued).unwrap();
    let mut again = Vec::new();
    while again.len() < left {
        let more = route.drain(5);
        assert!(!more.is_empty(), "{} of {left} came", again.len());
        again.extend(more);
    }
    assert_eq!(texts(&again).last().unwrap(), "new");
}

#[test]
fn what_was_given_out_before_the_connection_was_lost_says_so_in_both_lanes() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::fresh(dir.path(), 50, FreshOrder::Lane);
    for n in 0..20 {
        route.publish("up/a", &format!("old {n}"));
    }
    let mut sent = route.drain(2);
    for n in 0..4 {
        route.publish("up/a", &format!("new {n}"));
    }
    sent.extend(route.drain(4));
    assert!(sent.iter().all(|d| !d.dup));
    let sent = texts(&sent);
    assert!(sent.contains(&"new 1".into()), "{sent:?}");
    route.mailbox.rewind();
    let mut again = Vec::new();
    while again.len() < 24 {
        again.extend(route.drain(5));
    }
    for delivery in &again {
        let text = texts(std::slice::from_ref(delivery)).remove(0);
        assert_eq!(delivery.dup, sent.contains(&text), "{text}");
    }
    // What another process has sent nobody knows.
    let Route { house, mailbox } = route;
    drop(mailbox);
    house.close();
    let route = Route::fresh(dir.path(), 50, FreshOrder::Lane);
    let all = route.drain(100);
    assert_eq!(all.len(), 24);
    assert!(all.iter().all(|d| !d.dup));
}

#[test]
fn the_order_of_a_topic_holds_while_others_pass() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::fresh(dir.path(), 80, FreshOrder::Topic);
    for n in 0..30 {
        route.publish("up/slow", &format!("{n}"));
    }
    route.settle();
    let mut sent = route.drain(1);
    for n in 30..35 {
        route.publish("up/slow", &format!("{n}"));
        route.publish("up/alarm", &format!("{n}"));
    }
    route.settle();
    let mut alarms_by = 0;
    while sent.len() < 40 {
        let more = route.drain(3);
        assert!(!more.is_empty(), "{} came", sent.len());
        sent.extend(more);
        let alarms = sent
            .iter()
            .filter(|d| d.message.topic.as_str() == "up/alarm");
        if alarms.count() == 5 && alarms_by == 0 {
            alarms_by = sent.len();
        }
    }
    assert!(alarms_by < 15, "alarms were through after {alarms_by}");
    for topic in ["up/slow", "up/alarm"] {
        let of: Vec<MessageId> = sent
            .iter()
            .filter(|d| d.message.topic.as_str() == topic)
            .map(|d| d.message.id)
            .collect();
        assert!(of.is_sorted(), "{topic}");
    }
}

/// What was accepted just before the link came up is on its way to the disk, and no read shows it.
#[test]
fn the_order_of_a_topic_holds_where_its_first_message_is_not_committed_yet() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        linger: Duration::from_millis(500),
        min_free_disk: 0,
        ..Options::default()
    };
    let house = House::open_with(dir.path(), Limits::default(), options);
    let rule = FreshRule {
        share: 80,
        order: FreshOrder::Topic,
    };
    let route = Route::of(house, |route| route.rules.fresh = Some(rule));
    for n in 0..500 {
        route.hand_in("up/slow", &n.to_string());
    }
    route.settle();
    route.hand_in("up/t", "first");
    // The link comes up.
    let mut sent = route.drain(1);
    sent.extend(route.drain(1));
    route.hand_in("up/t", "second");
    route.settle();
    while sent.len() < 502 {
        let more = route.drain(20);
        assert!(!more.is_empty(), "{} came", sent.len());
        sent.extend(more);
    }
    let of = |d: &&Delivery| d.message.topic.as_str() == "up/t";
    let of: Vec<_> = sent.iter().filter(of).cloned().collect();
    assert_eq!(texts(&of), ["first", "second"]);
}

/// As many as are remembered, and one more.
#[test]
fn with_very_many_topics_in_the_backlog_all_goes_in_the_order_of_acceptance() {
    const TOPICS: usize = 100_001;
    let dir = tempfile::tempdir().unwrap();
    let route = Route::fresh(dir.path(), 80, FreshOrder::Topic);
    for n in 0..TOPICS {
        route.hand_in(&format!("up/{n}"), "");
    }
    route.settle();
    let mut taken = route.drain(1);
    for n in 0..10 {
        route.hand_in("up/alarm", &n.to_string());
    }
    route.settle();
    let mut before = MessageId(0);
    let mut alarms = Vec::new();
    let mut count = 0;
    while count < TOPICS + 10 {
        assert!(!taken.is_empty(), "{count} came");
        for one in &taken {
            assert!(one.message.id > before, "in the order of acceptance");
            before = one.message.id;
        }
        count += taken.len();
        let of = taken
            .iter()
            .filter(|d| d.message.topic.as_str() == "up/alarm");
        alarms.extend(of.cloned());
        route.mailbox.acknowledge(&taken);
        taken = route.drain(1000);
    }
    assert_eq!(alarms.len(), 10);
    route.settle();
    let account = route.account();
    assert_eq!(account.delivered, TOPICS as u64 + 10);
    assert_eq!((account.queued, account.dropped.len()), (0, 0));
}

#[test]
fn a_queue_that_could_not_be_read_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let ears = Arc::new(Ears::default());
    let wake = ears.clone();
    let route = Route::with(dir.path(), move |route| route.wake = wake);
    let client = route.house.client("c").persistent().connect();
    client.subscribe("up/#", QoS::AtLeastOnce);
    drop(client);
    route.publish("up/a", "waits");
    // No reader can open it any more.
    let (file, away) = (dir.path().join("queue.db"), dir.path().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    let client = route.house.client("c").persistent().connect();
    assert!(route.drain(10).is_empty());
    assert!(client.drain().is_empty());
    let (route_woken, client_woken) = (ears.heard().wakes, client.ears.heard().wakes);
    std::fs::rename(&away, &file).unwrap();
    route.house.broker.tick();
    assert!(ears.heard().wakes > route_woken, "the route");
    assert!(client.ears.heard().wakes > client_woken, "the session");
    assert_eq!(texts(&route.drain(10)), ["waits"]);
    assert_eq!(payloads(&client.drain()), ["waits"]);
}

#[test]
fn retained_messages_wait_for_a_route_that_wants_them() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    for topic in ["up/1", "up/2", "down/1"] {
        let mut retained = message(topic, "kept", QoS::AtLeastOnce);
        retained.retain = true;
        house.publish_message(retained);
    }
    let route = Route::of(house, |route| route.rules.send_retained = true);
    route.settle();
    let got = route.drain(10);
    assert_eq!(texts(&got), ["kept", "kept"]);
    assert!(got.iter().all(|d| d.retain));
    route.mailbox.acknowledge(&got);
    route.settle();
    assert_eq!(route.account().delivered, 2);
}

#[test]
fn a_burst_into_a_full_queue_loses_its_oldest_though_none_is_committed() {
    for (max_messages, max_bytes) in [(5, 1 << 20), (1000, 5 * 10_100)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            linger: Duration::from_millis(500),
            min_free_disk: 0,
            ..Options::default()
        };
        let house = House::open_with(dir.path(), Limits::default(), options);
        let route = Route::of(house, |route| {
            route.on_full = OnFull::DropOldest;
            route.max_messages = max_messages;
            route.max_bytes = max_bytes;
        });
        let hand_in = |n: usize| route.hand_in("up/a", &format!("{n:010000}"));
        let drain = || -> Vec<usize> {
            let all = texts(&route.drain(50)).into_iter();
            all.map(|text| text.parse().unwrap()).collect()
        };
        // The link is up, and one is in flight: it stays, whatever comes.
        assert!(drain().is_empty());
        hand_in(0);
        let sent = route.drain(1);
        assert_eq!(sent.len(), 1);
        (1..30).for_each(hand_in);
        route.settle();
        assert_eq!(drain(), [26, 27, 28, 29]);
        route.mailbox.acknowledge(&sent);
        route.settle();
        let account = route.account();
        assert_eq!((account.accepted, account.queued), (30, 4));
        assert_eq!(account.dropped[&DropReason::QueueFull], 25);
        // What is committed is older than what is not.
        route.mailbox.rewind();
        (30..33).for_each(hand_in);
        let mut left = drain();
        route.settle();
        left.extend(drain());
        assert_eq!(left, [28, 29, 30, 31, 32]);
    }
}

#[test]
fn a_route_knows_which_retained_messages_are_on_their_way_over_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        Route::with(dir.path(), |route| {
            route.rules.tells_retained = true;
            route.max_messages = 6;
            route.on_full = OnFull::DropOldest;
        })
    };
    let topic = |name: &str| Topic::new(name).unwrap();
    let lately = Duration::from_secs(60);
    let route = open();
    let retain = |route: &Route, topic: &str, text: &str| {
        let mut retained = message(topic, text, QoS::AtLeastOnce);
        retained.retain = true;
        route.house.publish_message(retained);
    };
    retain(&route, "up/a", "1");
    // It clears what is retained: that is on its way as well.
    retain(&route, "up/b", "");
    route.publish("up/c", "no state");
    let Route { house, mailbox } = route;
    drop(mailbox);
    house.close();

    let route = open();
    let on_its_way = |name: &str| route.mailbox.retained_on_its_way(&topic(name), lately);
    while !route.mailbox.learn_retained() {}
    retain(&route, "up/d", "2");
    let all = ["up/a", "up/b", "up/c", "up/d", "up/e"].map(on_its_way);
    assert_eq!(all, [true, true, false, true, false]);
    let sent = route.drain(10);
    assert!(on_its_way("up/a"), "in flight");
    route.mailbox.acknowledge(&sent[..1]);
    assert!(on_its_way("up/a"), "what was retained before may come yet");
    assert!(
        !route
            .mailbox
            .retained_on_its_way(&topic("up/a"), Duration::ZERO)
    );
    route.house.pass(60_000);
    assert!(!on_its_way("up/a"));
    route.mailbox.rewind();
    assert!(on_its_way("up/b"));
    // Room is made by the oldest.
    for n in 0..5 {
        route.publish("up/x", &n.to_string());
    }
    route.settle();
    assert!(!on_its_way("up/b"));
    assert!(on_its_way("up/d"));
}

#[test]
fn a_route_raises_qos_0_and_leaves_out_who_it_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::with(dir.path(), |route| {
        route.rules.raise_qos = true;
        route.rules.not_from = vec!["peer".into()];
    });
    route.house.publish("up/a", "low", QoS::AtMostOnce);
    let mut echo = message("up/a", "echo", QoS::AtLeastOnce);
    echo.client_id = "peer".into();
    route.house.publish_message(echo);
    route.settle();
    let got = route.drain(10);
    assert_eq!(texts(&got), ["low"]);
    assert_eq!(got[0].qos, QoS::AtLeastOnce);
    assert_eq!(route.account().accepted, 1);
}
