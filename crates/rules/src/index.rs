//! Which rules a topic concerns, without asking all of them.

use std::collections::HashMap;

/// A tree of filter levels. A topic is followed level by level, so that what a message costs
/// depends on its levels and on the rules that match, not on the number of rules.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    /// Below `+`.
    any: Option<usize>,
    /// Rules whose filter ends here.
    here: Vec<usize>,
    /// Rules whose filter ends with `#` here.
    rest: Vec<usize>,
}

impl Index {
    /// Adds a rule's number under its filter.
    pub(crate) fn insert(&mut self, filter: &str, rule: usize) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for level in filter.split('/') {
            if level == "#" {
                if let Some(node) = self.nodes.get_mut(at) {
                    node.rest.push(rule);
                }
                return;
            }
            at = self.child(at, level);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.here.push(rule);
        }
    }

    fn child(&mut self, at: usize, level: &str) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else {
            return at;
        };
        let found = if level == "+" {
            *node.any.get_or_insert(new)
        } else {
            match node.children.get(level) {
                Some(&found) => found,
                None => {
                    node.children.insert(level.into(), new);
                    new
                }
            }
        };
        if found == new {
            self.nodes.push(Node::default());
        }
        found
    }

    /// The numbers of all rules whose filter matches, in order.
    pub(crate) fn matching(&self, topic: &str) -> Vec<usize> {
        let mut out = Vec::new();
        // A wildcard in the first level does not match '$' topics ([MQTT-4.7.2-1]).
        let mut open = vec![(0, Some(topic), !topic.starts_with('$'))];
        while let Some((at, rest, wildcards)) = open.pop() {
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            if wildcards {
                out.extend_from_slice(&node.rest);
            }
            let Some(rest) = rest else {
                out.extend_from_slice(&node.here);
                continue;
            };
            let (level, rest) = match rest.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (rest, None),
            };
            let named = node.children.get(level).copied();
            let any = node.any.filter(|_| wildcards);
            open.extend([named, any].into_iter().flatten().map(|n| (n, rest, true)));
        }
        out.sort_unstable();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_agrees_with_matching_one_by_one() {
        let filters = [
            "#", "+", "a", "a/b", "a/+", "a/#", "+/b", "+/+", "/", "/+", "a//b", "a/+/c", "$aws/#",
            "$aws/+/x", "+/#", "a/b/#", "$SYS", "a/b/c/d",
        ];
        let topics = [
            "a",
            "b",
            "a/b",
            "a/",
            "/",
            "/a",
            "a//b",
            "a/b/c",
            "a/x/c",
            "$aws",
            "$aws/a/x",
            "$aws/a",
            "$SYS",
            "$SYS/b",
            "a/b/c/d",
            "a/b/c/d/e",
            "x/b",
        ];
        let mut index = Index::default();
        for (n, filter) in filters.iter().enumerate() {
            index.insert(filter, n);
        }
        for topic in topics {
            let expected: Vec<usize> = (0..filters.len())
                .filter(|&n| iotedge_model::matches(filters[n], topic))
                .collect();
            assert_eq!(index.matching(topic), expected, "{topic}");
        }
        assert!(Index::default().matching("a").is_empty());
    }
}
