//! What the synchronisation asks, and when: a cloud that answers at once, and a clock that is set.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "simulation/cloud.rs"]
#[allow(dead_code)]
mod cloud;

use std::collections::BTreeMap;
use std::time::Duration;

use cloud::Cloud;
use iotedge_model::{Now, UnixMillis};
use iotedge_shadow::SyncKey;
use iotedge_shadow::core::sync::{self, Direction, Replica};
use iotedge_shadow::core::{self, Limits, Stored};
use iotedge_shadow::sync::{Action, Kind, Machine, Selection, Settings};
use serde_json::{Value, json};

fn settings(direction: Direction, rate: u32) -> Settings {
    Settings {
        upstream: "cloud".into(),
        peer: "cloud".into(),
        selections: vec![Selection {
            thing: "*".parse().unwrap(),
            classic: true,
            named: Vec::new(),
            direction,
            interval: Duration::ZERO,
        }],
        rate,
        max_subscriptions: 50,
        wildcard: false,
        answer_timeout: Duration::from_secs(20),
        refresh: Duration::from_secs(3600),
    }
}

/// Answers in place of the cloud: what is said of a request to a topic; `None`: as a cloud does.
type Answers = fn(&str, &Value) -> Option<Vec<(String, Value)>>;

struct World {
    machine: Machine,
    cloud: Cloud,
    local: BTreeMap<String, Vec<u8>>,
    now: u64,
    /// When which request left.
    sent: Vec<(u64, String)>,
    notes: Vec<(String, Kind)>,
    answers: Answers,
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut machine = Machine::new(settings, 1, 0);
        machine.link_up();
        Self {
            machine,
            cloud: Cloud::default(),
            local: BTreeMap::new(),
            now: 0,
            sent: Vec::new(),
            notes: Vec::new(),
            answers: |_, _| None,
        }
    }

    fn at(&self) -> Now {
        Now {
            mono: self.now,
            wall: UnixMillis(1_700_000_000_000 + self.now),
            trusted: true,
        }
    }

    fn stored(&self, shadow: &str) -> Option<Stored<'static>> {
        let body = self.local.get(shadow)?;
        Some(Stored::parse(body).unwrap().into_owned())
    }

    /// A device says something.
    fn update(&mut self, shadow: &str, state: &Value) {
        let request = json!({"state": state}).to_string();
        let stored = self.stored(shadow);
        let updated = core::update(
            stored.as_ref(),
            request.as_bytes(),
            &self.at(),
            &Limits::default(),
        );
        let body = Stored::Live(updated.unwrap().document).to_bytes();
        self.local.insert(shadow.into(), body);
        self.machine.found(&SyncKey::parse(shadow).unwrap(), true);
    }

    /// An application says something, in the cloud.
    fn update_there(&mut self, shadow: &str, state: &Value) {
        let request = json!({"state": state}).to_string();
        let said = self
            .cloud
            .ask(shadow, "update", request.as_bytes(), &self.at());
        for (topic, payload) in said {
            self.machine.received(&topic, &payload, self.now);
        }
    }

    fn request(&mut self, topic: &str, payload: &str) {
        self.sent.push((self.now, topic.to_owned()));
        let (thing, operation) = topic
            .strip_prefix("$aws/things/")
            .and_then(|rest| rest.split_once("/shadow/"))
            .unwrap();
        let asked: Value = serde_json::from_str(payload).unwrap();
        let said = match (self.answers)(topic, &asked) {
            None => self
                .cloud
                .ask(thing, operation, payload.as_bytes(), &self.at()),
            Some(said) => {
                let text = said.into_iter();
                text.map(|(topic, said)| (topic, said.to_string().into_bytes()))
                    .collect()
            }
        };
        for (topic, payload) in said {
            self.machine.received(&topic, &payload, self.now);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Subscribe(filters) => {
                for filter in filters {
                    self.machine.subscribed(&filter, true, self.now);
                }
            }
            Action::Unsubscribe(_) => {}
            Action::Note(key, kind) => self.notes.push((key.to_string(), kind)),
            Action::Publish { topic, payload } => self.request(&topic, &payload),
            Action::Merge(key, seen) => {
                let stored = self.stored(&key.to_string());
                let merged =
                    sync::synchronise(stored.as_ref(), &seen, &self.at(), &Limits::default());
                let answer = merged.map(|merged| {
                    if let Some(body) = merged.put {
                        self.local.insert(key.to_string(), body);
                    }
                    merged.answer
                });
                let answer = answer.map_err(|rejection| rejection.reason);
                self.machine.merged(&key, answer, self.now);
            }
            Action::Settle(key, base) => {
                let stored = self.stored(&key.to_string());
                if let Some(body) = sync::settle(stored.as_ref(), "cloud", base.as_deref()) {
                    self.local.insert(key.to_string(), body);
                }
            }
        }
    }

    /// All that happens until then.
    fn run(&mut self, until: u64) {
        loop {
            let next = self.machine.poll(self.now);
            let actions = self.machine.actions();
            let idle = actions.is_empty();
            for action in actions {
                self.act(action);
            }
            if idle {
                match next {
                    Some(at) if at < until => self.now = at.max(self.now + 1),
                    _ => break,
                }
            }
        }
        self.now = until;
    }

    fn requests(&self, suffix: &str) -> Vec<u64> {
        let all = self
            .sent
            .iter()
            .filter(|(_, topic)| topic.ends_with(suffix));
        all.map(|(at, _)| *at).collect()
    }

    fn there(&self, shadow: &str) -> Value {
        match self.cloud.replica(shadow) {
            Replica::Live {
                desired, reported, ..
            } => json!({"desired": desired, "reported": reported}),
            Replica::Gone => Value::Null,
        }
    }
}

