//! The system's clock, and whether it can be believed.
//!
//! A board without a battery behind its clock wakes up in 1970, or at the time that systemd noted when it
//! went down, and runs on from there until a time server answers. So:
//!
//! 1. The latest time that a trusted clock has shown is kept in the store: the floor. A clock that stands
//!    before it is not trusted, and what ended before it stays ended.
//! 2. While systemd-timesyncd runs and has not reached a server, the clock is trusted only where the
//!    kernel took it from a battery-backed one.
//! 3. A time server wins: when it has set the clock before the floor, the floor was wrong and comes down.
//!    So does an operator with `iotedgectl clock trust`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use iotedge_model::{Now, UnixMillis};
use iotedge_ports::Clock;
use iotedge_store::{Documents, Expect, Store};
use iotedge_telemetry::event;
use serde::{Deserialize, Serialize};

/// 2025-01-01T00:00:00Z: a clock that says less has not been set since the board got power.
const EARLIEST: u64 = 1_735_689_600_000;
/// How far a clock may be set back without losing trust, in milliseconds: time servers correct.
const SLACK: u64 = 10 * 60 * 1000;
/// The floor is written when it has risen by so many milliseconds, for the card's sake.
const SAVE_EVERY: u64 = 10 * 60 * 1000;

const KEY: &str = "floor";

/// What the clock rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// A time server has set it since the board started.
    TimeServer,
    /// Nothing speaks against it.
    System,
    /// An operator has said that it is right.
    Operator,
    /// A time server is being waited for.
    Waiting,
    /// It stands before a time that is over.
    Behind,
    /// It has never been set.
    Unset,
}

impl Basis {
    const ALL: [Self; 6] = [
        Self::TimeServer,
        Self::System,
        Self::Operator,
        Self::Waiting,
        Self::Behind,
        Self::Unset,
    ];

    fn is_trusted(self) -> bool {
        matches!(self, Self::TimeServer | Self::System | Self::Operator)
    }

    /// For people and machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimeServer => "time-server",
            Self::System => "system",
            Self::Operator => "operator",
            Self::Waiting => "waiting-for-time-server",
            Self::Behind => "behind-last-known-time",
            Self::Unset => "unset",
        }
    }
}

/// What the system tells of its clock.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    /// systemd-timesyncd runs.
    timesyncd: bool,
    /// It has reached a server.
    synchronized: bool,
    /// The kernel set the time from a clock with a battery.
    battery: bool,
}

impl Signs {
    fn read() -> Self {
        let folder = Path::new("/run/systemd/timesync");
        Self {
            timesyncd: folder.is_dir(),
            synchronized: folder.join("synchronized").exists(),
            battery: has_battery(),
        }
    }
}

fn has_battery() -> bool {
    let Ok(clocks) = std::fs::read_dir("/sys/class/rtc") else {
        return false;
    };
    clocks.flatten().any(|clock| {
        std::fs::read_to_string(clock.path().join("hctosys")).is_ok_and(|text| text.trim() == "1")
    })
}

#[derive(Serialize, Deserialize)]
struct Floor {
    /// Milliseconds since 1970.
    over: u64,
}

/// Monotonic and wall time of the operating system.
pub struct SystemClock {
    start: Instant,
    documents: Documents,
    /// Milliseconds since 1970 that are certainly over.
    floor: AtomicU64,
    /// What of it is in the store.
    saved: AtomicU64,
    /// It must be in the store soon.
    due: AtomicBool,
    /// An operator has said that the clock is right.
    confirmed: AtomicBool,
    basis: AtomicU8,
}

