//! Windows and budgets: when the link stays down.

use std::sync::atomic::Ordering;
use std::time::Duration;

use iotedge_model::UnixMillis;
use iotedge_store::{Documents, Expect};
use tokio::time::Instant;

use super::Task;
use crate::Config;
use crate::gate::{Gate, Local};

/// How often the time is looked at, at least.
const LOOK: Duration = Duration::from_secs(20);

/// The gate of a link, with what it spent before a restart.
pub(super) fn gate(config: &Config, kept: Option<&Documents>) -> Gate {
    let saved = kept.and_then(|kept| kept.get(&config.name).ok().flatten());
    let saved = saved.and_then(|document| String::from_utf8(document.body.to_vec()).ok());
    Gate::new(config.windows.clone(), config.daily_bytes, saved.as_deref())
}

fn local(wall: UnixMillis) -> Option<Local> {
    let millis = i64::try_from(wall.0).ok()?;
    let at = jiff::Timestamp::from_millisecond(millis).ok()?;
    let here = at.to_zoned(jiff::tz::TimeZone::system());
    let minutes = i64::from(here.hour()) * 60 + i64::from(here.minute());
    let millis = (minutes * 60 + i64::from(here.second())) * 1000 + i64::from(here.millisecond());
    Some(Local {
        day: i64::from(here.year()) * 1000 + i64::from(here.day_of_year()),
        millis: u64::try_from(millis).ok()?,
    })
}

impl Task {
    fn counter(&self) -> u64 {
        let (sent, received) = self.shared.connector.traffic();
        sent.saturating_add(received)
    }

    /// How many bytes may still go today.
    pub(super) fn budget_left(&mut self) -> usize {
        let counter = self.counter();
        let left = self.gate.left(counter);
        self.shared.spent.store(self.gate.used(), Ordering::Relaxed);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// [`Task::is_closed`] when it is time to look. However much goes on: a busy link has no silence
    /// to look in.
    pub(super) fn is_closed_by_now(&mut self) -> bool {
        self.gate.is_some() && Instant::now() >= self.next_look && self.is_closed()
    }

    /// Whether the link has to stay down, or go down.
    pub(super) fn is_closed(&mut self) -> bool {
        if !self.gate.is_some() {
            return false;
        }
        let (now, counter) = (self.now(), self.counter());
        let local = now.trusted.then(|| local(now.wall)).flatten();
        let closed = self.gate.check(local, counter);
        self.shared.spent.store(self.gate.used(), Ordering::Relaxed);
        self.keep_budget(false);
        let changes = local.map(|local| Duration::from_millis(self.gate.changes_in(local)));
        self.next_look = Instant::now() + changes.unwrap_or(LOOK).min(LOOK);
        closed.is_some()
    }

    /// Shows why it is down, and waits a while for another answer.
    pub(super) async fn wait_for_gate(&mut self) {
        let (now, counter) = (self.now(), self.counter());
        let local = now.trusted.then(|| local(now.wall)).flatten();
        let Some(closed) = self.gate.check(local, counter) else {
            return;
        };
        if self
            .shared
            .link()
            .closed(&closed.reason, closed.millis, now)
        {
            self.log();
        }
        let pause = closed.millis.map_or(LOOK, Duration::from_millis);
        let mut desired = self.desired.clone();
        tokio::select! {
            () = tokio::time::sleep(pause.clamp(Duration::from_millis(1), LOOK)) => {}
            _ = desired.changed() => {}
        }
    }

    /// What was spent survives a restart; a hundredth of it may be forgotten by a crash.
    pub(super) fn keep_budget(&mut self, last: bool) {
        let Some(text) = self.gate.worth_keeping(last) else {
            return;
        };
        let Some(kept) = &self.kept else {
            return;
        };
        if let Err(error) = kept.put(&self.shared.config.name, text, Expect::Any, None) {
            tracing::warn!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = self.shared.config.name,
                %error,
                "the day's budget is not kept"
            );
        }
    }
}
