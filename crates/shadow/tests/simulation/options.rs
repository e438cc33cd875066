//! What a history is made of.

use iotedge_shadow::core::sync::Direction;

/// Chance, the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn percent(&mut self, of: u64) -> bool {
        self.roll(100) < of
    }
}

/// What a history has.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub steps: u64,
    pub direction: Direction,
    pub wildcard: bool,
    pub max_subscriptions: usize,
    /// Percent of messages.
    pub loss: u64,
    pub doubles: u64,
    pub reorder: bool,
    pub crashes: bool,
    /// Whole shadows are deleted, the cloud is replaced by another.
    pub deletions: bool,
    /// Percent of requests that the cloud fails.
    pub failures: u64,
    /// How many keep the same shadows together with the cloud's.
    pub gateways: usize,
}

impl Options {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed ^ 0x5eed);
        let direction = [
            Direction::Both,
            Direction::Both,
            Direction::Up,
            Direction::Down,
        ];
        let direction = direction[usize::try_from(dice.roll(4)).unwrap()];
        Self {
            steps: 20 + dice.roll(120),
            direction,
            wildcard: dice.percent(30),
            max_subscriptions: 1 + usize::try_from(dice.roll(3)).unwrap(),
            loss: [0, 5, 30][usize::try_from(dice.roll(3)).unwrap()],
            doubles: [0, 10][usize::try_from(dice.roll(2)).unwrap()],
            reorder: dice.percent(50),
            crashes: dice.percent(70),
            deletions: dice.percent(50),
            failures: [0, 10][usize::try_from(dice.roll(2)).unwrap()],
            // Two that both insist never agree.
            gateways: match direction {
                Direction::Up => 1,
                _ => 1 + usize::from(dice.percent(30)),
            },
        }
    }
}
