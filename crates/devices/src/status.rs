//! What a device is doing, for status and `iotedgectl`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Reject;

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// The port is not there or cannot be opened; it is tried again.
    Absent,
    /// The port is open and read.
    Reading,
    /// The broker refuses what was read; the port is not read until it takes it.
    Blocked,
    /// Stopped with the daemon.
    Stopped,
}

impl DeviceState {
    /// The name in status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Reading => "reading",
            Self::Blocked => "blocked",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A device at one moment. `lines = accepted + in flight + rejected` for what came in whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it stands.
    pub state: DeviceState,
    /// Why, where that says more.
    pub reason: Option<String>,
    /// Lines read since the daemon started, rejected ones included.
    pub lines: u64,
    /// Lines that the broker has accepted: committed, where anyone durable takes them.
    pub accepted: u64,
    /// Lines rejected, by reason; zeros left out.
    pub rejected: Vec<(Reject, u64)>,
}

/// The status as the port's task keeps it.
#[derive(Debug)]
pub(crate) struct StatusCell {
    name: Arc<str>,
    state: Mutex<(DeviceState, Option<String>)>,
    lines: AtomicU64,
    accepted: AtomicU64,
    rejected: [AtomicU64; Reject::ALL.len()],
}

impl StatusCell {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: Mutex::new((DeviceState::Absent, None)),
            lines: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            rejected: [const { AtomicU64::new(0) }; Reject::ALL.len()],
        }
    }

    fn state(&self) -> MutexGuard<'_, (DeviceState, Option<String>)> {
        // Two words are written whole; a panic between cannot leave them half done.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Says whether that is news.
    pub(crate) fn set(&self, state: DeviceState, reason: Option<String>) -> bool {
        let mut current = self.state();
        let news = (state, &reason) != (current.0, &current.1);
        *current = (state, reason);
        news
    }

    pub(crate) fn line(&self) {
        self.lines.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts; gives the number before.
    pub(crate) fn rejected(&self, reject: Reject) -> u64 {
        self.rejected
            .get(reject as usize)
            .map_or(0, |c| c.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn read(&self) -> DeviceStatus {
        let (state, reason) = self.state().clone();
        DeviceStatus {
            name: self.name.clone(),
            state,
            reason,
            lines: self.lines.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            rejected: Reject::ALL
                .into_iter()
                .zip(&self.rejected)
                .map(|(r, c)| (r, c.load(Ordering::Relaxed)))
                .filter(|(_, n)| *n > 0)
                .collect(),
        }
    }
}
