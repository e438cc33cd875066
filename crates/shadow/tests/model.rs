//! Random requests against a model that is written another way, with restarts, the clock, and
//! sweeps in between: after each step the service says what the model says.
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod requests;
#[path = "support/house.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use iotedge_shadow::Settings;
use iotedge_store::{Options, Store};
use proptest::prelude::*;
use requests::request;
use serde_json::{Value, json};
use support::House;

const MAX_BYTES: usize = 80;
const MAX_DEPTH: usize = 3;
const DAY: u64 = 24 * 3600;

/// A section's value: an object, or a leaf with the time of its last change.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Tree(BTreeMap<String, Node>),
    Leaf(Value, u64),
}

impl Node {
    /// What `patch` makes of `old`; `None`: nothing is left.
    fn merged(old: Option<Node>, patch: &Value, now: u64) -> Option<Node> {
        let Value::Object(patch) = patch else {
            return (!patch.is_null()).then(|| Node::Leaf(patch.clone(), now));
        };
        let present = old.is_some();
        let was_tree = matches!(old, Some(Node::Tree(_)));
        let mut tree = match old {
            Some(Node::Tree(tree)) => tree,
            _ => BTreeMap::new(),
        };
        for (key, value) in patch {
            if let Some(node) = Node::merged(tree.remove(key), value, now) {
                tree.insert(key.clone(), node);
            }
        }
        // An object that has nothing but nulls does not come to be where nothing was.
        let nothing = tree.is_empty() && !patch.is_empty() && !was_tree && !present;
        (!nothing).then_some(Node::Tree(tree))
    }

    fn state(&self) -> Value {
        match self {
            Node::Tree(tree) => tree.iter().map(|(k, n)| (k.clone(), n.state())).collect(),
            Node::Leaf(value, _) => value.clone(),
        }
    }

    fn metadata(&self) -> Value {
        match self {
            Node::Tree(tree) => tree
                .iter()
                .map(|(k, n)| (k.clone(), n.metadata()))
                .collect(),
            Node::Leaf(Value::Array(items), at) => {
                items.iter().map(|_| json!({"timestamp": at})).collect()
            }
            Node::Leaf(_, at) => json!({"timestamp": at}),
        }
    }
}

/// One shadow, deleted ones included.
#[derive(Debug, Clone, Default)]
struct Shadow {
    sections: BTreeMap<&'static str, Node>,
    version: u64,
    /// When it was deleted, if it is.
    deleted: Option<u64>,
}

