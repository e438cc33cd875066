//! How often an address may be wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Wrong answers that an address may give at once.
const BURST: f64 = 10.0;
/// Seconds until it may give one more.
const SECONDS_EACH: f64 = 6.0;
/// Addresses remembered at once.
const ADDRESSES: usize = 4096;

/// Wrong answers by address. Those that have been quiet for a minute are forgotten.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Account>>);

struct Account {
    left: f64,
    at: Instant,
}

impl Account {
    fn left(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + seconds / SECONDS_EACH).min(BURST)
    }
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has been wrong too often to be asked again now.
    pub(super) fn has_too_many(&self, address: IpAddr) -> bool {
        let accounts = self.lock();
        let account = accounts.get(&address);
        account.is_some_and(|account| account.left(Instant::now()) < 1.0)
    }

    /// It was wrong.
    pub(super) fn note(&self, address: IpAddr) {
        let now = Instant::now();
        let mut accounts = self.lock();
        if accounts.len() >= ADDRESSES && !accounts.contains_key(&address) {
            accounts.retain(|_, account| account.left(now) < BURST);
            if accounts.len() >= ADDRESSES {
                // More than can be remembered: the fullest account is worth the least.
                let fullest = accounts
                    .iter()
                    .max_by(|a, b| a.1.left(now).total_cmp(&b.1.left(now)))
                    .map(|(address, _)| *address);
                if let Some(fullest) = fullest {
                    accounts.remove(&fullest);
                }
            }
        }
        let account = accounts.entry(address).or_insert(Account {
            left: BURST,
            at: now,
        });
        account.left = (account.left(now) - 1.0).max(0.0);
        account.at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_wrong_ten_times_waits_and_others_do_not() {
        let failures = Failures::default();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        for _ in 0..10 {
            assert!(!failures.has_too_many(address(1)));
            failures.note(address(1));
        }
        assert!(failures.has_too_many(address(1)));
        assert!(!failures.has_too_many(address(2)));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!failures.has_too_many(address(1)));
        failures.note(address(1));
        assert!(failures.has_too_many(address(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let failures = Failures::default();
        for n in 0..10_000 {
            failures.note(IpAddr::V4(Ipv4Addr::from(n)));
        }
        assert!(failures.lock().len() <= ADDRESSES);
    }
}
