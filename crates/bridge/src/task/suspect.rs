//! Messages that an upstream answers by closing the connection.

use iotedge_model::MessageId;

/// Connections lost in a row over the same message before it is sent alone.
const ALONE: u32 = 3;
/// And before it is given up: the last ones nothing else was in flight.
const GIVEN_UP: u32 = ALONE + 2;

/// A message: its route's place in the task, and its id.
pub(crate) type Key = (usize, MessageId);

/// The message that was the oldest without PUBACK when connections were lost in a row.
#[derive(Default)]
pub(crate) struct Suspect {
    key: Option<Key>,
    losses: u32,
}

impl Suspect {
    /// A connection was lost while this was the oldest in flight.
    pub(crate) fn blame(&mut self, key: Key) {
        if self.key != Some(key) {
            *self = Self::default();
        }
        self.key = Some(key);
        self.losses += 1;
    }

    /// What has to go alone.
    pub(crate) fn alone(&self) -> Option<Key> {
        self.key.filter(|_| self.losses >= ALONE)
    }

    /// Whether it was tried often enough.
    pub(crate) fn is_given_up(&self) -> bool {
        self.losses >= GIVEN_UP
    }

    /// This one is acknowledged or gone.
    pub(crate) fn acquit(&mut self, key: Key) {
        if self.key == Some(key) {
            *self = Self::default();
        }
    }
}

/// Refusals of one message for a quota, while others went through, before it is given up.
const REFUSED: u32 = 10;

/// The message that an upstream refuses with "quota exceeded".
#[derive(Default)]
pub(crate) struct Quota {
    key: Option<Key>,
    refusals: u32,
    /// Others went through meanwhile.
    others: bool,
}

impl Quota {
    /// It was refused. Whether the upstream seems to have no room at all; `false`: it never takes
    /// this one.
    pub(crate) fn is_of_all(&mut self, key: Key) -> bool {
        if self.key != Some(key) {
            *self = Self::default();
        }
        self.key = Some(key);
        self.refusals += 1;
        self.refusals < REFUSED || !self.others
    }

    /// The upstream has taken this one.
    pub(crate) fn delivered(&mut self, key: Key) {
        if self.key == Some(key) {
            *self = Self::default();
        } else {
            self.others = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_upstream_is_told_from_a_message_that_it_never_takes() {
        let (poison, good) = ((0, MessageId(1)), (0, MessageId(2)));
        let mut quota = Quota::default();
        for _ in 0..100 {
            assert!(quota.is_of_all(poison), "nothing goes through");
        }
        quota.delivered(good);
        assert!(!quota.is_of_all(poison));
        let mut quota = Quota::default();
        for _ in 1..REFUSED {
            assert!(quota.is_of_all(poison));
            quota.delivered(good);
        }
        assert!(!quota.is_of_all(poison));
    }
}