#[test]
fn a_change_does_not_wait_for_a_catch_up_and_holds_none_up() {
    let mut world = World::new(settings(Direction::Both, 10));
    for n in 0..300 {
        world
            .machine
            .found(&SyncKey::parse(&format!("a{n:03}")).unwrap(), false);
    }
    world.run(5_000);
    let begun = world.sent.len();
    assert!(begun < 100, "{begun}: it is under way");
    world.update("zz", &json!({"reported": {"x": 1}}));
    world.run(8_000);
    assert_eq!(
        world.there("zz"),
        json!({"desired": {}, "reported": {"x": 1}})
    );
    // One that never rests leaves the others their turns.
    for second in 8..80 {
        for part in 0..20 {
            world.update("zz", &json!({"reported": {"x": second * 100 + part}}));
            world.run(second * 1000 + part * 50);
        }
    }
    let status = world.machine.status();
    assert!(status.in_step >= 300, "{status:?}");
    assert_eq!(world.machine.status().failures, 0);
}

#[test]
fn no_more_requests_leave_than_the_rate() {
    let mut world = World::new(settings(Direction::Both, 10));
    for n in 0..200 {
        world.update(&format!("t{n}"), &json!({"reported": {"x": n}}));
    }
    world.run(120_000);
    assert_eq!(world.machine.status().in_step, 200);
    let times: Vec<u64> = world.sent.iter().map(|(at, _)| *at).collect();
    for (n, from) in times.iter().enumerate() {
        for (m, to) in times.iter().enumerate().skip(n) {
            let count = u64::try_from(m - n + 1).unwrap();
            // As many as it says at once, and as many each second.
            let most = 10 + (to - from).div_ceil(100);
            assert!(count <= most, "{count} within {} ms", to - from);
        }
    }
    // A new shadow is asked for, made, and compared once more.
    assert!(times.last().unwrap() < &62_000, "nor much less: {times:?}");
}

#[test]
fn a_thousand_changes_in_an_outage_are_one_update() {
    let mut world = World::new(settings(Direction::Both, 10));
    world.update("lamp", &json!({"reported": {"n": 0}}));
    world.run(1_000);
    world.machine.link_down();
    let before = world.sent.len();
    for n in 1..=1000 {
        world.update("lamp", &json!({"reported": {"n": n}}));
    }
    world.machine.link_up();
    world.run(60_000);
    let sent: Vec<&str> = world.sent[before..].iter().map(|(_, t)| &**t).collect();
    assert_eq!(
        sent,
        [
            "$aws/things/lamp/shadow/get",
            "$aws/things/lamp/shadow/update"
        ]
    );
    assert_eq!(world.there("lamp")["reported"]["n"], 1000);
}

fn refuse(topic: &str, code: u16, token: Option<&Value>) -> Option<Vec<(String, Value)>> {
    let mut said = json!({"code": code, "message": "no"});
    if let Some(token) = token {
        said["clientToken"] = token.clone();
    }
    Some(vec![(format!("{topic}/rejected"), said)])
}

