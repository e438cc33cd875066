//! What is kept of earlier synchronisations, beside the shadow.

use serde_json::{Map, Value, json};

use super::{Replica, Section, same_section};

/// The document that both sides had in common, and the versions by which they knew it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Base {
    /// The local version.
    pub local: u64,
    /// The cloud's version.
    pub cloud: u64,
    /// The section; empty for none.
    pub desired: Section,
    /// The section; empty for none.
    pub reported: Section,
}

/// What is known of a shadow's counterpart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Which cloud that is; what is known of another one does not count.
    pub peer: String,
    /// What the local side was after the last merge; the cloud, too, unless that has not answered.
    pub base: Option<Base>,
    /// Both sections of what the cloud had at [`Base::cloud`] when it was told to become the base, and
    /// has not answered: it is the one or the other, or something newer.
    pub before: Option<(Section, Section)>,
}

impl Known {
    /// Whether the cloud has, or may have, heard of the shadow.
    pub fn is_synchronised(&self) -> bool {
        self.base.is_some()
    }

    /// Whether both sides are known to have been equal.
    pub fn is_settled(&self) -> bool {
        self.base.is_some() && self.before.is_none()
    }

    /// Whether the shadow has stayed in the cloud as it was known, or is as it was sent.
    pub(super) fn cloud_is_unchanged(&self, cloud: &Replica) -> bool {
        let (
            Replica::Live {
                version,
                desired,
                reported,
            },
            Some(base),
        ) = (cloud, &self.base)
        else {
            return false;
        };
        let is = |a: &Section, b: &Section| same_section(a, desired) && same_section(b, reported);
        let as_base = is(&base.desired, &base.reported);
        match &self.before {
            None => as_base && base.cloud == *version,
            Some(before) => as_base || is(&before.0, &before.1),
        }
    }

    /// Whether the shadow has stayed here as the cloud knows it.
    pub(super) fn local_is_unchanged(&self, local: &Replica) -> bool {
        let base = self.base.as_ref().filter(|_| self.before.is_none());
        base.is_some_and(|base| Some(base.local) == local.version())
    }

    /// For the store.
    pub(in crate::core) fn to_json(&self) -> Value {
        let mut known = Map::new();
        known.insert("peer".into(), self.peer.as_str().into());
        if let Some(base) = &self.base {
            known.insert("local".into(), base.local.into());
            known.insert("cloud".into(), base.cloud.into());
            known.insert("desired".into(), base.desired.clone().into());
            known.insert("reported".into(), base.reported.clone().into());
        }
        if let Some((desired, reported)) = &self.before {
            let before = json!({"desired": desired, "reported": reported});
            known.insert("before".into(), before);
        }
        known.into()
    }

    /// From the store.
    pub(in crate::core) fn from_json(value: &Value) -> Option<Self> {
        let section = |of: &Value, name: &str| of.get(name)?.as_object().cloned();
        let base = match value.get("cloud") {
            None => None,
            Some(cloud) => Some(Base {
                local: value.get("local")?.as_u64()?,
                cloud: cloud.as_u64()?,
                desired: section(value, "desired")?,
                reported: section(value, "reported")?,
            }),
        };
        let before = match value.get("before") {
            None => None,
            Some(before) => Some((section(before, "desired")?, section(before, "reported")?)),
        };
        let peer = value.get("peer").and_then(Value::as_str);
        Some(Self {
            peer: peer.unwrap_or_default().to_owned(),
            base,
            before,
        })
    }
}
