//! How much of a connection there may be in a second.
//!
//! A second begins with the first use after a quiet one, so that a burst has all of it. What is
//! taken beyond its measure, as a read that was larger than what was left, is taken from the seconds
//! that follow.

use std::time::Duration;

use tokio::time::Instant;

use crate::Limits;

/// So many of something in each second.
#[derive(Debug)]
pub(super) struct Window {
    per_second: u64,
    used: u64,
    began: Instant,
}

impl Window {
    fn new(per_second: u64) -> Self {
        Self {
            per_second,
            used: 0,
            began: Instant::now(),
        }
    }

    fn turn(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        if seconds > 0 {
            self.began += Duration::from_secs(seconds);
            let over = self.per_second.saturating_mul(seconds);
            self.used = self.used.saturating_sub(over);
        }
        if self.used == 0 {
            self.began = now;
        }
    }

    /// What may still be taken.
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.per_second.saturating_sub(self.used)
    }

    pub(super) fn take(&mut self, n: u64, now: Instant) {
        self.turn(now);
        self.used = self.used.saturating_add(n);
    }

    /// When something may be taken again; `None` while it may.
    fn opens(&self) -> Option<Instant> {
        let seconds = self.used.checked_div(self.per_second)?;
        (seconds > 0).then(|| self.began + Duration::from_secs(seconds.min(86_400)))
    }
}

/// The rates of one connection, where there are any.
#[derive(Debug)]
pub(super) struct Rates {
    /// PUBLISHes of the client.
    pub(super) publishes: Option<Window>,
    /// PUBLISHes to the client.
    pub(super) deliveries: Option<Window>,
    /// Bytes from the client.
    pub(super) read: Option<Window>,
    /// Bytes to the client.
    pub(super) written: Option<Window>,
}

impl Rates {
    pub(super) fn of(limits: &Limits) -> Option<Box<Self>> {
        let rates = Self {
            publishes: limits.max_publish_rate.map(|n| Window::new(n.into())),
            deliveries: limits.max_delivery_rate.map(|n| Window::new(n.into())),
            read: limits.max_bytes_rate.map(Window::new),
            written: limits.max_bytes_rate.map(Window::new),
        };
        let any = [
            &rates.publishes,
            &rates.deliveries,
            &rates.read,
            &rates.written,
        ];
        any.iter()
            .any(|window| window.is_some())
            .then(|| Box::new(rates))
    }

    /// Goes on to the second of `now`.
    pub(super) fn turn(&mut self, now: Instant) {
        let all = [
            &mut self.publishes,
            &mut self.deliveries,
            &mut self.read,
            &mut self.written,
        ];
        for window in all.into_iter().flatten() {
            window.turn(now);
        }
    }

    /// When the first of those that are at their end may go on.
    pub(super) fn opens(&self) -> Option<Instant> {
        [&self.publishes, &self.deliveries, &self.read, &self.written]
            .into_iter()
            .flatten()
            .filter_map(Window::opens)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_so_much_and_begins_with_its_first_use() {
        let mut window = Window::new(100);
        let start = window.began + Duration::from_millis(700);
        assert_eq!(window.left(start), 100);
        window.take(100, start);
        assert_eq!(window.opens(), Some(start + Duration::from_secs(1)));
        let almost = start + Duration::from_millis(999);
        assert_eq!(window.left(almost), 0);
        let after = start + Duration::from_secs(1);
        assert_eq!(window.left(after), 100);
        assert_eq!(window.opens(), None);
    }

    #[test]
    fn what_was_too_much_is_taken_from_the_seconds_that_follow() {
        let mut window = Window::new(10);
        let start = window.began;
        window.take(35, start);
        assert_eq!(window.opens(), Some(start + Duration::from_secs(3)));
        assert_eq!(window.left(start + Duration::from_secs(2)), 0);
        assert_eq!(window.left(start + Duration::from_secs(3)), 5);
        // A long quiet gives no more than a second.
        assert_eq!(window.left(start + Duration::from_secs(100)), 10);
    }

    #[test]
    fn a_connection_without_limits_has_no_rates() {
        assert!(Rates::of(&Limits::default()).is_none());
        let limits = Limits {
            max_bytes_rate: Some(5),
            ..Limits::default()
        };
        let mut rates = Rates::of(&limits).expect("rates");
        assert!(rates.opens().is_none());
        let now = Instant::now();
        if let Some(window) = &mut rates.read {
            window.take(5, now);
        }
        assert!(rates.opens().is_some_and(|at| at > now));
    }
}
