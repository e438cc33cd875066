//! The takers' books in memory: what is committed, and what is on its way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use iotedge_model::{DropReason, MessageId};

use crate::{Account, Depth, TakerId, TakerInfo, TakerKind};

/// Changes of one taker's books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: i64,
    pub(crate) delivered: i64,
    pub(crate) rows: i64,
    pub(crate) bytes: i64,
    pub(crate) dropped: BTreeMap<DropReason, i64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self, sign: i64) {
        let add = |to: &mut i64, n: i64| *to = to.saturating_add(n.saturating_mul(sign));
        add(&mut self.accepted, other.accepted);
        add(&mut self.delivered, other.delivered);
        add(&mut self.rows, other.rows);
        add(&mut self.bytes, other.bytes);
        for (reason, n) in &other.dropped {
            self.drop(*reason, n.saturating_mul(sign));
        }
    }

    pub(crate) fn drop(&mut self, reason: DropReason, n: i64) {
        let count = self.dropped.entry(reason).or_default();
        *count = count.saturating_add(n);
        if *count == 0 {
            self.dropped.remove(&reason);
        }
    }

    fn account(&self) -> Account {
        Account {
            accepted: count(self.accepted),
            delivered: count(self.delivered),
            queued: count(self.rows),
            queued_bytes: count(self.bytes),
            dropped: self.dropped.iter().map(|(r, n)| (*r, count(*n))).collect(),
        }
    }
}

impl From<&Account> for Tally {
    fn from(account: &Account) -> Self {
        Self {
            accepted: signed(account.accepted),
            delivered: signed(account.delivered),
            rows: signed(account.queued),
            bytes: signed(account.queued_bytes),
            dropped: account
                .dropped
                .iter()
                .map(|(r, n)| (*r, signed(*n)))
                .collect(),
        }
    }
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Changes by taker.
pub(crate) type Tallies = HashMap<TakerId, Tally>;

struct Entry {
    kind: TakerKind,
    name: Arc<str>,
    committed: Tally,
    pending: Tally,
    /// Settled rows that are still in the file: readers pass over them.
    settling: HashSet<MessageId>,
}

/// All takers.
pub(crate) struct Mirror {
    takers: HashMap<TakerId, Entry>,
    names: HashMap<(TakerKind, Arc<str>), TakerId>,
    next: u64,
    removed: Tally,
}

impl Mirror {
    pub(crate) fn new(takers: &[TakerInfo], removed: &Account, next: u64) -> Self {
        let mut mirror = Self {
            takers: HashMap::new(),
            names: HashMap::new(),
            next,
            removed: Tally::from(removed),
        };
        for taker in takers {
            mirror.insert(taker.id, taker.kind, taker.name.clone());
            if let Some(entry) = mirror.takers.get_mut(&taker.id) {
                entry.committed = Tally::from(&taker.account);
            }
        }
        mirror
    }

    fn insert(&mut self, id: TakerId, kind: TakerKind, name: Arc<str>) {
        self.names.insert((kind, name.clone()), id);
        self.takers.insert(
            id,
            Entry {
                kind,
                name,
                committed: Tally::default(),
                pending: Tally::default(),
                settling: HashSet::new(),
            },
        );
    }

    pub(crate) fn find(&self, kind: TakerKind, name: &str) -> Option<TakerId> {
        self.names.get(&(kind, Arc::from(name))).copied()
    }

    pub(crate) fn create(&mut self, kind: TakerKind, name: &str) -> TakerId {
        let id = TakerId(self.next);
        self.next += 1;
        self.insert(id, kind, Arc::from(name));
        id
    }

    pub(crate) fn remove(&mut self, id: TakerId) -> bool {
        let Some(entry) = self.takers.remove(&id) else {
            return false;
        };
        self.names.remove(&(entry.kind, entry.name));
        true
    }

    /// What a taker is, and its name.
    pub(crate) fn name(&self, id: TakerId) -> Option<(TakerKind, Arc<str>)> {
        let entry = self.takers.get(&id)?;
        Some((entry.kind, entry.name.clone()))
    }

    /// An operation was handed in.
    pub(crate) fn expect(&mut self, id: TakerId, change: impl FnOnce(&mut Tally)) {
        if let Some(entry) = self.takers.get_mut(&id) {
            change(&mut entry.pending);
        }
    }

    /// Rows were settled by an operation that was handed in.
    pub(crate) fn settling(&mut self, id: TakerId, rows: &[MessageId]) {
        if let Some(entry) = self.takers.get_mut(&id) {
            entry.settling.extend(rows);
        }
    }

    /// That operation is committed.
    pub(crate) fn settled(&mut self, id: TakerId, rows: &[MessageId]) {
        if let Some(entry) = self.takers.get_mut(&id) {
            for row in rows {
                entry.settling.remove(row);
            }
        }
    }

    /// What a read that begins now has to pass over.
    pub(crate) fn passed_over(&self, id: TakerId) -> HashSet<MessageId> {
        self.takers
            .get(&id)
            .map(|entry| entry.settling.clone())
            .unwrap_or_default()
    }

    /// The same for every queue of a shared subscription.
    pub(crate) fn passed_over_shared(&self) -> HashMap<TakerId, HashSet<MessageId>> {
        self.takers
            .iter()
            .filter(|(_, entry)| entry.kind == TakerKind::Shared && !entry.settling.is_empty())
            .map(|(id, entry)| (*id, entry.settling.clone()))
            .collect()
    }

    /// Operations ended: what was expected of them goes, what they did is booked.
    pub(crate) fn settle(&mut self, expected: &Tallies, booked: &Tallies) {
        for (id, tally) in expected {
            if let Some(entry) = self.takers.get_mut(id) {
                entry.pending.add(tally, -1);
            }
        }
        for (id, tally) in booked {
            if *id == REMOVED {
                self.removed.add(tally, 1);
            } else if let Some(entry) = self.takers.get_mut(id) {
                entry.committed.add(tally, 1);
            }
        }
    }

    pub(crate) fn account(&self, id: TakerId) -> Account {
        self.takers.get(&id).map_or_else(Account::default, |e| {
            let mut sum = e.committed.clone();
            sum.add(&e.pending, 1);
            sum.account()
        })
    }

    pub(crate) fn depth(&self, id: TakerId) -> Depth {
        self.takers.get(&id).map_or_else(Depth::default, |e| Depth {
            rows: count(e.committed.rows.saturating_add(e.pending.rows)),
            bytes: count(e.committed.bytes.saturating_add(e.pending.bytes)),
        })
    }

    /// A message that several takers wait for counts for each.
    pub(crate) fn waiting(&self) -> Depth {
        let mut all = Depth::default();
        for id in self.takers.keys() {
            let depth = self.depth(*id);
            all.rows = all.rows.saturating_add(depth.rows);
            all.bytes = all.bytes.saturating_add(depth.bytes);
        }
        all
    }

    pub(crate) fn removed(&self) -> Account {
        self.removed.account()
    }

    pub(crate) fn takers(&self) -> Vec<TakerInfo> {
        let mut takers: Vec<_> = self
            .takers
            .iter()
            .map(|(id, e)| TakerInfo {
                id: *id,
                kind: e.kind,
                name: e.name.clone(),
                account: self.account(*id),
            })
            .collect();
        takers.sort_by_key(|t| t.id);
        takers
    }
}

/// The taker under which the books of removed takers go on.
pub(crate) const REMOVED: TakerId = TakerId(0);
