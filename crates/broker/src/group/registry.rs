//! Where groups are found: by their text, by the tree's number, by the number in a delivery.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use iotedge_model::DropReason;
use iotedge_ports::ShareId;
use iotedge_store::TakerId;
use slab::Slab;

use super::Group;
use crate::outbox::Env;

/// Whether a filter that was checked is one of a shared subscription.
pub(crate) fn is_shared(text: &str) -> bool {
    text.starts_with("$share/")
}

/// All groups, by a number that the tree uses.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Slab<Arc<Group>>,
    by_text: HashMap<Arc<str>, usize>,
}

impl Groups {
    pub(crate) fn get(&self, key: usize) -> Option<&Arc<Group>> {
        self.groups.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().map(|(_, group)| group)
    }

    /// The group of this text; `true` when it is new.
    pub(crate) fn group(&mut self, env: &Arc<Env>, text: &Arc<str>) -> (usize, bool) {
        if let Some(key) = self.by_text.get(text) {
            return (*key, false);
        }
        let group = Group::new(env.clone(), text.clone());
        let key = self.groups.insert(group);
        self.by_text.insert(text.clone(), key);
        (key, true)
    }

    /// A session is a member no more. The number of a group that this ends.
    pub(crate) fn leave(
        &mut self,
        session: usize,
        text: &str,
        reason: DropReason,
    ) -> Option<usize> {
        let key = *self.by_text.get(text)?;
        if !self.groups.get(key)?.leave(session) {
            return None;
        }
        self.by_text.remove(text);
        let group = self.groups.try_remove(key)?;
        group.dissolve(reason);
        Some(key)
    }

    /// The groups' queues.
    pub(crate) fn takers(&self) -> HashSet<TakerId> {
        self.iter().filter_map(|group| group.taker()).collect()
    }
}

/// All groups by the number that a delivery carries.
#[derive(Default)]
pub(crate) struct Shares(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    groups: HashMap<ShareId, Weak<Group>>,
    last: u32,
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, group: Weak<Group>) -> ShareId {
        let mut numbered = self.lock();
        loop {
            numbered.last = numbered.last.wrapping_add(1);
            if let Some(id) = NonZeroU32::new(numbered.last).map(ShareId) {
                if let Entry::Vacant(free) = numbered.groups.entry(id) {
                    free.insert(group);
                    return id;
                }
            }
        }
    }

    pub(super) fn remove(&self, id: ShareId) {
        self.lock().groups.remove(&id);
    }

    /// The group with this queue.
    pub(crate) fn of_queue(&self, queue: TakerId) -> Option<Arc<Group>> {
        // Not under the lock: a group's own comes before it.
        let all: Vec<Arc<Group>> = {
            let numbered = self.lock();
            numbered.groups.values().filter_map(Weak::upgrade).collect()
        };
        all.into_iter().find(|group| group.taker() == Some(queue))
    }

    /// `None`: its last member has left.
    pub(crate) fn get(&self, id: ShareId) -> Option<Arc<Group>> {
        self.lock().groups.get(&id).and_then(Weak::upgrade)
    }
}
