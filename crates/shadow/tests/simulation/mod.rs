//! The world around the machine.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod cloud;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cloud::Cloud;
use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::SyncKey;
use iotedge_shadow::core::sync::{self, Base, Direction, Replica, Seen, Synchronised};
use iotedge_shadow::core::{self, Limits, ShadowError, Stored};
use iotedge_shadow::sync::{Action, Machine, Selection, Settings};
use serde_json::{Value, json};

/// Chance, the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn percent(&mut self, of: u64) -> bool {
        self.roll(100) < of
    }
}

/// What a history has.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub steps: u64,
    pub direction: Direction,
    pub wildcard: bool,
    pub max_subscriptions: usize,
    /// Percent of messages.
    pub loss: u64,
    pub doubles: u64,
    pub reorder: bool,
    pub crashes: bool,
    /// Whole shadows are deleted, the cloud is replaced by another.
    pub deletions: bool,
    /// Percent of requests that the cloud fails.
    pub failures: u64,
}

impl Options {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed ^ 0x5eed);
        let direction = [
            Direction::Both,
            Direction::Both,
            Direction::Up,
            Direction::Down,
        ];
        Self {
            steps: 20 + dice.roll(120),
            direction: direction[usize::try_from(dice.roll(4)).unwrap()],
            wildcard: dice.percent(30),
            max_subscriptions: 1 + usize::try_from(dice.roll(3)).unwrap(),
            loss: [0, 5, 30][usize::try_from(dice.roll(3)).unwrap()],
            doubles: [0, 10][usize::try_from(dice.roll(2)).unwrap()],
            reorder: dice.percent(50),
            crashes: dice.percent(70),
            deletions: dice.percent(50),
            failures: [0, 10][usize::try_from(dice.roll(2)).unwrap()],
        }
    }
}

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

