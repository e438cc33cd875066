//! Time as the pure rooms see it: a value that is handed in.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds, the unit of shadow timestamps.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// One reading of the clocks.
///
/// A Raspberry Pi without a battery boots in 1970: wall time then means nothing until it has been
/// set. `trusted` says whether it may decide that data is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; its zero means nothing.
    pub mono: u64,
    /// Wall time.
    pub wall: UnixMillis,
    /// Whether `wall` can be believed.
    pub trusted: bool,
}
