//! From the upstream into the local broker.

use std::sync::Arc;

use iotedge_model::{DropReason, Message, MessageId, QoS, TraceId, UnixMillis};
use iotedge_ports::{AckSink, Failure, Pressure, Publication, PublishOutcome, Refusal, Wake};
use tokio::sync::Notify;

use super::{End, Task, carry};
use crate::Version;
use crate::inbound::Receipt;
use crate::uplink::{Connection, Incoming, MAX_ACKS};

/// Messages that the local broker refused and that wait for the next try.
const MAX_BLOCKED: usize = 1000;
/// Their bytes.
const MAX_BLOCKED_BYTES: usize = 8 << 20;
/// How often the log says that the same message is refused, in milliseconds.
const SAID: u64 = 10 * 60 * 1000;
/// How long a taker that does not keep up is waited for, in milliseconds. One that stalls bears what
/// follows: local publishers wait as long.
const PATIENCE: u64 = 500;

/// A message that the local broker did not take yet.
pub(crate) struct Blocked {
    route: usize,
    token: u64,
    message: Message,
}

/// How far the local broker takes what comes in.
pub(crate) struct Intake {
    /// A taker that does not keep up, and when it is waited for no more.
    pressed: Option<(Arc<dyn Pressure>, u64)>,
    wake: Arc<dyn Wake>,
    /// When the log has said last that a message is refused. Connections that are lost meanwhile do
    /// not change it.
    said: Option<u64>,
}

impl Intake {
    pub(crate) fn new(notify: Arc<Notify>) -> Self {
        Self {
            pressed: None,
            wake: Arc::new(Relief(notify)),
            said: None,
        }
    }
}

/// The taker has room again.
struct Relief(Arc<Notify>);

impl Wake for Relief {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl Task {
    pub(super) fn receive(&mut self, publish: Incoming) -> Result<(), End> {
        let shared = self.shared.clone();
        let found = self
            .incoming
            .iter()
            .find(|(_, filter)| filter.matches(&publish.topic))
            .and_then(|(at, _)| Some((*at, shared.config.routes.get(*at)?)));
        let Some((route, rules)) = found else {
            if self
                .shared
                .peering
                .received(&publish.topic, &publish.payload)
            {
                self.skip(&publish);
                return Ok(());
            }
            // A subscription of an earlier configuration that the session upstream still has.
            self.pass_over(&publish, "it belongs to no route");
            return Ok(());
        };
        if let Some(echo) = self.is_own(&publish) {
            self.count_drop(route, DropReason::Loop);
            self.skip(&publish);
            tracing::debug!(topic = publish.topic, echo, "an inbound message is our own");
            return Ok(());
        }
        if publish.retain && !rules.rules.send_retained && self.shared.config.version == Version::V3
        {
            // What a 3.1.1 server marks so was there before the subscription (3.3.1.3).
            self.skip(&publish);
            return Ok(());
        }
        let most = self.shared.config.max_packet_bytes;
        let size = publish.topic.len() + publish.payload.len() + 9;
        let taken = (size <= most).then(|| carry::incoming(&shared.config, rules, &publish));
        let Some(taken) = taken.flatten() else {
            self.count_drop(route, DropReason::TooLarge);
            self.pass_over(&publish, "it is larger than max_packet_bytes");
            return Ok(());
        };
        let Ok(topic) = rules.map(&publish.topic, "") else {
            self.count_drop(route, DropReason::BadTopic);
            self.pass_over(&publish, "its topic has no valid name here");
            return Ok(());
        };
        if self.is_outdated(&publish, &topic, &taken.payload) {
            self.count_drop(route, DropReason::Loop);
            self.skip(&publish);
            tracing::debug!(
                topic = publish.topic,
                "an upstream's retained message is no newer than what is here"
            );
            return Ok(());
        }
        let trace = (u128::from(self.dice()) << 64) | u128::from(self.dice());
        let message = Message {
            id: MessageId(0),
            trace: TraceId(trace),
            hops: 0,
            principal: self.principal.clone(),
            client_id: Arc::from(""),
            source_ip: None,
            source: self.source.clone(),
            topic,
            payload: taken.payload,
            qos: taken.qos,
            retain: taken.retain,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: publish.expiry,
            properties: taken.properties,
        };
        if publish.qos == QoS::AtMostOnce {
            self.accept_qos0(route, message);
            return Ok(());
        }
        let token = self.inbound.push(route, cost(&message), receipt(&publish));
        let blocked = Blocked {
            route,
            token,
            message,
        };
        if !self.blocked.is_empty() || self.is_pressed() {
            return self.block(blocked);
        }
        match self.accept(&blocked) {
            Ok(()) => Ok(()),
            Err(Refusal::TooLarge) => {
                self.give_up(&blocked);
                Ok(())
            }
            Err(_) => self.block(blocked),
        }
    }

