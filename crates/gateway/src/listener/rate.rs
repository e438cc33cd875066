//! How many connections a listener takes in a second, and how often it complains.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: a second's worth may come at once.
pub(super) struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let rate = f64::from(per_second);
        Self {
            rate,
            tokens: rate,
            filled: now,
        }
    }

    /// Whether one more may come.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.filled = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// One log line a second for what may happen thousands of times.
#[derive(Default)]
pub(super) struct Complaints {
    last: Option<Instant>,
    silent: u64,
}

impl Complaints {
    const PAUSE: Duration = Duration::from_secs(1);

    /// How many were not told since the last that was; `None`: this one is not told either.
    pub(super) fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + Self::PAUSE) {
            self.silent += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_second_s_worth_come_at_once_and_the_rate_after_it() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(350)), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(400)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn a_flood_is_told_once_a_second_with_its_number() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        assert_eq!(complaints.tell(start), Some(0));
        for _ in 0..999 {
            assert_eq!(complaints.tell(start + Duration::from_millis(999)), None);
        }
        assert_eq!(complaints.tell(start + Duration::from_secs(1)), Some(999));
        assert_eq!(complaints.tell(start + Duration::from_secs(9)), Some(0));
    }
}
