//! What is kept of a shadow.

use std::borrow::Cow;

use iotedge_model::{Now, UnixMillis};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use thiserror::Error;

use super::Section;
use super::merge;
use super::sync::{Known, Replica};
use super::tree::{Object, push_number};

/// How long a deleted shadow's version is remembered.
const TOMBSTONE_MILLIS: u64 = 48 * 60 * 60 * 1000;

/// Reading is noted once in so many seconds: a note is a write.
const USE_SECONDS: u64 = 24 * 60 * 60;

/// A shadow's state, metadata and version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document<'a> {
    /// Without members it is no section.
    pub(super) desired: Object<'a>,
    pub(super) reported: Object<'a>,
    /// Grows by one with each update.
    pub version: u64,
    /// When it was last updated, in seconds.
    pub timestamp: u64,
    /// When it was last updated or read, in seconds of a clock that could be believed; about to the
    /// day. `None`: that is not known.
    pub used: Option<u64>,
    /// What is known of its counterpart in the cloud, as JSON.
    pub(super) base: Option<Cow<'a, str>>,
}

/// What is left of a deleted shadow.
#[derive(Debug, Clone, PartialEq)]
pub struct Tombstone<'a> {
    /// The version it had.
    pub version: u64,
    /// When it was deleted.
    pub deleted_at: UnixMillis,
    /// Whether the clock could be believed then.
    pub trusted: bool,
    /// What is known of its counterpart in the cloud, as JSON.
    pub(super) base: Option<Cow<'a, str>>,
}

impl Tombstone<'_> {
    /// Whether the version is to be forgotten. Only a trusted clock on both ends can say so, and
    /// never before the cloud, where it knows the shadow, has heard of the deletion.
    pub fn is_over(&self, now: &Now) -> bool {
        self.base.is_none()
            && self.trusted
            && now.trusted
            && now.wall.0.saturating_sub(self.deleted_at.0) > TOMBSTONE_MILLIS
    }
}

/// What stands in the store for a shadow; texts of it are borrowed where they were read.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored<'a> {
    /// A shadow.
    Live(Document<'a>),
    /// A deleted one.
    Deleted(Tombstone<'a>),
}

/// A stored shadow cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the stored shadow is damaged: {0}")]
pub struct DamagedShadow(String);

impl<'a> Document<'a> {
    fn sections(&self) -> impl Iterator<Item = (&'static str, &Object<'a>)> {
        [("desired", &self.desired), ("reported", &self.reported)]
            .into_iter()
            .filter(|(_, section)| !section.is_empty())
    }

    /// Bytes of the compact JSON of both sections.
    pub(super) fn state_bytes(&self) -> usize {
        self.sections().map(|(_, s)| s.state_bytes()).sum()
    }

    /// `{"desired": …, "reported": …, "delta": …}` of what there is.
    fn write_part(
        &self,
        delta: Option<&Object<'_>>,
        write: impl Fn(&Object<'_>, &mut String),
        out: &mut String,
    ) {
        out.push('{');
        let delta = delta.map(|delta| ("delta", delta));
        for (at, (name, section)) in self.sections().chain(delta).enumerate() {
            out.push_str(if at > 0 { ",\"" } else { "\"" });
            out.push_str(name);
            out.push_str("\":");
            write(section, out);
        }
        out.push('}');
    }

    /// `"state": …, "metadata": …, "version": …`, with the delta where there is one.
    pub(super) fn write_content(&self, delta: Option<&Object<'_>>, out: &mut String) {
        out.push_str("\"state\":");
        self.write_part(delta, |section, out| section.write_state(out), out);
        out.push_str(",\"metadata\":");
        self.write_part(delta, |section, out| section.write_metadata(out), out);
        out.push_str(",\"version\":");
        push_number(self.version, out);
    }

    /// `state`, `metadata` and `version`, as `update/documents` shows them.
    pub fn to_content(&self) -> Value {
        let mut text = String::from("{");
        self.write_content(None, &mut text);
        text.push('}');
        // It was written from values.
        serde_json::from_str(&text).unwrap_or_default()
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
    pub fn bury(&self, now: &Now) -> Tombstone<'a> {
        Tombstone {
            version: self.version,
            deleted_at: now.wall,
            trusted: now.trusted,
            base: self.base.clone(),
        }
    }

    /// What is desired and not reported, with the times of desired; `None` without difference.
    pub(super) fn difference(&self) -> Option<Object<'a>> {
        let delta = merge::difference(&self.desired, &self.reported);
        (!delta.is_empty()).then_some(delta)
    }

    /// What is desired and not reported; `None` without difference.
    pub fn delta(&self) -> Option<Section> {
        self.difference().map(|delta| delta.to_section())
    }
}

/// A shadow's record in the store.
#[derive(Deserialize)]
struct Record<'a> {
    version: u64,
    timestamp: Option<u64>,
    used: Option<u64>,
    #[serde(borrow, default)]
    desired: Object<'a>,
    #[serde(borrow, default)]
    reported: Object<'a>,
    #[serde(borrow)]
    base: Option<&'a RawValue>,
    #[serde(rename = "deletedAt")]
    deleted_at: Option<u64>,
    #[serde(default)]
    trusted: bool,
    /// As shadows were kept before leaves had their times beside them.
    state: Option<Sections>,
    metadata: Option<Sections>,
}

