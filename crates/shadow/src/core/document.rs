//! What is kept of a shadow.

use iotedge_model::{Now, UnixMillis};
use serde_json::{Value, json};
use thiserror::Error;

use super::sync::{Base, Replica};
use super::{Section, merge};

/// How long a deleted shadow's version is remembered.
const TOMBSTONE_MILLIS: u64 = 48 * 60 * 60 * 1000;

/// Reading is noted once in so many seconds: a note is a write.
const USE_SECONDS: u64 = 24 * 60 * 60;

/// A section with the timestamps of its leaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Stamped {
    pub(super) state: Section,
    pub(super) metadata: Section,
}

/// A shadow's state, metadata and version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    pub(super) desired: Option<Stamped>,
    pub(super) reported: Option<Stamped>,
    /// Grows by one with each update.
    pub version: u64,
    /// When it was last updated, in seconds.
    pub timestamp: u64,
    /// When it was last updated or read, in seconds of a clock that could be believed; about to the
    /// day. `None`: that is not known.
    pub used: Option<u64>,
    /// What it had in common with the cloud when it was last synchronised.
    pub base: Option<Box<Base>>,
}

/// What is left of a deleted shadow.
#[derive(Debug, Clone, PartialEq)]
pub struct Tombstone {
    /// The version it had.
    pub version: u64,
    /// When it was deleted.
    pub deleted_at: UnixMillis,
    /// Whether the clock could be believed then.
    pub trusted: bool,
    /// What it had in common with the cloud when it was last synchronised.
    pub base: Option<Box<Base>>,
}

impl Tombstone {
    /// Whether the version is to be forgotten. Only a trusted clock on both ends can say so.
    pub fn is_over(&self, now: &Now) -> bool {
        self.trusted
            && now.trusted
            && now.wall.0.saturating_sub(self.deleted_at.0) > TOMBSTONE_MILLIS
    }
}

/// What stands in the store for a shadow.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is read, never a list of them"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// A shadow.
    Live(Document),
    /// A deleted one.
    Deleted(Tombstone),
}

/// A stored shadow cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the stored shadow is damaged: {0}")]
pub struct DamagedShadow(String);

impl Document {
    /// Bytes of the compact JSON of both sections.
    pub(super) fn state_bytes(&self) -> usize {
        [&self.desired, &self.reported]
            .into_iter()
            .flatten()
            // Serialising a map of values cannot fail; if it did, it would count as too large.
            .map(|s| serde_json::to_vec(&s.state).map_or(usize::MAX, |v| v.len()))
            .fold(0, usize::saturating_add)
    }

    /// `state`, `metadata` and `version`, as `update/documents` shows them.
    pub fn to_content(&self) -> Value {
        let (mut state, mut metadata) = (Section::new(), Section::new());
        for (name, section) in [("desired", &self.desired), ("reported", &self.reported)] {
            if let Some(section) = section {
                state.insert(name.into(), section.state.clone().into());
                metadata.insert(name.into(), section.metadata.clone().into());
            }
        }
        json!({"state": state, "metadata": metadata, "version": self.version})
    }

    /// Notes that it is used; `true` when that is news that should be kept.
    pub fn touch(&mut self, now: &Now) -> bool {
        let seconds = now.wall.seconds();
        let known = self
            .used
            .is_some_and(|used| seconds.saturating_sub(used) < USE_SECONDS);
        if known || !now.trusted {
            return false;
        }
        self.used = Some(seconds);
        true
    }

    /// Whether nobody has updated or read it for `lifetime` seconds. Only a clock that can be
    /// believed says so, and only after it has once seen the shadow.
    pub fn is_unused(&self, now: &Now, lifetime: u64) -> bool {
        let seconds = now.wall.seconds();
        now.trusted
            && self
                .used
                .is_some_and(|used| seconds.saturating_sub(used) > lifetime)
    }

    /// What is left of it when it is deleted.
    pub fn bury(&self, now: &Now) -> Tombstone {
        Tombstone {
            version: self.version,
            deleted_at: now.wall,
            trusted: now.trusted,
            base: self.base.clone(),
        }
    }

    /// What is desired and not reported, with the timestamps of desired; `None` without difference.
    pub fn delta(&self) -> Option<(Section, Section)> {
        let desired = self.desired.as_ref()?;
        let none = Section::new();
        let reported = self.reported.as_ref().map_or(&none, |r| &r.state);
        let (state, metadata) = merge::difference(&desired.state, &desired.metadata, reported);
        (!state.is_empty()).then_some((state, metadata))
    }
}

fn section(root: &Value, name: &str) -> Option<Stamped> {
    Some(Stamped {
        state: root.get("state")?.get(name)?.as_object()?.clone(),
        metadata: root.get("metadata")?.get(name)?.as_object()?.clone(),
    })
}

impl Stored {
    /// From the store's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DamagedShadow> {
        let root: Value =
            serde_json::from_slice(bytes).map_err(|e| DamagedShadow(e.to_string()))?;
        let number = |name: &str| {
            root.get(name)
                .and_then(Value::as_u64)
                .ok_or_else(|| DamagedShadow(format!("{name} is missing")))
        };
        let version = number("version")?;
        let base = root.get("base").and_then(Base::from_json).map(Box::new);
        if root.get("deletedAt").is_some() {
            return Ok(Self::Deleted(Tombstone {
                version,
                deleted_at: UnixMillis(number("deletedAt")?),
                trusted: root.get("trusted").and_then(Value::as_bool) == Some(true),
                base,
            }));
        }
        Ok(Self::Live(Document {
            desired: section(&root, "desired"),
            reported: section(&root, "reported"),
            version,
            timestamp: number("timestamp")?,
            used: root.get("used").and_then(Value::as_u64),
            base,
        }))
    }

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut content, base) = match self {
            Self::Live(document) => {
                let mut content = document.to_content();
                if let Some(object) = content.as_object_mut() {
                    object.insert("timestamp".into(), document.timestamp.into());
                    if let Some(used) = document.used {
                        object.insert("used".into(), used.into());
                    }
                }
                (content, &document.base)
            }
            Self::Deleted(tombstone) => {
                let content = json!({
                    "version": tombstone.version,
                    "deletedAt": tombstone.deleted_at.0,
                    "trusted": tombstone.trusted,
                });
                (content, &tombstone.base)
            }
        };
        if let (Some(base), Some(object)) = (base, content.as_object_mut()) {
            object.insert("base".into(), base.to_json());
        }
        content.to_string().into_bytes()
    }

    /// The shadow as one side of a synchronisation.
    pub fn replica(&self) -> Replica {
        match self {
            Self::Live(document) => {
                let section = |section: &Option<Stamped>| {
                    section
                        .as_ref()
                        .map(|s| s.state.clone())
                        .unwrap_or_default()
                };
                Replica::Live {
                    version: document.version,
                    desired: section(&document.desired),
                    reported: section(&document.reported),
                }
            }
            Self::Deleted(_) => Replica::Gone,
        }
    }

    /// What it had in common with the cloud when it was last synchronised.
    pub fn base(&self) -> Option<&Base> {
        match self {
            Self::Live(document) => document.base.as_deref(),
            Self::Deleted(tombstone) => tombstone.base.as_deref(),
        }
    }

    /// Notes what it has in common with the cloud from now on.
    pub fn set_base(&mut self, base: Base) {
        let place = match self {
            Self::Live(document) => &mut document.base,
            Self::Deleted(tombstone) => &mut tombstone.base,
        };
        *place = Some(Box::new(base));
    }
}