fn levels(value: &Value) -> usize {
    match value {
        Value::Object(o) => 1 + o.values().map(levels).max().unwrap_or(0),
        Value::Array(a) => 1 + a.iter().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

impl Shadow {
    fn is_live(&self) -> bool {
        self.version > 0 && self.deleted.is_none()
    }

    /// The code of a refusal, or the shadow afterwards.
    fn update(&self, request: &Value, now: u64) -> Result<Shadow, u16> {
        let state = request["state"].as_object().unwrap();
        if state.values().any(|section| levels(section) > MAX_DEPTH) {
            return Err(400);
        }
        if let Some(version) = request.get("version") {
            let current = if self.is_live() { self.version } else { 0 };
            if *version != json!(current) {
                return Err(409);
            }
        }
        let forgotten = self.deleted.is_some_and(|at| now > at + 2 * DAY);
        let mut new = Shadow {
            version: if forgotten { 0 } else { self.version } + 1,
            sections: match self.is_live() {
                true => self.sections.clone(),
                false => BTreeMap::new(),
            },
            deleted: None,
        };
        for name in ["desired", "reported"] {
            let Some(patch) = state.get(name) else {
                continue;
            };
            let old = new.sections.remove(name);
            match Node::merged(old.or(Some(Node::Tree(BTreeMap::new()))), patch, now) {
                Some(Node::Tree(tree)) if !tree.is_empty() => {
                    new.sections.insert(name, Node::Tree(tree));
                }
                _ => {}
            }
        }
        let bytes: usize = new
            .sections
            .values()
            .map(|n| n.state().to_string().len())
            .sum();
        match bytes > MAX_BYTES {
            true => Err(413),
            false => Ok(new),
        }
    }

    fn content(&self) -> Value {
        let all = |of: fn(&Node) -> Value| -> Value {
            let entries = self.sections.iter();
            entries
                .map(|(name, n)| ((*name).to_owned(), of(n)))
                .collect()
        };
        json!({
            "state": all(Node::state), "metadata": all(Node::metadata), "version": self.version,
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// With the shadow's version (true) or another (false), or without.
    Update(usize, Value, Option<bool>),
    Get(usize),
    Delete(usize),
    Wait(u64),
    Sweep,
    Restart,
}

const SHADOWS: [&str; 4] = ["lamp", "lamp/name/cfg", "lamp-2", "fan/name/cfg"];

fn step() -> impl Strategy<Value = Step> {
    let which = 0..SHADOWS.len();
    prop_oneof![
        8 => (which.clone(), request(), prop::option::weighted(0.3, any::<bool>()))
            .prop_map(|(which, request, version)| Step::Update(which, request, version)),
        2 => which.clone().prop_map(Step::Get),
        2 => which.prop_map(Step::Delete),
        1 => prop_oneof![Just(1), Just(DAY), Just(2 * DAY + 1)].prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ]
}

struct Run<'a> {
    dir: &'a Path,
    store: Option<Store>,
    house: Option<House>,
    shadows: [Shadow; SHADOWS.len()],
}

impl<'a> Run<'a> {
    fn new(dir: &'a Path) -> Self {
        let mut run = Self {
            dir,
            store: None,
            house: None,
            shadows: Default::default(),
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, _) = Store::open(self.dir, options).unwrap();
        let mut settings = Settings::default();
        settings.limits.max_bytes = MAX_BYTES;
        settings.limits.max_depth = MAX_DEPTH;
        self.house = Some(House::with(Arc::new(store.documents("shadows")), settings));
        self.store = Some(store);
    }

    fn house(&self) -> &House {
        self.house.as_ref().unwrap()
    }

    fn close(&mut self) {
        self.house.take().unwrap().service.stop();
        self.store.take().unwrap().close();
    }

    fn now(&self) -> u64 {
        self.house().clock.0.load(Ordering::SeqCst) / 1000
    }

    /// The answers to a request, by what follows the shadow's prefix.
    fn ask(&self, which: usize, operation: &str, request: &str) -> BTreeMap<String, Value> {
        let (thing, rest) = SHADOWS[which]
            .split_once('/')
            .unwrap_or((SHADOWS[which], ""));
        let name = match rest {
            "" => String::new(),
            named => format!("{named}/"),
        };
        let prefix = format!("$aws/things/{thing}/shadow/{name}");
        let messages = self
            .house()
            .ask(&format!("{prefix}{operation}"), request.to_owned());
        messages
            .into_iter()
            .map(|(topic, payload)| (topic.replacen(&prefix, "", 1), payload))
            .collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Update(which, request, version) => self.update(*which, request, *version),
            Step::Get(which) => self.get(*which),
            Step::Delete(which) => self.delete(*which),
            Step::Wait(seconds) => self.house().clock.advance_seconds(*seconds),
            Step::Sweep => self.house().service.sweep(),
            Step::Restart => {
                let clock = self.house().clock.0.load(Ordering::SeqCst);
                self.close();
                self.open();
                self.house().clock.0.store(clock, Ordering::SeqCst);
                (0..SHADOWS.len()).for_each(|which| self.get(which));
            }
        }
    }

    fn update(&mut self, which: usize, request: &Value, version: Option<bool>) {
        let (now, old) = (self.now(), self.shadows[which].clone());
        let mut request = request.clone();
        if let Some(right) = version {
            let current = if old.is_live() { old.version } else { 0 };
            request["version"] = json!(current + u64::from(!right));
        }
        let answers = self.ask(which, "update", &request.to_string());
        match old.update(&request, now) {
            Err(code) => {
                assert_eq!(answers["update/rejected"]["code"], code, "{answers:?}");
                assert_eq!(answers.len(), 1);
            }
            Ok(new) => {
                let documents = &answers["update/documents"];
                assert_eq!(documents["current"], new.content());
                let previous = match old.is_live() {
                    true => old.content(),
                    false => Value::Null,
                };
                assert_eq!(documents["previous"], previous);
                assert_eq!(answers["update/accepted"]["version"], new.version);
                assert_eq!(answers["update/accepted"]["state"], request["state"]);
                self.shadows[which] = new;
            }
        }
    }

    fn get(&self, which: usize) {
        let shadow = &self.shadows[which];
        let answers = self.ask(which, "get", "");
        let Some(document) = answers.get("get/accepted") else {
            assert_eq!(answers["get/rejected"]["code"], 404);
            assert!(!shadow.is_live(), "{shadow:?}");
            return;
        };
        assert!(shadow.is_live(), "{document}");
        let mut document = document.clone();
        assert_eq!(document["timestamp"], self.now());
        for part in ["state", "metadata"] {
            document[part].as_object_mut().unwrap().remove("delta");
        }
        document.as_object_mut().unwrap().remove("timestamp");
        assert_eq!(document, shadow.content());
    }

    fn delete(&mut self, which: usize) {
        let now = self.now();
        let answers = self.ask(which, "delete", "whatever");
        let shadow = &mut self.shadows[which];
        if shadow.is_live() {
            assert_eq!(answers["delete/accepted"]["version"], shadow.version);
            shadow.deleted = Some(now);
        } else {
            assert_eq!(answers["delete/rejected"]["code"], 404);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_service_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::new(dir.path());
        for step in &steps {
            run.step(step);
        }
        (0..SHADOWS.len()).for_each(|which| run.get(which));
        run.close();
    }
}
