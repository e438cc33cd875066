//! Whether a link may be up now: windows of the day, and a budget of bytes for each day. Pure: it is
//! handed the local time and the bytes that went.

use std::fmt;
use std::str::FromStr;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Milliseconds of a minute, and of a day.
const MINUTE: u64 = 60_000;
const DAY_MILLIS: u64 = MINUTE * 24 * 60;

/// From one time of the day to another, over midnight too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    from: u16,
    to: u16,
}

impl FromStr for TimeWindow {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a window is written like \"22:00-06:00\"";
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let two =
                |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then_some(());
            two(hours)?;
            two(minutes)?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let at = hours * 60 + minutes;
            (minutes < 60 && at <= DAY).then_some(at)
        };
        let (from, to) = text.split_once('-').ok_or(FORM)?;
        let (from, to) = (minute(from).ok_or(FORM)?, minute(to).ok_or(FORM)?);
        if from == to || from == DAY {
            return Err("a window has a beginning and another end");
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl TimeWindow {
    fn holds(self, millis: u64) -> bool {
        let (from, to) = (u64::from(self.from) * MINUTE, u64::from(self.to) * MINUTE);
        match from < to {
            true => (from..to).contains(&millis),
            false => millis >= from || millis < to,
        }
    }

    /// Milliseconds until it opens.
    fn opens_in(self, millis: u64) -> u64 {
        until(self.from, millis)
    }

    /// Milliseconds until it closes.
    fn closes_in(self, millis: u64) -> u64 {
        until(self.to, millis)
    }
}

/// Milliseconds until this minute, today or tomorrow.
fn until(minute: u16, millis: u64) -> u64 {
    (u64::from(minute) * MINUTE + DAY_MILLIS).saturating_sub(millis) % DAY_MILLIS
}

/// The local time, when the clock is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    /// Any number that is another on another day.
    pub(crate) day: i64,
    /// Milliseconds since midnight.
    pub(crate) millis: u64,
}

/// Why a link stays down, and for how many milliseconds; `None`: until the clock is trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) reason: String,
    pub(crate) millis: Option<u64>,
}

/// One link.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    windows: Vec<TimeWindow>,
    budget: Option<u64>,
    day: i64,
    used: u64,
    /// The link's counter at the last look.
    counter: u64,
    /// `used` when it was saved last.
    saved: u64,
}

impl Gate {
    /// `saved`: what [`Gate::worth_keeping`] gave before a restart.
    pub(crate) fn new(windows: Vec<TimeWindow>, budget: Option<u64>, saved: Option<&str>) -> Self {
        let saved = saved.and_then(|text| text.split_once(' '));
        let saved = saved.and_then(|(day, used)| Some((day.parse().ok()?, used.parse().ok()?)));
        let (day, used) = saved.unwrap_or_default();
        Self {
            windows,
            budget,
            day,
            used,
            counter: 0,
            saved: used,
        }
    }

    /// Whether it ever closes.
    pub(crate) fn is_some(&self) -> bool {
        !self.windows.is_empty() || self.budget.is_some()
    }

    fn spend(&mut self, counter: u64) {
        self.used = self
            .used
            .saturating_add(counter.saturating_sub(self.counter));
        self.counter = counter;
    }

    /// What counts for the day's budget.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// How many bytes may still go today.
    pub(crate) fn left(&mut self, counter: u64) -> u64 {
        self.spend(counter);
        self.budget
            .map_or(u64::MAX, |budget| budget.saturating_sub(self.used))
    }

    /// Looks at the time. Without a trusted clock no day ends and no window opens.
    pub(crate) fn check(&mut self, local: Option<Local>, counter: u64) -> Option<Closed> {
        self.spend(counter);
        if let Some(local) = local.filter(|local| local.day != self.day) {
            self.day = local.day;
            self.used = 0;
            self.saved = u64::MAX;
        }
        let closed = |reason: String, millis| Some(Closed { reason, millis });
        if let Some(budget) = self.budget.filter(|budget| self.used >= *budget) {
            let reason = format!("today's {budget} bytes are spent");
            return closed(reason, local.map(|local| until(0, local.millis).max(1)));
        }
        if self.windows.is_empty() {
            return None;
        }
        let Some(Local { millis, .. }) = local else {
            let reason = "its windows wait for a clock that is trusted";
            return closed(reason.into(), None);
        };
        if self.windows.iter().any(|window| window.holds(millis)) {
            return None;
        }
        let next = self.windows.iter().min_by_key(|w| w.opens_in(millis))?;
        closed(
            format!("outside its windows; the next is {next}"),
            Some(next.opens_in(millis)),
        )
    }

