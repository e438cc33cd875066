//! QoS 2: exactly once between the broker and its clients, through connections and restarts.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};

use iotedge_broker::{Broker, Limits};
use iotedge_model::{Message, QoS, TopicFilter};
use iotedge_ports::{
    AttachRoute, BrokerPort, ConnectionId, DrainLimit, EndKind, Failure, OnFull, Outgoing, Part,
    PubRecOutcome, Publication, PublishOutcome, RouteRules, Service,
};
use support::*;

const TWO: QoS = QoS::ExactlyOnce;

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

/// Publishes at QoS 2 as a client does; what became of it, and who hears of its commit.
fn send(
    broker: &Broker,
    from: ConnectionId,
    packet_id: u16,
    topic: &str,
    payload: &str,
) -> (PublishOutcome, Arc<Ears>) {
    let ears = Arc::new(Ears::default());
    let mut publication = Publication::new(
        message(topic, payload, TWO),
        Some((ears.clone() as Arc<_>, 1)),
    );
    publication.connection = Some(from);
    publication.inbound = Some(id(packet_id));
    let mut batch = [publication];
    broker.publish(&mut batch);
    (batch[0].outcome, ears)
}

impl Client {
    /// Publishes at QoS 2 and waits for what PUBREC waits for.
    fn send(&self, packet_id: u16, topic: &str, payload: &str) -> PublishOutcome {
        let (outcome, ears) = self.send_only(packet_id, topic, payload);
        if outcome == PublishOutcome::Pending {
            let heard = ears.wait("the commit", |heard| !heard.acked.is_empty());
            assert_eq!(heard.acked, [(1, Ok(()))]);
        }
        outcome
    }

    fn send_only(&self, packet_id: u16, topic: &str, payload: &str) -> (PublishOutcome, Arc<Ears>) {
        send(
            &self.broker,
            self.connected.connection,
            packet_id,
            topic,
            payload,
        )
    }

    /// PUBREL, and what PUBCOMP waits for.
    fn release(&self, packet_id: u16) {
        let ears = Arc::new(Ears::default());
        let ack = Some((ears.clone() as Arc<_>, 7));
        if self.connected.mailbox.release(id(packet_id), ack) {
            ears.wait("the release", |heard| heard.acked == [(7, Ok(()))]);
        }
    }

    /// Waits for the next packet.
    fn next(&self) -> Outgoing {
        loop {
            let wakes = self.ears.heard().wakes;
            let mut out = self.drain_all();
            if out.len() == 1 {
                return out.remove(0);
            }
            assert!(out.is_empty(), "one at a time: {out:?}");
            self.ears.wait("a packet", |heard| heard.wakes > wakes);
        }
    }

    fn publish(&self) -> iotedge_ports::OutgoingPublish {
        match self.next() {
            Outgoing::Publish(publish) => publish,
            other => panic!("no PUBLISH but {other:?}"),
        }
    }

    /// PUBREC, and the PUBREL that follows.
    fn receive_and_release(&self, packet_id: NonZeroU16) {
        let outcome = self.connected.mailbox.pubrec(packet_id);
        match outcome {
            PubRecOutcome::Release => {}
            PubRecOutcome::Pending => match self.next() {
                Outgoing::Release(id) => assert_eq!(id, packet_id),
                other => panic!("no PUBREL but {other:?}"),
            },
            PubRecOutcome::Unknown => panic!("{packet_id} is not in flight"),
        }
    }
}

#[test]
fn an_unreleased_packet_id_is_the_same_message_on_every_connection_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let publisher = house.client("p").persistent().connect();
    // Nobody takes it, and it is committed all the same.
    assert_eq!(publisher.send(5, "t", "x"), PublishOutcome::Pending);
    let taker = house.client("s").connect();
    taker.subscribe("t", TWO);
    let done = PublishOutcome::Done { matched: true };
    assert_eq!(publisher.send(5, "t", "x"), done, "taken before");
    drop(publisher);
    let publisher = house.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, [id(5)]);
    assert_eq!(publisher.send(5, "t", "x"), done);
    assert!(taker.drain().is_empty());
    drop((publisher, taker));
    house.close();

    let house = House::open(dir.path(), Limits::default());
    let taker = house.client("s").connect();
    taker.subscribe("t", TWO);
    let publisher = house.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, [id(5)]);
    assert_eq!(publisher.send(5, "t", "x"), done);
    publisher.release(5);
    assert_eq!(publisher.send(5, "t", "new"), PublishOutcome::Pending);
    assert_eq!(payloads(&taker.receive(1)), ["new"]);
    publisher.release(5);
    drop((publisher, taker));
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let publisher = house.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, []);
}

#[test]
fn a_clean_start_forgets_packet_ids() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let publisher = house.client("p").persistent().connect();
    publisher.send(5, "t", "x");
    publisher.disconnect(EndKind::Lost);
    let publisher = house.client("p").session_expiry(60).connect();
    assert_eq!(publisher.connected.unreleased, []);
    assert_eq!(publisher.send(5, "t", "x"), PublishOutcome::Pending);
}

