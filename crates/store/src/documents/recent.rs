//! Documents that were read or written of late: a bounded part of the file in memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::Change;

/// Bytes of each of the two halves. What is not asked for while a half fills goes.
const HALF: usize = 512 * 1024;

/// What an entry costs beside its body.
const ENTRY: usize = 200;

type Entries = HashMap<&'static str, HashMap<Arc<str>, Change>>;

/// What is committed, as it stands in the file. Two halves by age: an entry that is found in the
/// older one is young again.
#[derive(Default)]
pub(crate) struct Recent {
    young: Entries,
    old: Entries,
    /// Bytes of `young`.
    bytes: usize,
}

fn remove(entries: &mut Entries, collection: &str, key: &str) -> Option<Change> {
    entries.get_mut(collection)?.remove(key)
}

fn cost(change: &Change) -> usize {
    ENTRY + change.key.len() + change.body.as_ref().map_or(0, bytes::Bytes::len)
}

impl Recent {
    pub(crate) fn get(&mut self, collection: &str, key: &str) -> Option<Change> {
        let young = self.young.get(collection).and_then(|of| of.get(key));
        if let Some(change) = young {
            return Some(change.clone());
        }
        let change = remove(&mut self.old, collection, key)?;
        self.put(change.clone());
        Some(change)
    }

    /// Notes what stands in the file now.
    pub(crate) fn put(&mut self, change: Change) {
        self.forget(change.collection, &change.key);
        let size = cost(&change);
        if size > HALF / 8 {
            return;
        }
        if self.bytes + size > HALF {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += size;
        let of = self.young.entry(change.collection).or_default();
        of.insert(change.key.clone(), change);
    }

    /// It is no longer known what stands in the file.
    pub(crate) fn forget(&mut self, collection: &str, key: &str) {
        if let Some(change) = remove(&mut self.young, collection, key) {
            self.bytes = self.bytes.saturating_sub(cost(&change));
        }
        remove(&mut self.old, collection, key);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use iotedge_model::UnixMillis;

    use super::*;

    fn change(key: &str, bytes: usize) -> Change {
        Change {
            collection: "c",
            key: Arc::from(key),
            version: 1,
            body: Some(Bytes::from(vec![b'x'; bytes])),
            updated_at: UnixMillis(1),
            sequence: 1,
        }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_memory_is_bounded() {
        let mut recent = Recent::default();
        recent.put(change("asked", 100));
        recent.put(change("forgotten", 100));
        for n in 0..10_000 {
            recent.put(change(&n.to_string(), 1000));
            assert!(recent.get("c", "asked").is_some(), "{n}");
        }
        assert!(recent.get("c", "forgotten").is_none());
        let held: usize = [&recent.young, &recent.old]
            .into_iter()
            .flat_map(|half| half.values())
            .flat_map(|of| of.values())
            .map(cost)
            .sum();
        assert!(held <= 2 * HALF, "{held}");
    }

    #[test]
    fn what_is_forgotten_is_in_neither_half() {
        let mut recent = Recent::default();
        recent.put(change("a", 10));
        recent.forget("c", "a");
        assert!(recent.get("c", "a").is_none());
        assert_eq!(recent.bytes, 0);
        recent.put(change("huge", HALF));
        assert!(recent.get("c", "huge").is_none());
    }
}
