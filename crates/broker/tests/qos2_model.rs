//! QoS 2 against a model: a publisher and a subscriber that lose their connections at any point of
//! an exchange, a broker that is taken over, stopped or cut off. Each message is delivered exactly
//! once, in order.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iotedge_broker::Limits;
use iotedge_model::QoS;
use iotedge_ports::{
    BrokerPort, EndKind, Outgoing, OutgoingPublish, PubRecOutcome, Publication, PublishOutcome,
};
use iotedge_store::{Options, Store};
use proptest::prelude::*;
use support::*;

const WINDOW: u16 = 4;
const TWO: QoS = QoS::ExactlyOnce;
/// Tokens of PUBREL; those of PUBLISH are packet ids.
const RELEASE: u64 = 1 << 20;

#[derive(Debug, Clone)]
enum Step {
    /// The publisher sends so many.
    Publish(usize),
    /// The publisher hears what has come and sends PUBREL.
    Hear,
    /// It waits for everything first.
    HearAll,
    ConnectPublisher,
    LosePublisher,
    Drain,
    /// The subscriber sends the PUBREC or PUBCOMP that it owes.
    Answer(prop::sample::Index),
    AnswerAll,
    ConnectSubscriber,
    LoseSubscriber,
    /// The broker stops and starts.
    Restart,
    /// The power goes: what is not committed is gone.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..5).prop_map(Step::Publish),
        3 => Just(Step::Hear),
        4 => Just(Step::HearAll),
        2 => Just(Step::ConnectPublisher),
        1 => Just(Step::LosePublisher),
        6 => Just(Step::Drain),
        6 => any::<prop::sample::Index>().prop_map(Step::Answer),
        2 => Just(Step::AnswerAll),
        2 => Just(Step::ConnectSubscriber),
        1 => Just(Step::LoseSubscriber),
        1 => Just(Step::Restart),
        2 => Just(Step::Cut),
    ]
}

/// Where the publisher is with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// PUBLISH has gone.
    Sent,
    /// PUBREC has come, and PUBREL has not gone.
    Received,
    /// PUBREL has gone.
    Releasing,
}

/// The publisher's side: it remembers what it has not completed whatever happens.
#[derive(Default)]
struct Publisher {
    client: Option<Client>,
    heard: usize,
    flights: VecDeque<(u16, usize, Sending)>,
    last_id: u16,
    count: usize,
}

/// The subscriber's side, which remembers the ids that it has received.
#[derive(Default)]
struct Subscriber {
    client: Option<Client>,
    held: BTreeMap<NonZeroU16, usize>,
    delivered: Vec<usize>,
    /// PUBREC (`false`) and PUBCOMP (`true`) that it has not sent.
    owes: Vec<(NonZeroU16, bool)>,
    /// Messages in flight on this connection.
    open: usize,
}

struct Model {
    dirs: Vec<tempfile::TempDir>,
    dir: PathBuf,
    house: Option<House>,
    publisher: Publisher,
    subscriber: Subscriber,
    /// A client whose session ends with each connection.
    live: Option<Client>,
    live_delivered: Vec<usize>,
}

fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn number(publish: &OutgoingPublish) -> usize {
    payloads(std::slice::from_ref(publish))[0].parse().unwrap()
}

impl Publisher {
    fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    fn connect(&mut self, house: &House) {
        let client = house.client("p").persistent().connect();
        let known = client.connected.unreleased.clone();
        self.client = Some(client);
        self.heard = 0;
        for (packet_id, n, state) in self.flights.clone() {
            match state {
                // The gateway answers those that it is told of itself.
                Sending::Sent if known.contains(&id(packet_id)) => {
                    self.set(packet_id, Sending::Received);
                }
                Sending::Sent => self.send(packet_id, n),
                Sending::Received | Sending::Releasing => self.release(packet_id),
            }
        }
    }

    fn set(&mut self, packet_id: u16, state: Sending) {
        for flight in &mut self.flights {
            if flight.0 == packet_id {
                flight.2 = state;
            }
        }
    }

    fn publish(&mut self) {
        if self.client.is_none() || self.flights.len() >= 10 {
            return;
        }
        loop {
            self.last_id = self.last_id % 12 + 1;
            let free = self.flights.iter().all(|(used, ..)| *used != self.last_id);
            if free {
                break;
            }
        }
        self.count += 1;
        let (packet_id, n) = (self.last_id, self.count);
        self.flights.push_back((packet_id, n, Sending::Sent));
        self.send(packet_id, n);
    }

