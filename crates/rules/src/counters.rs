//! What one action has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Most actions of a rule (the guide's limits).
pub(crate) const MAX_ACTIONS: usize = 10;

/// Why an action failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// A template failed, or gave what cannot be.
    Template,
    /// The sink refused this very message.
    Refused,
    /// The sink failed with it as often as it was tried.
    Failed,
    /// The sink was not there until the deadline.
    Unavailable,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Template,
        Self::Refused,
        Self::Failed,
        Self::Unavailable,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counters of one action.
#[derive(Debug, Default)]
pub(crate) struct ActionCounters {
    succeeded: AtomicU64,
    retried: AtomicU64,
    failed: [AtomicU64; FailureReason::ALL.len()],
    micros: AtomicU64,
}

impl ActionCounters {
    /// Done, so long after its message was accepted.
    pub(crate) fn success(&self, latency: Duration) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self, reason: FailureReason) {
        self.failed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> ActionCounts {
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        ActionCounts {
            succeeded: load(&self.succeeded),
            retried: load(&self.retried),
            failed: FailureReason::ALL.map(|r| (r, load(&self.failed[r as usize]))),
            latency: Duration::from_micros(load(&self.micros)),
        }
    }
}

/// What one action has done since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionCounts {
    /// Messages it was carried out for.
    pub succeeded: u64,
    /// Tries that were not the last.
    pub retried: u64,
    /// Messages it failed for, by reason.
    pub failed: [(FailureReason, u64); FailureReason::ALL.len()],
    /// The sum of the times between a message's acceptance and the action's success.
    pub latency: Duration,
}
