//! The subscription tree: which takers a topic has.

use std::collections::HashMap;

/// A trie over levels. `K` names a taker: one entry for each taker and filter.
pub(crate) struct Tree<K, V> {
    root: Node<K, V>,
    /// Whether `a/#` matches `a` for a taker.
    matches_parent: fn(&K) -> bool,
}

struct Node<K, V> {
    children: HashMap<Box<str>, Node<K, V>>,
    plus: Option<Box<Node<K, V>>>,
    /// Entries whose filter ends here.
    here: Vec<(K, V)>,
    /// Entries whose filter ends with `#` behind this level.
    below: Vec<(K, V)>,
}

impl<K, V> Node<K, V> {
    fn new() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl<K: Copy + Eq, V: Clone> Tree<K, V> {
    /// `matches_parent`: for whom `a/#` matches `a`; for all, says the standard.
    pub(crate) fn new(matches_parent: fn(&K) -> bool) -> Self {
        Self {
            root: Node::new(),
            matches_parent,
        }
    }

    /// Adds an entry; one of the same taker under the same filter is replaced.
    pub(crate) fn insert(&mut self, filter: &str, key: K, value: V) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => {
                    replace(&mut node.below, key, value);
                    return;
                }
                "+" => node.plus.get_or_insert_with(|| Box::new(Node::new())),
                _ => {
                    if !node.children.contains_key(level) {
                        node.children.insert(level.into(), Node::new());
                    }
                    match node.children.get_mut(level) {
                        Some(child) => child,
                        None => return,
                    }
                }
            };
        }
        replace(&mut node.here, key, value);
    }

    /// Removes an entry and the branches that it leaves empty.
    pub(crate) fn remove(&mut self, filter: &str, key: K) {
        let levels: Vec<&str> = filter.split('/').collect();
        remove_below(&mut self.root, &levels, key);
    }

    /// Calls `found` for each entry whose filter matches. An entry comes once; a taker with several
    /// matching filters comes several times.
    pub(crate) fn matches(&self, topic: &str, found: &mut impl FnMut(K, &V)) {
        let levels: Vec<&str> = topic.split('/').collect();
        // [MQTT-4.7.2-1]: wildcards at the beginning do not match `$` topics.
        let reserved = topic.starts_with('$');
        walk(&self.root, &levels, !reserved, self.matches_parent, found);
    }
}

fn replace<K: Eq, V>(entries: &mut Vec<(K, V)>, key: K, value: V) {
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

fn remove_below<K: Copy + Eq, V>(node: &mut Node<K, V>, levels: &[&str], key: K) {
    let Some((level, rest)) = levels.split_first() else {
        node.here.retain(|(k, _)| *k != key);
        return;
    };
    match *level {
        "#" => node.below.retain(|(k, _)| *k != key),
        "+" => {
            if let Some(plus) = &mut node.plus {
                remove_below(plus, rest, key);
                if plus.is_empty() {
                    node.plus = None;
                }
            }
        }
        level => {
            if let Some(child) = node.children.get_mut(level) {
                remove_below(child, rest, key);
                if child.is_empty() {
                    node.children.remove(level);
                }
            }
        }
    }
}

fn walk<K: Copy, V>(
    node: &Node<K, V>,
    levels: &[&str],
    wildcards: bool,
    matches_parent: fn(&K) -> bool,
    found: &mut impl FnMut(K, &V),
) {
    if wildcards {
        for (key, value) in &node.below {
            if !levels.is_empty() || matches_parent(key) {
                found(*key, value);
            }
        }
    }
    let Some((level, rest)) = levels.split_first() else {
        for (key, value) in &node.here {
            found(*key, value);
        }
        return;
    };
    if wildcards {
        if let Some(plus) = &node.plus {
            walk(plus, rest, true, matches_parent, found);
        }
    }
    if let Some(child) = node.children.get(*level) {
        walk(child, rest, true, matches_parent, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(tree: &Tree<u32, ()>, topic: &str) -> Vec<u32> {
        let mut out = Vec::new();
        tree.matches(topic, &mut |key, ()| out.push(key));
        out.sort_unstable();
        out
    }

    proptest! {
        /// The tree finds what the definition of matching says, whatever was added and removed.
        #[test]
        fn the_tree_agrees_with_the_definition(
            filters in proptest::collection::vec("(\\$|)([ab]|\\+)(/([ab]|\\+|)){0,3}(/#|)", 1..20),
            removed in proptest::collection::vec(any::<bool>(), 20),
            topic in "(\\$|)[ab](/([ab]|)){0,4}",
        ) {
            let mut tree = Tree::new(|_| true);
            for (i, filter) in filters.iter().enumerate() {
                tree.insert(filter, i as u32, ());
            }
            let mut expected = Vec::new();
            for (i, filter) in filters.iter().enumerate() {
                if removed[i] {
                    tree.remove(filter, i as u32);
                } else if iotedge_model::matches(filter, &topic) {
                    expected.push(i as u32);
                }
            }
            prop_assert_eq!(found(&tree, &topic), expected);
        }
    }

    #[test]
    fn a_tree_may_leave_the_parent_out_for_some() {
        let mut tree = Tree::new(|key| *key == 4);
        for (key, filter) in ["#", "a/#", "a/+/#", "a/b", "a/#"].iter().enumerate() {
            tree.insert(filter, key as u32, ());
        }
        assert_eq!(found(&tree, "a"), [0, 4]);
        assert_eq!(found(&tree, "a/"), [0, 1, 4]);
        assert_eq!(found(&tree, "a/b"), [0, 1, 3, 4]);
        assert_eq!(found(&tree, "a/b/"), [0, 1, 2, 4]);
    }

    #[test]
    fn an_emptied_tree_holds_nothing() {
        let mut tree = Tree::new(|_| true);
        for filter in ["a/b/c", "a/+/c", "#", "a/#", "+"] {
            tree.insert(filter, 1, ());
        }
        for filter in ["a/b/c", "a/+/c", "#", "a/#", "+"] {
            tree.remove(filter, 1);
        }
        assert!(tree.root.is_empty());
    }
}
