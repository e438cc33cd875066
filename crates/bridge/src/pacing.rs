//! How fast messages may go: a bucket of messages and one of bytes. Pure.

use std::time::Duration;

/// Tokens come evenly; what is taken too much is waited for.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: u64,
    /// Most that are kept.
    burst: u64,
    /// Thousandths of tokens; below zero: a debt.
    level: i64,
    /// Monotonic milliseconds of the last look.
    at: u64,
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Bucket {
    fn new(rate: u64, burst: u64, now: u64) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        Self {
            rate,
            burst,
            level: signed(burst.saturating_mul(1000)),
            at: now,
        }
    }

    fn refill(&mut self, now: u64) {
        let come = now.saturating_sub(self.at).saturating_mul(self.rate);
        self.at = now;
        let most = signed(self.burst.saturating_mul(1000));
        self.level = self.level.saturating_add(signed(come)).min(most);
    }

    fn available(&self) -> u64 {
        u64::try_from(self.level / 1000).unwrap_or(0)
    }

    fn take(&mut self, tokens: u64) {
        self.level = self
            .level
            .saturating_sub(signed(tokens.saturating_mul(1000)));
    }

    /// Until there is one.
    fn wait(&self) -> Option<Duration> {
        let missing = u64::try_from(1000 - self.level).ok().filter(|m| *m > 0)?;
        Some(Duration::from_millis(missing.div_ceil(self.rate)))
    }
}

/// What one link may send.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Pacing {
    /// No second sees more than `messages` and `bytes`: a tenth of either may come at once, the
    /// rest evenly. `largest`: of one message, which goes when there is a token for its first byte.
    pub(crate) fn new(messages: Option<u64>, bytes: Option<u64>, largest: u64, now: u64) -> Self {
        Self {
            messages: messages.map(|rate| {
                let burst = (rate / 10).max(1);
                Bucket::new(rate.saturating_sub(burst), burst, now)
            }),
            bytes: bytes.map(|rate| {
                let burst = rate / 10;
                // The last one of a burst may be that much larger than what is left.
                let over = largest.min(rate / 4);
                Bucket::new(rate - burst - over, burst, now)
            }),
        }
    }

    /// How many messages and bytes may go now.
    pub(crate) fn allowed(&mut self, now: u64) -> (usize, usize) {
        let most = |bucket: &mut Option<Bucket>| {
            bucket.as_mut().map_or(usize::MAX, |bucket| {
                bucket.refill(now);
                usize::try_from(bucket.available()).unwrap_or(usize::MAX)
            })
        };
        (most(&mut self.messages), most(&mut self.bytes))
    }

    /// A message goes.
    pub(crate) fn take(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.messages {
            bucket.take(1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// How long until something may go; `None`: it may.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let buckets = [self.messages.as_ref(), self.bytes.as_ref()];
        buckets.into_iter().flatten().filter_map(Bucket::wait).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends whenever it may; when each message went, in milliseconds.
    fn run(pacing: &mut Pacing, size: usize, until: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        let mut now = 0;
        while now < until {
            let (messages, bytes) = pacing.allowed(now);
            if messages > 0 && bytes > 0 {
                pacing.take(size);
                sent.push(now);
            } else {
                now += u64::try_from(pacing.wait().unwrap().as_millis())
                    .unwrap()
                    .max(1);
            }
        }
        sent
    }

    fn most_in_a_second(sent: &[u64]) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (at, time) in sent.iter().enumerate() {
            while sent[first] + 1000 <= *time {
                first += 1;
            }
            most = most.max(at + 1 - first);
        }
        most
    }

    #[test]
    fn no_second_sees_more_messages_than_allowed_and_few_less() {
        for rate in [1, 7, 100] {
            let mut pacing = Pacing::new(Some(rate), None, 1000, 0);
            let sent = run(&mut pacing, 100, 60_000);
            let most = most_in_a_second(&sent);
            assert!(
                most <= usize::try_from(rate).unwrap().max(2),
                "{rate}: {most}"
            );
            assert!(sent.len() as u64 >= rate * 50, "{rate}: {}", sent.len());
        }
    }

    #[test]
    fn no_second_sees_more_bytes_than_allowed() {
        const RATE: u64 = 512 * 1024;
        for size in [200, 5_000, 128 * 1024] {
            let mut pacing = Pacing::new(None, Some(RATE), 128 * 1024, 0);
            let sent = run(&mut pacing, size, 60_000);
            let most = (most_in_a_second(&sent) * size) as u64;
            assert!(most <= RATE, "{size}: {most}");
            assert!((sent.len() * size) as u64 > RATE * 60 / 2, "{size}");
        }
    }

    #[test]
    fn what_is_larger_than_the_bucket_goes_and_is_waited_for() {
        let mut pacing = Pacing::new(None, Some(1000), 100, 0);
        pacing.take(5000);
        let wait = pacing.wait().unwrap();
        assert!((5000..8000).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(pacing.allowed(10_000).0, usize::MAX);
        assert!(pacing.allowed(10_000).1 > 0);
        assert_eq!(Pacing::default().wait(), None);
    }
}
