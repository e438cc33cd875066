//! Things, and what their parts may look like.

use std::collections::BTreeMap;

use iotedge_model::{ThingName, ThingTypeName};
use serde::{Deserialize, Serialize};

use crate::RegistryError;

/// Longest name of an attribute, in characters.
pub const MAX_ATTRIBUTE_NAME: usize = 128;
/// Longest value of an attribute, in characters.
pub const MAX_ATTRIBUTE_VALUE: usize = 800;
/// Most attributes of a thing without a type (2016 guide, "Thing Types").
pub const MAX_ATTRIBUTES_UNTYPED: usize = 3;
/// Most attributes of a thing with a type.
pub const MAX_ATTRIBUTES_TYPED: usize = 50;

/// A thing to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewThing {
    /// Its name.
    pub name: ThingName,
    /// Its type's name.
    pub thing_type: Option<ThingTypeName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

impl NewThing {
    /// One with nothing but a name.
    pub fn named(name: ThingName) -> Self {
        Self {
            name,
            thing_type: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// What becomes of the attributes in an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AttributeChange {
    /// They stay.
    #[default]
    Keep,
    /// They are these from now on.
    Replace(BTreeMap<String, String>),
    /// These are set, those with an empty value are removed (`merge` in `UpdateThing`).
    Merge(BTreeMap<String, String>),
}

/// A change to a thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThingUpdate {
    /// The new type; `Some(None)` removes it.
    pub thing_type: Option<Option<ThingTypeName>>,
    /// The attributes.
    pub attributes: AttributeChange,
    /// The version that the thing must have.
    pub expected_version: Option<u64>,
}

/// A thing as `DescribeThing` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThingDescription {
    /// Its name.
    pub thing_name: ThingName,
    /// The client id it is recommended to connect with: its name.
    pub default_client_id: ThingName,
    /// Its type's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing_type_name: Option<ThingTypeName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// 1 at its creation, one more with each update.
    pub version: u64,
}

/// A thing in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredThing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thing_type_name: Option<ThingTypeName>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) version: u64,
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> RegistryError {
    RegistryError::InvalidRequest {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// `[a-zA-Z0-9_.,@/:#-]`, the characters of attributes' names and values.
fn attribute_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.,@/:#-".contains(c)
}

fn check_text(field: &str, text: &str, max: usize) -> Result<(), RegistryError> {
    if text.len() > max {
        return Err(invalid(field, format!("has more than {max} characters")));
    }
    match text.chars().find(|c| !attribute_character(*c)) {
        Some(c) => Err(invalid(field, format!("must not contain {c:?}"))),
        None => Ok(()),
    }
}

/// 1 to 128 of `[a-zA-Z0-9_.,@/:#-]`.
pub(crate) fn check_attribute_name(field: &str, name: &str) -> Result<(), RegistryError> {
    if name.is_empty() {
        return Err(invalid(field, "a name must not be empty"));
    }
    check_text(field, name, MAX_ATTRIBUTE_NAME)
}

impl StoredThing {
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        for (name, value) in &self.attributes {
            check_attribute_name("attributes", name)?;
            check_text(&format!("attributes.{name}"), value, MAX_ATTRIBUTE_VALUE)?;
        }
        let (max, with) = match self.thing_type_name {
            None => (MAX_ATTRIBUTES_UNTYPED, "without"),
            Some(_) => (MAX_ATTRIBUTES_TYPED, "with"),
        };
        if self.attributes.len() > max {
            let reason = format!("a thing {with} a type has at most {max}");
            return Err(invalid("attributes", reason));
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, update: &ThingUpdate) {
        if let Some(thing_type) = &update.thing_type {
            self.thing_type_name.clone_from(thing_type);
        }
        match &update.attributes {
            AttributeChange::Keep => {}
            AttributeChange::Replace(attributes) => self.attributes.clone_from(attributes),
            AttributeChange::Merge(attributes) => {
                for (name, value) in attributes {
                    if value.is_empty() {
                        self.attributes.remove(name);
                    } else {
                        self.attributes.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        self.version += 1;
    }
}

/// Which things [`crate::Registry::list_things`] shows: those for which all holds that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThingQuery {
    /// They have this type.
    pub thing_type: Option<ThingTypeName>,
    /// They have this attribute.
    pub attribute_name: Option<String>,
    /// With `attribute_name`: it has this value.
    pub attribute_value: Option<String>,
}

impl ThingQuery {
    /// A value belongs to a name (`ListThings`).
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        match (&self.attribute_name, &self.attribute_value) {
            (None, Some(_)) => Err(invalid("attributeValue", "needs attributeName")),
            _ => Ok(()),
        }
    }

    pub(crate) fn takes(&self, stored: &StoredThing) -> bool {
        let of_type = |wanted| stored.thing_type_name.as_ref() == Some(wanted);
        let has = |name: &String| {
            let wanted = self.attribute_value.as_ref();
            stored
                .attributes
                .get(name)
                .is_some_and(|value| wanted.is_none_or(|wanted| wanted == value))
        };
        self.thing_type.as_ref().is_none_or(of_type) && self.attribute_name.as_ref().is_none_or(has)
    }
}