pub struct World {
    dice: Dice,
    options: Options,
    now: u64,
    peer: u64,
    local: BTreeMap<String, Vec<u8>>,
    cloud: Cloud,
    machine: Machine,
    jobs: VecDeque<Job>,
    told: VecDeque<Told>,
    link: bool,
    up: VecDeque<(String, Vec<u8>)>,
    down: VecDeque<(String, Vec<u8>)>,
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
        let mut dice = Dice(seed);
        let machine = Machine::new(settings(options, 0), dice.roll(u64::MAX), 0);
        Self {
            dice,
            options,
            now: 0,
            peer: 0,
            local: BTreeMap::new(),
            cloud: Cloud::default(),
            machine,
            jobs: VecDeque::new(),
            told: VecDeque::new(),
            link: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            values: 0,
            trace: std::env::var_os("SHADOW_TRACE").is_some(),
            said: BTreeMap::new(),
        }
    }

    /// One thing happens.
    pub fn step(&mut self) {
        if self.trace {
            eprintln!(
                "{} link {} up {:?} down {:?}",
                self.now,
                self.link,
                self.up.len(),
                self.down.len()
            );
        }
        match self.dice.roll(100) {
            0..15 => self.local_client(),
            15..30 => self.cloud_client(),
            30..50 => self.carry_up(),
            50..70 => self.carry_down(),
            70..80 => self.serve(),
            80..90 => self.think(),
            90..94 => self.now += self.dice.roll(20_000),
            94..97 => self.toggle_link(),
            _ if self.options.crashes => self.crash(),
            _ => self.think(),
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

    fn local_client(&mut self) {
        let shadow = self.any_key();
        let delete = self.options.deletions && self.dice.percent(12);
        let request = self.change("here", "l", shadow).to_string();
        let now = at(self.now);
        let body = self.local.get(shadow).cloned();
        let stored = body.as_deref().map(|body| Stored::parse(body).unwrap());
        let bytes = if delete {
            match core::delete(stored.as_ref(), b"", shadow, &now, &limits()) {
                Ok(deleted) => Stored::Deleted(deleted.tombstone).to_bytes(),
                Err(_) => return,
            }
        } else {
            let updated = core::update(stored.as_ref(), request.as_bytes(), &now, &limits());
            Stored::Live(updated.unwrap().document).to_bytes()
        };
        self.local.insert(shadow.to_owned(), bytes);
        self.told.push_back(Told::Changed(key(shadow)));
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
        for (topic, payload) in messages {
            if !self.link || !self.cloud.is_subscribed(&topic) {
                continue;
            }
            if self.dice.percent(self.options.loss) {
                continue;
            }
            let twice = self.dice.percent(self.options.doubles);
            self.down.push_back((topic.clone(), payload.clone()));
            if twice {
                self.down.push_back((topic, payload));
            }
        }
    }

    fn pick(&mut self, many: usize) -> usize {
        match self.options.reorder {
            true => usize::try_from(self.dice.roll(u64::try_from(many).unwrap())).unwrap(),
            false => 0,
        }
    }

    fn carry_up(&mut self) {
        if self.up.is_empty() {
            return;
        }
        let at_place = self.pick(self.up.len());
        let (topic, payload) = self.up.remove(at_place).unwrap();
        if let Some(filter) = topic.strip_prefix("SUBSCRIBE ") {
            self.cloud.subscribe(filter);
            self.machine.subscribed(filter, true, self.now);
            return;
        }
        if let Some(filter) = topic.strip_prefix("UNSUBSCRIBE ") {
            return self.cloud.unsubscribe(filter);
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

    fn carry_down(&mut self) {
        if self.down.is_empty() {
            return;
        }
        let at_place = self.pick(self.down.len());
        let (topic, payload) = self.down.remove(at_place).unwrap();
        if self.trace {
            eprintln!("{} {topic} {}", self.now, String::from_utf8_lossy(&payload));
        }
        self.machine.received(&topic, &payload, self.now);
    }

    /// The service does one job.
    fn serve(&mut self) {
        let now = at(self.now);
        match self.jobs.pop_front() {
            None => {}
            Some(Job::Merge(key, seen)) => {
                let body = self.local.get(&key.to_string()).cloned();
                let stored = body.as_deref().map(|body| Stored::parse(body).unwrap());
                let merged = sync::synchronise(stored.as_ref(), &seen, &now, &limits());
                let answer = merged.map(|merged| {
                    if let Some(body) = merged.put {
                        self.local.insert(key.to_string(), body);
                    }
                    merged.answer
                });
                let answer = answer.map_err(|rejection| rejection.reason);
                self.told.push_back(Told::Merged(key, Box::new(answer)));
            }
            Some(Job::Settle(key, base)) => {
                let body = self.local.get(&key.to_string()).cloned();
                let stored = body.as_deref().map(|body| Stored::parse(body).unwrap());
                let peer = self.peer.to_string();
                if let Some(body) = sync::settle(stored.as_ref(), &peer, base.as_ref()) {
                    self.local.insert(key.to_string(), body);
                }
            }
        }
    }

    /// The machine hears what it was told and acts.
    fn think(&mut self) {
        while let Some(told) = self.told.pop_front() {
            match told {
                Told::Changed(key) => self.machine.found(&key, true),
                Told::Merged(key, answer) => self.machine.merged(&key, *answer, self.now),
            }
        }
        self.machine.poll(self.now);
        for action in self.machine.actions() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        if self.trace {
            eprintln!("{} {action:?}", self.now);
        }
        match action {
            Action::Merge(key, seen) => self.jobs.push_back(Job::Merge(key, *seen)),
            Action::Settle(key, base) => self.jobs.push_back(Job::Settle(key, base.map(|b| *b))),
            Action::Note(..) => {}
            Action::Publish { topic, payload } => self.send(topic, payload.into_bytes()),
            Action::Subscribe(filters) => {
                assert!(filters.len() <= 8);
                for filter in filters {
                    self.send(format!("SUBSCRIBE {filter}"), Vec::new());
                }
            }
            Action::Unsubscribe(filters) => {
                for filter in filters {
                    self.send(format!("UNSUBSCRIBE {filter}"), Vec::new());
                }
            }
        }
    }

    fn send(&mut self, topic: String, payload: Vec<u8>) {
        let control = topic.contains("SUBSCRIBE ");
        if !self.link || (!control && self.dice.percent(self.options.loss)) {
            return;
        }
        if !control && self.dice.percent(self.options.doubles) {
            self.up.push_back((topic.clone(), payload.clone()));
        }
        self.up.push_back((topic, payload));
    }

    fn toggle_link(&mut self) {
        match self.link {
            true => self.cut(),
            false => {
                self.link = true;
                self.machine.link_up();
            }
        }
    }

    fn cut(&mut self) {
        self.link = false;
        self.cloud.forget_subscriptions();
        self.down.clear();
        // What has left may arrive all the same, late; its answers find nobody.
        let keep = self.dice.percent(50);
        self.up
            .retain(|(topic, _)| keep && !topic.contains("SUBSCRIBE "));
        self.machine.link_down();
    }

    /// `kill -9`: what is on disk is left.
    fn crash(&mut self) {
        if self.link {
            self.cut();
        }
        self.jobs.clear();
        self.told.clear();
        if self.options.deletions && self.dice.percent(10) {
            // The upstream is another one from now on.
            self.peer += 1;
            self.cloud.wipe();
            self.up.clear();
        }
        let seed = self.dice.roll(u64::MAX);
        self.machine = Machine::new(settings(self.options, self.peer), seed, self.now);
        for (name, body) in &self.local {
            let news = Stored::parse(body).unwrap().known().is_none();
            // With or without: the cloud is asked for each at the next connection.
            self.machine.found(&key(name), news);
        }
    }

    fn is_busy(&self) -> bool {
        !(self.up.is_empty()
            && self.down.is_empty()
            && self.jobs.is_empty()
            && self.told.is_empty())
    }

    fn pump(&mut self) {
        let mut rounds = 0;
        self.think();
        while self.is_busy() {
            while !self.up.is_empty() {
                self.carry_up();
            }
            while !self.down.is_empty() {
                self.carry_down();
            }
            while !self.jobs.is_empty() {
                self.serve();
            }
            self.think();
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
        if !self.link {
            self.toggle_link();
        }
        // Long enough for what was lost to be noticed.
        let end = self.now + 600_000;
        while self.now < end {
            self.pump();
            self.now = self
                .machine
                .poll(self.now)
                .unwrap()
                .clamp(self.now + 1, end);
        }
        self.pump();
    }

    fn here(&self, shadow: &str) -> Option<(Value, Value)> {
        let body = self.local.get(shadow)?;
        state(&Stored::parse(body).unwrap().replica())
    }

    fn versions(&self) -> Vec<Option<u64>> {
        let here = |shadow: &&str| {
            let body = self.local.get(*shadow)?;
            Stored::parse(body).unwrap().replica().version()
        };
        let there = |shadow: &&str| self.cloud.replica(shadow).version();
        KEYS.iter()
            .map(here)
            .chain(KEYS.iter().map(there))
            .collect()
    }

    /// What must hold now.
    pub fn check(&mut self) {
        for shadow in KEYS {
            let (here, there) = (self.here(shadow), state(&self.cloud.replica(shadow)));
            if shadow == "fan" && !self.local.contains_key(shadow) {
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
                let status = self.machine.status();
                assert_eq!(here, there, "{shadow}: here and in the cloud; {status:?}");
            }
        }
        let status = self.machine.status();
        let most = status.shadows;
        assert_eq!(status.in_step, most, "{status:?}");
        if self.options.direction == Direction::Both && !self.options.deletions {
            self.check_words();
        }
        // Nothing goes to and fro.
        let (versions, sent) = (self.versions(), status.sent);
        self.settle();
        assert_eq!(self.versions(), versions);
        assert_eq!(self.machine.status().sent, sent);
    }

    /// What only one side says is what it has said last.
    fn check_words(&self) {
        for ((shadow, leaf), value) in &self.said {
            if !self.local.contains_key(shadow) {
                continue;
            }
            let (section, leaf) = leaf.split_once('.').unwrap();
            let (desired, reported) = self.here(shadow).unwrap();
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
