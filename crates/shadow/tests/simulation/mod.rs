//! The world around the machine.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod cloud;
mod options;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cloud::Cloud;
use iotedge_model::{Now, TopicFilter, UnixMillis};
use iotedge_shadow::SyncKey;
use iotedge_shadow::core::sync::{self, Base, Direction, Replica, Seen, Synchronised};
use iotedge_shadow::core::{self, Limits, ShadowError, Stored};
use iotedge_shadow::sync::{Action, Machine, Selection, Settings};
use serde_json::{Value, json};

pub use options::{Dice, Options};

/// What the service has been asked.
enum Job {
    Merge(SyncKey, Seen),
    Settle(SyncKey, Option<Base>),
}

/// What the machine will be told.
enum Told {
    Changed(SyncKey),
    Merged(SyncKey, Box<Result<Synchronised, ShadowError>>),
}

/// One with its own store, and its link.
struct Gateway {
    local: BTreeMap<String, Vec<u8>>,
    machine: Machine,
    jobs: VecDeque<Job>,
    told: VecDeque<Told>,
    link: bool,
    /// What the cloud knows of its subscriptions.
    filters: BTreeSet<String>,
    up: VecDeque<(String, Vec<u8>)>,
    down: VecDeque<(String, Vec<u8>)>,
}

impl Gateway {
    fn is_subscribed(&self, topic: &str) -> bool {
        let mut filters = self.filters.iter();
        filters.any(|filter| TopicFilter::new(filter).unwrap().matches(topic))
    }

    fn is_busy(&self) -> bool {
        !(self.up.is_empty()
            && self.down.is_empty()
            && self.jobs.is_empty()
            && self.told.is_empty())
    }

    fn stored(&self, shadow: &str) -> Option<Stored<'static>> {
        let body = self.local.get(shadow)?;
        Some(Stored::parse(body).unwrap().into_owned())
    }

    fn replica(&self, shadow: &str) -> Replica {
        self.stored(shadow)
            .map_or(Replica::Gone, |stored| stored.replica())
    }
}

pub struct World {
    dice: Dice,
    options: Options,
    now: u64,
    peer: u64,
    cloud: Cloud,
    gateways: Vec<Gateway>,
    values: u64,
    /// `SHADOW_TRACE`: tells what happens.
    trace: bool,
    /// What only one side says, by shadow and leaf.
    said: BTreeMap<(String, String), Value>,
}

const KEYS: [&str; 3] = ["fan", "lamp", "lamp/cfg"];

fn limits() -> Limits {
    Limits::default()
}

fn key(text: &str) -> SyncKey {
    SyncKey::parse(text).unwrap()
}

