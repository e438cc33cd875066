//! SQL versions (guide, "SQL Versions").

use std::fmt;

use crate::{SqlError, SqlErrorKind};

/// The version that a rule is written for: `awsIotSqlVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SqlVersion {
    /// `2015-10-08`, the default of a rule that names none.
    #[default]
    V2015,
    /// `2016-03-23`: whole-number decimals are Ints, arrays as output, nested queries mended.
    V2016,
}

impl SqlVersion {
    /// From `awsIotSqlVersion`. The seed guide's `2016-03-23-beta` is the same as `2016-03-23`;
    /// `beta`, "the most recent beta version", is today that one too.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        match text {
            "2015-10-08" => Ok(Self::V2015),
            "2016-03-23" | "2016-03-23-beta" | "beta" => Ok(Self::V2016),
            _ => Err(SqlError {
                column: 1,
                reason: SqlErrorKind::Version(text.into()),
            }),
        }
    }

    /// The name without `-beta`: what `sql_version()` says.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2015 => "2015-10-08",
            Self::V2016 => "2016-03-23",
        }
    }
}

impl fmt::Display for SqlVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
