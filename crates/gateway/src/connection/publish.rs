//! PUBLISH from a client.
//!
//! What is wrong with the message and not with the packet, version 5 answers with a reason code in
//! PUBACK or PUBREC, and the connection stays. QoS 0 has no answer: there the connection is closed
//! with the same reason in DISCONNECT, as 3.1.1 does without one, so that nobody goes on publishing
//! to where nothing is taken.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{Action, DropReason, Message, MessageId, QoS, Topic, TraceId, UnixMillis};
use iotedge_mqtt::{PacketId, Publish, ReasonCode, Received};
use iotedge_ports::{DisconnectReason, Publication, PublishOutcome, Refusal};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::time::Instant;

use super::auth::Asker;
use super::end::End;
use super::pump::{Batch, PATIENCE, Pump};

/// Publications handed to the broker under one lock.
const BATCH: usize = 256;

thread_local! {
    /// Room for one batch: used between two waits, so that no connection needs its own.
    static BATCHES: Cell<Option<Box<Batch>>> = const { Cell::new(None) };
}

/// Why a message is not taken.
struct Objection {
    what: String,
    /// In DISCONNECT.
    code: ReasonCode,
    /// In PUBACK or PUBREC; `None` where the connection ends whatever the QoS.
    ack: Option<ReasonCode>,
    /// The policies say no.
    denied: bool,
}

impl Objection {
    fn new(what: String, code: ReasonCode, ack: Option<ReasonCode>) -> Self {
        Self {
            what,
            code,
            ack,
            denied: false,
        }
    }
}

impl Pump {
    pub(super) fn publish(&mut self, publish: Publish) -> Result<(), End> {
        let topic = self.topic_of(&publish)?;
        if self.is_throttled() {
            return self.throttle(&publish);
        }
        let token = match publish.packet_id {
            None => None,
            Some(id) => match self.note_id(id, publish.qos)? {
                None => return Ok(()),
                token => token,
            },
        };
        if let Err(objection) = self.check_publish(&publish, &topic) {
            return self.object(&publish, token, objection);
        }
        let token = token.map(|token| (token, publish.payload.len()));
        // A copy of its own: a few bytes must not hold a whole read in memory.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let properties = publish.properties.map(|p| *p).unwrap_or_default();
        let message = Message {
            id: MessageId(0),
            trace: TraceId(0),
            hops: 0,
            principal: self.peer.principal.clone(),
            client_id: self.client_id.shared(),
            source_ip: self.peer.remote.ip(),
            source: self.peer.source(),
            topic,
            payload,
            qos: publish.qos,
            retain: publish.retain,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: self
                .context
                .limits
                .message_expiry(properties.message_expiry),
            properties: properties.message,
        };
        let ack = token.map(|(token, _)| (self.handle.clone() as Arc<_>, token));
        let mut publication = Publication::new(message, ack);
        publication.connection = Some(self.connection);
        publication.inbound = publish
            .packet_id
            .filter(|_| publish.qos == QoS::ExactlyOnce);
        let batch = self
            .batch
            .get_or_insert_with(|| BATCHES.take().unwrap_or_default());
        batch.publications.push(publication);
        batch.tokens.push(token);
        batch.bytes += token.map_or(0, |(_, bytes)| bytes);
        if batch.publications.len() >= BATCH {
            self.flush_batch()
        } else {
            Ok(())
        }
    }

    /// The token of its acknowledgement; `None` for a QoS 2 message that was taken before.
    fn note_id(&mut self, id: PacketId, qos: QoS) -> Result<Option<u64>, End> {
        if self.inbound.unanswered() >= self.receive_maximum as usize {
            // 5: 3.3.4
            let what = "more publishes without their last answer than the receive maximum";
            return Err(self.protocol_error(what, ReasonCode::ReceiveMaximumExceeded));
        }
        Ok(match self.inbound.received(id, qos) {
            Received::New(token) => Some(token),
            Received::Duplicate => {
                self.send_acks();
                None
            }
            // Nothing is read while the window is full.
            Received::Full => None,
        })
    }

    /// The client may use a packet id again ([MQTT-4.3.3-2]).
    pub(super) fn pubrel(&mut self, id: PacketId) {
        let Some(token) = self.inbound.pubrel(id) else {
            // Nothing is read while the window is full.
            return;
        };
        let ack = (self.handle.clone() as Arc<_>, token);
        if !self.mailbox.release(id, Some(ack)) {
            self.inbound.ready(token);
            self.send_acks();
        }
    }

