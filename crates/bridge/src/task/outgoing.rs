//! From the mailboxes to the wire, and the upstream's acknowledgements back.

use std::sync::atomic::Ordering;

use iotedge_model::DropReason;
use iotedge_ports::{Delivery, DrainLimit, DrainState};

use super::suspect::Key;
use super::{End, Sent, Task};
use crate::mapping::map;
use crate::uplink::{Acknowledged, Connection, Publish, reason};

/// Bytes on the wire without PUBACK.
const MAX_BYTES: usize = 1 << 20;
/// Deliveries that one route sends before it is another's turn.
const PORTION: usize = 32;

impl Task {
    /// Does all that can be done without waiting.
    pub(super) fn pump(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.subscribe_next(connection)?;
        self.settle_inbound()?;
        self.retry_blocked()?;
        self.acknowledge_inbound(connection)?;
        self.send(connection)
    }

    /// Fills the window from the mailboxes, a portion each in turn.
    fn send(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.stalled = false;
        let _ = self.pacing.allowed(self.now().mono);
        if self.window.is_single() && self.subscribing.is_some() {
            // The only packet id is SUBSCRIBE's.
            return Ok(());
        }
        if let Some(suspect) = self.suspect.alone() {
            if !self.send_alone(connection, suspect)? {
                return Ok(());
            }
        }
        let mut idle = 0;
        while idle < self.out.len() && self.has_room() {
            let route = self.turn % self.out.len();
            self.turn = route + 1;
            // Before the drain: an arrival during it sets the flag again.
            if !self.out[route].ready.swap(false, Ordering::AcqRel) {
                idle += 1;
                continue;
            }
            let mut drained = Vec::new();
            let (messages, bytes) = self.pacing.allowed(self.now().mono);
            let room = self.window.free().min(PORTION).min(messages);
            let limit = DrainLimit {
                messages: room,
                bytes: (MAX_BYTES - self.window.bytes()).min(bytes),
            };
            let state = self.out[route].mailbox.drain(limit, &mut drained);
            idle += 1;
            if !drained.is_empty() {
                idle = 0;
            }
            if state == DrainState::More {
                self.out[route].ready.store(true, Ordering::Release);
                self.stalled |= drained.is_empty();
            }
            for delivery in drained {
                self.send_one(connection, route, delivery)?;
            }
        }
        Ok(())
    }

    /// Sends what connections were lost over, alone; gives it up in the end. `false`: nothing else
    /// may go now.
    fn send_alone(&mut self, connection: &mut dyn Connection, suspect: Key) -> Result<bool, End> {
        // SUBACK first: a connection that a subscription ends is not this message's doing.
        if !self.window.is_empty() || self.subscribing.is_some() {
            return Ok(false);
        }
        let (route, id) = suspect;
        let Some(out) = self.out.get(route) else {
            return Ok(true);
        };
        out.ready.store(false, Ordering::Release);
        let mut drained = Vec::new();
        let limit = DrainLimit {
            messages: 1,
            bytes: MAX_BYTES,
        };
        let state = out.mailbox.drain(limit, &mut drained);
        if state == DrainState::More {
            out.ready.store(true, Ordering::Release);
        }
        let Some(delivery) = drained.pop() else {
            self.stalled = state == DrainState::More;
            if !self.stalled {
                self.suspect.acquit(suspect);
            }
            return Ok(!self.stalled);
        };
        if delivery.message.id == id && self.suspect.is_given_up() {
            tracing::error!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = self.shared.config.name,
                topic = delivery.message.topic.as_str(),
                bytes = delivery.message.payload.len(),
                "a message is kept aside as a dead letter: the connection is lost each time it is sent"
            );
            out.mailbox
                .bury(&[delivery], "the connection was lost each time it was sent");
            self.suspect.acquit(suspect);
            return Ok(true);
        }
        let other = delivery.message.id != id;
        self.send_one(connection, route, delivery)?;
        if other || self.window.is_empty() {
            // It is gone in another way.
            self.suspect.acquit(suspect);
            return Ok(true);
        }
        Ok(false)
    }

    fn has_room(&self) -> bool {
        self.window.free() > 0 && self.window.bytes() < MAX_BYTES && self.pacing.wait().is_none()
    }

    fn send_one(
        &mut self,
        connection: &mut dyn Connection,
        route: usize,
        delivery: Delivery,
    ) -> Result<(), End> {
        let config = &self.shared.config;
        let Some(out) = self.out.get(route) else {
            return Ok(());
        };
        let Some(rules) = config.routes.get(out.index) else {
            return Ok(());
        };
        let message = &delivery.message;
        let discard = |reason| out.mailbox.discard(std::slice::from_ref(&delivery), reason);
        if message.is_expired(&self.clock.now()) {
            discard(DropReason::Expired);
            return Ok(());
        }
        let Ok(topic) = map(
            message.topic.as_str(),
            &rules.local_prefix,
            &rules.remote_prefix,
        ) else {
            discard(DropReason::BadTopic);
            return Ok(());
        };
        let size = super::packet_bytes(topic.as_str(), &message.payload);
        let payload = config.max_payload_bytes.unwrap_or(usize::MAX);
        let server = self
            .accepted
            .maximum_packet_size
            .map_or(usize::MAX, |n| n as usize);
        if size > config.max_packet_bytes.min(server) || message.payload.len() > payload {
            discard(DropReason::TooLarge);
            return Ok(());
        }
        let sent = connection.publish(Publish {
            topic: topic.to_string(),
            payload: message.payload.clone(),
            // Routes take at most QoS 1.
            qos: delivery.qos.min(rules.qos),
            retain: delivery.retain,
            expiry: None,
            properties: None,
        });
        // The rewound mailbox gives it again.
        sent.map_err(|ended| self.failed(ended))?;
        if delivery.dup {
            if let Some(books) = self.shared.books.get(out.index) {
                books.resent.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.pacing.take(size);
        self.window.push(Sent { route, delivery }, size);
        Ok(())
    }

    /// The library has written the next PUBLISH.
    pub(super) fn on_wire(&mut self, packet_id: u16) -> Result<(), End> {
        match self.window.published(packet_id) {
            Ok(Some(sent)) => self.delivered(sent),
            Ok(None) => {}
            Err(_) => return Err(End::Lost("the client library sent what we did not".into())),
        }
        Ok(())
    }

    /// PUBACK. The library ends the connection itself on one for nothing. What the upstream
    /// refuses (MQTT 5, 3.4.2.1) is kept aside with the reason and blocks nothing.
    pub(super) fn upstream_acknowledged(&mut self, ack: &Acknowledged) {
        let Ok(sent) = self.window.acknowledged(ack.packet_id) else {
            return;
        };
        if ack.reason < 0x80 {
            self.delivered(sent);
            return;
        }
        self.suspect.acquit((sent.route, sent.delivery.message.id));
        let why = reason::told("PUBACK", ack.reason, ack.said.as_deref());
        if let Some(route) = self.out.get(sent.route) {
            route.mailbox.bury(&[sent.delivery], &why);
        }
    }

    fn delivered(&mut self, sent: Sent) {
        self.suspect.acquit((sent.route, sent.delivery.message.id));
        if let Some(route) = self.out.get_mut(sent.route) {
            route.acked.push(sent.delivery);
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
