//! Things, their types and groups, and the certificates attached to them (2016 guide, "Managing Things with AWS IoT").
//!
//! What is asked at every message ([`iotedge_ports::ThingFacts`]) comes from an immutable snapshot;
//! changes are committed before the snapshot shows them, one after the other. Changes wait for the
//! disk: they are for commands, not for the way of a message.
#![forbid(unsafe_code)]

mod error;
mod group;
mod groups;
mod records;
mod registry;
mod snapshot;
mod thing;
mod thing_type;
mod types;

pub use error::RegistryError;
pub use group::{
    MAX_GROUP_DEPTH, MAX_GROUP_DESCRIPTION, MAX_GROUP_POLICIES, MAX_GROUPS_OF_THING, NewThingGroup,
    ThingGroupDescription,
};
pub use registry::{OnChange, Registry};
pub use thing::{
    AttributeChange, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES_TYPED,
    MAX_ATTRIBUTES_UNTYPED, NewThing, ThingDescription, ThingQuery, ThingUpdate,
};
pub use thing_type::{
    MAX_SEARCHABLE_ATTRIBUTES, MAX_TYPE_DESCRIPTION, NewThingType, ThingTypeDescription,
    ThingTypeMetadata, ThingTypeProperties,
};
pub use types::DEPRECATED_BEFORE_DELETE;