#[test]
fn a_refused_document_waits_for_a_change_and_is_told_once() {
    let signed: Answers = |topic, asked| match topic.ends_with("/update") {
        true => refuse(topic, 413, Some(&asked["clientToken"])),
        false => None,
    };
    // AWS IoT gives no token back where it did not read the document.
    let unsigned: Answers = |topic, _| match topic.ends_with("/update") {
        true => refuse(topic, 413, None),
        false => None,
    };
    for answers in [signed, unsigned] {
        let mut world = World::new(settings(Direction::Both, 10));
        world.answers = answers;
        world.update("lamp", &json!({"reported": {"x": 1}}));
        world.run(1_800_000);
        assert_eq!(world.requests("/update").len(), 1, "{:?}", world.sent);
        assert_eq!(world.machine.status().refused, 1);
        let kind = Kind::RefusedByCloud(413, "no".into());
        assert_eq!(world.notes, [("lamp".to_owned(), kind)]);
        world.answers = |_, _| None;
        world.update("lamp", &json!({"reported": {"x": 2}}));
        world.run(1_900_000);
        assert_eq!(world.there("lamp")["reported"], json!({"x": 2}));
        assert_eq!(world.machine.status().refused, 0);
    }
}

#[test]
fn a_refusal_of_somebody_elses_request_is_not_taken_for_ones_own() {
    let mut world = World::new(settings(Direction::Both, 10));
    // Both come: first what another client is told, then what we are.
    world.answers = |topic, asked| {
        let theirs = refuse(topic, 400, None)?;
        let ours = refuse(topic, 500, Some(&asked["clientToken"]))?;
        topic
            .ends_with("/update")
            .then(|| theirs.into_iter().chain(ours).collect())
    };
    world.update("lamp", &json!({"reported": {"x": 1}}));
    world.run(10_000);
    world.answers = |_, _| None;
    world.run(600_000);
    assert_eq!(world.there("lamp")["reported"], json!({"x": 1}));
    assert_eq!(world.notes, []);
}

#[test]
fn pauses_grow_while_the_cloud_is_busy_and_nothing_is_lost() {
    let mut world = World::new(settings(Direction::Both, 10));
    world.answers = |topic, asked| refuse(topic, 429, Some(&asked["clientToken"]));
    world.update("lamp", &json!({"reported": {"x": 1}}));
    world.run(3_600_000);
    let many = world.sent.len();
    assert!((15..40).contains(&many), "{many} in an hour");
    world.answers = |_, _| None;
    world.run(4_000_000);
    assert_eq!(world.there("lamp")["reported"], json!({"x": 1}));
}

#[test]
fn who_insists_on_a_one_way_shadow_is_answered_more_and_more_slowly() {
    let mut world = World::new(settings(Direction::Up, 10));
    world.update("lamp", &json!({"reported": {"x": 0}}));
    world.run(1_000);
    // Somebody in the cloud, maybe another gateway, puts its own in place of ours each second.
    for second in 1..600 {
        world.update_there("lamp", &json!({"reported": {"x": 10 + second}}));
        world.run(second * 1000 + 1000);
    }
    let updates = world.requests("/update").len();
    assert!((8..20).contains(&updates), "{updates} in ten minutes");
    world.run(1_000_000);
    assert_eq!(
        world.there("lamp")["reported"],
        json!({"x": 0}),
        "in the end"
    );
}

#[test]
fn one_that_has_to_wait_gives_its_subscription_away() {
    let mut world = World::new(Settings {
        max_subscriptions: 1,
        ..settings(Direction::Both, 10)
    });
    world.answers = |topic, asked| match topic.contains("/forbidden/") {
        true => refuse(topic, 403, Some(&asked["clientToken"])),
        false => None,
    };
    world.update("forbidden", &json!({"reported": {"x": 1}}));
    world.run(1_000);
    world.update("lamp", &json!({"reported": {"x": 1}}));
    world.run(3_000);
    assert_eq!(world.there("lamp")["reported"], json!({"x": 1}));
}

#[test]
fn another_spelling_of_a_number_is_no_change() {
    let mut world = World::new(settings(Direction::Both, 10));
    world.update("lamp", &json!({"reported": {"x": 1}}));
    world.run(1_000);
    world.update_there("lamp", &json!({"reported": {"x": 1.0}}));
    world.run(2_000);
    let replica = world.stored("lamp").unwrap().replica();
    assert_eq!(replica.version(), Some(1), "devices hear of nothing");
    let sent = world.sent.len();
    world.machine.link_down();
    // A deletion goes over, because nobody has changed anything since.
    let stored = world.stored("lamp");
    let deleted = core::delete(stored.as_ref(), b"", "", &world.at(), &Limits::default());
    let body = Stored::Deleted(deleted.unwrap().tombstone).to_bytes();
    world.local.insert("lamp".into(), body);
    world.machine.found(&SyncKey::parse("lamp").unwrap(), true);
    world.machine.link_up();
    world.run(10_000);
    assert_eq!(world.there("lamp"), Value::Null);
    assert_eq!(world.sent.len(), sent + 2, "asked and deleted");
    assert_eq!(world.notes, []);
}