    fn send(&mut self, packet_id: u16, n: usize) {
        let client = self.client().unwrap();
        let ack = (client.ears.clone() as Arc<_>, u64::from(packet_id));
        let mut publication = Publication::new(message("t", &n.to_string(), TWO), Some(ack));
        publication.connection = Some(client.connected.connection);
        publication.inbound = Some(id(packet_id));
        let mut batch = [publication];
        client.broker.publish(&mut batch);
        match batch[0].outcome {
            PublishOutcome::Pending => {}
            PublishOutcome::Done { .. } => self.set(packet_id, Sending::Received),
            PublishOutcome::Refused(reason) => panic!("{reason:?}"),
        }
    }

    fn release(&mut self, packet_id: u16) {
        self.set(packet_id, Sending::Releasing);
        let client = self.client().unwrap();
        let ack = (
            client.ears.clone() as Arc<_>,
            RELEASE + u64::from(packet_id),
        );
        assert!(client.connected.mailbox.release(id(packet_id), Some(ack)));
    }

    /// PUBREC and PUBCOMP that have come.
    fn hear(&mut self) {
        let Some(client) = self.client() else { return };
        let heard = client.ears.heard().acked;
        for (token, outcome) in &heard[self.heard..] {
            outcome.unwrap();
            let packet_id = u16::try_from(token % RELEASE).unwrap();
            if *token > RELEASE {
                self.flights.retain(|(used, ..)| *used != packet_id);
            } else {
                self.set(packet_id, Sending::Received);
            }
        }
        self.heard = heard.len();
        let received = self.flights.iter().filter(|f| f.2 == Sending::Received);
        let received: Vec<u16> = received.map(|(packet_id, ..)| *packet_id).collect();
        for packet_id in received {
            self.release(packet_id);
        }
    }

    fn hear_all(&mut self) {
        self.hear();
        while let (Some(client), false) = (self.client(), self.flights.is_empty()) {
            let heard = self.heard;
            client.ears.wait("an answer", |h| h.acked.len() > heard);
            self.hear();
        }
    }
}

impl Subscriber {
    fn connect(&mut self, house: &House) {
        let client = house.client("s").persistent().connect();
        if !client.connected.session_present {
            client.subscribe("t", TWO);
        }
        self.client = Some(client);
        // What was on its way is lost.
        self.owes.clear();
        self.open = 0;
    }

    fn drain(&mut self) {
        let Some(client) = &self.client else { return };
        for outgoing in client.drain_all() {
            match outgoing {
                Outgoing::Publish(publish) => {
                    self.open += 1;
                    assert!(self.open <= usize::from(WINDOW), "the window is kept");
                    self.take(&publish);
                }
                Outgoing::Release(packet_id) => self.released(packet_id),
            }
        }
    }

    fn take(&mut self, publish: &OutgoingPublish) {
        assert_eq!(publish.delivery.qos, TWO);
        let packet_id = publish.packet_id.unwrap();
        let n = number(publish);
        match self.held.insert(packet_id, n) {
            None => self.delivered.push(n),
            Some(before) => {
                assert_eq!(before, n, "an id in flight names another message");
                assert!(publish.delivery.dup);
            }
        }
        self.owes.push((packet_id, false));
    }

    fn released(&mut self, packet_id: NonZeroU16) {
        self.held.remove(&packet_id);
        self.owes.push((packet_id, true));
    }