    /// By its name or its alias.
    fn topic_of(&mut self, publish: &Publish) -> Result<Topic, End> {
        let text = publish.topic.as_str();
        let alias = publish.properties.as_deref().and_then(|p| p.topic_alias);
        let Some(alias) = alias else {
            return self.topic(text);
        };
        let most = self.context.limits.max_topic_alias;
        if alias.get() > most {
            let what = format!("topic alias {alias}, more than the maximum of {most}");
            return Err(self.protocol_error(&what, ReasonCode::TopicAliasInvalid));
        }
        if text.is_empty() {
            return match self.aliases_in().get(alias) {
                Some(topic) => Ok(topic.clone()),
                None => {
                    let what = format!("topic alias {alias} stands for no topic");
                    Err(self.protocol_error(&what, ReasonCode::ProtocolError))
                }
            };
        }
        let topic = self.topic(text)?;
        self.aliases_in().set(alias, topic.clone());
        Ok(topic)
    }

    /// The topic, shared with the message before where it is the same.
    fn topic(&mut self, text: &str) -> Result<Topic, End> {
        let last = self
            .batch
            .as_ref()
            .and_then(|batch| batch.publications.last())
            .and_then(|p| p.message.as_ref())
            .map(|m| &m.topic);
        match last {
            Some(topic) if topic.as_str() == text => Ok(topic.clone()),
            _ => Topic::new(text).map_err(|error| {
                self.protocol_error(&error.to_string(), ReasonCode::TopicNameInvalid)
            }),
        }
    }

    fn check_publish(&mut self, publish: &Publish, topic: &Topic) -> Result<(), Objection> {
        let limits = &self.context.limits;
        let name = ReasonCode::TopicNameInvalid;
        // Where the standard refuses one message, AWS IoT Core ends the connection.
        let alone = |code| (!limits.is_aws()).then_some(code);
        if publish.qos > limits.max_qos {
            let what = format!(
                "a publish of QoS {}, more than max_qos ({})",
                u8::from(publish.qos),
                u8::from(limits.max_qos)
            );
            return Err(Objection::new(what, ReasonCode::QosNotSupported, None));
        }
        if publish.retain && !limits.retain_available {
            let what = "a retained message, and broker.retain_available is false".into();
            return Err(Objection::new(what, ReasonCode::RetainNotSupported, None));
        }
        if !limits.may_publish(topic) {
            let what = format!("clients may not publish to the reserved topic {topic:?}");
            let code = if limits.is_aws() {
                name
            } else {
                ReasonCode::NotAuthorized
            };
            return Err(Objection::new(what, code, alone(code)));
        }
        if publish.retain && limits.is_reserved(topic) {
            let what = format!("nothing is retained on the reserved topic {topic:?}");
            return Err(Objection::new(what, name, alone(name)));
        }
        if let Some(excess) = limits.topic_excess(topic.as_str()) {
            return Err(Objection::new(excess, name, alone(name)));
        }
        if let Some(excess) = limits.payload_excess(publish.payload.len()) {
            let quota = ReasonCode::QuotaExceeded;
            let code = if limits.is_aws() {
                quota
            } else {
                ReasonCode::PacketTooLarge
            };
            return Err(Objection::new(excess, code, alone(quota)));
        }
        let asker = Asker::new(&self.context, &self.peer, &self.client_id);
        let action = if !self.decisions.may_publish(asker, topic) {
            Action::Publish
        } else if publish.retain && !asker.ask(Action::RetainPublish, topic.as_str()) {
            Action::RetainPublish
        } else {
            return Ok(());
        };
        let denied = ReasonCode::NotAuthorized;
        Err(Objection {
            denied: true,
            ..Objection::new(format!("{action} is denied"), denied, Some(denied))
        })
    }

    /// Says no in the way that the version and the QoS have for it.
    fn object(
        &mut self,
        publish: &Publish,
        token: Option<u64>,
        objection: Objection,
    ) -> Result<(), End> {
        let metric = if objection.denied {
            Metric::PublishInAuthError
        } else {
            Metric::PublishInClientError
        };
        METRICS.count(metric, self.peer.protocol);
        if let (true, Some(token), Some(code)) = (self.terms.is_v5(), token, objection.ack) {
            self.log_refusal(code, &objection.what);
            self.say_no(publish, token, code, &objection.what);
            return Ok(());
        }
        Err(if objection.denied {
            // As AWS IoT does; 3.1.1 has no way to say no ([MQTT-3.3.5-2]).
            self.explain_end(objection.what);
            End::lost(DisconnectReason::AuthError, objection.code)
        } else {
            self.protocol_error(&objection.what, objection.code)
        })
    }

    /// Whether it is one publish more than the second has room for; counts it.
    fn is_throttled(&mut self) -> bool {
        let Some(window) = self.rates.as_mut().and_then(|r| r.publishes.as_mut()) else {
            return false;
        };
        let now = Instant::now();
        // Where publishes wait, this one has waited.
        let throttled = self.context.limits.is_aws() && window.left(now) == 0;
        if !throttled {
            window.take(1, now);
        }
        throttled
    }