impl SystemClock {
    /// Reads the last known time.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: &Store) -> Result<Self, String> {
        let documents = store.documents("clock");
        let found = documents.get(KEY).map_err(|e| e.to_string())?;
        // A record that cannot be read is as good as none: the clock will say.
        let floor = found
            .and_then(|document| serde_json::from_slice::<Floor>(&document.body).ok())
            .map_or(0, |floor| floor.over);
        let clock = Self {
            start: Instant::now(),
            documents,
            floor: AtomicU64::new(floor),
            saved: AtomicU64::new(floor),
            due: AtomicBool::new(false),
            confirmed: AtomicBool::new(false),
            basis: AtomicU8::new(Basis::Unset as u8),
        };
        clock.look(Signs::read(), wall(), true);
        Ok(clock)
    }

    /// What the clock rests on.
    pub fn basis(&self) -> Basis {
        let number = self.basis.load(Ordering::Relaxed);
        let found = Basis::ALL.into_iter().find(|b| *b as u8 == number);
        found.unwrap_or(Basis::Unset)
    }

    /// Looks at the signs again and notes the time. Once a second or so.
    pub fn tick(&self) {
        self.look(Signs::read(), wall(), false);
        let floor = self.floor.load(Ordering::Relaxed);
        let risen = floor.saturating_sub(self.saved.load(Ordering::Relaxed));
        if self.due.swap(false, Ordering::Relaxed) || risen >= SAVE_EVERY {
            self.save();
        }
    }

    /// Writes the floor. At the end, and when it has risen.
    pub fn save(&self) {
        let over = self.floor.load(Ordering::Relaxed);
        if over == self.saved.load(Ordering::Relaxed) {
            return;
        }
        let Ok(body) = serde_json::to_vec(&Floor { over }) else {
            return;
        };
        match self.documents.put(KEY, body, Expect::Any, None) {
            Ok(_) => self.saved.store(over, Ordering::Relaxed),
            Err(error) => tracing::warn!(
                event = event::CLOCK, %error,
                "the last known time could not be noted"
            ),
        }
    }

    /// An operator says that the clock is right, whatever was known before.
    pub fn confirm(&self) {
        let now = wall();
        self.confirmed.store(true, Ordering::Relaxed);
        self.floor.store(now, Ordering::Relaxed);
        self.look(Signs::read(), now, false);
        self.save();
    }

    fn look(&self, signs: Signs, wall: u64, first: bool) {
        let before = self.basis();
        let now = self.judge(signs, wall);
        self.basis.store(now as u8, Ordering::Relaxed);
        if now.is_trusted() {
            self.floor.fetch_max(wall, Ordering::Relaxed);
        }
        if !first && before.is_trusted() == now.is_trusted() {
            return;
        }
        match now.is_trusted() {
            true if first => {}
            true => {
                tracing::info!(
                    event = event::CLOCK,
                    basis = now.as_str(),
                    "the clock is trusted"
                );
            }
            false => tracing::warn!(
                event = event::CLOCK,
                basis = now.as_str(),
                "the clock is not trusted: certificates count as expired only when they ended before \
                 the last known time, and ages are counted by the time that the daemon runs"
            ),
        }
    }

    fn judge(&self, signs: Signs, wall: u64) -> Basis {
        if wall < EARLIEST {
            return Basis::Unset;
        }
        let floor = self.floor.load(Ordering::Relaxed);
        let behind = wall.saturating_add(SLACK) < floor;
        if signs.synchronized {
            if behind {
                tracing::warn!(
                    event = event::CLOCK,
                    "a time server has set the clock before the last known time, which was wrong"
                );
                self.floor.store(wall, Ordering::Relaxed);
                self.due.store(true, Ordering::Relaxed);
            }
            return Basis::TimeServer;
        }
        if behind {
            return Basis::Behind;
        }
        if self.confirmed.load(Ordering::Relaxed) {
            return Basis::Operator;
        }
        if signs.timesyncd && !signs.battery {
            return Basis::Waiting;
        }
        Basis::System
    }
}

fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = wall();
        // The clock may have been set since the last look.
        let floor = self.floor.load(Ordering::Relaxed);
        let trusted =
            self.basis().is_trusted() && wall >= EARLIEST && wall.saturating_add(SLACK) >= floor;
        Now {
            mono,
            wall: UnixMillis(wall),
            trusted,
        }
    }

    fn floor(&self) -> UnixMillis {
        UnixMillis(self.floor.load(Ordering::Relaxed))
    }

    fn remember(&self, over: UnixMillis) {
        if self.saved.load(Ordering::Relaxed) < over.0 {
            self.floor.fetch_max(over.0, Ordering::Relaxed);
            self.due.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use iotedge_store::Options;

    use super::*;

    const TODAY: u64 = 1_790_000_000_000;
    const DAY: u64 = 24 * 3600 * 1000;

    struct House {
        folder: tempfile::TempDir,
    }

    impl House {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
            }
        }
        fn clock(&self) -> (SystemClock, Store) {
            let options = Options {
                min_free_disk: 0,
                ..Options::default()
            };
            let store = Store::open(self.folder.path(), options).unwrap().0;
            (SystemClock::open(&store).unwrap(), store)
        }
    }

    /// As it would be had it just started at that time with that floor.
    fn at(clock: &SystemClock, floor: u64, signs: Signs, wall: u64) -> Basis {
        clock.floor.store(floor, Ordering::Relaxed);
        clock.look(signs, wall, false);
        clock.basis()
    }

    #[test]
    fn what_the_clock_rests_on() {
        let house = House::new();
        let (clock, _store) = house.clock();
        let plain = Signs::default();
        let waiting = Signs {
            timesyncd: true,
            ..plain
        };
        let server = Signs {
            synchronized: true,
            ..waiting
        };
        let battery = Signs {
            battery: true,
            ..waiting
        };
        for (floor, signs, wall, expected) in [
            (0, plain, 5_000, Basis::Unset),
            (0, server, 5_000, Basis::Unset),
            (0, plain, TODAY, Basis::System),
            (TODAY, plain, TODAY - DAY, Basis::Behind),
            (TODAY, plain, TODAY - 60_000, Basis::System),
            (0, waiting, TODAY, Basis::Waiting),
            (0, battery, TODAY, Basis::System),
            (TODAY, battery, TODAY - DAY, Basis::Behind),
            (0, server, TODAY, Basis::TimeServer),
        ] {
            let found = at(&clock, floor, signs, wall);
            assert_eq!(found, expected, "{signs:?} at {wall} above {floor}");
        }
    }

    #[test]
    fn only_a_trusted_clock_raises_the_floor_and_only_a_time_server_lowers_it() {
        let house = House::new();
        let (clock, _store) = house.clock();
        let waiting = Signs {
            timesyncd: true,
            ..Signs::default()
        };
        at(&clock, TODAY, waiting, TODAY + DAY);
        assert_eq!(clock.floor().0, TODAY);
        at(&clock, TODAY, Signs::default(), TODAY + DAY);
        assert_eq!(clock.floor().0, TODAY + DAY);
        at(&clock, TODAY, Signs::default(), TODAY - DAY);
        assert_eq!(clock.floor().0, TODAY);
        let server = Signs {
            synchronized: true,
            ..waiting
        };
        assert_eq!(at(&clock, TODAY, server, TODAY - DAY), Basis::TimeServer);
        assert_eq!(clock.floor().0, TODAY - DAY);
    }

    #[test]
    fn the_floor_is_there_after_a_restart() {
        let house = House::new();
        let future = wall() + 1000 * DAY;
        {
            let (clock, store) = house.clock();
            clock.remember(UnixMillis(future));
            clock.tick();
            store.close();
        }
        let (clock, store) = house.clock();
        assert_eq!(clock.floor().0, future);
        assert_eq!(clock.basis(), Basis::Behind);
        assert!(!clock.now().trusted);
        clock.confirm();
        assert_eq!(clock.basis(), Basis::Operator);
        assert!(clock.now().trusted);
        store.close();
        let (clock, _store) = house.clock();
        assert!(clock.floor().0 < future);
        assert!(clock.now().trusted);
    }
}
