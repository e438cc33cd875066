//! From the mailboxes to the wire, and the upstream's acknowledgements back.

use std::sync::atomic::Ordering;

use iotedge_model::{DropReason, QoS};
use iotedge_ports::{Delivery, DrainLimit, DrainState};
use rumqttc::AsyncClient;

use super::suspect::Key;
use super::{End, Sent, Task};
use crate::mapping::map;

/// Bytes on the wire without PUBACK.
const MAX_BYTES: usize = 1 << 20;
/// Deliveries that one route sends before it is another's turn.
const PORTION: usize = 32;

pub(super) fn qos(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        // Routes take at most QoS 1.
        QoS::AtLeastOnce | QoS::ExactlyOnce => rumqttc::QoS::AtLeastOnce,
    }
}

impl Task {
    /// Does all that can be done without waiting.
    pub(super) fn pump(&mut self, client: &AsyncClient) -> Result<(), End> {
        self.settle_inbound()?;
        self.retry_blocked()?;
        self.acknowledge_inbound(client)?;
        self.send(client)
    }

    /// Fills the window from the mailboxes, a portion each in turn.
    fn send(&mut self, client: &AsyncClient) -> Result<(), End> {
        self.stalled = false;
        if let Some(suspect) = self.suspect.alone() {
            if !self.send_alone(client, suspect)? {
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
            let room = self.window.free().min(PORTION);
            let limit = DrainLimit {
                messages: room,
                bytes: MAX_BYTES - self.window.bytes(),
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
                self.send_one(client, route, delivery)?;
            }
        }
        Ok(())
    }

    /// Sends what connections were lost over, alone; gives it up in the end. `false`: nothing else
    /// may go now.
    fn send_alone(&mut self, client: &AsyncClient, suspect: Key) -> Result<bool, End> {
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
        self.send_one(client, route, delivery)?;
        if other || self.window.is_empty() {
            // It is gone in another way.
            self.suspect.acquit(suspect);
            return Ok(true);
        }
        Ok(false)
    }

    fn has_room(&self) -> bool {
        self.window.free() > 0 && self.window.bytes() < MAX_BYTES
    }

    fn send_one(
        &mut self,
        client: &AsyncClient,
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
        if size > config.max_packet_bytes {
            discard(DropReason::TooLarge);
            return Ok(());
        }
        let sent = client.try_publish(
            topic.as_str(),
            qos(delivery.qos.min(rules.qos)),
            delivery.retain,
            message.payload.to_vec(),
        );
        if let Err(error) = sent {
            // The rewound mailbox gives it again.
            return Err(End::Lost(format!(
                "the client library takes no message: {error}"
            )));
        }
        if delivery.dup {
            if let Some(books) = self.shared.books.get(out.index) {
                books.resent.fetch_add(1, Ordering::Relaxed);
            }
        }
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

    /// PUBACK. The library ends the connection itself on one for nothing.
    pub(super) fn upstream_acknowledged(&mut self, packet_id: u16) {
        if let Ok(sent) = self.window.acknowledged(packet_id) {
            self.delivered(sent);
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
