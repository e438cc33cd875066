//! Which shadows are kept together with the cloud's, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::SyncKey;
use crate::core::sync::Direction;

/// A name in which each `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Whether it stands for this one name alone.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for the name.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star began to take characters.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(c) if name.get(n) == Some(c) => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|c| *c == b'*')
    }

    /// Whether there is a name for which both stand.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        // reachable[j]: the first i of `a` and the first j of `b` can be the same.
        let mut reachable: Vec<bool> = Vec::with_capacity(b.len() + 1);
        for j in 0..=b.len() {
            reachable.push(b.iter().take(j).all(|c| *c == b'*'));
        }
        for x in a {
            let mut next = Vec::with_capacity(b.len() + 1);
            next.push(*x == b'*' && reachable.first() == Some(&true));
            for (j, y) in b.iter().enumerate() {
                let at = |row: &Vec<bool>, j: usize| row.get(j).copied().unwrap_or(false);
                let both = at(&reachable, j) && (x == y || *x == b'*' || *y == b'*');
                let a_takes = at(&next, j) && *x == b'*';
                let a_is_empty = at(&reachable, j + 1) && *x == b'*';
                let b_is_empty = at(&next, j) && *y == b'*';
                let b_takes = at(&reachable, j + 1) && *y == b'*';
                next.push(both || a_takes || a_is_empty || b_is_empty || b_takes);
            }
            reachable = next;
        }
        reachable.last() == Some(&true)
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b":_-*".contains(&c));
        match (1..=128).contains(&text.len()) && good {
            true => Ok(Self(text.to_owned())),
            false => Err("a name has 1 to 128 of a-z A-Z 0-9 : _ -, and * for any of them"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some shadows, and how they are kept together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Whose.
    pub thing: Pattern,
    /// Their classic shadows.
    pub classic: bool,
    /// Their shadows of these names.
    pub named: Vec<Pattern>,
    /// Which way.
    pub direction: Direction,
    /// No two updates of one shadow go to the cloud within it.
    pub interval: Duration,
}

impl Selection {
    /// Whether the shadow is one of them.
    pub fn matches(&self, key: &SyncKey) -> bool {
        let shadow = match &key.shadow {
            None => self.classic,
            Some(name) => self.named.iter().any(|n| n.matches(name.as_str())),
        };
        shadow && self.thing.matches(key.thing.as_str())
    }

    /// Whether a shadow can be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let named = || {
            let mut all = self.named.iter();
            all.any(|a| other.named.iter().any(|b| a.overlaps(b)))
        };
        self.thing.overlaps(&other.thing) && ((self.classic && other.classic) || named())
    }

    /// The shadows that it names without wildcards.
    pub(super) fn exact(&self) -> Vec<SyncKey> {
        if !self.thing.is_exact() {
            return Vec::new();
        }
        let thing = self.thing.as_str();
        let named = self.named.iter().filter(|name| name.is_exact());
        let named = named.map(|name| format!("{thing}/{name}"));
        let classic = self.classic.then(|| thing.to_owned());
        let keys = classic.into_iter().chain(named);
        keys.filter_map(|key| SyncKey::parse(&key)).collect()
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thing {:?}", self.thing.0)
    }
}

/// How one upstream's shadows are kept together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The upstream, for status and journal.
    pub upstream: String,
    /// Which cloud it is: what is known of another one does not count.
    pub peer: String,
    /// Which shadows.
    pub selections: Vec<Selection>,
    /// Requests a second; as many may leave at once after a rest. From 1.
    pub rate: u32,
    /// Subscriptions held at once; from 2. AWS IoT has 50 for a connection, routes included.
    pub max_subscriptions: usize,
    /// Two subscriptions with wildcards stand for all shadows: the upstream's policies have to allow
    /// it, and what it sends of other shadows is thrown away.
    pub wildcard: bool,
    /// How long a request may stay unanswered.
    pub answer_timeout: Duration,
    /// How often the cloud is asked for a shadow of which nothing has been heard.
    pub refresh: Duration,
}

/// Selections that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectionError {
    /// Two of them have the same shadow.
    #[error("{first} and {second} select some of the same shadows")]
    Overlap {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// It selects no shadow.
    #[error("{selection} selects neither the classic shadow nor named ones")]
    Empty {
        /// Which.
        selection: String,
    },
}

impl Settings {
    /// Whether all of the selections can be, those of several upstreams together.
    ///
    /// # Errors
    /// The first that contradict each other.
    pub fn check<'a>(
        selections: impl IntoIterator<Item = &'a Selection>,
    ) -> Result<(), SelectionError> {
        let mut before: Vec<&Selection> = Vec::new();
        for selection in selections {
            if !selection.classic && selection.named.is_empty() {
                return Err(SelectionError::Empty {
                    selection: selection.to_string(),
                });
            }
            if let Some(first) = before.iter().find(|s| s.overlaps(selection)) {
                return Err(SelectionError::Overlap {
                    first: first.to_string(),
                    second: selection.to_string(),
                });
            }
            before.push(selection);
        }
        Ok(())
    }

    /// Where the shadow is selected.
    pub(super) fn find(&self, key: &SyncKey) -> Option<&Selection> {
        self.selections.iter().find(|s| s.matches(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (text, name, is) in [
            ("lamp", "lamp", true),
            ("lamp", "lamp1", false),
            ("*", "", true),
            ("lamp-*", "lamp-", true),
            ("lamp-*", "lamp", false),
            ("*-a-*", "x-a-a-y", true),
            ("*-a", "x-a-b-a", true),
            ("*-a", "x-a-b", false),
        ] {
            assert_eq!(pattern(text).matches(name), is, "{text} {name}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_name_fits_both() {
        for (a, b, overlap) in [
            ("lamp", "lamp", true),
            ("lamp", "lam", false),
            ("lamp-*", "*-1", true),
            ("lamp-*", "fan-*", false),
            ("*", "x", true),
            ("a*b", "b*a", false),
            ("a*", "*", true),
            ("ab*", "a*c", true),
            ("a*a", "a", false),
            ("*a*", "b", false),
            ("*a*", "*b*", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), overlap, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), overlap, "{b} {a}");
        }
    }
}
