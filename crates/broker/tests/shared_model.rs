//! A shared subscription against a model: members come and go, acknowledge or not, the gateway
//! stops and starts. Every message is acknowledged by exactly one of them; one of QoS 2 that was
//! sent stays with its member, and ends with its session.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::PathBuf;

use iotedge_broker::Limits;
use iotedge_model::QoS;
use iotedge_ports::{EndKind, Outgoing, OutgoingPublish, PubRecOutcome, PublishOutcome};
use iotedge_store::{Account, TakerKind};
use proptest::prelude::*;
use support::*;

const FILTER: &str = "$share/g/a/#";
const MEMBERS: usize = 4;
const WINDOW: u16 = 3;

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
    /// Answers one that it holds: PUBACK or PUBREC, or PUBCOMP where it may.
    Answer(usize, prop::sample::Index),
    AnswerAll(usize),
    /// The session of the one that has one to lose ends.
    End,
    Restart,
}

/// A durable one that is not the first.
const ENDS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let member = || 0..MEMBERS;
    prop_oneof![
        3 => member().prop_map(Step::Connect),
        2 => member().prop_map(Step::Lose),
        3 => member().prop_map(Step::Subscribe),
        1 => (1..MEMBERS).prop_map(Step::Unsubscribe),
        5 => (1_usize..6).prop_map(Step::Publish),
        6 => member().prop_map(Step::Drain),
        5 => (member(), any::<prop::sample::Index>()).prop_map(|(m, i)| Step::Answer(m, i)),
        2 => member().prop_map(Step::AnswerAll),
        1 => Just(Step::End),
        1 => Just(Step::Restart),
    ]
}

/// How far a delivery has come at its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// QoS 1: waits for PUBACK.
    Once,
    /// QoS 2: waits for PUBREC.
    Sent,
    /// QoS 2: PUBREC was sent, PUBREL has not come.
    Received,
    /// QoS 2: waits for PUBCOMP.
    Released,
}

#[derive(Default)]
struct Member {
    client: Option<Client>,
    subscribed: bool,
    /// It has been subscribed on this connection: what it was given then may be on its way to it.
    was_subscribed: bool,
    /// What it had in flight before a restart has not been looked for.
    unread: bool,
    /// By packet id.
    holds: BTreeMap<NonZeroU16, (usize, Held)>,
}

impl Member {
    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// Its connection is gone: what of QoS 2 it has been sent.
    fn forget(&mut self) -> BTreeMap<NonZeroU16, (usize, Held)> {
        let mut holds = std::mem::take(&mut self.holds);
        holds.retain(|_, (_, held)| *held != Held::Once);
        holds
    }
}

struct Model {
    dir: PathBuf,
    house: Option<House>,
    members: [Member; MEMBERS],
    published: usize,
    /// What a session that is away has been sent of QoS 2.
    claims: [BTreeMap<NonZeroU16, (usize, Held)>; MEMBERS],
    finished: BTreeSet<usize>,
    /// Sent with QoS 2 to a session that ended.
    lost: BTreeSet<usize>,
    /// Perhaps about to be.
    perhaps_lost: BTreeSet<usize>,
}

fn number(outgoing: &OutgoingPublish) -> usize {
    payloads(std::slice::from_ref(outgoing))[0].parse().unwrap()
}

