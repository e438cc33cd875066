//! What rules hand to one queue: outboxes of their actions, and routes.
#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use iotedge_broker::Limits;
use iotedge_model::{DropReason, Message, Now, QoS, TopicFilter};
use iotedge_ports::{
    AttachOutbox, AttachRoute, BrokerPort, Delivery, DrainLimit, DrainState, Mailbox, OnFull,
    OutboxId, Publication, PublishOutcome, Refusal, RouteRules, RuleEngine, RuleOutput, Target,
};
use iotedge_store::TakerKind;
use support::{Ears, House, message};

/// Hands each message on `in` to its target.
#[derive(Default)]
struct Handing(OnceLock<Target>);

impl RuleEngine for Handing {
    fn evaluate(&self, message: &Message, _now: &Now, out: &mut RuleOutput) {
        if message.topic.as_str() == "in" {
            let mut work = message.clone();
            work.payload = format!("work of {}", text(message)).into();
            out.handed.push((self.0.get().unwrap().clone(), work));
        }
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

struct Outbox {
    house: House,
    id: OutboxId,
    mailbox: Arc<dyn Mailbox>,
    ears: Arc<Ears>,
}

impl Outbox {
    fn open(dir: &Path, on_full: OnFull, max_messages: u64) -> Self {
        let house = House::open(dir, Limits::default());
        let ears = Arc::new(Ears::default());
        let (id, mailbox) = house.broker.attach_outbox(AttachOutbox {
            name: "rule/0".into(),
            max_bytes: 1 << 20,
            max_messages,
            on_full,
            wake: ears.clone(),
        });
        let rules = Arc::new(Handing::default());
        rules.0.set(Target::Outbox(id)).unwrap();
        house.broker.bind_rules(rules);
        Self {
            house,
            id,
            mailbox,
            ears,
        }
    }

    fn drain(&self, messages: usize) -> Vec<Delivery> {
        let mut out = Vec::new();
        let limit = DrainLimit {
            messages,
            bytes: 1 << 20,
        };
        while self.mailbox.drain(limit, &mut out) == DrainState::More && out.len() < messages {}
        out
    }

    fn texts(&self) -> Vec<String> {
        self.drain(100).iter().map(|d| text(&d.message)).collect()
    }

    fn settle(&self) {
        let ears = Arc::new(Ears::default());
        self.mailbox.settled((ears.clone(), 5));
        ears.wait("the settlement", |heard| heard.acked == [(5, Ok(()))]);
    }

    fn publish(&self, payload: &str, qos: QoS) -> PublishOutcome {
        self.house.publish("in", payload, qos)
    }
}

#[test]
fn an_acknowledged_message_is_in_the_outbox_after_a_restart_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), OnFull::Reject, 100);
    let client = outbox.house.client("c").connect();
    client.subscribe("#", QoS::AtLeastOnce);
    for n in ["1", "2", "3"] {
        assert_eq!(outbox.publish(n, QoS::AtLeastOnce), PublishOutcome::Pending);
    }
    let seen: Vec<String> = client
        .drain()
        .iter()
        .map(|d| text(&d.delivery.message))
        .collect();
    assert_eq!(seen, ["1", "2", "3"], "work is no message for subscribers");
    drop((client, outbox.mailbox));
    outbox.house.close();

    let outbox = Outbox::open(dir.path(), OnFull::Reject, 100);
    let all = outbox.drain(100);
    let texts: Vec<String> = all.iter().map(|d| text(&d.message)).collect();
    assert_eq!(texts, ["work of 1", "work of 2", "work of 3"]);
    assert_eq!(&*all[0].message.client_id, "publisher");
    outbox.mailbox.acknowledge(&all[..1]);
    outbox.settle();
    outbox.mailbox.rewind();
    assert_eq!(outbox.texts(), ["work of 2", "work of 3"]);
}

#[test]
fn a_full_outbox_refuses_or_drops_as_it_is_told() {
    for (on_full, refused, left) in [
        (OnFull::Reject, true, ["work of 1", "work of 2"]),
        (OnFull::DropNew, false, ["work of 1", "work of 2"]),
        (OnFull::DropOldest, false, ["work of 2", "work of 3"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), on_full, 2);
        outbox.publish("1", QoS::AtLeastOnce);
        outbox.publish("2", QoS::AtLeastOnce);
        let outcome = outbox.publish("3", QoS::AtLeastOnce);
        let expected = PublishOutcome::Refused(Refusal::QuotaExceeded);
        assert_eq!(outcome == expected, refused, "{on_full:?}");
        assert_eq!(outbox.texts(), left, "{on_full:?}");
        let taker = outbox.house.store.find_taker(TakerKind::Outbox, "rule/0");
        let account = outbox.house.store.account(taker.unwrap());
        assert!(account.balances());
        assert_eq!(
            account.dropped.get(&DropReason::QueueFull).copied(),
            (!refused).then_some(1)
        );
    }
}

