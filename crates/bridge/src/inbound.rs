//! What came from the upstream and waits for its local commit. Acknowledgements go up in the order
//! of receipt.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use iotedge_model::QoS;
use iotedge_ports::{AckSink, Failure};
use tokio::sync::Notify;

/// Where the broker says that publications are durable. Called from any thread.
pub(crate) struct Sink {
    outcomes: Mutex<Vec<(u64, Result<(), Failure>)>>,
    notify: Arc<Notify>,
}

impl Sink {
    pub(crate) fn new(notify: Arc<Notify>) -> Self {
        Self {
            outcomes: Mutex::new(Vec::new()),
            notify,
        }
    }

    pub(crate) fn take(&self) -> Vec<(u64, Result<(), Failure>)> {
        std::mem::take(&mut self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AckSink for Sink {
    fn acked(&self, token: u64, outcome: Result<(), Failure>) {
        // Never more than what `Inbound` waits for.
        self.outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, outcome));
        self.notify.notify_one();
    }
}

/// What an acknowledgement upstream needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) packet_id: u16,
    pub(crate) qos: QoS,
}

struct Entry {
    route: usize,
    bytes: u64,
    /// `None`: the connection it came on is gone; only the books wait.
    receipt: Option<Receipt>,
    settled: bool,
    durable: bool,
}

/// Publications that wait, by consecutive tokens.
#[derive(Default)]
pub(crate) struct Inbound {
    first: u64,
    entries: VecDeque<Entry>,
}

/// How a publication ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) route: usize,
    /// Its cost, as it was counted.
    pub(crate) bytes: u64,
    /// Its upstream still waits for an acknowledgement.
    pub(crate) current: bool,
}

impl Inbound {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The token of the next publication.
    pub(crate) fn next_token(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Takes a place in the order; gives its token.
    pub(crate) fn push(&mut self, route: usize, bytes: u64, receipt: Receipt) -> u64 {
        let token = self.next_token();
        self.entries.push_back(Entry {
            route,
            bytes,
            receipt: Some(receipt),
            settled: false,
            durable: false,
        });
        token
    }

    /// The broker has answered. A failed one keeps its place: nothing behind it is acknowledged,
    /// and its connection must end.
    pub(crate) fn settle(&mut self, token: u64, outcome: Result<(), Failure>) -> Option<Ended> {
        let at = usize::try_from(token.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(at)?;
        let ended = Ended {
            route: entry.route,
            bytes: entry.bytes,
            current: entry.receipt.is_some(),
        };
        entry.settled = true;
        entry.durable = outcome.is_ok();
        self.skip_stale();
        Some(ended)
    }

    /// The next acknowledgement to send.
    pub(crate) fn ready(&self) -> Option<Receipt> {
        self.entries.front().filter(|e| e.durable)?.receipt
    }

    /// It was sent.
    pub(crate) fn sent(&mut self) {
        self.entries.pop_front();
        self.first += 1;
        self.skip_stale();
    }

    fn skip_stale(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|e| e.settled && e.receipt.is_none())
        {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The connection is gone: nothing is acknowledged on it any more. What waits for the broker is
    /// kept for the books.
    pub(crate) fn disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.receipt = None;
        }
        self.skip_stale();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(packet_id: u16) -> Receipt {
        Receipt {
            packet_id,
            qos: QoS::AtLeastOnce,
        }
    }

    #[test]
    fn acknowledgements_keep_the_order_of_receipt() {
        let mut inbound = Inbound::default();
        let tokens: Vec<_> = (1..=3).map(|id| inbound.push(0, 9, receipt(id))).collect();
        inbound.settle(tokens[1], Ok(()));
        assert_eq!(inbound.ready(), None);
        inbound.settle(tokens[0], Ok(()));
        assert_eq!(inbound.ready(), Some(receipt(1)));
        inbound.sent();
        assert_eq!(inbound.ready(), Some(receipt(2)));
        inbound.sent();
        assert_eq!(inbound.ready(), None);
    }

    #[test]
    fn what_a_lost_connection_left_is_booked_and_not_acknowledged() {
        let mut inbound = Inbound::default();
        let old = inbound.push(4, 9, receipt(1));
        let done = inbound.push(4, 9, receipt(2));
        inbound.settle(done, Ok(()));
        let failed = inbound.push(4, 9, receipt(3));
        inbound.settle(failed, Err(Failure::Store));
        inbound.disconnected();
        let new = inbound.push(5, 9, receipt(1));
        inbound.settle(new, Ok(()));
        assert_eq!(inbound.ready(), None, "the old one is in front");
        let ended = inbound.settle(old, Ok(())).unwrap();
        assert_eq!((ended.route, ended.current), (4, false));
        assert_eq!(inbound.ready(), Some(receipt(1)));
        inbound.sent();
        assert_eq!(inbound.len(), 0);
        assert_eq!(inbound.settle(old, Ok(())), None);
    }
}