    /// "Publish requests that exceed that quota are discarded": without an acknowledgement in
    /// 3.1.1, which has none that says no.
    fn throttle(&mut self, publish: &Publish) -> Result<(), End> {
        METRICS.count(Metric::PublishInThrottle, self.peer.protocol);
        METRICS.dropped(DropReason::Throttled, 1);
        let what = "more publishes in a second than broker.max_publish_rate";
        let code = ReasonCode::QuotaExceeded;
        self.log_refusal(code, what);
        if let (true, Some(id)) = (self.terms.is_v5(), publish.packet_id) {
            if let Some(token) = self.note_id(id, publish.qos)? {
                self.say_no(publish, token, code, what);
            }
        }
        Ok(())
    }

    /// One message is refused in its acknowledgement.
    fn say_no(&mut self, publish: &Publish, token: u64, code: ReasonCode, what: &str) {
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) {
            // Taken on a connection before this one, it is not any more: the id is free.
            self.mailbox.release(id, None);
        }
        self.refuse(token, code, what);
        self.send_acks();
    }

    fn log_refusal(&self, code: ReasonCode, what: &str) {
        tracing::warn!(
            event = event::PUBLISH_IN,
            client_id = %self.client_id,
            principal_id = %self.peer.principal,
            trace_id = %self.peer.trace,
            "a publish was refused with {code}: {what}"
        );
    }

    /// Publishes what has been collected, in order.
    pub(super) fn flush_batch(&mut self) -> Result<(), End> {
        let Some(mut batch) = self.batch.take() else {
            return Ok(());
        };
        batch.bytes = 0;
        self.context.broker.publish(&mut batch.publications);
        let (mut refused, mut accepted) = (None, 0);
        let Batch {
            publications,
            tokens,
            ..
        } = &mut *batch;
        for (publication, token) in publications.drain(..).zip(tokens.drain(..)) {
            if let Some(pressure) = publication.pressure {
                self.pressed = Some(Box::new((pressure, Instant::now() + PATIENCE)));
            }
            match (publication.outcome, token) {
                (PublishOutcome::Done { matched }, token) => {
                    accepted += 1;
                    if let Some((token, _)) = token {
                        self.taken(token, matched);
                    }
                }
                (PublishOutcome::Pending, token) => {
                    accepted += 1;
                    if let Some((token, bytes)) = token {
                        self.inbound.hold(token, bytes);
                    }
                }
                (PublishOutcome::Refused(reason), token) => {
                    METRICS.count(Metric::PublishInServerError, self.peer.protocol);
                    if let Some((token, _)) = token {
                        if !self.refuse_alone(token, reason) {
                            refused = Some(reason);
                        }
                    }
                }
            }
        }
        BATCHES.set(Some(batch));
        METRICS.add(Metric::PublishInSuccess, self.peer.protocol, accepted);
        self.send_acks();
        match refused {
            None => Ok(()),
            Some(reason) => Err(self.refused(reason)),
        }
    }

    fn taken(&mut self, token: u64, matched: bool) {
        // AWS IoT Core has no reason codes of success beside 0.
        if self.terms.is_v5() && !matched && !self.context.limits.is_aws() {
            self.inbound
                .ready_with(token, ReasonCode::NoMatchingSubscribers);
        } else {
            self.inbound.ready(token);
        }
    }

    /// Version 5 refuses one message and goes on; `false` where the connection has to end.
    fn refuse_alone(&mut self, token: u64, reason: Refusal) -> bool {
        let code = match reason {
            Refusal::QuotaExceeded | Refusal::TooLarge => ReasonCode::QuotaExceeded,
            Refusal::StoreUnavailable => ReasonCode::ImplementationSpecificError,
            Refusal::Stopping | Refusal::Detached => return false,
        };
        if !self.terms.is_v5() {
            return false;
        }
        let what = refusal(reason).1;
        self.log_refusal(code, what);
        self.refuse(token, code, what);
        true
    }

    /// 3.1.1 has no negative acknowledgement (decision 5): closed, and sent again later.
    fn refused(&self, reason: Refusal) -> End {
        let (reason, what, code) = refusal(reason);
        tracing::warn!(
            event = event::PUBLISH_IN,
            client_id = %self.client_id,
            principal_id = %self.peer.principal,
            trace_id = %self.peer.trace,
            "a publish was refused and the connection closed without PUBACK: {what}"
        );
        End::lost(reason, code)
    }
}

fn refusal(reason: Refusal) -> (DisconnectReason, &'static str, ReasonCode) {
    match reason {
        Refusal::QuotaExceeded | Refusal::TooLarge => (
            DisconnectReason::QuotaExceeded,
            "a queue that it is bound for, or what can be retained, is at its limit",
            ReasonCode::QuotaExceeded,
        ),
        Refusal::StoreUnavailable => (
            DisconnectReason::StoreUnavailable,
            "the store takes nothing",
            ReasonCode::ImplementationSpecificError,
        ),
        Refusal::Stopping => (
            DisconnectReason::ShuttingDown,
            "the gateway stops",
            ReasonCode::ServerShuttingDown,
        ),
        Refusal::Detached => (
            DisconnectReason::DuplicateClientId,
            "its session was taken over",
            ReasonCode::SessionTakenOver,
        ),
    }
}
