//! The system's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use iotedge_model::{Now, UnixMillis};
use iotedge_ports::Clock;

/// 2025-01-01T00:00:00Z: a clock that says less has not been set since the board got power.
const EARLIEST: u64 = 1_735_689_600_000;

/// Monotonic and wall time of the operating system.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        Now {
            mono,
            wall: UnixMillis(wall),
            trusted: wall >= EARLIEST,
        }
    }
}