fn qos(number: usize) -> QoS {
    if number % 2 == 0 {
        QoS::AtLeastOnce
    } else {
        QoS::ExactlyOnce
    }
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
            claims: Default::default(),
            finished: BTreeSet::new(),
            lost: BTreeSet::new(),
            perhaps_lost: BTreeSet::new(),
        };
        model.connect(0);
        model.subscribe(0);
        model
    }

    fn house(&self) -> &House {
        self.house.as_ref().unwrap()
    }

    fn connect(&mut self, m: usize) {
        self.forget(m);
        let client = self.house().client(&format!("m{m}"));
        let client = client.receive_maximum(WINDOW);
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
    }

    /// The connection of a member ends.
    fn forget(&mut self, m: usize) {
        self.members[m].was_subscribed = false;
        let claimed = self.members[m].forget();
        if is_durable(m) {
            self.claims[m].extend(claimed);
        } else {
            self.lost.extend(claimed.values().map(|(n, _)| n));
        }
    }

    fn lose(&mut self, m: usize) {
        self.forget(m);
        let member = &mut self.members[m];
        if let Some(client) = member.client.take() {
            client.disconnect(EndKind::Lost);
            member.subscribed &= is_durable(m);
        }
    }

    fn subscribe(&mut self, m: usize) {
        if let Some(client) = &self.members[m].client {
            client.subscribe(FILTER, QoS::ExactlyOnce);
            self.members[m].subscribed = true;
            self.members[m].was_subscribed = true;
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
            let n = self.published;
            let outcome = self.house().publish("a/b", &n.to_string(), qos(n));
            assert_eq!(outcome, PublishOutcome::Pending);
            self.published += 1;
        }
    }

    fn drain(&mut self, m: usize) {
        let Some(client) = &self.members[m].client else {
            return;
        };
        let drained = client.drain_all();
        self.members[m].unread = false;
        for outgoing in drained {
            match outgoing {
                Outgoing::Publish(publish) => self.delivered(m, &publish),
                Outgoing::Release(id) => self.released(m, id),
            }
        }
        let window = usize::from(WINDOW);
        assert!(
            self.members[m].holds.len() <= window,
            "no more than its window"
        );
    }

    fn delivered(&mut self, m: usize, publish: &OutgoingPublish) {
        let (n, id) = (number(publish), publish.packet_id.unwrap());
        assert!(!self.finished.contains(&n), "{n} was acknowledged");
        assert!(!self.lost.contains(&n), "{n} ended with a session");
        let held = self.members.iter().flat_map(|member| member.holds.values());
        assert!(
            held.into_iter().all(|(other, _)| *other != n),
            "{n} is with another"
        );
        let claim = self
            .claims
            .iter()
            .position(|c| c.values().any(|(other, _)| *other == n));
        if let Some(claimant) = claim {
            assert_eq!(claimant, m, "{n} stays with its member");
            let claim = self.claims[m].remove(&id);
            assert_eq!(
                claim,
                Some((n, Held::Sent)),
                "the packet id, and before PUBREC"
            );
            assert!(publish.delivery.dup);
        } else if qos(n) == QoS::ExactlyOnce {
            // One whose process ended between the commit of its packet id and its PUBLISH comes
            // for the first time with DUP.
            self.perhaps_lost.remove(&n);
        }
        let held = match qos(n) {
            QoS::ExactlyOnce => Held::Sent,
            _ => Held::Once,
        };
        self.members[m].holds.insert(id, (n, held));
    }

    fn released(&mut self, m: usize, id: NonZeroU16) {
        if let Some(claim) = self.claims[m].remove(&id) {
            assert_ne!(claim.1, Held::Sent);
            self.members[m].holds.insert(id, claim);
        }
        let (_, held) = self.members[m].holds.get_mut(&id).unwrap();
        assert!(matches!(held, Held::Received | Held::Released), "{held:?}");
        *held = Held::Released;
    }

    fn answer(&mut self, m: usize, id: NonZeroU16) {
        let member = &mut self.members[m];
        let (n, held) = member.holds[&id];
        let mailbox = &member.client().connected.mailbox;
        let next = match held {
            Held::Once => {
                assert_eq!(mailbox.puback(&[id]), 1);
                None
            }
            Held::Sent => match mailbox.pubrec(id) {
                PubRecOutcome::Release => Some(Held::Released),
                PubRecOutcome::Pending => Some(Held::Received),
                PubRecOutcome::Unknown => panic!("{id} is in flight"),
            },
            Held::Received => Some(Held::Received),
            Held::Released => {
                assert!(mailbox.pubcomp(id));
                None
            }
        };
        if let Some(next) = next {
            member.holds.insert(id, (n, next));
        } else {
            member.holds.remove(&id);
            assert!(self.finished.insert(n));
        }
    }

    fn answer_all(&mut self, m: usize) {
        for id in self.members[m].holds.keys().copied().collect::<Vec<_>>() {
            self.answer(m, id);
        }
    }

    /// The packet id may be committed, and the PUBLISH not out.
    fn perhaps_lost(&mut self) {
        let odd = (0..self.published).filter(|n| qos(*n) == QoS::ExactlyOnce);
        let unsent = odd.filter(|n| !self.finished.contains(n));
        self.perhaps_lost.extend(unsent);
    }

    fn end(&mut self) {
        if self.members[ENDS].unread {
            self.perhaps_lost();
        }
        self.forget(ENDS);
        let claimed = std::mem::take(&mut self.claims[ENDS]);
        self.lost.extend(claimed.values().map(|(n, _)| n));
        let clean = self.house().client(&format!("m{ENDS}")).connect();
        clean.disconnect(EndKind::ClientInitiated);
        self.members[ENDS] = Member::default();
    }

    fn restart(&mut self) {
        let mut passing = (0..MEMBERS).filter(|m| !is_durable(*m));
        if passing.any(|m| self.members[m].was_subscribed) {
            self.perhaps_lost();
        }
        for m in 0..MEMBERS {
            self.forget(m);
            self.members[m].unread = true;
            self.members[m].client = None;
            self.members[m].subscribed &= is_durable(m);
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
            Step::Answer(m, at) => {
                let holds = &self.members[*m].holds;
                if !holds.is_empty() {
                    let id = *holds.keys().nth(at.index(holds.len())).unwrap();
                    self.answer(*m, id);
                }
            }
            Step::AnswerAll(m) => self.answer_all(*m),
            Step::End => self.end(),
            Step::Restart => self.restart(),
        }
    }

    fn account(&self) -> Account {
        let mut takers = self.house().store.takers().into_iter();
        takers
            .find(|t| t.kind == TakerKind::Shared)
            .unwrap()
            .account
    }

    /// What is left comes to whoever stays.
    fn finish(mut self) {
        (0..MEMBERS).for_each(|m| self.lose(m));
        let stay: Vec<usize> = (0..MEMBERS).filter(|m| is_durable(*m)).collect();
        stay.iter().for_each(|m| self.connect(*m));
        for round in 0.. {
            assert!(round < 1_000, "it does not end: {:?}", self.account());
            // Whatever waits, waits for a commit.
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            let done = Box::new(move |_| tell.send(()).unwrap());
            self.house().store.flush(done);
            told.recv().unwrap();
            for m in &stay {
                self.drain(*m);
                self.answer_all(*m);
            }
            if self.account().queued == 0 {
                break;
            }
        }
        for m in &stay {
            self.drain(*m);
            assert!(self.members[*m].holds.is_empty());
        }
        let gone: BTreeSet<usize> = self.lost.union(&self.perhaps_lost).copied().collect();
        for n in 0..self.published {
            assert!(
                self.finished.contains(&n) || gone.contains(&n),
                "{n} is missing"
            );
        }
        let account = self.account();
        assert!(account.balances());
        assert_eq!(account.accepted, self.published as u64);
        assert_eq!(account.delivered, self.finished.len() as u64);
    }
}

/// What a passing member was given with QoS 2 and not sent ends with its session, in a restart too,
/// although it has unsubscribed meanwhile.
#[test]
fn a_restart_ends_what_was_on_its_way_to_one_that_has_unsubscribed() {
    use Step::*;
    let steps = [
        Publish(4),
        Connect(3),
        Subscribe(3),
        Drain(3),
        Unsubscribe(3),
        Restart,
        Publish(3),
        AnswerAll(3),
        Drain(1),
        Drain(1),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::open(dir.path().to_owned());
    for step in &steps {
        model.step(step);
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn every_message_ends_with_exactly_one_member(
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