    fn answer(&mut self, at: usize) {
        let Some(client) = &self.client else { return };
        let mailbox = &client.connected.mailbox;
        let (packet_id, complete) = self.owes.remove(at);
        if complete {
            assert!(mailbox.pubcomp(packet_id));
            // One that was released on an earlier connection was not open on this one.
            self.open = self.open.saturating_sub(1);
            return;
        }
        match mailbox.pubrec(packet_id) {
            PubRecOutcome::Pending => {}
            PubRecOutcome::Release => self.released(packet_id),
            PubRecOutcome::Unknown => panic!("{packet_id} is in flight"),
        }
    }
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Self {
            dir: dir.path().to_owned(),
            dirs: vec![dir],
            house: None,
            publisher: Publisher::default(),
            subscriber: Subscriber::default(),
            live: None,
            live_delivered: Vec::new(),
        };
        model.open();
        let house = model.house.as_ref().unwrap();
        model.subscriber.connect(house);
        model.publisher.connect(house);
        model
    }

    fn open(&mut self) {
        let limits = Limits {
            max_inflight: WINDOW,
            ..Limits::default()
        };
        let options = Options {
            // Long enough for the power to go before the commit.
            linger: Duration::from_millis(10),
            min_free_disk: 0,
            ..Options::default()
        };
        let house = House::open_with(&self.dir, limits, options);
        let live = house.client("live").connect();
        live.subscribe("t", TWO);
        self.live = Some(live);
        self.house = Some(house);
    }

    fn close(&mut self) {
        self.publisher.client = None;
        self.subscriber.client = None;
        self.live = None;
        self.house.take().unwrap().close();
    }

    /// What the store holds at this moment is all that is left.
    fn cut(&mut self) {
        let parent = tempfile::tempdir().unwrap();
        let copy = parent.path().join("data");
        let house = self.house.as_ref().unwrap();
        house.store.backup(&copy).unwrap();
        // Heard after the copy was made: it never came.
        self.close();
        self.dir = copy;
        self.dirs.push(parent);
        self.open();
    }

    fn drain_live(&mut self) {
        let Some(client) = &self.live else { return };
        let mailbox = &client.connected.mailbox;
        for publish in client.drain() {
            let n = number(&publish);
            assert!(self.live_delivered.last().is_none_or(|last| *last < n));
            self.live_delivered.push(n);
            let packet_id = publish.packet_id.unwrap();
            assert_eq!(mailbox.pubrec(packet_id), PubRecOutcome::Release);
            assert!(mailbox.pubcomp(packet_id));
        }
    }

    fn step(&mut self, step: &Step) {
        let house = self.house.as_ref().unwrap();
        match step {
            Step::Publish(n) => (0..*n).for_each(|_| self.publisher.publish()),
            Step::Hear => self.publisher.hear(),
            Step::HearAll => self.publisher.hear_all(),
            Step::ConnectPublisher => self.publisher.connect(house),
            Step::LosePublisher => {
                if let Some(client) = self.publisher.client.take() {
                    client.disconnect(EndKind::Lost);
                }
            }
            Step::Drain => self.subscriber.drain(),
            Step::Answer(index) => {
                if !self.subscriber.owes.is_empty() {
                    let at = index.index(self.subscriber.owes.len());
                    self.subscriber.answer(at);
                }
            }
            Step::AnswerAll => {
                for _ in 0..self.subscriber.owes.len() {
                    self.subscriber.answer(0);
                    if self.subscriber.client.is_none() {
                        break;
                    }
                }
            }
            Step::ConnectSubscriber => self.subscriber.connect(house),
            Step::LoseSubscriber => {
                self.subscriber.owes.clear();
                if let Some(client) = self.subscriber.client.take() {
                    client.disconnect(EndKind::Lost);
                }
            }
            Step::Restart => {
                self.close();
                self.open();
            }
            Step::Cut => self.cut(),
        }
        self.drain_live();
        let delivered = &self.subscriber.delivered;
        let in_order = delivered.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "each once and in order: {delivered:?}");
    }

    /// Everyone comes back and finishes.
    fn finish(mut self) {
        let house = self.house.as_ref().unwrap();
        self.publisher.connect(house);
        self.subscriber.connect(house);
        self.publisher.hear_all();
        let all: Vec<usize> = (1..=self.publisher.count).collect();
        let client = |model: &Self| model.subscriber.client.as_ref().unwrap().ears.clone();
        loop {
            let wakes = client(&self).heard().wakes;
            self.subscriber.drain();
            while !self.subscriber.owes.is_empty() {
                self.subscriber.answer(0);
                self.subscriber.drain();
            }
            let open = !self.subscriber.held.is_empty() || self.subscriber.open > 0;
            if self.subscriber.delivered.len() >= all.len() && !open {
                break;
            }
            client(&self).wait("a packet", |h| h.wakes > wakes);
        }
        assert_eq!(self.subscriber.delivered, all);
        let house = self.house.take().unwrap();
        let queue = house.store.takers().into_iter().find(|t| &*t.name == "s");
        let account = queue.unwrap().account;
        assert!(account.balances());
        assert_eq!((account.queued, account.dropped.len()), (0, 0));
        drop((self.publisher, self.subscriber, self.live));
        house.close();
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (_store, opened) = Store::open(&self.dir, options).unwrap();
        assert!(opened.sessions.iter().all(|s| s.unreleased.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_message_is_delivered_exactly_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }
}
