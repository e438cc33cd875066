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
