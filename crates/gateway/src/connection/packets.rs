//! What each packet does.

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{
    Action, Message, MessageId, Protocol, QoS, SharedFilter, Source, Topic, TraceId, UnixMillis,
    reserved,
};
use iotedge_mqtt::{Packet, Publish, Received, SubAck, SubAckCode, Subscribe, Unsubscribe};
use iotedge_ports::{
    EndKind, Publication, PublishOutcome, Refusal, SubscribeOptions, Subscription,
};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::time::Instant;

use super::pump::{Answer, End, PATIENCE, Pump, suback};

/// Filters of one SUBSCRIBE; AWS IoT takes 8.
const MAX_FILTERS: usize = 1_000;
/// Publications handed to the broker under one lock.
const BATCH: usize = 256;

impl Pump {
    pub(super) fn packet(&mut self, packet: Packet) -> Result<(), End> {
        if !matches!(packet, Packet::Publish(_)) {
            // Everything else comes after what was published before it.
            self.flush_batch()?;
        }
        match packet {
            Packet::Publish(publish) => self.publish(publish)?,
            Packet::PubAck(ack) => self.puback(ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe)?,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe)?,
            Packet::PingReq => {
                METRICS.count(Metric::PingSuccess, Protocol::Mqtt);
                self.send(&Packet::PingResp);
            }
            Packet::Disconnect(_) => {
                return Err(End {
                    kind: EndKind::ClientInitiated,
                    reason: "CLIENT_INITIATED_DISCONNECT",
                });
            }
            // Nothing of QoS 2 is in flight here; the peer is helped to forget what it thinks is.
            Packet::PubRec(ack) => self.send(&Packet::PubRel(ack.packet_id.into())),
            Packet::PubRel(ack) => self.send(&Packet::PubComp(ack.packet_id.into())),
            Packet::PubComp(_) => {}
            // The decoder lets none of these reach a server.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => return Err(self.protocol_error("a packet for clients")),
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish) -> Result<(), End> {
        let topic = self.topic(publish.topic.as_str())?;
        if let Err(what) = self.check_publish(&publish, &topic) {
            METRICS.count(Metric::PublishInClientError, Protocol::Mqtt);
            self.flush_batch()?;
            return Err(self.protocol_error(&what));
        }
        let allowed = self.permissions.may_publish(&topic)
            && (!publish.retain || self.permissions.ask(Action::RetainPublish, topic.as_str()));
        if !allowed {
            METRICS.count(Metric::PublishInAuthError, Protocol::Mqtt);
            self.flush_batch()?;
            // As AWS IoT does; 3.1.1 has no way to say no ([MQTT-3.3.5-2]).
            return Err(End::lost("FORBIDDEN_ACCESS"));
        }
        let bytes = publish.payload.len();
        let token = match publish.packet_id {
            None => None,
            Some(id) => match self.inbound.received(id, publish.qos) {
                Received::New(token) => Some((token, bytes)),
                // QoS 2 has been refused above, and a full window is not read.
                Received::Duplicate | Received::Full => return Ok(()),
            },
        };
        // A copy of its own: a few bytes must not hold a whole read in memory.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let message = Message {
            id: MessageId(0),
            trace: TraceId(0),
            hops: 0,
            principal: self.peer.principal.clone(),
            client_id: self.client_id.shared(),
            source: Source::Mqtt,
            topic,
            payload,
            qos: publish.qos,
            retain: publish.retain,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: None,
            properties: None,
        };
        let ack = token.map(|(token, _)| (self.handle.clone() as Arc<_>, token));
        let mut publication = Publication::new(message, ack);
        publication.connection = Some(self.connection);
        self.batch.push(publication);
        self.batch_tokens.push(token);
        if self.batch.len() >= BATCH {
            self.flush_batch()
        } else {
            Ok(())
        }
    }

    /// The topic, shared with the message before where it is the same.
    fn topic(&mut self, text: &str) -> Result<Topic, End> {
        let last = self
            .batch
            .last()
            .and_then(|p| p.message.as_ref())
            .map(|m| &m.topic);
        match last {
            Some(topic) if topic.as_str() == text => Ok(topic.clone()),
            _ => Topic::new(text).map_err(|error| self.protocol_error(&error.to_string())),
        }
    }

    fn check_publish(&self, publish: &Publish, topic: &Topic) -> Result<(), String> {
        let limits = &self.context.limits;
        if publish.qos == QoS::ExactlyOnce {
            return Err("QoS 2 is not supported".into());
        }
        if !reserved::client_may_publish(topic.as_str()) {
            return Err(format!(
                "clients may not publish to the reserved topic {topic:?}"
            ));
        }
        if topic.levels().count() > limits.max_topic_levels {
            return Err(format!(
                "a topic of more than {} levels",
                limits.max_topic_levels
            ));
        }
        if publish.payload.len() > limits.max_payload_bytes {
            return Err(format!(
                "a payload of {} bytes, more than broker.max_payload_bytes ({})",
                publish.payload.len(),
                limits.max_payload_bytes
            ));
        }
        Ok(())
    }

    /// Publishes what has been collected, in order.
    pub(super) fn flush_batch(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let mut tokens = std::mem::take(&mut self.batch_tokens);
        self.context.broker.publish(&mut batch);
        let mut refused = None;
        for (publication, token) in batch.drain(..).zip(tokens.drain(..)) {
            if let Some(pressure) = publication.pressure {
                self.pressed = Some((pressure, Instant::now() + PATIENCE));
            }
            match (publication.outcome, token) {
                (PublishOutcome::Done { .. }, token) => {
                    METRICS.count(Metric::PublishInSuccess, Protocol::Mqtt);
                    if let Some((token, _)) = token {
                        self.inbound.ready(token);
                    }
                }
                (PublishOutcome::Pending, token) => {
                    METRICS.count(Metric::PublishInSuccess, Protocol::Mqtt);
                    if let Some((token, bytes)) = token {
                        self.hold(token, bytes);
                    }
                }
                (PublishOutcome::Refused(reason), token) => {
                    METRICS.count(Metric::PublishInServerError, Protocol::Mqtt);
                    if token.is_some() {
                        refused = Some(reason);
                    }
                }
            }
        }
        self.batch = batch;
        self.batch_tokens = tokens;
        self.send_acks();
        match refused {
            None => Ok(()),
            // 3.1.1 has no negative acknowledgement (decision 5): closed, and sent again later.
            Some(reason) => Err(self.refused(reason)),
        }
    }

    fn refused(&self, reason: Refusal) -> End {
        let (text, what) = match reason {
            Refusal::QuotaExceeded => ("QUOTA_EXCEEDED", "a queue that it is bound for is full"),
            Refusal::StoreUnavailable => ("STORE_UNAVAILABLE", "the store takes nothing"),
            Refusal::Stopping => ("SERVER_SHUTTING_DOWN", "the gateway stops"),
            Refusal::Detached => ("DUPLICATE_CLIENTID", "its session was taken over"),
        };
        tracing::warn!(
            event = event::PUBLISH_IN,
            client_id = %self.client_id,
            principal_id = %self.peer.principal,
            "a publish was refused and the connection closed without PUBACK: {what}"
        );
        End::lost(text)
    }

    fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        if subscribe.filters.len() > MAX_FILTERS {
            let what = format!("a SUBSCRIBE of more than {MAX_FILTERS} filters");
            return Err(self.protocol_error(&what));
        }
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut allowed = Vec::new();
        for (text, options) in &subscribe.filters {
            match self.check_filter(text.as_str(), options.qos)? {
                Some(subscription) => {
                    codes.push(None);
                    allowed.push(subscription);
                }
                None => codes.push(Some(SubAckCode::FAILURE)),
            }
        }
        let token = self.answer_token();
        let ack = (self.handle.clone() as Arc<_>, token);
        let (results, done) = self
            .context
            .broker
            .subscribe(self.connection, &allowed, ack);
        let mut granted = results.iter().copied().map(suback);
        let codes: Vec<SubAckCode> = codes
            .into_iter()
            .map(|code| {
                code.or_else(|| granted.next())
                    .unwrap_or(SubAckCode::FAILURE)
            })
            .collect();
        for code in &codes {
            if matches!(code, SubAckCode::Granted(_)) {
                METRICS.count(Metric::SubscribeSuccess, Protocol::Mqtt);
            }
        }
        let subscriptions = allowed
            .into_iter()
            .zip(&results)
            .filter(|(_, r)| matches!(r, iotedge_ports::SubscribeResult::Granted(_)))
            .map(|(subscription, _)| subscription)
            .collect();
        let packet = Packet::SubAck(SubAck {
            packet_id: subscribe.packet_id,
            codes,
            properties: None,
        });
        let answer = Answer::Subscribed {
            packet,
            subscriptions,
        };
        if done {
            self.give_answer(answer);
        } else {
            self.await_answer(token, answer);
        }
        Ok(())
    }

    /// A filter that is none is a protocol violation ([MQTT-4.7.1-2], [MQTT-4.8.0-1]).
    fn valid_filter(&self, text: &str) -> Result<SharedFilter, End> {
        SharedFilter::new(text).map_err(|error| {
            METRICS.count(Metric::SubscribeClientError, Protocol::Mqtt);
            self.protocol_error(&format!("the filter {text:?} is not valid: {error}"))
        })
    }

    /// `None` for one that policy denies.
    fn check_filter(&self, text: &str, qos: QoS) -> Result<Option<Subscription>, End> {
        let filter = self.valid_filter(text)?;
        if !self.permissions.ask(Action::Subscribe, text) {
            METRICS.count(Metric::SubscribeAuthError, Protocol::Mqtt);
            return Ok(None);
        }
        Ok(Some(Subscription {
            filter,
            text: Arc::from(text),
            options: SubscribeOptions::v311(qos.min(QoS::AtLeastOnce)),
        }))
    }

    fn unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<(), End> {
        let mut filters: Vec<Arc<str>> = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            self.valid_filter(filter.as_str())?;
            filters.push(Arc::from(filter.as_str()));
        }
        let token = self.answer_token();
        let ack = (self.handle.clone() as Arc<_>, token);
        let (removed, done) = self
            .context
            .broker
            .unsubscribe(self.connection, &filters, ack);
        let count = removed.iter().filter(|r| **r).count() as u64;
        METRICS.add(Metric::UnsubscribeSuccess, Protocol::Mqtt, count);
        let answer = Answer::Unsubscribed {
            packet: Packet::UnsubAck(unsubscribe.packet_id.into()),
        };
        if done {
            self.give_answer(answer);
        } else {
            self.await_answer(token, answer);
        }
        Ok(())
    }
}
