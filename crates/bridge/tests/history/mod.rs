//! One history: what happens, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tempfile::TempDir;

pub mod disk;
mod life;

use life::{End, Life, Plan};

/// Xorshift: the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..20 {
            rng.next();
        }
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`, which is above 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 20) % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What happened, all histories together.
#[derive(Default)]
pub struct Counts {
    pub sent: usize,
    pub acked: usize,
    pub again: usize,
    pub dead: usize,
    pub inbound: usize,
    pub crashes: usize,
    pub torn: usize,
    pub stops: usize,
    pub connections: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.again += other.again;
        self.dead += other.dead;
        self.inbound += other.inbound;
        self.crashes += other.crashes;
        self.torn += other.torn;
        self.stops += other.stops;
        self.connections += other.connections;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} acknowledged, {} again, {} dead letters, {} inbound; {} crashes, {} with a \
             torn log, {} stops, {} connections",
            self.sent,
            self.acked,
            self.again,
            self.dead,
            self.inbound,
            self.crashes,
            self.torn,
            self.stops,
            self.connections
        )
    }
}

/// What everybody was told and got. It outlives every crash.
#[derive(Default)]
pub struct Model {
    /// The number of the next message out.
    pub next: u64,
    /// Acknowledged to their publishers.
    pub acked: BTreeSet<u64>,
    /// At the upstream, by topic, as they came.
    pub arrived: BTreeMap<String, Vec<u64>>,
    pub seen: BTreeSet<u64>,
    /// The upstream's PUBACK is taken and durable: never again.
    pub confirmed: BTreeSet<u64>,
    /// Refused by the upstream.
    pub refused: BTreeSet<u64>,
    /// The number of the next message down.
    pub down_next: u64,
    /// Not acknowledged by the bridge: sent again on the next connection.
    pub down_waiting: BTreeSet<u64>,
    /// What the local taker of inbound messages passed on, as it came.
    pub down_arrived: Vec<u64>,
    pub counts: Counts,
    /// What happened, told when something is wrong.
    pub story: Vec<String>,
}

impl Drop for Model {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("HISTORY_SEED").is_some() {
            eprintln!("{}", self.story.join("\n"));
        }
    }
}

impl Model {
    pub fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// A PUBLISH at the upstream.
    pub fn arrives(&mut self, topic: &str, n: u64) {
        self.tell(format!("{topic} {n} arrives"));
        assert!(n < self.next, "{n} was never published");
        assert!(
            !self.confirmed.contains(&n),
            "{n} comes again though its PUBACK was taken"
        );
        assert!(
            !self.refused.contains(&n),
            "{n} comes again though it was refused"
        );
        let all = self.arrived.entry(topic.to_owned()).or_default();
        all.push(n);
        if self.seen.insert(n) {
            let highest = all.iter().rev().skip(1).max();
            assert!(
                highest.is_none_or(|h| *h < n),
                "{topic}: {n} comes for the first time after {highest:?}"
            );
        } else {
            self.counts.again += 1;
        }
    }

    /// At the end, when every queue is empty. `kept`: what lies with the dead letters.
    fn verdict(&mut self, kept: &BTreeSet<u64>) {
        let lost: Vec<_> = (self.acked.iter())
            .filter(|n| !self.seen.contains(n) && !kept.contains(n))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let lost: Vec<_> = self.refused.difference(kept).collect();
        assert!(lost.is_empty(), "refused and not kept: {lost:?}");
        let down: BTreeSet<_> = self.down_arrived.iter().copied().collect();
        let lost: Vec<_> = (0..self.down_next).filter(|n| !down.contains(n)).collect();
        assert!(lost.is_empty(), "inbound, acknowledged and lost: {lost:?}");
        let mut highest = None;
        let mut known = BTreeSet::new();
        for n in &self.down_arrived {
            if known.insert(*n) {
                assert!(highest < Some(*n), "inbound: {n} after {highest:?}");
                highest = Some(*n);
            }
        }
        self.counts.sent = self.next as usize;
        self.counts.acked = self.acked.len();
        self.counts.dead = kept.len();
        self.counts.inbound = self.down_next as usize;
    }
}

pub struct History;

impl History {
    /// Steps, crashes and stops by seed; then all drains and is compared.
    pub fn run(seed: u64) -> Counts {
        Self::with(seed, false)
    }

    /// On a disk that forgets commits in a crash.
    pub fn forgetful(seed: u64) -> Counts {
        Self::with(seed, true)
    }

    fn with(seed: u64, forgets: bool) -> Counts {
        let mut rng = Rng::new(seed);
        let mut model = Model::default();
        let mut dir: TempDir = disk::folder();
        let lives = 1 + rng.below(5);
        for _ in 0..lives {
            let plan = if forgets {
                Plan::OutageAndForgetfulDisk
            } else {
                Plan::Steps(5 + rng.below(40))
            };
            dir = match Life::live(dir, &mut model, &mut rng, plan) {
                End::Stopped(dir) => {
                    model.tell("--- stopped");
                    model.counts.stops += 1;
                    dir
                }
                End::Crashed(dir, torn) => {
                    model.tell(format!("--- crashed, torn: {torn}"));
                    model.counts.crashes += 1;
                    model.counts.torn += usize::from(torn);
                    dir
                }
            };
        }
        let kept = Life::drain(dir, &mut model);
        model.verdict(&kept);
        std::mem::take(&mut model.counts)
    }
}
