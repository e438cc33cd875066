//! How often one client id may connect.

use std::collections::HashMap;

use iotedge_model::ClientId;

/// Client ids that are remembered for their second. More of them at once are let through: they are
/// different clients, which other limits bound.
const REMEMBERED: usize = 100_000;

/// Counts what each client id has been granted since its second began.
pub(crate) struct Pace {
    per_second: u32,
    seen: HashMap<ClientId, Second>,
}

struct Second {
    /// Monotonic milliseconds.
    began: u64,
    granted: u32,
}

impl Second {
    fn is_over(&self, mono: u64) -> bool {
        mono.saturating_sub(self.began) >= 1_000
    }
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            seen: HashMap::new(),
        }
    }

    /// Whether `client` may connect at `mono`; then it is counted.
    pub(crate) fn grant(&mut self, client: &ClientId, mono: u64) -> bool {
        if let Some(second) = self.seen.get_mut(client) {
            if second.is_over(mono) {
                *second = Second {
                    began: mono,
                    granted: 0,
                };
            }
            let free = second.granted < self.per_second;
            second.granted += u32::from(free);
            return free;
        }
        if self.seen.len() < REMEMBERED {
            let second = Second {
                began: mono,
                granted: 1,
            };
            self.seen.insert(client.clone(), second);
        }
        true
    }

    /// Whether [`Pace::grant`] would say yes.
    pub(crate) fn has_room(&self, client: &ClientId, mono: u64) -> bool {
        let second = self.seen.get(client);
        second.is_none_or(|second| second.is_over(mono) || second.granted < self.per_second)
    }

    /// Forgets the seconds that are over.
    pub(crate) fn tick(&mut self, mono: u64) {
        self.seen.retain(|_, second| !second.is_over(mono));
        if self.seen.is_empty() {
            self.seen.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_client_has_its_own_second() {
        let mut pace = Pace::new(2);
        let [a, b] = ["a", "b"].map(|id| ClientId::new(id).unwrap());
        assert!(pace.grant(&a, 100) && pace.grant(&a, 600));
        assert!(!pace.has_room(&a, 1_099) && pace.has_room(&b, 1_099));
        assert!(!pace.grant(&a, 1_099), "the third");
        assert!(pace.grant(&b, 1_099));
        assert!(pace.grant(&a, 1_100) && pace.grant(&a, 1_100));
        assert!(!pace.grant(&a, 2_099));
        pace.tick(2_099);
        assert_eq!(pace.seen.len(), 1, "b's is over");
        pace.tick(2_100);
        assert_eq!(pace.seen.capacity(), 0);
    }
}
