//! Of requests about things and their types.

use std::collections::BTreeMap;

use iotedge_model::{CertificateId, ThingGroupName, ThingName, ThingTypeName};
use serde::{Deserialize, Serialize};

arguments! {
    /// Of [`Request::ThingCreate`](super::Request::ThingCreate).
    ThingCreate {
        /// Its name.
        name: ThingName,
        /// Its type.
        #[serde(default)]
        thing_type: Option<ThingTypeName>,
        /// Its attributes.
        #[serde(default)]
        attributes: BTreeMap<String, String>,
    }
    /// Of [`Request::ThingList`](super::Request::ThingList): what is not given, all things have.
    ThingList {
        /// Of this type.
        #[serde(default)]
        thing_type: Option<ThingTypeName>,
        /// With this attribute.
        #[serde(default)]
        attribute_name: Option<String>,
        /// With this value of it.
        #[serde(default)]
        attribute_value: Option<String>,
    }
    /// Of [`Request::ThingUpdate`](super::Request::ThingUpdate).
    ThingUpdate {
        /// The thing.
        name: ThingName,
        /// Attributes; one with an empty value is removed.
        #[serde(default)]
        attributes: BTreeMap<String, String>,
        /// Whether attributes that are not given stay.
        #[serde(default)]
        merge: bool,
        /// Its new type.
        #[serde(default)]
        thing_type: Option<ThingTypeName>,
        /// Whether its type is taken away.
        #[serde(default)]
        remove_thing_type: bool,
        /// The version that it must have.
        #[serde(default)]
        expected_version: Option<u64>,
    }
    /// Names a thing.
    Thing {
        /// Its name.
        name: ThingName,
    }
    /// Of [`Request::ThingDelete`](super::Request::ThingDelete).
    ThingDelete {
        /// Its name.
        name: ThingName,
        /// The version that it must have.
        #[serde(default)]
        expected_version: Option<u64>,
    }
    /// Of [`Request::ThingAttach`](super::Request::ThingAttach) and
    /// [`Request::ThingDetach`](super::Request::ThingDetach).
    ThingAttach {
        /// The thing.
        name: ThingName,
        /// The certificate.
        certificate: CertificateId,
    }
    /// Of [`Request::ThingGroupCreate`](super::Request::ThingGroupCreate).
    ThingGroupCreate {
        /// Its name.
        name: ThingGroupName,
        /// The group that it is in.
        #[serde(default)]
        parent: Option<ThingGroupName>,
        /// What it is.
        #[serde(default)]
        description: Option<String>,
    }
    /// Names a thing group.
    ThingGroup {
        /// Its name.
        name: ThingGroupName,
    }
    /// Of [`Request::ThingGroupAdd`](super::Request::ThingGroupAdd) and
    /// [`Request::ThingGroupRemove`](super::Request::ThingGroupRemove).
    ThingGroupMember {
        /// The group.
        name: ThingGroupName,
        /// The thing.
        thing: ThingName,
    }
    /// Of [`Request::ThingGroupAttachPolicy`](super::Request::ThingGroupAttachPolicy) and
    /// [`Request::ThingGroupDetachPolicy`](super::Request::ThingGroupDetachPolicy).
    ThingGroupPolicy {
        /// The group.
        name: ThingGroupName,
        /// The policy's name.
        policy: String,
    }
    /// Of [`Request::ThingTypeCreate`](super::Request::ThingTypeCreate).
    ThingTypeCreate {
        /// Its name.
        name: ThingTypeName,
        /// What it is.
        #[serde(default)]
        description: Option<String>,
        /// Attributes that things of the type are looked for by.
        #[serde(default)]
        searchable_attributes: Vec<String>,
    }
    /// Names a thing type.
    ThingType {
        /// Its name.
        name: ThingTypeName,
    }
    /// Of [`Request::ThingTypeDeprecate`](super::Request::ThingTypeDeprecate).
    ThingTypeDeprecate {
        /// The type.
        name: ThingTypeName,
        /// Whether to undo it.
        #[serde(default)]
        undo: bool,
    }
}