#[test]
fn a_session_that_ends_with_its_connection_touches_no_disk_for_qos_2() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let taker = house.client("s").connect();
    taker.subscribe("t", TWO);
    let publisher = house.client("p").connect();
    let outcome = publisher.send(1, "t", "x");
    assert_eq!(outcome, PublishOutcome::Done { matched: true });
    let got = taker.publish();
    assert_eq!(got.delivery.qos, TWO);
    let packet_id = got.packet_id.unwrap();
    let mailbox = &taker.connected.mailbox;
    assert_eq!(mailbox.pubrec(packet_id), PubRecOutcome::Release);
    assert_eq!(mailbox.pubrec(packet_id), PubRecOutcome::Release, "again");
    assert!(mailbox.pubcomp(packet_id));
    assert!(!mailbox.pubcomp(packet_id));
    assert_eq!(mailbox.pubrec(packet_id), PubRecOutcome::Unknown);
}

#[test]
fn an_outbound_exchange_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let taker = house.client("s").persistent().connect();
    taker.subscribe("t", TWO);
    for n in 0..3 {
        house.publish("t", &n.to_string(), TWO);
    }
    let sent = taker.receive(3);
    assert_eq!(payloads(&sent), ["0", "1", "2"]);
    assert!(
        sent.iter()
            .all(|o| o.delivery.qos == TWO && !o.delivery.dup)
    );
    let ids: Vec<NonZeroU16> = sent.iter().map(|o| o.packet_id.unwrap()).collect();
    taker.receive_and_release(ids[1]);
    drop(taker);
    // Taken over, and restarted: PUBLISH again for two, PUBREL for the third, in their order.
    let resumed = |client: &Client| {
        let all = client.drain_all();
        let [
            Outgoing::Publish(a),
            Outgoing::Release(b),
            Outgoing::Publish(c),
        ] = &all[..]
        else {
            panic!("{all:?}");
        };
        assert!(a.delivery.dup && c.delivery.dup);
        assert_eq!(payloads(&[a.clone(), c.clone()]), ["0", "2"]);
        assert_eq!([a.packet_id.unwrap(), *b, c.packet_id.unwrap()], ids[..]);
    };
    let taker = house.client("s").persistent().connect();
    resumed(&taker);
    drop(taker);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let taker = house.client("s").persistent().connect();
    resumed(&taker);
    // The new one has another id.
    house.publish("t", "3", TWO);
    let new = taker.publish();
    assert!(!ids.contains(&new.packet_id.unwrap()));
    taker.receive_and_release(ids[0]);
    for id in &ids[..2] {
        assert!(taker.connected.mailbox.pubcomp(*id));
    }
    assert!(taker.connected.mailbox.pubrec_refused(ids[2]));
    drop(taker);
    house.close();
    let house = House::open(dir.path(), Limits::default());
    let taker = house.client("s").persistent().connect();
    let rest = taker.receive(1);
    assert_eq!(payloads(&rest), ["3"]);
    assert_eq!(rest[0].packet_id, new.packet_id);
    let queue = house.store.takers().into_iter().find(|t| &*t.name == "s");
    let account = queue.unwrap().account;
    assert!(account.balances());
    assert_eq!((account.delivered, account.queued), (3, 1));
}

#[test]
fn what_was_not_sent_yet_is_no_duplicate_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_inflight: 1,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits.clone());
    let taker = house.client("s").persistent().connect();
    taker.subscribe("t", TWO);
    house.publish("t", "sent", TWO);
    house.publish("t", "waits", TWO);
    let first = taker.publish();
    drop(taker);
    house.close();
    let house = House::open(dir.path(), limits);
    let taker = house.client("s").persistent().connect();
    let again = taker.publish();
    assert!(again.delivery.dup);
    assert_eq!(again.packet_id, first.packet_id);
    taker.receive_and_release(again.packet_id.unwrap());
    taker.connected.mailbox.pubcomp(again.packet_id.unwrap());
    let second = taker.publish();
    assert_eq!(payloads(std::slice::from_ref(&second)), ["waits"]);
    assert!(!second.delivery.dup);
}

/// Who takes "t": a session that ends with its connection, at QoS 2, and one that stays; and a
/// publisher whose session stays.
fn cast(house: &House, qos_of_kept: QoS) -> (Client, Client, Client) {
    let live = house.client("live").connect();
    live.subscribe("t", TWO);
    let kept = house.client("kept").persistent().connect();
    kept.subscribe("t", qos_of_kept);
    (live, kept, house.client("p").persistent().connect())
}

#[test]
fn what_is_published_behind_a_qos_2_message_stays_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let (live, kept, publisher) = cast(&house, TWO);
    let low = house.client("low").persistent().connect();
    low.subscribe("t", QoS::AtLeastOnce);
    let ears = Arc::new(Ears::default());
    let mut batch: Vec<Publication> = [TWO, QoS::AtMostOnce, QoS::AtLeastOnce]
        .into_iter()
        .cycle()
        .take(30)
        .enumerate()
        .map(|(n, qos)| {
            let token = n as u64;
            let ack = (qos > QoS::AtMostOnce).then(|| (ears.clone() as Arc<_>, token));
            let mut publication = Publication::new(message("t", &n.to_string(), qos), ack);
            publication.connection = Some(publisher.connected.connection);
            publication.inbound = (qos == TWO).then(|| id(n as u16 + 1));
            publication
        })
        .collect();
    house.broker.publish(&mut batch);
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    for taker in [&live, &kept, &low] {
        assert_eq!(payloads(&taker.receive(30)), expected);
    }
}

