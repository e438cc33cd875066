//! What was handed to the connection and waits for its PUBACK.
//!
//! The connection gives packet ids in turn and says so with one event each, in the order in which
//! things were handed over. Acknowledged gaps count, so that no window grows without end behind a
//! message whose PUBACK does not come.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What nothing waits for; the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected;

/// An item whose PUBACK has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered<T> {
    pub(crate) item: T,
    pub(crate) cost: usize,
    /// Since it was on the wire.
    pub(crate) waited: Duration,
}

struct Slot<T> {
    /// Taken when it is acknowledged.
    item: Option<T>,
    cost: usize,
    /// Given when it is on the wire.
    packet_id: Option<u16>,
    /// When it was written.
    written: Option<Instant>,
}

/// Items in the order in which they were sent.
pub(crate) struct Window<T> {
    slots: VecDeque<Slot<T>>,
    limit: usize,
    /// How many of `slots`, from the front, have a packet id.
    numbered: usize,
    bytes: usize,
}

impl<T> Window<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            limit,
            numbered: 0,
            bytes: 0,
        }
    }

    /// Another limit, of another connection.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many more may be sent.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.slots.len())
    }

    /// Bytes of what waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The oldest that is not acknowledged.
    pub(crate) fn oldest(&self) -> Option<&T> {
        self.slots.front()?.item.as_ref()
    }

    /// Whether one of those that are not acknowledged is of a kind.
    pub(crate) fn has(&self, kind: impl Fn(&T) -> bool) -> bool {
        let mut items = self.slots.iter().filter_map(|slot| slot.item.as_ref());
        items.any(kind)
    }

    /// Since when the oldest item on the wire waits for its PUBACK.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.slots.front()?.written
    }

    /// An item was handed to the connection.
    pub(crate) fn push(&mut self, item: T, cost: usize) {
        self.bytes += cost;
        self.slots.push_back(Slot {
            item: Some(item),
            cost,
            packet_id: None,
            written: None,
        });
    }

    /// The next item is on the wire. QoS 0 (id 0) is done with that.
    pub(crate) fn published(&mut self, packet_id: u16) -> Result<Option<T>, Unexpected> {
        let at = self.numbered;
        let slot = self.slots.get_mut(at).ok_or(Unexpected)?;
        slot.packet_id = Some(packet_id);
        slot.written = Some(Instant::now());
        self.numbered += 1;
        Ok((packet_id == 0).then(|| self.take(at)).flatten())
    }

    /// A PUBACK has come, in whatever order.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Result<Answered<T>, Unexpected> {
        let at = self
            .slots
            .iter()
            .take(self.numbered)
            .position(|s| s.packet_id == Some(packet_id) && s.item.is_some())
            .ok_or(Unexpected)?;
        let slot = self.slots.get(at).ok_or(Unexpected)?;
        let (cost, written) = (slot.cost, slot.written.ok_or(Unexpected)?);
        let item = self.take(at).ok_or(Unexpected)?;
        Ok(Answered {
            item,
            cost,
            waited: written.elapsed(),
        })
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let slot = self.slots.get_mut(at)?;
        let item = slot.item.take()?;
        self.bytes -= slot.cost;
        while self.slots.front().is_some_and(|s| s.item.is_none()) {
            self.slots.pop_front();
            self.numbered -= 1;
        }
        Some(item)
    }

    /// The connection is gone: forgets everything.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.numbered = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged<T>(window: &mut Window<T>, id: u16) -> Result<T, Unexpected> {
        window.acknowledged(id).map(|answered| answered.item)
    }

    #[test]
    fn acknowledgements_find_their_items_in_any_order() {
        let mut window = Window::new(3);
        for item in ["a", "b", "c"] {
            window.push(item, 10);
        }
        assert_eq!((window.free(), window.bytes()), (0, 30));
        assert_eq!(
            acknowledged(&mut window, 1),
            Err(Unexpected),
            "not on the wire yet"
        );
        for id in 1..=3 {
            assert_eq!(window.published(id), Ok(None));
        }
        assert_eq!(acknowledged(&mut window, 2), Ok("b"));
        assert_eq!(window.free(), 0, "a gap keeps its place");
        assert_eq!(acknowledged(&mut window, 2), Err(Unexpected));
        assert_eq!(acknowledged(&mut window, 1), Ok("a"));
        assert_eq!((window.free(), window.bytes()), (2, 10));
        assert_eq!(acknowledged(&mut window, 3), Ok("c"));
        assert!(window.is_empty());
        assert_eq!(window.published(4), Err(Unexpected));
    }

    #[test]
    fn qos_0_is_done_when_it_is_on_the_wire() {
        let mut window = Window::new(4);
        window.push("a", 1);
        window.push("b", 1);
        window.push("c", 1);
        assert_eq!(window.published(1), Ok(None));
        assert_eq!(window.published(0), Ok(Some("b")));
        assert_eq!(window.published(0), Ok(Some("c")));
        assert_eq!(window.free(), 1);
        assert_eq!(acknowledged(&mut window, 1), Ok("a"));
        assert!(window.is_empty());
    }
}
