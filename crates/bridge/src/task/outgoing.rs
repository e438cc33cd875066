//! From the mailboxes to the wire, and the upstream's acknowledgements back.

use std::sync::atomic::Ordering;

use iotedge_ports::{Delivery, DrainLimit, DrainState};

use super::aside::face;
use super::carry::{self, Stays};
use super::{End, Sent, Task};
use crate::Version;
use crate::uplink::{Acknowledged, Connection, reason};

/// Deliveries that a route sends at once when it is the only one that has any.
const PORTION: usize = 32;
/// And when there are others.
const SHARED_PORTION: usize = 4;
/// PUBACK's "quota exceeded" (MQTT 5, 3.4.2.1).
const QUOTA_EXCEEDED: u8 = 0x97;

impl Task {
    /// Does all that can be done without waiting.
    pub(super) fn pump(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.subscribe_next(connection)?;
        self.settle_inbound()?;
        self.retry_blocked()?;
        self.acknowledge_inbound(connection)?;
        let _ = self.pacing.allowed(self.now().mono);
        // Few and paced by itself: it would never find room behind a backlog.
        self.serve_peer(connection)?;
        self.send(connection)
    }

    /// Fills the window from the mailboxes, a portion each in turn.
    fn send(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.stalled = false;
        if !self.examine(connection)? || !self.send_released(connection)? {
            return Ok(());
        }
        // Routes that say they have more and give nothing now.
        let mut asleep: Vec<usize> = Vec::new();
        while self.has_room() {
            let out = &self.out;
            let is_ready = |at: usize| {
                let route = out.get(at);
                route.is_some_and(|r| r.ready.load(Ordering::Acquire)) && !asleep.contains(&at)
            };
            let Some(route) = self.schedule.next(is_ready) else {
                return Ok(());
            };
            if self.aside.is_full_of(route) {
                asleep.push(route);
                continue;
            }
            let alone = (0..out.len()).filter(|at| is_ready(*at)).nth(1).is_none();
            let portion = if alone { PORTION } else { SHARED_PORTION };
            let (drained, state) = self.drain(route, portion);
            if drained.is_empty() && state == DrainState::More {
                self.stalled = true;
                asleep.push(route);
            }
            for delivery in drained {
                let Some(delivery) = self.keep_aside(route, delivery) else {
                    continue;
                };
                let size = self.send_one(connection, route, delivery)?;
                self.schedule.spent(route, size);
            }
        }
        Ok(())
    }

    /// Takes the next messages of a route.
    fn drain(&mut self, route: usize, portion: usize) -> (Vec<Delivery>, DrainState) {
        let mut drained = Vec::new();
        let budget = self.budget_left().max(1);
        let Some(out) = self.out.get(route) else {
            return (drained, DrainState::Empty);
        };
        // Before the drain: an arrival during it sets the flag again.
        out.ready.store(false, Ordering::Release);
        let (messages, bytes) = self.pacing.allowed(self.now().mono);
        let limit = DrainLimit {
            messages: self.window.free().min(portion).min(messages),
            bytes: self
                .flow
                .limit()
                .saturating_sub(self.window.bytes())
                .min(bytes)
                .min(budget),
        };
        let state = out.mailbox.drain(limit, &mut drained);
        if state == DrainState::More {
            out.ready.store(true, Ordering::Release);
        }
        (drained, state)
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.free() > 0
            && self.window.bytes() < self.flow.limit()
            && self.pacing.wait().is_none()
    }

