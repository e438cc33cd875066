//! What a client keeps besides its connection.

use iotedge_model::{QoS, SharedFilter};
use iotedge_mqtt::{Connect, Str};

use super::{Handler, LossHandler, ReturnHandler};
use crate::error::{Error, Result};

/// A subscription.
struct Slot {
    number: u64,
    filter: Str,
    parsed: SharedFilter,
    qos: QoS,
    handler: Handler,
}

/// Subscriptions in the order they were made, the last login, the loss handler.
pub(super) struct Table {
    limit: usize,
    slots: Vec<Slot>,
    next: u64,
    pub(super) login: Option<Connect>,
    pub(super) on_loss: Option<LossHandler>,
    pub(super) on_return: Vec<ReturnHandler>,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            slots: Vec::new(),
            next: 0,
            login: None,
            on_loss: None,
            on_return: Vec::new(),
        }
    }

    /// Takes a slot and gives its number. With `exclusive` those of the same filter need no room:
    /// this one is to replace them.
    pub(super) fn add(
        &mut self,
        filter: &Str,
        qos: QoS,
        handler: Handler,
        exclusive: bool,
    ) -> Result<u64> {
        let parsed = SharedFilter::new(filter)?;
        let stays = |slot: &&Slot| !exclusive || slot.filter != *filter;
        if self.slots.iter().filter(stays).count() >= self.limit {
            return Err(Error::TooManySubscriptions(self.limit));
        }
        let number = self.next;
        self.next += 1;
        self.slots.push(Slot {
            number,
            filter: filter.clone(),
            parsed,
            qos,
            handler,
        });
        Ok(number)
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.slots.retain(|slot| slot.number != number);
    }

    /// Removes what an exclusive subscription replaces.
    pub(super) fn remove_others(&mut self, filter: &Str, number: u64) {
        self.slots
            .retain(|slot| slot.number == number || slot.filter != *filter);
    }

    pub(super) fn remove_filter(&mut self, filter: &Str) {
        self.slots.retain(|slot| slot.filter != *filter);
    }

    pub(super) fn has(&self, filter: &Str) -> bool {
        self.slots.iter().any(|slot| slot.filter == *filter)
    }

    pub(super) fn filters(&self) -> Vec<(Str, QoS)> {
        let of = |slot: &Slot| (slot.filter.clone(), slot.qos);
        self.slots.iter().map(of).collect()
    }

    /// The slots that a message on `topic` is for.
    pub(super) fn matching(&self, topic: &str) -> Vec<u64> {
        self.slots
            .iter()
            .filter(|slot| slot.parsed.filter.matches(topic))
            .map(|slot| slot.number)
            .collect()
    }

    pub(super) fn handler(&self, number: u64) -> Option<Handler> {
        self.slots
            .iter()
            .find(|slot| slot.number == number)
            .map(|slot| slot.handler.clone())
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.login = None;
        self.on_loss = None;
        self.on_return.clear();
    }
}
