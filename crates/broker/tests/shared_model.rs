//! A shared subscription against a model: members come and go, acknowledge or not, the gateway
//! stops and starts. Every message is acknowledged by exactly one of them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use iotedge_broker::Limits;
use iotedge_model::QoS;
use iotedge_ports::{EndKind, OutgoingPublish, PublishOutcome};
use iotedge_store::TakerKind;
use proptest::prelude::*;
use support::*;

const FILTER: &str = "$share/g/a/#";
const MEMBERS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Connects, or takes over.
    Connect(usize),
    Lose(usize),
    Subscribe(usize),
    /// Never the first: the group keeps its queue.
    Unsubscribe(usize),
    Publish(usize),
    Drain(usize),
    /// Acknowledges one that it holds.
    Acknowledge(usize, prop::sample::Index),
    AcknowledgeAll(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let member = || 0..MEMBERS;
    prop_oneof![
        3 => member().prop_map(Step::Connect),
        2 => member().prop_map(Step::Lose),
        3 => member().prop_map(Step::Subscribe),
        1 => (1..MEMBERS).prop_map(Step::Unsubscribe),
        5 => (1_usize..6).prop_map(Step::Publish),
        6 => member().prop_map(Step::Drain),
        3 => (member(), any::<prop::sample::Index>()).prop_map(|(m, i)| Step::Acknowledge(m, i)),
        2 => member().prop_map(Step::AcknowledgeAll),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default)]
struct Member {
    client: Option<Client>,
    subscribed: bool,
    holds: Vec<OutgoingPublish>,
}

struct Model {
    dir: PathBuf,
    house: Option<House>,
    members: [Member; MEMBERS],
    published: usize,
    acknowledged: BTreeSet<usize>,
}

fn number(outgoing: &OutgoingPublish) -> usize {
    payloads(std::slice::from_ref(outgoing))[0].parse().unwrap()
}

/// Every other member has a session that outlives its connection.
fn is_durable(member: usize) -> bool {
    member % 2 == 0
}

impl Model {
    fn open(dir: PathBuf) -> Self {
        let house = House::open(&dir, Limits::default());
        let mut model = Self {
            dir,
            house: Some(house),
            members: Default::default(),
            published: 0,
            acknowledged: BTreeSet::new(),
        };
        model.connect(0);
        model.subscribe(0);
        model
    }

    fn house(&self) -> &House {
        self.house.as_ref().unwrap()
    }

    fn connect(&mut self, m: usize) {
        let client = self.house().client(&format!("m{m}")).receive_maximum(3);
        let client = if is_durable(m) {
            client.persistent()
        } else {
            client
        };
        let client = client.connect();
        let member = &mut self.members[m];
        member.subscribed &= client.connected.session_present;
        assert_eq!(
            client.connected.filters.len(),
            usize::from(member.subscribed)
        );
        member.client = Some(client);
        member.holds.clear();
    }

    fn lose(&mut self, m: usize) {
        let member = &mut self.members[m];
        member.holds.clear();
        if let Some(client) = member.client.take() {
            client.disconnect(EndKind::Lost);
            member.subscribed &= is_durable(m);
        }
    }

    fn subscribe(&mut self, m: usize) {
        if let Some(client) = &self.members[m].client {
            client.subscribe(FILTER, QoS::AtLeastOnce);
            self.members[m].subscribed = true;
        }
    }

    fn unsubscribe(&mut self, m: usize) {
        let member = &mut self.members[m];
        if let (Some(client), true) = (&member.client, member.subscribed) {
            client.unsubscribe(FILTER);
            member.subscribed = false;
        }
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let text = self.published.to_string();
            let outcome = self.house().publish("a/b", &text, QoS::AtLeastOnce);
            assert_eq!(outcome, PublishOutcome::Pending);
            self.published += 1;
        }
    }

    fn drain(&mut self, m: usize) {
        let Some(client) = &self.members[m].client else {
            return;
        };
        for outgoing in client.drain() {
            let n = number(&outgoing);
            assert!(!self.acknowledged.contains(&n), "{n} was acknowledged");
            let held = self.members.iter().flat_map(|member| &member.holds);
            assert!(
                held.map(number).all(|other| other != n),
                "{n} is with another"
            );
            self.members[m].holds.push(outgoing);
        }
        assert!(self.members[m].holds.len() <= 3, "no more than its window");
    }

    fn acknowledge(&mut self, m: usize, at: usize) {
        let outgoing = self.members[m].holds.remove(at);
        let client = self.members[m].client.as_ref().unwrap();
        assert!(client.acknowledge(&outgoing));
        assert!(self.acknowledged.insert(number(&outgoing)));
    }

    fn acknowledge_all(&mut self, m: usize) {
        while !self.members[m].holds.is_empty() {
            self.acknowledge(m, 0);
        }
    }

    fn restart(&mut self) {
        for (m, member) in self.members.iter_mut().enumerate() {
            member.client = None;
            member.holds.clear();
            member.subscribed &= is_durable(m);
        }
        self.house.take().unwrap().close();
        self.house = Some(House::open(&self.dir, Limits::default()));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Connect(m) => self.connect(*m),
            Step::Lose(m) => self.lose(*m),
            Step::Subscribe(m) => self.subscribe(*m),
            Step::Unsubscribe(m) => self.unsubscribe(*m),
            Step::Publish(count) => self.publish(*count),
            Step::Drain(m) => self.drain(*m),
            Step::Acknowledge(m, at) => {
                if !self.members[*m].holds.is_empty() {
                    self.acknowledge(*m, at.index(self.members[*m].holds.len()));
                }
            }
            Step::AcknowledgeAll(m) => self.acknowledge_all(*m),
            Step::Restart => self.restart(),
        }
    }

    /// What is left comes to whoever stays.
    fn finish(mut self) {
        (1..MEMBERS).for_each(|m| self.lose(m));
        self.connect(0);
        while self.acknowledged.len() < self.published {
            let client = self.members[0].client.as_ref().unwrap();
            let wakes = client.ears.heard().wakes;
            self.drain(0);
            if self.members[0].holds.is_empty() {
                let client = self.members[0].client.as_ref().unwrap();
                client
                    .ears
                    .wait("what is left", |heard| heard.wakes > wakes);
            }
            self.acknowledge_all(0);
        }
        self.drain(0);
        assert!(self.members[0].holds.is_empty());
        let store = &self.house().store;
        let mut takers = store.takers().into_iter();
        let taker = takers.find(|t| t.kind == TakerKind::Shared).unwrap();
        assert!(taker.account.balances());
        assert_eq!(taker.account.accepted, self.published as u64);
        assert_eq!(taker.account.delivered, self.published as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn every_message_is_acknowledged_by_exactly_one_member(
        steps in proptest::collection::vec(step(), 10..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::open(dir.path().to_owned());
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }
}
