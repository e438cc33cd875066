//! Things and the certificates attached to them (2016 guide, "Managing Things with AWS IoT").
//!
//! What is asked at every message ([`iotedge_ports::ThingFacts`]) comes from an immutable snapshot;
//! changes are committed before the snapshot shows them, one after the other. Changes wait for the
//! disk: they are for commands, not for the way of a message.
#![forbid(unsafe_code)]

mod error;
mod records;
mod registry;
mod snapshot;
mod thing;

pub use error::RegistryError;
pub use registry::{OnChange, Registry};
pub use thing::{
    AttributeChange, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE_VALUE, MAX_ATTRIBUTES_TYPED,
    MAX_ATTRIBUTES_UNTYPED, NewThing, ThingDescription, ThingUpdate,
};
