//! A route against a model of it: whatever is published, committed, drained, acknowledged and lost
//! with a connection, nothing is lost, nothing comes twice on one connection, and the order holds.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iotedge_broker::Limits;
use iotedge_model::{QoS, TopicFilter};
use iotedge_ports::{
    AttachRoute, BrokerPort, Delivery, DrainLimit, FreshOrder, FreshRule, Mailbox, OnFull,
    Publication, RouteRules,
};
use iotedge_store::{Options, TakerKind};
use proptest::prelude::*;
use support::{Ears, House, message};

#[derive(Debug, Clone)]
enum Step {
    /// So many messages on this topic.
    Publish(u8, u8),
    /// All that was published is committed.
    Settle,
    Drain(usize),
    /// Of what is in flight, the n-th, counted round.
    Acknowledge(usize),
    /// The connection is lost.
    Rewind,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5u8, 1..6u8).prop_map(|(topic, n)| Step::Publish(topic, n)),
        2 => Just(Step::Settle),
        8 => (1..7usize).prop_map(Step::Drain),
        6 => any::<u16>().prop_map(|n| Step::Acknowledge(usize::from(n))),
        1 => Just(Step::Rewind),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

fn rule() -> impl Strategy<Value = Option<FreshRule>> {
    let order = prop_oneof![Just(FreshOrder::Topic), Just(FreshOrder::Lane)];
    prop::option::weighted(0.8, (1..100u8, order))
        .prop_map(|rule| rule.map(|(share, order)| FreshRule { share, order }))
}

/// What the route has to do.
#[derive(Default)]
struct Model {
    published: usize,
    /// Texts are numbers, in the order of acceptance, each with its topic.
    waiting: BTreeMap<usize, u8>,
    in_flight: Vec<(usize, Delivery)>,
    /// Those that this process has given out, and those on this connection.
    given: BTreeSet<usize>,
    given_here: BTreeSet<usize>,
    acknowledged: usize,
}

impl Model {
    fn came(&mut self, delivery: Delivery, order: Option<FreshOrder>) {
        let text = std::str::from_utf8(&delivery.message.payload).unwrap();
        let n: usize = text.parse().unwrap();
        let topic = self.waiting.get(&n).expect("it is not acknowledged yet");
        assert_eq!(delivery.message.topic.as_str(), format!("up/{topic}"));
        assert_eq!(delivery.dup, self.given.contains(&n), "{n}");
        let older = self.waiting.range(..n);
        let mut older = older.filter(|(older, _)| !self.given_here.contains(older));
        match order {
            None => assert_eq!(older.next(), None, "before {n}"),
            Some(FreshOrder::Topic) => {
                assert_eq!(older.find(|(_, of)| *of == topic), None, "before {n}");
            }
            Some(FreshOrder::Lane) => {}
        }
        assert!(self.given_here.insert(n), "{n} came twice");
        self.given.insert(n);
        self.in_flight.push((n, delivery));
    }

    fn rewind(&mut self) {
        self.in_flight.clear();
        self.given_here.clear();
    }
}

struct Route {
    house: House,
    mailbox: Arc<dyn Mailbox>,
    order: Option<FreshOrder>,
    model: Model,
}

impl Route {
    fn open(dir: &Path, linger: Duration, fresh: Option<FreshRule>) -> Self {
        let options = Options {
            linger,
            min_free_disk: 0,
            ..Options::default()
        };
        // A queue in memory that is soon full, and publishing goes on behind it.
        let limits = Limits {
            outbox_messages: 8,
            ..Limits::default()
        };
        let house = House::open_with(dir, limits, options);
        let mailbox = house.broker.attach_route(AttachRoute {
            name: "cloud/out".into(),
            filters: vec![TopicFilter::new("up/#").unwrap()],
            qos: QoS::AtLeastOnce,
            upstream: "cloud".into(),
            max_bytes: 1 << 30,
            max_messages: 1_000_000,
            on_full: OnFull::Reject,
            rules: RouteRules {
                fresh,
                ..RouteRules::default()
            },
            wake: Arc::new(Ears::default()),
        });
        Self {
            house,
            mailbox,
            order: fresh.map(|rule| rule.order),
            model: Model::default(),
        }
    }

    fn settle(&self) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |outcome| tell.send(outcome).unwrap());
        self.house.store.flush(done);
        told.recv().unwrap().unwrap();
    }

    fn publish(&mut self, topic: u8) {
        let n = self.model.published;
        let topic_name = format!("up/{topic}");
        let message = message(&topic_name, &n.to_string(), QoS::AtLeastOnce);
        self.model.published += 1;
        self.model.waiting.insert(n, topic);
        self.house
            .broker
            .publish(&mut [Publication::new(message, None)]);
    }

    /// How many came.
    fn drain(&mut self, messages: usize) -> usize {
        let (mut out, bytes) = (Vec::new(), 1 << 20);
        self.mailbox.drain(DrainLimit { messages, bytes }, &mut out);
        let came = out.len();
        assert!(came <= messages);
        for delivery in out {
            self.model.came(delivery, self.order);
        }
        came
    }

    fn acknowledge(&mut self, at: usize) {
        let model = &mut self.model;
        if model.in_flight.is_empty() {
            return;
        }
        let (n, delivery) = model.in_flight.remove(at % model.in_flight.len());
        model.waiting.remove(&n);
        model.acknowledged += 1;
        self.mailbox.acknowledge(&[delivery]);
    }

    fn step(mut self, step: &Step, again: impl FnOnce() -> Self) -> Self {
        match step {
            Step::Publish(topic, n) => (0..*n).for_each(|_| self.publish(*topic)),
            Step::Settle => self.settle(),
            Step::Drain(messages) => {
                self.drain(*messages);
            }
            Step::Acknowledge(at) => self.acknowledge(*at),
            Step::Rewind => {
                self.mailbox.rewind();
                self.model.rewind();
            }
            Step::Restart => {
                let Self {
                    house,
                    mailbox,
                    mut model,
                    ..
                } = self;
                drop(mailbox);
                house.close();
                model.rewind();
                model.given.clear();
                return Self { model, ..again() };
            }
        }
        self
    }

    /// Everything comes in the end, and the books balance.
    fn end(mut self) {
        self.settle();
        let mut idle = 0;
        while !self.model.waiting.is_empty() {
            let came = self.drain(16);
            while !self.model.in_flight.is_empty() {
                self.acknowledge(0);
            }
            idle = if came == 0 { idle + 1 } else { 0 };
            assert!(idle < 5, "{:?} do not come", self.model.waiting);
        }
        assert_eq!(self.drain(16), 0);
        self.settle();
        let store = &self.house.store;
        let taker = store.find_taker(TakerKind::Route, "cloud/out").unwrap();
        let account = store.account(taker);
        assert!(account.balances(), "{account:?}");
        let all = self.model.published as u64;
        assert_eq!((account.accepted, account.delivered), (all, all));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_and_the_order_holds(
        steps in steps(),
        fresh in rule(),
        linger in prop_oneof![Just(0), Just(3), Just(40)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Route::open(dir.path(), Duration::from_millis(linger), fresh);
        let mut route = open();
        for step in &steps {
            route = route.step(step, open);
        }
        route.end();
    }
}
