//! Thing types, and what their parts may look like (2016 guide, "Thing Types"; today's API,
//! `CreateThingType`).

use iotedge_model::{ThingTypeName, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::RegistryError;
use crate::thing::{check_attribute_name, invalid};

/// Longest description of a type, in characters.
pub const MAX_TYPE_DESCRIPTION: usize = 2028;
/// Most searchable attributes of a type.
pub const MAX_SEARCHABLE_ATTRIBUTES: usize = 3;

/// A thing type to create. But for its deprecation it never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewThingType {
    /// Its name.
    pub name: ThingTypeName,
    /// What it is.
    pub description: Option<String>,
    /// Attributes that things of the type are looked for by.
    pub searchable_attributes: Vec<String>,
}

/// A thing type as `DescribeThingType` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThingTypeDescription {
    /// Its name.
    pub thing_type_name: ThingTypeName,
    /// What was said of it at its creation.
    pub thing_type_properties: ThingTypeProperties,
    /// Its life.
    pub thing_type_metadata: ThingTypeMetadata,
}

/// What a thing type was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThingTypeProperties {
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing_type_description: Option<String>,
    /// Attributes that things of the type are looked for by.
    pub searchable_attributes: Vec<String>,
}

/// What became of a thing type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThingTypeMetadata {
    /// Whether things may no longer get it.
    pub deprecated: bool,
    /// Milliseconds since 1970 of its deprecation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation_date: Option<UnixMillis>,
    /// Milliseconds since 1970 of its creation.
    pub creation_date: UnixMillis,
}

/// A type in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredType {
    pub(crate) properties: ThingTypeProperties,
    pub(crate) metadata: ThingTypeMetadata,
}

impl NewThingType {
    pub(crate) fn stored(&self, now: UnixMillis) -> Result<StoredType, RegistryError> {
        if let Some(text) = &self.description {
            let field = "thingTypeDescription";
            if text.chars().count() > MAX_TYPE_DESCRIPTION {
                let reason = format!("has more than {MAX_TYPE_DESCRIPTION} characters");
                return Err(invalid(field, reason));
            }
            if let Some(c) = text.chars().find(|c| c.is_control()) {
                return Err(invalid(field, format!("must not contain {c:?}")));
            }
        }
        let searchable = &self.searchable_attributes;
        let field = "searchableAttributes";
        if searchable.len() > MAX_SEARCHABLE_ATTRIBUTES {
            let reason = format!("there are at most {MAX_SEARCHABLE_ATTRIBUTES}");
            return Err(invalid(field, reason));
        }
        for (i, name) in searchable.iter().enumerate() {
            check_attribute_name(field, name)?;
            if searchable.iter().take(i).any(|other| other == name) {
                return Err(invalid(field, format!("{name:?} is there twice")));
            }
        }
        Ok(StoredType {
            properties: ThingTypeProperties {
                thing_type_description: self.description.clone(),
                searchable_attributes: searchable.clone(),
            },
            metadata: ThingTypeMetadata {
                deprecated: false,
                deprecation_date: None,
                creation_date: now,
            },
        })
    }
}

impl StoredType {
    pub(crate) fn describe(&self, name: &ThingTypeName) -> ThingTypeDescription {
        ThingTypeDescription {
            thing_type_name: name.clone(),
            thing_type_properties: self.properties.clone(),
            thing_type_metadata: self.metadata.clone(),
        }
    }
}
