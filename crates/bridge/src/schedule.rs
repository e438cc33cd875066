//! Whose turn it is when several routes want the link: stride scheduling. Over any time in which
//! they all have something to send, routes share the bytes of the link by their weights; who had
//! nothing to send saves nothing up.

/// Virtual time that a byte costs a route of weight 1; divisible by all weights.
const STRIDE: u64 = 1 << 9;
/// What a message costs beside its bytes.
const OVERHEAD: u64 = 64;

/// Shares of a link.
pub(crate) struct Schedule {
    lanes: Vec<Lane>,
    /// Virtual time: where the last one stood when it was its turn.
    now: u64,
}

struct Lane {
    weight: u64,
    /// Virtual time at which it is due.
    pass: u64,
}

impl Schedule {
    /// Of routes with these priorities, 0 to 9: each step doubles the share.
    pub(crate) fn new(priorities: impl IntoIterator<Item = u8>) -> Self {
        let lane = |priority: u8| Lane {
            weight: 1 << priority.min(9),
            pass: 0,
        };
        Self {
            lanes: priorities.into_iter().map(lane).collect(),
            now: 0,
        }
    }

    /// The next of those that `is_ready` names.
    pub(crate) fn next(&mut self, is_ready: impl Fn(usize) -> bool) -> Option<usize> {
        let now = self.now;
        let ready = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(at, _)| is_ready(*at));
        // Among equals the weightier, so that who has just come and matters more goes first.
        let due = |(_, lane): &(usize, &Lane)| (lane.pass.max(now), u64::MAX - lane.weight);
        let (at, _) = ready.min_by_key(due)?;
        let lane = self.lanes.get_mut(at)?;
        lane.pass = lane.pass.max(now);
        self.now = lane.pass;
        Some(at)
    }

    /// It has sent so many bytes in one message.
    pub(crate) fn spent(&mut self, at: usize, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(at) {
            let cost = u64::try_from(bytes).unwrap_or(u64::MAX / STRIDE / 2) + OVERHEAD;
            lane.pass = lane
                .pass
                .saturating_add(cost.saturating_mul(STRIDE) / lane.weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that each has sent after so many turns, when all always have something.
    fn run(priorities: &[u8], sizes: &[usize], turns: usize) -> Vec<usize> {
        let mut schedule = Schedule::new(priorities.iter().copied());
        let mut sent = vec![0; priorities.len()];
        for _ in 0..turns {
            let at = schedule.next(|_| true).unwrap();
            schedule.spent(at, sizes[at]);
            sent[at] += sizes[at] + 64;
        }
        sent
    }

    #[test]
    fn equals_share_bytes_whatever_the_size_of_their_messages() {
        let sent = run(&[4, 4], &[100, 10_000], 10_000);
        let ratio = sent[0] as f64 / sent[1] as f64;
        assert!((0.99..1.01).contains(&ratio), "{sent:?}");
    }

    #[test]
    fn each_priority_doubles_the_share_and_nobody_starves() {
        let sent = run(&[0, 1, 4, 9], &[200; 4], 100_000);
        for (at, weight) in [(0, 1.0), (1, 2.0), (2, 16.0), (3, 512.0)] {
            let share = sent[at] as f64 / sent[0] as f64 / weight;
            assert!((0.95..1.05).contains(&share), "{sent:?}");
        }
    }

    #[test]
    fn who_comes_late_is_served_at_once_and_has_saved_nothing_up() {
        let mut schedule = Schedule::new([4, 4]);
        for _ in 0..1000 {
            let at = schedule.next(|at| at == 0).unwrap();
            schedule.spent(at, 100);
        }
        let mut order = Vec::new();
        for _ in 0..8 {
            let at = schedule.next(|_| true).unwrap();
            schedule.spent(at, 100);
            order.push(at);
        }
        assert_eq!(
            order[..2].iter().filter(|at| **at == 1).count(),
            1,
            "{order:?}"
        );
        assert_eq!(order.iter().filter(|at| **at == 1).count(), 4, "{order:?}");
        assert_eq!(schedule.next(|_| false), None);
    }
}
