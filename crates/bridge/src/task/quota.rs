//! Messages that an upstream refuses for a quota.

use super::suspect::Key;

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
    use iotedge_model::MessageId;

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
