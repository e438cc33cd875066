//! A session's queue: packet ids and the in-flight window.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_model::{DropReason, QoS};
use iotedge_mqtt::Outbound;
use iotedge_ports::{Delivery, DrainLimit, DrainState, Outgoing, Pressure, SessionMailbox, Wake};
use iotedge_store::TakerId;
use iotedge_telemetry::METRICS;

use super::{Env, feed::Feed};

/// Outlives connections.
pub(crate) struct SessionBox {
    pub(crate) feed: Feed,
    flight: Mutex<Flight>,
}

struct Flight {
    window: Outbound<Delivery>,
    /// What the window holds in memory.
    bytes: usize,
    /// To be sent again before anything else.
    resend: VecDeque<Delivered>,
    /// How many the attached connection takes at once.
    receive_maximum: u16,
}

/// A delivery with its packet id.
type Delivered = (NonZeroU16, Delivery);

impl Flight {
    /// How many more may be in flight: none while what is there holds too much memory.
    fn free(&self, max_bytes: usize) -> usize {
        if self.bytes >= max_bytes {
            0
        } else {
            self.window.free().min(self.client_free())
        }
    }

    /// How many more the connection takes: what is to be sent again has not been sent on it.
    fn client_free(&self) -> usize {
        let sent = self.window.len().saturating_sub(self.resend.len());
        usize::from(self.receive_maximum).saturating_sub(sent)
    }

    fn settle(&mut self, delivery: Option<Delivery>) -> Option<Delivery> {
        if let Some(delivery) = &delivery {
            self.bytes = self.bytes.saturating_sub(delivery.message.cost());
        }
        delivery
    }
}

impl SessionBox {
    pub(crate) fn new(
        env: Arc<Env>,
        taker: Option<TakerId>,
        max_inflight: u16,
        caught_up: bool,
    ) -> Self {
        Self {
            feed: Feed::new(env, taker, caught_up),
            flight: Mutex::new(Flight {
                window: Outbound::new(max_inflight),
                bytes: 0,
                resend: VecDeque::new(),
                receive_maximum: u16::MAX,
            }),
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection comes: what is in flight is sent again, in order ([MQTT-4.4.0-1]).
    pub(crate) fn attach(
        self: &Arc<Self>,
        wake: Arc<dyn Wake>,
        receive_maximum: NonZeroU16,
    ) -> Attached {
        let mut flight = self.flight();
        flight.receive_maximum = receive_maximum.get();
        flight.resend = flight
            .window
            .iter()
            .map(|sent| {
                let delivery = Delivery {
                    dup: true,
                    ..sent.item.clone()
                };
                (sent.packet_id, delivery)
            })
            .collect();
        Attached {
            epoch: self.feed.attach(wake),
            session: self.clone(),
        }
    }
}

impl Pressure for SessionBox {
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool {
        self.feed.relieved_or_wake(waiter)
    }

    fn give_up(&self) {
        self.feed.give_up();
    }
}

/// The session as one connection sees it.
pub(crate) struct Attached {
    epoch: u64,
    session: Arc<SessionBox>,
}

impl Attached {
    fn is_over(&self) -> bool {
        self.session.feed.lock().epoch != self.epoch
    }

    fn outgoing(&self, packet_id: Option<NonZeroU16>, delivery: Delivery) -> Outgoing {
        let message = &delivery.message;
        let now = || self.session.feed.env.clock.now();
        Outgoing {
            packet_id,
            expiry: message
                .expiry
                .and_then(|_| message.remaining_expiry(&now())),
            delivery,
        }
    }
}

impl SessionMailbox for Attached {
    fn drain(&self, limit: DrainLimit, out: &mut Vec<Outgoing>) -> DrainState {
        let session = &self.session;
        let mut limit = limit;
        let mut flight = session.flight();
        if self.is_over() {
            return DrainState::Empty;
        }
        while limit.messages > 0 && limit.bytes > 0 && flight.client_free() > 0 {
            let Some((id, delivery)) = flight.resend.pop_front() else {
                break;
            };
            limit.bytes = limit.bytes.saturating_sub(delivery.message.cost());
            out.push(self.outgoing(Some(id), delivery));
            limit.messages -= 1;
        }
        if !flight.resend.is_empty() && flight.client_free() > 0 {
            return DrainState::More;
        }
        let mut taken = Vec::new();
        let state = session.feed.take(
            self.epoch,
            limit,
            flight.free(session.feed.env.max_bytes),
            &mut taken,
        );
        for delivery in taken {
            let packet_id = match delivery.qos {
                QoS::AtMostOnce => None,
                qos => match flight.window.push(qos, delivery.clone()) {
                    Some(id) => {
                        flight.bytes += delivery.message.cost();
                        Some(id)
                    }
                    None => {
                        // The window had room when it was asked; a row is found again at a restart.
                        tracing::error!("the in-flight window had no packet id left");
                        continue;
                    }
                },
            };
            out.push(self.outgoing(packet_id, delivery));
        }
        state.unwrap_or(DrainState::Empty)
    }

    fn puback(&self, packet_id: NonZeroU16) -> bool {
        if self.is_over() {
            return false;
        }
        let delivery = {
            let mut flight = self.session.flight();
            if !flight.resend.is_empty() {
                flight.resend.retain(|(id, _)| *id != packet_id);
            }
            let delivery = flight.window.puback(packet_id);
            flight.settle(delivery)
        };
        let Some(delivery) = delivery else {
            return false;
        };
        if let (true, Some(taker)) = (delivery.durable, self.session.feed.taker) {
            self.session
                .feed
                .env
                .store
                .acknowledge(taker, &[delivery.message.id]);
        }
        true
    }

    fn discard(&self, outgoing: &Outgoing, reason: DropReason) {
        match outgoing.packet_id {
            Some(id) if !self.is_over() => {
                let delivery = {
                    let mut flight = self.session.flight();
                    let delivery = flight.window.forget(id);
                    flight.settle(delivery)
                };
                if let Some(delivery) = delivery {
                    self.session.feed.drop_one(&delivery, reason);
                }
            }
            Some(_) => {}
            None => METRICS.dropped(reason, 1),
        }
    }
}
