//! The registry at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iotedge_model::{CertificateId, ThingGroupName, ThingName, ThingTypeName};
use iotedge_ports::ThingRecord;

use crate::ThingDescription;
use crate::group::{self, Groups};
use crate::thing::StoredThing;
use crate::thing_type::StoredType;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) stored: StoredThing,
    /// The same, as policies ask for it.
    pub(crate) record: Arc<ThingRecord>,
    pub(crate) certificates: BTreeSet<CertificateId>,
    /// Those that it was put into.
    pub(crate) groups: BTreeSet<ThingGroupName>,
}

impl Entry {
    pub(crate) fn new(stored: StoredThing, certificates: BTreeSet<CertificateId>) -> Self {
        let record = ThingRecord {
            thing_type: stored.thing_type_name.as_ref().map(ToString::to_string),
            attributes: stored.attributes.clone().into_iter().collect(),
            groups: Vec::new(),
        };
        Self {
            stored,
            record: Arc::new(record),
            certificates,
            groups: BTreeSet::new(),
        }
    }

    /// Shows policies what its groups are now.
    pub(crate) fn bring_groups(&mut self, groups: &Groups) {
        Arc::make_mut(&mut self.record).groups = group::records(groups, &self.groups);
    }

    pub(crate) fn describe(&self, name: &ThingName) -> ThingDescription {
        ThingDescription {
            thing_name: name.clone(),
            default_client_id: name.clone(),
            thing_type_name: self.stored.thing_type_name.clone(),
            attributes: self.stored.attributes.clone(),
            version: self.stored.version,
        }
    }
}

/// Entries are shared with the snapshot before: only what changed is new.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) things: BTreeMap<ThingName, Arc<Entry>>,
    pub(crate) groups: Groups,
    pub(crate) types: BTreeMap<ThingTypeName, Arc<StoredType>>,
    /// When types were deprecated in this run, by the clock that never goes back.
    pub(crate) deprecated_at: BTreeMap<ThingTypeName, u64>,
}
