//! A batch whose messages go to their takers together comes out as if each had come alone.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;

use iotedge_broker::Limits;
use iotedge_model::{DropReason, Message, QoS};
use iotedge_ports::{
    BrokerPort, CloseReason, DrainLimit, DrainState, Outgoing, Publication, PublishOutcome,
    SubscribeOptions,
};
use iotedge_telemetry::METRICS;
use proptest::prelude::*;
use support::*;

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;

/// Publishes all in one call, and waits for what has to be waited for.
fn publish(house: &House, from: Option<&Client>, messages: Vec<Message>) -> Vec<Publication> {
    let ears = Arc::new(Ears::default());
    let publication = |(n, message): (usize, Message)| {
        let ack = (message.qos > ZERO).then(|| (ears.clone() as Arc<_>, n as u64));
        let mut publication = Publication::new(message, ack);
        publication.connection = from.map(|client| client.connected.connection);
        publication
    };
    let mut batch: Vec<_> = messages.into_iter().enumerate().map(publication).collect();
    house.broker.publish(&mut batch);
    let pending = |p: &&Publication| p.outcome == PublishOutcome::Pending;
    let pending = batch.iter().filter(pending).count();
    ears.wait("the commits", |heard| heard.acked.len() == pending);
    batch
}

type Seen = Vec<(String, String, QoS, bool, Vec<u32>)>;

/// Everything that is there, a few at a time.
fn seen(client: &Client, messages: usize) -> Seen {
    let mut seen = Vec::new();
    loop {
        let mut out: Vec<Outgoing> = Vec::new();
        let limit = DrainLimit {
            messages,
            bytes: 400,
        };
        let state = client.connected.mailbox.drain(limit, &mut out);
        assert!(out.len() <= messages);
        for outgoing in out {
            let Outgoing::Publish(publish) = outgoing else {
                panic!("no QoS 2 here");
            };
            let delivery = &publish.delivery;
            seen.push((
                delivery.message.topic.as_str().to_owned(),
                String::from_utf8(delivery.message.payload.to_vec()).unwrap(),
                delivery.qos,
                delivery.retain,
                delivery.identifiers.to_vec(),
            ));
            if publish.packet_id.is_some() {
                assert!(client.acknowledge(&publish));
            }
        }
        if state == DrainState::Empty {
            return seen;
        }
    }
}

fn clients(house: &House) -> Vec<Client> {
    let plain = house.client("plain").connect();
    plain.subscribe("a", ZERO);
    let both = house.client("both").connect();
    both.subscribe("+", ONE);
    let kept = house.client("kept").persistent().connect();
    kept.subscribe("a", ONE);
    let named = house.client("named").version5().connect();
    let options = SubscribeOptions {
        no_local: true,
        retain_as_published: true,
        identifier: NonZeroU32::new(7),
        ..SubscribeOptions::v311(ZERO)
    };
    named.subscribe_with("#", options);
    let member = house.client("member").connect();
    member.subscribe("$share/g/b", ONE);
    vec![plain, both, kept, named, member]
}

prop_compose! {
    fn a_message()(
        topic in 0..2usize,
        qos in 0..2u8,
        retain in prop::bool::weighted(0.1),
        expires in prop::bool::weighted(0.1),
        large in prop::bool::weighted(0.1),
    ) -> Message {
        let mut message = message(["a", "b"][topic], "", QoS::try_from(qos).unwrap());
        message.retain = retain;
        message.expiry = expires.then_some(1_000);
        message.payload = vec![b'x'; if large { 3_000 } else { 10 }].into();
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn together_or_alone_makes_no_difference(
        batches in prop::collection::vec(
            (prop::collection::vec((a_message(), 1..6usize), 1..12), any::<bool>()), 1..5),
        drained in 1..20usize,
    ) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let houses = dirs.each_ref().map(|dir| House::open(dir.path(), Limits::default()));
        let all = houses.each_ref().map(clients);
        let mut number = 0;
        for (stretches, own) in batches {
            let mut messages = Vec::new();
            for (message, times) in stretches {
                for _ in 0..times {
                    let mut message = message.clone();
                    let text = [number.to_string().as_bytes(), &message.payload].concat();
                    message.payload = text.into();
                    number += 1;
                    messages.push(message);
                }
            }
            let from = |at: usize| own.then(|| &all[at][3]);
            let together = publish(&houses[0], from(0), messages.clone());
            for (message, together) in messages.into_iter().zip(together) {
                let alone = publish(&houses[1], from(1), vec![message]).remove(0);
                prop_assert_eq!(together.outcome, alone.outcome);
            }
            for (together, alone) in all[0].iter().zip(&all[1]) {
                prop_assert_eq!(seen(together, drained), seen(alone, 1_000));
            }
        }
    }
}

/// A queue holds no more than it may, however much comes at once.
#[test]
fn what_is_too_much_of_a_batch_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        outbox_messages: 40,
        ..Limits::default()
    };
    let house = House::open(dir.path(), limits);
    let [zero, one] = [("zero", ZERO), ("one", ONE)].map(|(id, qos)| {
        let client = house.client(id).connect();
        client.subscribe("a", qos);
        client
    });
    let numbered = |qos| {
        (0..60)
            .map(move |n| message("a", &n.to_string(), qos))
            .collect()
    };
    let dropped = || {
        let drops = METRICS.drops();
        let of = drops.iter().find(|(r, _)| *r == DropReason::SlowConsumer);
        of.map_or(0, |(_, n)| *n)
    };
    let before = dropped();
    let batch = publish(&house, None, numbered(ZERO));
    assert!(batch.iter().any(|p| p.pressure.is_some()));
    assert_eq!(dropped() - before, 40, "20 of each");
    let first: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&zero.drain()), first);
    assert_eq!(payloads(&one.drain()), first);
    assert_eq!(one.ears.heard().closed, None);
    // Beyond what it loses of QoS 0, a QoS 1 message may not be left out.
    publish(&house, None, numbered(ONE));
    assert_eq!(dropped() - before, 80);
    assert_eq!(one.ears.heard().closed, Some(CloseReason::SlowConsumer));
    assert_eq!(zero.ears.heard().closed, None);
}