pub fn at(now: u64) -> Now {
    Now {
        mono: now,
        wall: UnixMillis(1_700_000_000_000 + now),
        trusted: true,
    }
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed);
        let mut gateway = || Gateway {
            local: BTreeMap::new(),
            machine: Machine::new(settings(options, 0), dice.roll(u64::MAX), 0),
            jobs: VecDeque::new(),
            told: VecDeque::new(),
            link: false,
            filters: BTreeSet::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
        };
        let gateways = (0..options.gateways).map(|_| gateway()).collect();
        Self {
            dice,
            options,
            now: 0,
            peer: 0,
            cloud: Cloud::default(),
            gateways,
            values: 0,
            trace: std::env::var_os("SHADOW_TRACE").is_some(),
            said: BTreeMap::new(),
        }
    }

    /// One thing happens.
    pub fn step(&mut self) {
        let many = u64::try_from(self.gateways.len()).unwrap();
        let at = usize::try_from(self.dice.roll(many)).unwrap();
        match self.dice.roll(100) {
            0..15 => self.local_client(at),
            15..30 => self.cloud_client(),
            30..50 => self.carry_up(at),
            50..70 => self.carry_down(at),
            70..80 => self.serve(at),
            80..90 => self.think(at),
            90..94 => self.now += self.dice.roll(20_000),
            94..97 => self.toggle_link(at),
            _ if self.options.crashes => self.crash(at),
            _ => self.think(at),
        }
    }

    /// A new value of some leaf, or none.
    fn change(&mut self, name: &str, mine: &str, shadow: &str) -> Value {
        self.values += 1;
        let section = ["desired", "reported"][usize::try_from(self.dice.roll(2)).unwrap()];
        let leaf = match self.dice.roll(4) {
            0 | 1 => mine,
            2 => "both",
            _ => "nested",
        };
        let value = match self.dice.percent(15) {
            true => Value::Null,
            false => json!(self.values),
        };
        if leaf == mine {
            let place = (shadow.to_owned(), format!("{section}.{mine}"));
            self.said.insert(place, value.clone());
        }
        let value = match leaf {
            "nested" => json!({name: value, "shared": {"x": self.values}}),
            _ => value,
        };
        json!({"state": {section: {leaf: value}}})
    }

    fn any_key(&mut self) -> &'static str {
        KEYS[usize::try_from(self.dice.roll(3)).unwrap()]
    }

    fn local_client(&mut self, at_gateway: usize) {
        let shadow = self.any_key();
        let delete = self.options.deletions && self.dice.percent(12);
        let name = format!("l{at_gateway}");
        let request = self.change(&name, &name, shadow).to_string();
        let now = at(self.now);
        let gateway = &mut self.gateways[at_gateway];
        let stored = gateway.stored(shadow);
        let bytes = if delete {
            match core::delete(stored.as_ref(), b"", shadow, &now, &limits()) {
                Ok(deleted) => Stored::Deleted(deleted.tombstone).to_bytes(),
                Err(_) => return,
            }
        } else {
            let updated = core::update(stored.as_ref(), request.as_bytes(), &now, &limits());
            Stored::Live(updated.unwrap().document).to_bytes()
        };
        gateway.local.insert(shadow.to_owned(), bytes);
        gateway.told.push_back(Told::Changed(key(shadow)));
    }

    fn cloud_client(&mut self) {
        let shadow = self.any_key();
        let now = at(self.now);
        let messages = if self.options.deletions && self.dice.percent(12) {
            self.cloud.ask(shadow, "delete", b"", &now)
        } else {
            let request = self.change("there", "c", shadow).to_string();
            self.cloud.ask(shadow, "update", request.as_bytes(), &now)
        };
        self.tell(messages);
    }

    /// The cloud says something: who has subscribed hears it.
    fn tell(&mut self, messages: Vec<(String, Vec<u8>)>) {
        for gateway in &mut self.gateways {
            for (topic, payload) in &messages {
                if !gateway.link || !gateway.is_subscribed(topic) {
                    continue;
                }
                if self.dice.percent(self.options.loss) {
                    continue;
                }
                let copies = 1 + usize::from(self.dice.percent(self.options.doubles));
                for _ in 0..copies {
                    gateway.down.push_back((topic.clone(), payload.clone()));
                }
            }
        }
    }

    fn pick(&mut self, many: usize) -> usize {
        match self.options.reorder {
            true => usize::try_from(self.dice.roll(u64::try_from(many).unwrap())).unwrap(),
            false => 0,
        }
    }

    fn carry_up(&mut self, at_gateway: usize) {
        if self.gateways[at_gateway].up.is_empty() {
            return;
        }
        let at_place = self.pick(self.gateways[at_gateway].up.len());
        let gateway = &mut self.gateways[at_gateway];
        let (topic, payload) = gateway.up.remove(at_place).unwrap();
        if let Some(filter) = topic.strip_prefix("SUBSCRIBE ") {
            gateway.filters.insert(filter.to_owned());
            gateway.machine.subscribed(filter, true, self.now);
            return;
        }
        if let Some(filter) = topic.strip_prefix("UNSUBSCRIBE ") {
            gateway.filters.remove(filter);
            return;
        }
        let rest = topic.strip_prefix("$aws/things/").unwrap();
        let (shadow, operation) = rest.rsplit_once('/').unwrap();
        let shadow = shadow.replace("/shadow/name/", "/").replace("/shadow", "");
        let messages = if self.dice.percent(self.options.failures) {
            let code = [429, 500][usize::try_from(self.dice.roll(2)).unwrap()];
            Cloud::fail(&topic, &payload, code)
        } else {
            self.cloud.ask(&shadow, operation, &payload, &at(self.now))
        };
        self.tell(messages);
    }

    fn carry_down(&mut self, at_gateway: usize) {
        if self.gateways[at_gateway].down.is_empty() {
            return;
        }
        let at_place = self.pick(self.gateways[at_gateway].down.len());
        let gateway = &mut self.gateways[at_gateway];
        let (topic, payload) = gateway.down.remove(at_place).unwrap();
        if self.trace {
            let payload = String::from_utf8_lossy(&payload);
            eprintln!("{} {at_gateway}: {topic} {payload}", self.now);
        }
        gateway.machine.received(&topic, &payload, self.now);
    }

    /// The service does one job.
    fn serve(&mut self, at_gateway: usize) {
        let now = at(self.now);
        let gateway = &mut self.gateways[at_gateway];
        match gateway.jobs.pop_front() {
            None => {}
            Some(Job::Merge(key, seen)) => {
                let stored = gateway.stored(&key.to_string());
                let merged = sync::synchronise(stored.as_ref(), &seen, &now, &limits());
                let answer = merged.map(|merged| {
                    if let Some(body) = merged.put {
                        gateway.local.insert(key.to_string(), body);
                    }
                    merged.answer
                });
                let answer = answer.map_err(|rejection| rejection.reason);
                gateway.told.push_back(Told::Merged(key, Box::new(answer)));
            }
            Some(Job::Settle(key, base)) => {
                let stored = gateway.stored(&key.to_string());
                let peer = self.peer.to_string();
                if let Some(body) = sync::settle(stored.as_ref(), &peer, base.as_ref()) {
                    gateway.local.insert(key.to_string(), body);
                }
            }
        }
    }

    /// The machine hears what it was told and acts.
    fn think(&mut self, at_gateway: usize) {
        let gateway = &mut self.gateways[at_gateway];
        while let Some(told) = gateway.told.pop_front() {
            match told {
                Told::Changed(key) => gateway.machine.found(&key, true),
                Told::Merged(key, answer) => gateway.machine.merged(&key, *answer, self.now),
            }
        }
        gateway.machine.poll(self.now);
        for action in gateway.machine.actions() {
            self.act(at_gateway, action);
        }
    }

    fn act(&mut self, at_gateway: usize, action: Action) {
        if self.trace {
            eprintln!("{} {at_gateway}: {action:?}", self.now);
        }
        let jobs = &mut self.gateways[at_gateway].jobs;
        match action {
            Action::Merge(key, seen) => jobs.push_back(Job::Merge(key, *seen)),
            Action::Settle(key, base) => jobs.push_back(Job::Settle(key, base.map(|b| *b))),
            Action::Note(..) => {}
            Action::Publish { topic, payload } => {
                self.send(at_gateway, topic, payload.into_bytes());
            }
            Action::Subscribe(filters) => {
                assert!(filters.len() <= 8);
                for filter in filters {
                    self.send(at_gateway, format!("SUBSCRIBE {filter}"), Vec::new());
                }
            }
            Action::Unsubscribe(filters) => {
                for filter in filters {
                    self.send(at_gateway, format!("UNSUBSCRIBE {filter}"), Vec::new());
                }
            }
        }
    }

    fn send(&mut self, at_gateway: usize, topic: String, payload: Vec<u8>) {
        let gateway = &mut self.gateways[at_gateway];
        let control = topic.contains("SUBSCRIBE ");
        if !gateway.link || (!control && self.dice.percent(self.options.loss)) {
            return;
        }
        if !control && self.dice.percent(self.options.doubles) {
            gateway.up.push_back((topic.clone(), payload.clone()));
        }
        gateway.up.push_back((topic, payload));
    }

    fn toggle_link(&mut self, at_gateway: usize) {
        let gateway = &mut self.gateways[at_gateway];
        match gateway.link {
            true => self.cut(at_gateway),
            false => {
                gateway.link = true;
                gateway.machine.link_up();
            }
        }
    }

    fn cut(&mut self, at_gateway: usize) {
        let gateway = &mut self.gateways[at_gateway];
        gateway.link = false;
        gateway.filters.clear();
        gateway.down.clear();
        // What has left may arrive all the same, late; its answers find nobody.
        let keep = self.dice.percent(50);
        gateway
            .up
            .retain(|(topic, _)| keep && !topic.contains("SUBSCRIBE "));
        gateway.machine.link_down();
    }

    /// `kill -9`: what is on disk is left.
    fn crash(&mut self, at_gateway: usize) {
        if self.gateways[at_gateway].link {
            self.cut(at_gateway);
        }
        // For one alone; another would see a cloud in which all was deleted.
        let another = self.gateways.len() == 1 && self.options.deletions && self.dice.percent(10);
        let gateway = &mut self.gateways[at_gateway];
        gateway.jobs.clear();
        gateway.told.clear();
        if another {
            // The upstream is another one from now on.
            self.peer += 1;
            self.cloud.wipe();
            gateway.up.clear();
        }
        let seed = self.dice.roll(u64::MAX);
        gateway.machine = Machine::new(settings(self.options, self.peer), seed, self.now);
        for (name, body) in &gateway.local {
            let news = Stored::parse(body).unwrap().known().is_none();
            // With or without: the cloud is asked for each at the next connection.
            gateway.machine.found(&key(name), news);
        }
    }

    fn pump(&mut self) {
        let mut rounds = 0;
        (0..self.gateways.len()).for_each(|at| self.think(at));
        while self.gateways.iter().any(Gateway::is_busy) {
            for at in 0..self.gateways.len() {
                while !self.gateways[at].up.is_empty() {
                    self.carry_up(at);
                }
                while !self.gateways[at].down.is_empty() {
                    self.carry_down(at);
                }
                while !self.gateways[at].jobs.is_empty() {
                    self.serve(at);
                }
                self.think(at);
            }
            rounds += 1;
            assert!(rounds < 1000, "it does not come to rest");
        }
    }

    /// Nothing fails any more, and nobody changes anything.
    pub fn settle(&mut self) {
        self.options.loss = 0;
        self.options.doubles = 0;
        self.options.reorder = false;
        self.options.failures = 0;
        for at in 0..self.gateways.len() {
            if !self.gateways[at].link {
                self.toggle_link(at);
            }
        }
        // Long enough for what was lost to be noticed.
        let end = self.now + 600_000;
        while self.now < end {
            self.pump();
            let now = self.now;
            let next = self
                .gateways
                .iter_mut()
                .map(|g| g.machine.poll(now).unwrap());
            self.now = next.min().unwrap().clamp(now + 1, end);
        }
        self.pump();
    }

    /// All versions, and how much was sent.
    fn marks(&self) -> (Vec<Option<u64>>, u64) {
        let there = KEYS.iter().map(|shadow| self.cloud.replica(shadow));
        let gateways = self.gateways.iter();
        let here = gateways
            .clone()
            .flat_map(|gateway| KEYS.iter().map(|shadow| gateway.replica(shadow)));
        let versions = here.chain(there).map(|replica| replica.version()).collect();
        (versions, gateways.map(|g| g.machine.status().sent).sum())
    }

    /// What must hold now.
    pub fn check(&mut self) {
        for gateway in &self.gateways {
            let status = gateway.machine.status();
            for shadow in KEYS {
                let here = state(&gateway.replica(shadow));
                let there = state(&self.cloud.replica(shadow));
                if shadow == "fan" && !gateway.local.contains_key(shadow) {
                    // Selected by a pattern, and nobody here has heard of it.
                    continue;
                }
                let copied = match self.options.direction {
                    Direction::Both => true,
                    // What the copied side has never had is none of its business.
                    Direction::Up => here.is_some(),
                    Direction::Down => there.is_some(),
                };
                if copied {
                    assert_eq!(here, there, "{shadow}: here and in the cloud; {status:?}");
                }
            }
            assert_eq!(status.in_step, status.shadows, "{status:?}");
        }
        if self.options.direction == Direction::Both && !self.options.deletions {
            self.check_words();
        }
        // Nothing goes to and fro.
        let marks = self.marks();
        self.settle();
        assert_eq!(self.marks(), marks);
    }

    /// What only one side says is what it has said last.
    fn check_words(&self) {
        for ((shadow, leaf), value) in &self.said {
            let (section, leaf) = leaf.split_once('.').unwrap();
            let (desired, reported) = state(&self.cloud.replica(shadow)).unwrap();
            let found = match section {
                "desired" => desired,
                _ => reported,
            };
            let found = found.get(leaf).cloned().unwrap_or_default();
            assert_eq!(&found, value, "{shadow}: {section}.{leaf}");
        }
    }
}

fn state(replica: &Replica) -> Option<(Value, Value)> {
    match replica {
        Replica::Live {
            desired, reported, ..
        } => Some((desired.clone().into(), reported.clone().into())),
        Replica::Gone => None,
    }
}

fn settings(options: Options, peer: u64) -> Settings {
    Settings {
        upstream: "cloud".into(),
        peer: peer.to_string(),
        selections: vec![
            Selection {
                thing: "lamp".parse().unwrap(),
                classic: true,
                named: vec!["cfg".parse().unwrap()],
                direction: options.direction,
                interval: Duration::ZERO,
            },
            Selection {
                thing: "fa*".parse().unwrap(),
                classic: true,
                named: Vec::new(),
                direction: options.direction,
                interval: Duration::ZERO,
            },
        ],
        rate: 10,
        max_subscriptions: options.max_subscriptions,
        wildcard: options.wildcard,
        answer_timeout: Duration::from_secs(5),
        refresh: Duration::from_secs(120),
    }
}