/// A service whose effects become durable when a test says so.
#[derive(Default)]
struct Slow(Mutex<Vec<(String, Option<Part>)>>);

impl Service for Slow {
    fn deliver(&self, message: &Arc<Message>, done: Option<Part>) {
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        self.0.lock().unwrap().push((payload, done));
    }
}

impl Slow {
    fn take(&self) -> (String, Part) {
        let (payload, part) = self.0.lock().unwrap().remove(0);
        (payload, part.expect("the publisher waits"))
    }
}

#[test]
fn a_packet_id_is_kept_behind_the_effects_of_services_and_nobody_gets_the_message_before() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let slow = Arc::new(Slow::default());
    let filters = [TopicFilter::new("t").unwrap()];
    house.broker.attach_service(&filters, slow.clone());
    let (live, kept, publisher) = cast(&house, QoS::AtLeastOnce);

    let (outcome, first) = publisher.send_only(1, "t", "one");
    assert_eq!(outcome, PublishOutcome::Pending);
    let (outcome, second) = publisher.send_only(2, "t", "two");
    assert_eq!(outcome, PublishOutcome::Pending);
    // It comes again on another connection, while it is on its way.
    let publisher = house.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, []);
    let (outcome, again) = publisher.send_only(1, "t", "one");
    assert_eq!(outcome, PublishOutcome::Pending);
    let (payload, part) = slow.take();
    assert_eq!(payload, "one");
    assert!(live.drain().is_empty() && kept.drain().is_empty());
    let backup = dir.path().join("copy");
    house.store.backup(&backup).unwrap();

    part.finish(Ok(()));
    let taken = |ears: &Ears| ears.wait("PUBREC", |h| h.acked == [(1, Ok(()))]);
    taken(&first);
    taken(&again);
    assert_eq!(payloads(&live.receive(1)), ["one"]);
    assert_eq!(payloads(&kept.receive(1)), ["one"]);
    let (payload, part) = slow.take();
    assert_eq!(payload, "two");
    part.finish(Err(Failure::Store));
    second.wait("the refusal", |h| h.acked == [(1, Err(Failure::Store))]);
    assert!(live.drain().is_empty());
    assert_eq!(
        publisher.send_only(2, "t", "two").0,
        PublishOutcome::Pending
    );
    let (payload, part) = slow.take();
    assert_eq!(payload, "two", "it was not taken, and comes again");
    part.finish(Ok(()));
    assert_eq!(payloads(&live.receive(1)), ["two"]);

    let copy = House::open(&backup, Limits::default());
    let publisher = copy.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, [], "not before the service");
}

#[test]
fn what_a_route_has_admitted_has_its_place_though_others_come_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let slow = Arc::new(Slow::default());
    let filters = [TopicFilter::new("t").unwrap()];
    house.broker.attach_service(&filters, slow.clone());
    let route = house.broker.attach_route(AttachRoute {
        name: "cloud/out".into(),
        filters: vec![TopicFilter::new("+").unwrap()],
        qos: QoS::AtLeastOnce,
        upstream: "cloud".into(),
        max_bytes: 1 << 20,
        max_messages: 1,
        on_full: OnFull::Reject,
        rules: RouteRules::default(),
        wake: Arc::new(Ears::default()),
    });
    let publisher = house.client("p").persistent().connect();
    let (outcome, ears) = publisher.send_only(1, "t", "waits for the service");
    assert_eq!(outcome, PublishOutcome::Pending);
    house.publish("u", "fills the queue", QoS::AtLeastOnce);
    slow.take().1.finish(Ok(()));
    ears.wait("PUBREC", |h| h.acked == [(1, Ok(()))]);
    let mut out = Vec::new();
    let limit = DrainLimit {
        messages: 10,
        bytes: 1 << 20,
    };
    route.drain(limit, &mut out);
    let texts: Vec<_> = out.iter().map(|d| d.message.payload.as_ref()).collect();
    assert_eq!(texts, [&b"fills the queue"[..], b"waits for the service"]);
}

#[test]
fn a_message_that_the_store_does_not_keep_reaches_nobody_and_frees_its_packet_id() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), Limits::default());
    let (live, kept, publisher) = cast(&house, TWO);
    house.store.clone().close();
    let (outcome, ears) = publisher.send_only(1, "t", "x");
    match outcome {
        PublishOutcome::Pending => {
            ears.wait("the failure", |h| h.acked == [(1, Err(Failure::Store))]);
        }
        other => assert!(matches!(other, PublishOutcome::Refused(_)), "{other:?}"),
    }
    assert!(live.drain().is_empty() && kept.drain().is_empty());
    let publisher = house.client("p").persistent().connect();
    assert_eq!(publisher.connected.unreleased, []);
}