    /// In how many milliseconds an open gate may close, or its day ends.
    pub(crate) fn changes_in(&self, local: Local) -> u64 {
        let open = self.windows.iter().filter(|w| w.holds(local.millis));
        let closes = open.map(|w| w.closes_in(local.millis)).min();
        let midnight = DAY_MILLIS.saturating_sub(local.millis);
        closes.unwrap_or(midnight).min(midnight).max(1)
    }

    /// What is to be kept over a restart, when it is worth a write: a hundredth of the budget is
    /// new, or `last` is said.
    pub(crate) fn worth_keeping(&mut self, last: bool) -> Option<String> {
        let step = (self.budget? / 100).max(1);
        let new = self.used.abs_diff(self.saved);
        if new == 0 || (new < step && !last) {
            return None;
        }
        self.saved = self.used;
        Some(format!("{} {}", self.day, self.used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, minute: u64) -> Option<Local> {
        let millis = minute * MINUTE;
        Some(Local { day, millis })
    }

    fn window(text: &str) -> TimeWindow {
        text.parse().unwrap()
    }

    #[test]
    fn windows_are_read_and_go_over_midnight() {
        for bad in [
            "",
            "22:00",
            "22:00-",
            "22-06",
            "24:00-06:00",
            "08:00-08:00",
            "8:00-9:00",
            "08:60-09:00",
            "25:00-01:00",
            "+1:00-02:00",
        ] {
            assert!(bad.parse::<TimeWindow>().is_err(), "{bad}");
        }
        assert_eq!(window("22:00-06:00").to_string(), "22:00-06:00");
        let mut gate = Gate::new(
            vec![window("22:00-06:00"), window("12:00-13:00")],
            None,
            None,
        );
        for open in [22 * 60, 23 * 60, 0, 359, 720, 779] {
            assert_eq!(gate.check(at(1, open), 0), None, "{open}");
        }
        for (closed, minutes) in [(360, 360), (780, 540), (1319, 1)] {
            let found = gate.check(at(1, closed), 0).unwrap();
            assert_eq!(found.millis, Some(minutes * MINUTE), "{closed}");
        }
        let second = |millis| Local { day: 1, millis };
        let just_before = gate.check(Some(second(22 * 60 * MINUTE - 1)), 0).unwrap();
        assert_eq!(just_before.millis, Some(1));
        assert_eq!(gate.check(Some(second(6 * 60 * MINUTE - 1)), 0), None);
        assert_eq!(gate.changes_in(second(6 * 60 * MINUTE - 1500)), 1500);
        assert_eq!(gate.changes_in(second(DAY_MILLIS - 700)), 700, "midnight");
        let mut whole = Gate::new(vec![window("00:00-24:00")], None, None);
        assert_eq!(whole.check(at(1, 1439), 0), None);
    }

    #[test]
    fn a_clock_that_is_not_trusted_opens_no_window_and_ends_no_day() {
        let mut gate = Gate::new(vec![window("00:00-24:00")], None, None);
        assert_eq!(gate.check(None, 0).unwrap().millis, None);
        let mut gate = Gate::new(Vec::new(), Some(1000), None);
        assert_eq!(gate.check(at(7, 0), 0), None);
        assert!(gate.check(None, 1000).is_some());
        assert!(gate.check(None, 1000).is_some());
        assert_eq!(gate.check(at(8, 0), 1000), None, "another day");
    }

    #[test]
    fn a_budget_lasts_for_a_day_and_over_restarts() {
        let mut gate = Gate::new(Vec::new(), Some(1000), None);
        assert_eq!(gate.check(at(7, 100), 0), None);
        assert!(gate.worth_keeping(false).is_some(), "the day");
        assert_eq!(gate.left(400), 600);
        let saved = gate.worth_keeping(false).unwrap();
        assert_eq!(gate.left(405), 595);
        assert_eq!(gate.worth_keeping(false), None, "not worth a write");
        let mut again = Gate::new(Vec::new(), Some(1000), Some(&saved));
        assert_eq!(again.check(at(7, 200), 0), None);
        assert_eq!(again.left(599), 1);
        let closed = again.check(at(7, 200), 600).unwrap();
        assert_eq!(closed.millis, Some(DAY_MILLIS - 200 * MINUTE));
        assert_eq!(again.check(at(8, 0), 600), None);
        assert_eq!(again.left(700), 900);
        assert!(again.worth_keeping(true).unwrap().starts_with("8 "));
    }
}