    /// Whether a taker of what came in does not keep up, and is waited for.
    fn is_pressed(&mut self) -> bool {
        let now = self.now().mono;
        let Some((pressure, until)) = &self.intake.pressed else {
            return false;
        };
        if !pressure.relieved_or_wake(&self.intake.wake) {
            if now < *until {
                return true;
            }
            pressure.give_up();
        }
        self.intake.pressed = None;
        false
    }

    /// Acknowledged in its place, for nothing.
    fn pass_over(&mut self, publish: &Incoming, reason: &str) {
        tracing::warn!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            topic = publish.topic,
            bytes = publish.payload.len(),
            reason,
            "an inbound message is passed over"
        );
        self.skip(publish);
    }

    fn skip(&mut self, publish: &Incoming) {
        if publish.qos != QoS::AtMostOnce {
            let token = self.inbound.push(usize::MAX, 0, receipt(publish));
            self.inbound.settle(token, Ok(()));
        }
    }

    /// What says that it is one of our own messages, where something does.
    fn is_own(&mut self, publish: &Incoming) -> Option<&'static str> {
        let config = &self.shared.config;
        let signed = publish.properties.as_ref();
        let id = &config.gateway_id;
        if !id.is_empty() && signed.is_some_and(|p| p.came_by(id)) {
            return Some("it has come by here");
        }
        if config.version == Version::V5 || publish.retain {
            // What a 3.1.1 server marks as retained comes of a subscription, and is no echo.
            return None;
        }
        let now = self.clock.now().mono;
        let echo = self.echoes.is_echo(&publish.topic, &publish.payload, now);
        echo.then_some("we have sent it")
    }

    fn count_drop(&self, route: usize, reason: DropReason) {
        if let Some(books) = self.shared.books.get(route) {
            books.dropped(reason);
        }
    }

    fn accept_qos0(&mut self, route: usize, message: Message) {
        let bytes = cost(&message);
        // Behind what is blocked it may not overtake.
        let outcome = if self.blocked.is_empty() {
            let mut batch = [Publication::new(message, None)];
            self.broker.publish(&mut batch);
            let [publication] = batch;
            publication.outcome
        } else {
            PublishOutcome::Refused(Refusal::QuotaExceeded)
        };
        let Some(books) = self.shared.books.get(route) else {
            return;
        };
        match outcome {
            PublishOutcome::Done { .. } | PublishOutcome::Pending => {
                books.pending(bytes);
                books.settled(bytes, true);
            }
            PublishOutcome::Refused(Refusal::StoreUnavailable) => {
                books.dropped(DropReason::StoreFull);
            }
            PublishOutcome::Refused(Refusal::TooLarge) => books.dropped(DropReason::TooLarge),
            PublishOutcome::Refused(_) => books.dropped(DropReason::QueueFull),
        }
    }

    /// Hands a message to the broker.
    fn accept(&mut self, blocked: &Blocked) -> Result<(), Refusal> {
        let sink: Arc<dyn AckSink> = self.sink.clone();
        let ack = Some((sink, blocked.token));
        let mut batch = [Publication::new(blocked.message.clone(), ack)];
        // Before the call: the answer may come during it.
        let bytes = cost(&blocked.message);
        if let Some(books) = self.shared.books.get(blocked.route) {
            books.pending(bytes);
        }
        self.broker.publish(&mut batch);
        let [publication] = batch;
        if let Some(pressure) = publication.pressure {
            let until = self.now().mono.saturating_add(PATIENCE);
            self.intake.pressed = Some((pressure, until));
        }
        match publication.outcome {
            PublishOutcome::Pending => Ok(()),
            PublishOutcome::Done { .. } => {
                self.settle(blocked.token, Ok(()));
                Ok(())
            }
            PublishOutcome::Refused(refusal) => {
                if let Some(books) = self.shared.books.get(blocked.route) {
                    books.settled(bytes, false);
                }
                Err(refusal)
            }
        }
    }

    fn block(&mut self, blocked: Blocked) -> Result<(), End> {
        self.blocked_bytes += blocked.message.cost();
        self.blocked.push_back(blocked);
        if self.blocked.len() > MAX_BLOCKED || self.blocked_bytes > MAX_BLOCKED_BYTES {
            return Err(End::Held(
                "the local broker takes no messages: the upstream keeps them".into(),
            ));
        }
        Ok(())
    }

    /// Tries again what the broker refused, in order.
    pub(super) fn retry_blocked(&mut self) -> Result<(), End> {
        while !self.is_pressed() {
            let Some(blocked) = self.blocked.pop_front() else {
                break;
            };
            match self.accept(&blocked) {
                Ok(()) => self.intake.said = None,
                Err(Refusal::TooLarge) => self.give_up(&blocked),
                Err(refusal) => {
                    self.say_refused(&blocked, refusal);
                    self.blocked.push_front(blocked);
                    return Ok(());
                }
            }
            self.blocked_bytes -= blocked.message.cost();
        }
        Ok(())
    }

    /// Nothing that comes in is taken before this one is: the upstream keeps it.
    fn say_refused(&mut self, blocked: &Blocked, refusal: Refusal) {
        let now = self.now().mono;
        let said = self.intake.said;
        if said.is_some_and(|said| now.saturating_sub(said) < SAID) {
            return;
        }
        self.intake.said = Some(now);
        tracing::warn!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            topic = blocked.message.topic.as_str(),
            ?refusal,
            "what comes in waits upstream: the local broker refuses this message"
        );
    }

    /// Acknowledged upstream, so that it does not come again.
    fn give_up(&mut self, blocked: &Blocked) {
        tracing::error!(
            event = iotedge_telemetry::event::UPSTREAM,
            upstream = self.shared.config.name,
            topic = blocked.message.topic.as_str(),
            bytes = blocked.message.payload.len(),
            "an inbound message is dropped: it is larger than all that a queue it is bound for may hold"
        );
        self.count_drop(blocked.route, DropReason::TooLarge);
        self.inbound.settle(blocked.token, Ok(()));
    }

    /// The upstream sends these again on the next connection.
    pub(super) fn forget_blocked(&mut self) {
        for blocked in std::mem::take(&mut self.blocked) {
            self.inbound.settle(blocked.token, Err(Failure::Abandoned));
        }
        self.blocked_bytes = 0;
    }

    /// Takes the broker's answers.
    pub(super) fn settle_inbound(&mut self) -> Result<(), End> {
        let mut failed = false;
        // All of them: no answer comes a second time.
        for (token, outcome) in self.sink.take() {
            let current = self.settle(token, outcome);
            failed |= current && outcome.is_err();
        }
        if failed {
            return Err(End::Held(
                "the store could not take an inbound message".into(),
            ));
        }
        Ok(())
    }

    fn settle(&mut self, token: u64, outcome: Result<(), Failure>) -> bool {
        let Some(ended) = self.inbound.settle(token, outcome) else {
            return false;
        };
        if let Some(books) = self.shared.books.get(ended.route) {
            books.settled(ended.bytes, outcome.is_ok());
        }
        ended.current
    }

    /// Acknowledges upstream what is durable here, in the order of receipt.
    pub(super) fn acknowledge_inbound(
        &mut self,
        connection: &mut dyn Connection,
    ) -> Result<(), End> {
        while self.acks_queued < MAX_ACKS {
            let Some(receipt) = self.inbound.ready() else {
                return Ok(());
            };
            connection
                .acknowledge(receipt.packet_id, receipt.qos)
                .map_err(|ended| self.failed(ended))?;
            self.acks_queued += 1;
            self.inbound.sent();
        }
        Ok(())
    }
}

fn receipt(publish: &Incoming) -> Receipt {
    Receipt {
        packet_id: publish.packet_id,
        qos: publish.qos,
    }
}

fn cost(message: &Message) -> u64 {
    u64::try_from(message.cost()).unwrap_or(u64::MAX)
}
