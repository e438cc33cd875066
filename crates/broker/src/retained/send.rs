//! What becomes of retained messages: sent to new subscriptions, freed when they expire.

use std::collections::HashSet;
use std::sync::Arc;

use iotedge_model::{DropReason, Message, QoS, Source, SubscriptionIds};
use iotedge_ports::{CloseReason, ConnectionId, Delivery, RetainHandling, Subscription};
use iotedge_store::{Append, Done, TakerRow};
use iotedge_telemetry::METRICS;

use crate::Shared;
use crate::core::Core;
use crate::outbox::Push;
use crate::session::Session;

/// Whether a client published it over MQTT.
fn is_of(message: &Message, client_id: &str) -> bool {
    matches!(
        message.source,
        Source::Mqtt | Source::WebSocket | Source::Will
    ) && *message.client_id == *client_id
}

impl Shared {
    /// Retained messages for new subscriptions. For a session that outlives its connection each
    /// becomes a row of its own, under a new id so that the queue's order stays its ids' order.
    pub(crate) fn send_retained(&self, connection: ConnectionId, subscriptions: &[Subscription]) {
        let mut core = self.lock();
        let Some(key) = core.session_of(connection) else {
            return;
        };
        let mut seen = HashSet::new();
        for subscription in subscriptions {
            let wildcard = subscription.filter.filter.has_wildcard();
            if !seen.insert(&subscription.text)
                // 4.8.2: what is retained is not sent to a group.
                || subscription.filter.share.is_some()
                || (wildcard && !self.limits.retained_to_wildcards)
                || subscription.options.retain_handling == RetainHandling::DoNotSend
            {
                continue;
            }
            let own = core
                .sessions
                .get(key)
                .filter(|_| subscription.options.no_local)
                .map(|session| session.client_id.clone());
            let mut messages = core.retained.matching(&subscription.filter.filter);
            messages.extend(core.sys.matching(&subscription.filter.filter));
            for message in messages {
                if message.expiry.is_some() && message.is_expired(&self.clock.now()) {
                    continue;
                }
                // 5: [MQTT-3.8.3-3] knows no difference between what is kept and what is new.
                if own
                    .as_ref()
                    .is_some_and(|own| is_of(&message, own.as_str()))
                {
                    continue;
                }
                self.send_one_retained(&mut core, key, subscription, message);
            }
        }
    }

    fn send_one_retained(
        &self,
        core: &mut Core,
        key: usize,
        subscription: &Subscription,
        message: Arc<Message>,
    ) {
        let qos = message.qos.min(subscription.options.qos);
        let identifiers: SubscriptionIds = subscription
            .options
            .identifier
            .iter()
            .map(|i| i.get())
            .collect();
        let Some(taker) = core.sessions.get(key).map(Session::taker) else {
            return;
        };
        let durable = taker.filter(|_| qos > QoS::AtMostOnce);
        let message = match durable {
            Some(_) => Arc::new(Message {
                id: core.next_message(),
                ..(*message).clone()
            }),
            None => message,
        };
        let delivery = Delivery {
            message: message.clone(),
            qos,
            retain: true,
            dup: false,
            durable: durable.is_some(),
            share: None,
            identifiers: identifiers.clone(),
        };
        let Some(session) = core.sessions.get(key) else {
            return;
        };
        match durable {
            None => {
                let retained = core.retained.len() + core.sys.len();
                let room = retained.saturating_mul(2);
                if session.mailbox.feed.push_retained(delivery, room) == Push::Full {
                    METRICS.dropped(DropReason::SlowConsumer, 1);
                    if let Some(live) = &session.live {
                        live.handle.close(CloseReason::SlowConsumer);
                    }
                }
            }
            Some(taker) => {
                if self.is_queue_full(taker) || self.store.health().is_err() {
                    METRICS.dropped(DropReason::QueueFull, 1);
                    self.store.count_drop(taker, DropReason::QueueFull, 1);
                    return;
                }
                session.mailbox.feed.append(delivery, false);
                let mailbox = session.mailbox.clone();
                let takers = vec![TakerRow {
                    taker,
                    qos,
                    retain: true,
                    identifiers,
                }];
                let id = message.id;
                let append = Append::new(message, takers, None);
                let told = mailbox.clone();
                let done: Done = Box::new(move |outcome| told.committed(id, outcome.is_ok()));
                self.store.append(vec![append], Some(done));
                mailbox.feed.appended();
            }
        }
    }

    pub(crate) fn expire_retained(&self) {
        let now = self.clock.now();
        let mut core = self.lock();
        let gone = core.retained.expire(&now);
        // Under the lock, so that no later message of the topic is handed in before.
        for message in &gone {
            self.store.remove_retained(&message.topic, message.id, None);
        }
        drop(core);
        METRICS.dropped(DropReason::Expired, gone.len() as u64);
    }
}