    /// Hands a delivery over, if it can go; its bytes.
    pub(super) fn send_one(
        &mut self,
        connection: &mut dyn Connection,
        route: usize,
        delivery: Delivery,
    ) -> Result<usize, End> {
        let config = &self.shared.config;
        let Some(out) = self.out.get(route) else {
            return Ok(0);
        };
        let Some(rules) = config.routes.get(out.index) else {
            return Ok(0);
        };
        let now = self.clock.now();
        let carried = carry::outgoing(config, &self.accepted, rules, &delivery, &now);
        let (publish, size) = match carried {
            Ok(carried) => carried,
            Err(Stays::Dropped(reason)) => {
                out.mailbox.discard(&[delivery], reason);
                return Ok(0);
            }
            Err(Stays::Buried(why)) => {
                out.mailbox.bury(&[delivery], &why);
                return Ok(0);
            }
        };
        let comes_back = |(_, filter): &(usize, iotedge_model::TopicFilter)| {
            config.version == Version::V3 && filter.matches(&publish.topic)
        };
        if self.incoming.iter().any(comes_back) {
            let (echoes, topic, payload) = (&mut self.echoes, &publish.topic, &publish.payload);
            match delivery.dup {
                true => echoes.sent_again(topic, payload, now.mono),
                false => echoes.sent(topic, payload, now.mono),
            }
        }
        // The rewound mailbox gives it again.
        let sent = connection.publish(publish);
        sent.map_err(|ended| self.failed(ended))?;
        if delivery.dup {
            if let Some(books) = self.shared.books.get(out.index) {
                books.resent.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.pacing.take(size);
        self.suspects.sends();
        let sent = Sent {
            route,
            delivery: Some(delivery),
            size,
            request: None,
        };
        self.window.push(sent, size);
        Ok(size)
    }

    /// The next PUBLISH is on the wire.
    pub(super) fn on_wire(&mut self, packet_id: u16) -> Result<(), End> {
        match self.window.published(packet_id) {
            Ok(Some(sent)) => self.delivered(sent),
            Ok(None) => {}
            Err(_) => {
                let text = "something went out that we did not send";
                return Err(End::Silent(text.into()));
            }
        }
        Ok(())
    }

    /// PUBACK; the connection ends by itself on one for nothing. What the upstream
    /// refuses (MQTT 5, 3.4.2.1) is kept aside with the reason and blocks nothing; an upstream that
    /// is full may have room later.
    pub(super) fn upstream_acknowledged(&mut self, ack: &Acknowledged) -> Result<(), End> {
        let Ok(answered) = self.window.acknowledged(ack.packet_id) else {
            return Ok(());
        };
        let (flow, left) = (&mut self.flow, self.window.bytes());
        flow.answered(answered.cost, answered.waited, left);
        let sent = answered.item;
        if ack.reason < 0x80 {
            self.delivered(sent);
            return Ok(());
        }
        let why = reason::told("PUBACK", ack.reason, ack.said.as_deref());
        let Some(delivery) = sent.delivery else {
            self.request_refused(sent.request.as_ref(), ack.reason, why);
            return Ok(());
        };
        let key = (sent.route, delivery.message.id);
        if ack.reason == QUOTA_EXCEEDED && self.quota.is_of_all(key) {
            // The rewound mailbox gives it again.
            return Err(End::Held(format!("the upstream is full: {why}")));
        }
        self.acquit(&face(sent.route, &delivery));
        if let Some(route) = self.out.get(sent.route) {
            route.mailbox.bury(&[delivery], &why);
        }
        Ok(())
    }

    fn delivered(&mut self, sent: Sent) {
        let Some(delivery) = sent.delivery else {
            return;
        };
        let key = (sent.route, delivery.message.id);
        let now = self.now().mono;
        if self.suspects.delivered(key, sent.size, now) {
            self.aside.release(&face(sent.route, &delivery));
        }
        self.quota.delivered(key);
        if let Some(route) = self.out.get_mut(sent.route) {
            route.acked.push(delivery);
        }
    }

    /// Tells the mailboxes what the upstream has.
    pub(super) fn pass_on_acknowledgements(&mut self) {
        for route in &mut self.out {
            if !route.acked.is_empty() {
                route.mailbox.acknowledge(&route.acked);
                route.acked.clear();
            }
        }
    }
}
