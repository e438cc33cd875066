//! What could not be brought over, and what was overwritten: for who has to know.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::sync::Conflict;
use crate::{Put, ShadowStore, StorageFailure};

/// Leaves of one entry that are kept.
const MAX_LEAVES: usize = 32;
/// Bytes of a leaf's value that are kept as JSON.
const MAX_VALUE: usize = 256;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Leaves that both sides had changed.
    Conflict(Vec<Conflict>),
    /// The cloud refuses what is here, with this code and message.
    RefusedByCloud(u64, String),
    /// What the cloud has is refused here.
    RefusedHere(String),
    /// The upstream does not let the gateway listen for the shadow.
    SubscriptionRefused,
    /// A deletion took this version along in the cloud, which was not known here.
    DeletedUnseen(u64),
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since 1970, as the clock said.
    pub at: u64,
    /// The upstream.
    pub upstream: String,
    /// `thing` or `thing/shadow`.
    pub shadow: String,
    /// What.
    pub what: Kind,
    /// Leaves that are not listed, because there are too many.
    #[serde(default)]
    pub more: usize,
}

impl Entry {
    /// Cut to what is kept.
    pub fn new(at: u64, upstream: &str, shadow: String, what: Kind) -> Self {
        let (mut what, mut more) = (what, 0);
        if let Kind::Conflict(leaves) = &mut what {
            more = leaves.len().saturating_sub(MAX_LEAVES);
            leaves.truncate(MAX_LEAVES);
            for leaf in leaves {
                cut(&mut leaf.local);
                cut(&mut leaf.cloud);
            }
        }
        Self {
            at,
            upstream: upstream.to_owned(),
            shadow,
            what,
            more,
        }
    }
}

/// A large value stands as the beginning of its JSON.
fn cut(value: &mut Option<Value>) {
    let Some(text) = value.as_ref().map(Value::to_string) else {
        return;
    };
    if text.len() > MAX_VALUE {
        let mut end = MAX_VALUE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let beginning = text.get(..end).unwrap_or_default();
        *value = Some(Value::String(format!("{beginning}…")));
    }
}

#[derive(Default)]
struct State {
    /// What is there is counted, once.
    opened: bool,
    ids: VecDeque<u64>,
    next: u64,
    /// What was noted last of a shadow: the same again is no news.
    last: HashMap<String, u64>,
}

/// A bounded list on disk; the oldest entries go.
pub struct Journal {
    store: Arc<dyn ShadowStore>,
    capacity: usize,
    state: Mutex<State>,
}

fn id(number: u64) -> String {
    format!("{number:020}")
}

impl Journal {
    /// In a collection of its own. Reads nothing before it is used.
    pub fn new(store: Arc<dyn ShadowStore>, capacity: usize) -> Self {
        Self {
            store,
            capacity: capacity.max(1),
            state: Mutex::default(),
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StorageFailure> {
        const PAGE: usize = 256;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = None;
        while !state.opened {
            let page = self.store.list("", after.as_deref(), PAGE)?;
            let numbers = page.iter().filter_map(|(id, _)| id.parse::<u64>().ok());
            state.ids.extend(numbers);
            state.opened = page.len() < PAGE;
            after = page.into_iter().next_back().map(|(id, _)| id);
        }
        state.next = state.ids.back().map_or(0, |last| last + 1).max(state.next);
        Ok(state)
    }

    /// Adds an entry, unless it says again what was last said of the shadow. What cannot be stored
    /// is in the log.
    pub fn note(&self, entry: &Entry) -> Result<(), StorageFailure> {
        let mut hash = DefaultHasher::new();
        let what = serde_json::to_string(&entry.what).unwrap_or_default();
        (&entry.upstream, &what, entry.more).hash(&mut hash);
        let hash = hash.finish();
        let mut state = self.open()?;
        if state.last.get(&entry.shadow) == Some(&hash) {
            return Ok(());
        }
        // Forgotten all at once, which costs a line that was there already.
        if state.last.len() >= self.capacity {
            state.last.clear();
        }
        let body = serde_json::to_vec(entry).map_err(|e| StorageFailure(e.to_string()))?;
        let number = state.next;
        self.store.put(vec![Put {
            key: id(number),
            body: body.into(),
            deletes: false,
            done: Box::new(|_| {}),
        }])?;
        state.last.insert(entry.shadow.clone(), hash);
        state.next += 1;
        state.ids.push_back(number);
        while state.ids.len() > self.capacity {
            if let Some(oldest) = state.ids.pop_front() {
                self.store.forget(&id(oldest))?;
            }
        }
        Ok(())
    }

    /// Entries from behind `after` (`None`: from the oldest), at most `most`, each with its number.
    pub fn list(
        &self,
        after: Option<u64>,
        most: usize,
    ) -> Result<Vec<(u64, Entry)>, StorageFailure> {
        let after = after.map(id);
        let page = self.store.list("", after.as_deref(), most)?;
        let read = page
            .iter()
            .filter_map(|(id, body)| Some((id.parse().ok()?, serde_json::from_slice(body).ok()?)));
        Ok(read.collect())
    }

    /// How many there are.
    pub fn len(&self) -> Result<usize, StorageFailure> {
        Ok(self.open()?.ids.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> Result<bool, StorageFailure> {
        Ok(self.len()? == 0)
    }

    /// Removes all; says how many.
    pub fn clear(&self) -> Result<usize, StorageFailure> {
        let mut state = self.open()?;
        let count = state.ids.len();
        while let Some(oldest) = state.ids.pop_front() {
            self.store.forget(&id(oldest))?;
        }
        state.last.clear();
        Ok(count)
    }
}
