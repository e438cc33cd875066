//! What a cloud may say, and whether it is borne; shared with the fuzz target.

use std::collections::BTreeMap;
use std::time::Duration;

use iotedge_model::{Now, Topic, TopicFilter, UnixMillis};
use iotedge_shadow::core::sync::{self, Direction};
use iotedge_shadow::core::{Limits, Stored};
use iotedge_shadow::sync::{Action, MAX_IN_FLIGHT, Machine, Selection, Settings};

fn settings(wildcard: bool) -> Settings {
    Settings {
        upstream: "cloud".into(),
        peer: "cloud".into(),
        selections: vec![Selection {
            thing: "t*".parse().expect("valid"),
            classic: true,
            named: vec!["n*".parse().expect("valid")],
            direction: Direction::Both,
            interval: Duration::ZERO,
        }],
        rate: 1000,
        max_subscriptions: 2,
        wildcard,
        answer_timeout: Duration::from_secs(1),
        refresh: Duration::from_secs(10),
    }
}

struct Talk {
    machine: Machine,
    local: BTreeMap<String, Vec<u8>>,
    now: u64,
}

impl Talk {
    fn now(&self) -> Now {
        Now {
            mono: self.now,
            wall: UnixMillis(1_700_000_000_000 + self.now),
            trusted: true,
        }
    }

    fn act(&mut self) {
        self.machine.poll(self.now);
        for action in self.machine.actions() {
            match action {
                Action::Subscribe(filters) => {
                    assert!(filters.len() <= 8);
                    for filter in filters {
                        TopicFilter::new(&filter).expect("a filter");
                        self.machine.subscribed(&filter, true, self.now);
                    }
                }
                Action::Unsubscribe(_) | Action::Note(..) => {}
                Action::Publish { topic, payload } => {
                    Topic::new(&topic).expect("a topic");
                    serde_json::from_str::<serde_json::Value>(&payload).expect("JSON");
                }
                Action::Merge(key, seen) => {
                    let body = self.local.get(&key.to_string()).cloned();
                    let stored = body.as_deref().map(|b| Stored::parse(b).expect("whole"));
                    let now = self.now();
                    let merged =
                        sync::synchronise(stored.as_ref(), &seen, &now, &Limits::default());
                    let answer = merged.map(|merged| {
                        if let Some(body) = merged.put {
                            Stored::parse(&body).expect("what is stored can be read");
                            self.local.insert(key.to_string(), body);
                        }
                        merged.answer
                    });
                    let answer = answer.map_err(|rejection| rejection.reason);
                    self.machine.merged(&key, answer, self.now);
                }
                Action::Settle(key, base) => {
                    let body = self.local.get(&key.to_string()).cloned();
                    let stored = body.as_deref().map(|b| Stored::parse(b).expect("whole"));
                    let body = sync::settle(stored.as_ref(), "cloud", base.as_deref());
                    if let Some(body) = body {
                        self.local.insert(key.to_string(), body);
                    }
                }
            }
        }
    }
}

/// Lines of `TOPIC PAYLOAD`; an empty line lets time pass. The first byte says how the machine is set
/// up. Tokens are `iotedge-0000000000000007-N`, N from 1.
pub fn exercise(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let mut talk = Talk {
        machine: Machine::new(settings(first % 2 == 1), 7, 0),
        local: BTreeMap::new(),
        now: 0,
    };
    for key in ["t1", "t1/n1", "x"] {
        let key = iotedge_shadow::SyncKey::parse(key).expect("a key");
        talk.machine.found(&key, true);
    }
    talk.machine.link_up();
    for line in rest.split(|byte| *byte == b'\n').take(64) {
        talk.act();
        talk.act();
        let at = line.iter().position(|byte| *byte == b' ');
        let (topic, payload) = line.split_at(at.unwrap_or(line.len()));
        match std::str::from_utf8(topic) {
            Ok("") => talk.now += 1500,
            Ok(topic) => {
                let payload = payload.get(1..).unwrap_or_default();
                talk.machine.received(topic, payload, talk.now);
            }
            Err(_) => {}
        }
        assert!(talk.machine.in_flight() <= MAX_IN_FLIGHT);
    }
    let status = talk.machine.status();
    assert!(status.shadows <= 2 + 64 && status.in_step + status.refused <= status.shadows);
}
