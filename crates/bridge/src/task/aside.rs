//! Messages that wait beside the others because connections were lost over them, or over one of their
//! topic.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use iotedge_ports::{Delivery, DrainLimit, DrainState};

use super::suspect::{Face, Key};
use super::{End, Task};
use crate::uplink::Connection;

/// How many wait at most, and their bytes; those behind them wait in the store then.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;
/// How many are taken out at once to find one that has to be examined.
const PORTION: usize = 32;

/// What is out of the mailboxes and not in flight.
#[derive(Default)]
pub(super) struct Aside {
    /// Not to be sent now, in the order of the mailboxes.
    held: VecDeque<(usize, Delivery)>,
    bytes: usize,
    /// To be sent before anything else.
    released: VecDeque<(usize, Delivery)>,
}

/// How a message is known again.
pub(super) fn face(route: usize, delivery: &Delivery) -> Face {
    Face {
        key: (route, delivery.message.id),
        topic: delivery.message.topic.to_string(),
    }
}

impl Aside {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether no more of this route can wait here.
    pub(super) fn is_full_of(&self, route: usize) -> bool {
        let full = self.held.len() >= MOST || self.bytes >= MOST_BYTES;
        full && self.held.iter().any(|(at, _)| *at == route)
    }

    fn hold(&mut self, route: usize, delivery: Delivery) {
        self.bytes += delivery.message.cost();
        self.held.push_back((route, delivery));
    }

    fn take(&mut self, key: Key) -> Option<Delivery> {
        let is = |(route, delivery): &(usize, Delivery)| (*route, delivery.message.id) == key;
        let (_, delivery) = self.held.remove(self.held.iter().position(is)?)?;
        self.bytes -= delivery.message.cost();
        Some(delivery)
    }

    /// Those of its route and topic may go.
    pub(super) fn release(&mut self, face: &Face) {
        for (route, delivery) in std::mem::take(&mut self.held) {
            if route == face.key.0 && delivery.message.topic.as_str() == face.topic {
                self.bytes -= delivery.message.cost();
                self.released.push_back((route, delivery));
            } else {
                self.held.push_back((route, delivery));
            }
        }
    }
}

impl Task {
    /// Whether others may go. One that has to be examined goes alone: on a fresh connection, behind
    /// a round trip.
    pub(super) fn examine(&mut self, connection: &mut dyn Connection) -> Result<bool, End> {
        if self.suspects.is_empty() {
            return Ok(true);
        }
        if self.suspects.is_examining() {
            return Ok(false);
        }
        let Some(key) = self.suspects.due(self.now().mono) else {
            return Ok(true);
        };
        // SUBACK first: a connection that a subscription ends is not this message's doing.
        if !self.window.is_empty() || self.subscribing.is_some() {
            return Ok(false);
        }
        if !self.suspects.is_fresh() {
            return Err(End::Desired);
        }
        match self.suspects.trip() {
            Some(true) => self.send_alone(connection, key),
            Some(false) => Ok(false),
            None => {
                if self.liveness.asks(tokio::time::Instant::now()) {
                    connection.ping();
                }
                Ok(false)
            }
        }
    }

    fn send_alone(&mut self, connection: &mut dyn Connection, key: Key) -> Result<bool, End> {
        let found = self.aside.take(key);
        let Some(delivery) = found.or_else(|| self.look_for(key)) else {
            return Ok(!self.stalled);
        };
        let face = face(key.0, &delivery);
        tracing::warn!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            topic = face.topic,
            bytes = delivery.message.payload.len(),
            "connections were lost over a message: it goes alone"
        );
        self.suspects.examine(key);
        self.send_one(connection, key.0, delivery)?;
        if self.window.is_empty() {
            // It is gone in another way.
            self.acquit(&face);
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes deliveries out of its mailbox until it comes; the others go when it is done. `None`: it
    /// is not to be sent now.
    fn look_for(&mut self, key: Key) -> Option<Delivery> {
        while self.aside.released.len() < MOST && self.suspects.is_open(key) {
            let out = self.out.get(key.0)?;
            out.ready.store(false, Ordering::Release);
            let mut drained = Vec::new();
            let limit = DrainLimit {
                messages: PORTION,
                bytes: MOST_BYTES,
            };
            let state = out.mailbox.drain(limit, &mut drained);
            if state == DrainState::More {
                out.ready.store(true, Ordering::Release);
            }
            let none = drained.is_empty();
            for delivery in drained {
                if let Some(delivery) = self.keep_aside(key.0, delivery) {
                    self.aside.released.push_back((key.0, delivery));
                }
            }
            let found = self.aside.take(key);
            if found.is_some() {
                return found;
            }
            self.stalled = none && state == DrainState::More;
            if self.stalled {
                return None;
            }
            if state == DrainState::Empty {
                // It has left the queue in another way.
                if let Some(topic) = self.suspects.close(key) {
                    self.aside.release(&Face { key, topic });
                }
            }
        }
        self.suspects.postpone(key, self.now().mono);
        None
    }

    /// `None`: a delivery waits beside the others, or is a dead letter.
    pub(super) fn keep_aside(&mut self, route: usize, delivery: Delivery) -> Option<Delivery> {
        if self.suspects.is_empty() || !delivery.durable {
            return Some(delivery);
        }
        let face = face(route, &delivery);
        if let Some(why) = self.suspects.verdict(face.key) {
            tracing::error!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = self.shared.config.name,
                topic = face.topic,
                bytes = delivery.message.payload.len(),
                why,
                "a message is kept aside as a dead letter"
            );
            self.out.get(route)?.mailbox.bury(&[delivery], &why);
            self.suspects.gave_up(face.key, self.now().mono);
            return None;
        }
        if self.suspects.keeps(&face) {
            self.aside.hold(route, delivery);
            return None;
        }
        Some(delivery)
    }

    /// A suspect is innocent, or gone.
    pub(super) fn acquit(&mut self, face: &Face) {
        if self.suspects.close(face.key).is_some() {
            self.aside.release(face);
        }
    }

    /// Sends what need not wait any more; whether all of it went.
    pub(super) fn send_released(&mut self, connection: &mut dyn Connection) -> Result<bool, End> {
        while self.has_room() {
            let Some((route, delivery)) = self.aside.released.pop_front() else {
                return Ok(true);
            };
            let size = self.send_one(connection, route, delivery)?;
            self.schedule.spent(route, size);
        }
        Ok(self.aside.released.is_empty())
    }
}
