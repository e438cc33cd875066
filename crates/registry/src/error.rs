use iotedge_model::{CertificateId, ThingGroupName, ThingName, ThingTypeName};
use thiserror::Error;

/// Why the registry did not do what was asked. The names of AWS IoT's exceptions stand in the docs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// `ResourceNotFoundException`
    #[error("there is no thing {0}")]
    ResourceNotFound(ThingName),
    /// `ResourceNotFoundException`, for an attachment.
    #[error("certificate {certificate} is not attached to thing {thing}")]
    NotAttached {
        /// The thing.
        thing: ThingName,
        /// The certificate.
        certificate: CertificateId,
    },
    /// `ResourceAlreadyExistsException`: a thing of that name with another type or attributes.
    #[error("thing {0} exists already, with another type or other attributes")]
    ResourceAlreadyExists(ThingName),
    /// `VersionConflictException`
    #[error("thing {thing} has version {current}, not {expected}")]
    VersionConflict {
        /// The thing.
        thing: ThingName,
        /// What was expected.
        expected: u64,
        /// What it has.
        current: u64,
    },
    /// `InvalidRequestException`: a name, a value or a number of them.
    #[error("{field}: {reason}")]
    InvalidRequest {
        /// What is wrong.
        field: String,
        /// Why.
        reason: String,
    },
    /// `InvalidRequestException`: certificates are still attached to the thing that is to go.
    #[error("thing {thing} has {count} certificates attached: detach them first")]
    StillAttached {
        /// The thing.
        thing: ThingName,
        /// How many.
        count: usize,
    },
    /// `ResourceNotFoundException`, for a thing type.
    #[error("there is no thing type {0}")]
    NoThingType(ThingTypeName),
    /// `ResourceAlreadyExistsException`: a type of that name with other properties.
    #[error("thing type {0} exists already, with other properties; a type never changes")]
    ThingTypeExists(ThingTypeName),
    /// `InvalidRequestException`: no thing gets a deprecated type.
    #[error("thing type {0} is deprecated: no thing gets it any more")]
    Deprecated(ThingTypeName),
    /// `InvalidRequestException`: only a deprecated type can be deleted.
    #[error("thing type {0} is not deprecated: deprecate it, and delete it five minutes later")]
    NotDeprecated(ThingTypeName),
    /// `InvalidRequestException`: the five minutes are not over.
    #[error("thing type {name} was deprecated less than five minutes ago: wait {seconds} s more")]
    TooEarly {
        /// The type.
        name: ThingTypeName,
        /// How long.
        seconds: u64,
    },
    /// `InvalidRequestException`: things still have the type that is to go.
    #[error("{count} things have type {name}: give them another type, or none, first")]
    ThingTypeInUse {
        /// The type.
        name: ThingTypeName,
        /// How many.
        count: usize,
    },
    /// `ResourceNotFoundException`, for a thing group.
    #[error("there is no thing group {0}")]
    NoThingGroup(ThingGroupName),
    /// `ResourceAlreadyExistsException`: a group of that name elsewhere or with another description.
    #[error("thing group {0} exists already, with another parent or description")]
    ThingGroupExists(ThingGroupName),
    /// `InvalidRequestException`: other groups are in the group that is to go.
    #[error("{count} groups are in thing group {group}: delete them first")]
    ThingGroupInUse {
        /// The group.
        group: ThingGroupName,
        /// How many.
        count: usize,
    },
    /// `ResourceNotFoundException`, for a membership.
    #[error("thing {thing} is not in thing group {group}")]
    NotInGroup {
        /// The thing.
        thing: ThingName,
        /// The group.
        group: ThingGroupName,
    },
    /// `ResourceNotFoundException`, for a policy of a group.
    #[error("policy {policy:?} is not attached to thing group {group}")]
    PolicyNotOfGroup {
        /// The group.
        group: ThingGroupName,
        /// The policy.
        policy: String,
    },
    /// A record in the store cannot be read.
    #[error("the record {key} of {collection} is damaged: {reason}")]
    DamagedRecord {
        /// Of which collection.
        collection: &'static str,
        /// Which.
        key: String,
        /// Why.
        reason: String,
    },
    /// `InternalFailureException`: the store could not do its part.
    #[error("the registry's store: {0}")]
    Store(String),
}