#[test]
fn a_dead_letter_comes_back_behind_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), OnFull::Reject, 100);
    outbox.publish("bad", QoS::AtLeastOnce);
    let bad = outbox.drain(1);
    outbox.mailbox.bury(&bad, "no such table");
    outbox.settle();
    outbox.publish("next", QoS::AtLeastOnce);
    let letters = outbox.house.store.dead_letters(None, 10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(&*letters[0].reason, "no such table");
    assert_eq!(text(&letters[0].message), "work of bad");
    let revived = Arc::new(Ears::default());
    let told = revived.clone();
    let done = Box::new(move |outcome: Result<(), _>| {
        assert_eq!(outcome, Ok(()));
        iotedge_ports::AckSink::acked(&*told, 0, Ok(()));
    });
    assert_eq!(outbox.texts(), ["work of next"]);
    let wakes = outbox.ears.heard().wakes;
    outbox.house.broker.revive(letters[0].id, done).unwrap();
    revived.wait("the revival", |heard| !heard.acked.is_empty());
    outbox.ears.wait("news of it", |heard| heard.wakes > wakes);
    assert_eq!(outbox.texts(), ["work of bad"]);
    assert!(
        outbox
            .house
            .store
            .dead_letters(None, 10)
            .unwrap()
            .is_empty()
    );
    let again = outbox.house.broker.revive(letters[0].id, Box::new(|_| {}));
    assert!(again.is_err());
    let taker = outbox.house.store.find_taker(TakerKind::Outbox, "rule/0");
    let account = outbox.house.store.account(taker.unwrap());
    assert!(account.balances());
    assert_eq!(account.dropped[&DropReason::ActionFailed], 1);
}

#[test]
fn a_removed_outbox_takes_nothing_and_stops_no_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), OnFull::Reject, 100);
    outbox.publish("1", QoS::AtLeastOnce);
    outbox.house.broker.remove_outbox(outbox.id);
    assert_eq!(
        outbox.publish("2", QoS::AtLeastOnce),
        PublishOutcome::Done { matched: false }
    );
    let taker = outbox.house.store.find_taker(TakerKind::Outbox, "rule/0");
    assert_eq!(taker, None);
}

#[test]
fn one_publication_can_be_for_one_queue_alone() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), OnFull::Reject, 100);
    let client = outbox.house.client("c").connect();
    client.subscribe("#", QoS::AtLeastOnce);
    let route = outbox.house.broker.attach_route(AttachRoute {
        name: "cloud/out:x".into(),
        filters: vec![TopicFilter::new("x").unwrap()],
        qos: QoS::AtLeastOnce,
        upstream: "cloud".into(),
        max_bytes: 1 << 20,
        max_messages: 100,
        on_full: OnFull::Reject,
        rules: RouteRules::default(),
        wake: outbox.ears.clone(),
    });
    for target in [
        Target::Outbox(outbox.id),
        Target::Route("cloud/out:x".into()),
    ] {
        let ears = Arc::new(Ears::default());
        let mut retained = message("in", "alone", QoS::AtLeastOnce);
        retained.retain = true;
        let mut batch = [Publication::new(retained, Some((ears.clone(), 3)))];
        batch[0].target = Some(target);
        outbox.house.broker.publish(&mut batch);
        assert_eq!(batch[0].outcome, PublishOutcome::Pending);
        ears.wait("the commit", |heard| heard.acked == [(3, Ok(()))]);
    }
    assert_eq!(outbox.texts(), ["alone"]);
    let mut out = Vec::new();
    let limit = DrainLimit {
        messages: 10,
        bytes: 1 << 20,
    };
    while route.drain(limit, &mut out) == DrainState::More {}
    assert_eq!(out.len(), 1);
    assert!(client.drain().is_empty());
    let topic = iotedge_model::Topic::new("in").unwrap();
    assert_eq!(outbox.house.broker.retained(&topic), None);
}
