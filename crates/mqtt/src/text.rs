//! UTF-8 encoded strings (MQTT 3.1.1, 1.5.3).

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use thiserror::Error;

/// Why bytes are no MQTT string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StrError {
    /// [MQTT-1.5.3-1].
    #[error("is not valid UTF-8")]
    Utf8,
    /// [MQTT-1.5.3-2].
    #[error("contains the character U+0000")]
    Nul,
    /// The length stands in two bytes (1.5.3).
    #[error("is longer than 65,535 bytes")]
    TooLong,
}

/// A string as MQTT carries it: valid UTF-8, no U+0000, at most 65,535 bytes. Shares the buffer
/// it was read from; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Str(ByteString);

impl Str {
    /// Checks `text` and keeps a copy.
    pub fn new(text: &str) -> Result<Self, StrError> {
        check(text)?;
        Ok(Self(ByteString::from(text)))
    }

    /// Checks `bytes` and keeps them, without a copy.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, StrError> {
        let text = ByteString::try_from(bytes).map_err(|_| StrError::Utf8)?;
        check(&text)?;
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes that the text is held in.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }
}

fn check(text: &str) -> Result<(), StrError> {
    if text.len() > usize::from(u16::MAX) {
        return Err(StrError::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(StrError::Nul);
    }
    Ok(())
}

impl TryFrom<&str> for Str {
    type Error = StrError;
    fn try_from(text: &str) -> Result<Self, StrError> {
        Self::new(text)
    }
}

impl std::ops::Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