#[derive(Deserialize, Default)]
struct Sections {
    #[serde(default)]
    desired: Section,
    #[serde(default)]
    reported: Section,
}

impl<'a> Stored<'a> {
    /// From the store's bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DamagedShadow> {
        let record: Record<'a> =
            serde_json::from_slice(bytes).map_err(|e| DamagedShadow(e.to_string()))?;
        let base = record.base.map(|base| Cow::Borrowed(base.get()));
        let version = record.version;
        if let Some(deleted_at) = record.deleted_at {
            return Ok(Self::Deleted(Tombstone {
                version,
                deleted_at: UnixMillis(deleted_at),
                trusted: record.trusted,
                base,
            }));
        }
        let (mut desired, mut reported) = (record.desired, record.reported);
        if let Some(state) = record.state {
            let metadata = record.metadata.unwrap_or_default();
            desired = Object::with_metadata(&state.desired, &metadata.desired);
            reported = Object::with_metadata(&state.reported, &metadata.reported);
        }
        let missing = || DamagedShadow("timestamp is missing".to_owned());
        Ok(Self::Live(Document {
            desired,
            reported,
            version,
            timestamp: record.timestamp.ok_or_else(missing)?,
            used: record.used,
            base,
        }))
    }

    /// With texts of its own.
    pub fn into_owned(self) -> Stored<'static> {
        let own = |base: Option<Cow<'_, str>>| base.map(|b| Cow::Owned(b.into_owned()));
        match self {
            Self::Live(document) => Stored::Live(Document {
                desired: document.desired.into_owned(),
                reported: document.reported.into_owned(),
                version: document.version,
                timestamp: document.timestamp,
                used: document.used,
                base: own(document.base),
            }),
            Self::Deleted(tombstone) => Stored::Deleted(Tombstone {
                version: tombstone.version,
                deleted_at: tombstone.deleted_at,
                trusted: tombstone.trusted,
                base: own(tombstone.base),
            }),
        }
    }

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        let base = match self {
            Self::Live(document) => {
                out.push_str("{\"version\":");
                push_number(document.version, &mut out);
                out.push_str(",\"timestamp\":");
                push_number(document.timestamp, &mut out);
                if let Some(used) = document.used {
                    out.push_str(",\"used\":");
                    push_number(used, &mut out);
                }
                for (name, section) in document.sections() {
                    out.push_str(",\"");
                    out.push_str(name);
                    out.push_str("\":");
                    section.write(&mut out);
                }
                &document.base
            }
            Self::Deleted(tombstone) => {
                let content = json!({
                    "version": tombstone.version,
                    "deletedAt": tombstone.deleted_at.0,
                    "trusted": tombstone.trusted,
                });
                out = content.to_string();
                out.pop();
                &tombstone.base
            }
        };
        if let Some(base) = base {
            out.push_str(",\"base\":");
            out.push_str(base);
        }
        out.push('}');
        out.into_bytes()
    }

    /// The shadow as one side of a synchronisation.
    pub fn replica(&self) -> Replica {
        match self {
            Self::Live(document) => Replica::Live {
                version: document.version,
                desired: document.desired.to_section(),
                reported: document.reported.to_section(),
            },
            Self::Deleted(_) => Replica::Gone,
        }
    }

    /// What is known of its counterpart in the cloud. What cannot be read is nothing, which loses
    /// nothing: both sides are compared with an empty document then.
    pub fn known(&self) -> Option<Known> {
        let known = match self {
            Self::Live(document) => &document.base,
            Self::Deleted(tombstone) => &tombstone.base,
        };
        Known::from_json(&serde_json::from_str(known.as_deref()?).ok()?)
    }

    /// Notes what is known of its counterpart from now on.
    pub fn set_known(&mut self, known: Option<&Known>) {
        let place = match self {
            Self::Live(document) => &mut document.base,
            Self::Deleted(tombstone) => &mut tombstone.base,
        };
        *place = known.map(|known| Cow::Owned(known.to_json().to_string()));
    }
}
