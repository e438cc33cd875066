//! Names with rules of their own: client ids, things, shadows.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a {what} must have at least one character")]
    Empty {
        /// The kind of name.
        what: &'static str,
    },
    /// More than the kind allows.
    #[error("a {what} has at most {max} bytes")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// A character that the kind does not allow.
    #[error("a {what} must not contain {character:?}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The first one that is wrong.
        character: char,
    },
}

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    allowed: fn(char) -> bool,
) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, max });
    }
    match text.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(NameError::Character { what, character }),
        None => Ok(Arc::from(text)),
    }
}

/// `[a-zA-Z0-9:_-]`, the characters of thing and shadow names.
fn registry_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and keeps a copy.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check($what, text, $max, $allowed).map(Self)
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The text, shared.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }
    };
}

name_type!(
    /// A client id: any text the protocol can carry but the empty one (MQTT 3.1.1, 3.1.3.1), which
    /// the gateway replaces before it gets here. U+0000 cannot stand in an MQTT string.
    ClientId, "client id", 65_535, |c| c != '\0'
);
name_type!(
    /// A thing's name: 1 to 128 of `[a-zA-Z0-9:_-]`.
    ThingName, "thing name", 128, registry_character
);
name_type!(
    /// A named shadow's name: 1 to 64 of `[a-zA-Z0-9:_-]`.
    ShadowName, "shadow name", 64, registry_character
);

name_type!(
    /// The name of a thing type: 1 to 128 of `[a-zA-Z0-9:_-]` (today's API, `CreateThingType`).
    ThingTypeName, "thing type name", 128, registry_character
);

name_type!(
    /// The name of a thing group: 1 to 128 of `[a-zA-Z0-9:_-]` (today's API, `CreateThingGroup`).
    ThingGroupName, "thing group name", 128, registry_character
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(ThingName::new("my-Light:Bulb_1").is_ok());
        assert_eq!(
            ThingName::new("a/b"),
            Err(NameError::Character {
                what: "thing name",
                character: '/'
            })
        );
        assert_eq!(
            ThingName::new(""),
            Err(NameError::Empty { what: "thing name" })
        );
        assert!(ThingName::new(&"x".repeat(129)).is_err());
        assert!(ShadowName::new(&"x".repeat(65)).is_err());
        assert!(ClientId::new("é a/b #").is_ok());
    }
}
