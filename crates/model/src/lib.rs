//! The words that all rooms share: topics, filters, names, ARNs, principals and messages.
//!
//! A value of one of these types was checked when it was made and is valid ever after, so no
//! room checks it again. Nothing here does I/O, reads a clock or knows another room.
#![forbid(unsafe_code)]

mod action;
mod arn;
mod drop_reason;
mod identifiers;
pub mod json;
mod message;
mod name;
mod percent;
mod principal;
pub mod reserved;
mod time;
mod topic;

pub use action::Action;
pub use arn::{Arn, ArnScope};
pub use drop_reason::DropReason;
pub use identifiers::SubscriptionIds;
pub use message::{
    HOPS, Message, MessageId, PayloadFormat, Properties, Protocol, QoS, Source, TraceId,
    UserProperty,
};
pub use name::{ClientId, NameError, ShadowName, ThingGroupName, ThingName, ThingTypeName};
pub use percent::percent_decode;
pub use principal::{CertificateId, Principal, PrincipalKind};
pub use time::{Now, UnixMillis};
pub use topic::{SharedFilter, Topic, TopicError, TopicFilter, matches};
