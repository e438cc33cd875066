//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;
use std::sync::Arc;

use iotedge_model::{Action, QoS, SharedFilter, TopicFilter, reserved};
use iotedge_mqtt::{
    AckProperties, Packet, ReasonCode, SubAck, SubAckCode, Subscribe, SubscriptionOptions,
    UnsubAck, Unsubscribe,
};
use iotedge_ports::{RetainHandling, SubscribeOptions, SubscribeResult, Subscription};
use iotedge_telemetry::{METRICS, Metric, event};

use super::end::End;
use super::pump::{Answer, Pump};

/// Why a filter is not subscribed.
struct No {
    code: ReasonCode,
    what: String,
}

impl No {
    fn new(code: ReasonCode, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
        }
    }
}

impl Pump {
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), End> {
        self.check_count(subscribe.filters.len())?;
        let identifier = subscribe
            .properties
            .as_deref()
            .and_then(|p| p.subscription_id);
        if identifier.is_some() && !self.context.limits.subscription_identifiers {
            // 5: 3.2.2.3.12
            let what = "a subscription identifier, and broker.subscription_identifiers is false";
            let code = ReasonCode::SubscriptionIdentifiersNotSupported;
            return Err(self.protocol_error(what, code));
        }
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut why = Why::default();
        let mut allowed = Vec::new();
        for (text, options) in &subscribe.filters {
            match self.check_filter(text.as_str(), *options, identifier)? {
                Ok(subscription) => {
                    codes.push(None);
                    allowed.push(subscription);
                }
                Err(no) => {
                    why.add(text.as_str(), &no.what);
                    codes.push(Some(SubAckCode::Refused(no.code)));
                }
            }
        }
        let token = self.answer_token();
        let ack = (self.handle.clone() as Arc<_>, token);
        let (results, done) = self
            .context
            .broker
            .subscribe(self.connection, &allowed, ack);
        let mut over = false;
        for (subscription, result) in allowed.iter().zip(&results) {
            if *result == SubscribeResult::QuotaExceeded {
                over = true;
                why.add(&subscription.text, TOO_MANY);
            }
        }
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
                METRICS.count(Metric::SubscribeSuccess, self.peer.protocol);
            }
        }
        let subscriptions = allowed
            .into_iter()
            .zip(&results)
            .filter(|(subscription, result)| wants_retained(subscription, **result))
            .map(|(subscription, _)| subscription)
            .filter(|_| self.context.limits.retain_available)
            .collect();
        let packet = Packet::SubAck(SubAck {
            packet_id: subscribe.packet_id,
            codes,
            properties: self.why(&why),
        });
        let answer = Answer::Subscribed {
            packet,
            subscriptions,
            // AWS IoT Core refuses what is too much and closes the connection.
            end: (over && self.context.limits.is_aws())
                .then(|| self.protocol_error(TOO_MANY, ReasonCode::QuotaExceeded)),
        };
        if done {
            self.give_answer(answer);
        } else {
            self.await_answer(token, answer);
        }
        Ok(())
    }

    /// How many filters a SUBSCRIBE or UNSUBSCRIBE may have.
    fn check_count(&mut self, filters: usize) -> Result<(), End> {
        let most = self.context.limits.max_filters_per_subscribe;
        if filters <= most {
            return Ok(());
        }
        METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
        let what =
            format!("{filters} filters, more than broker.max_filters_per_subscribe ({most})");
        Err(self.protocol_error(&what, ReasonCode::QuotaExceeded))
    }

    /// The properties of an answer that refuses something.
    fn why(&self, why: &Why) -> Option<Box<AckProperties>> {
        if why.0.is_empty() {
            return None;
        }
        let words = self.words(&why.0)?;
        Some(Box::new(AckProperties {
            reason_string: Some(words),
            ..AckProperties::default()
        }))
    }

    /// A filter that is none is a protocol violation in 3.1.1 ([MQTT-4.7.1-2], [MQTT-4.8.0-1]);
    /// version 5 has a code for it in SUBACK and UNSUBACK. What is only no shared subscription is a
    /// filter to 3.1.1, and refused alone.
    fn valid_filter(&mut self, text: &str) -> Result<Result<SharedFilter, No>, End> {
        match SharedFilter::new(text) {
            Ok(filter) => Ok(Ok(filter)),
            Err(error) => {
                METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
                let code = ReasonCode::TopicFilterInvalid;
                if self.terms.is_v5() || TopicFilter::new(text).is_ok() {
                    return Ok(Err(No::new(code, error.to_string())));
                }
                let what = format!("the filter {text:?} is not valid: {error}");
                Err(self.protocol_error(&what, code))
            }
        }
    }

    /// The subscription, or why there is none.
    fn check_filter(
        &mut self,
        text: &str,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Result<Result<Subscription, No>, End> {
        let filter = match self.valid_filter(text)? {
            Ok(filter) => filter,
            Err(no) => return Ok(Err(no)),
        };
        if !self.may_ask_for(filter.filter.as_str()) {
            METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
            let what = format!("clients may not subscribe to the reserved topic {text:?}");
            if self.context.limits.is_aws() {
                // "Any attempts to publish or subscribe to topics beginning with $ result in a
                // terminated connection."
                return Err(self.protocol_error(&what, ReasonCode::TopicFilterInvalid));
            }
            tracing::warn!(
                event = event::SUBSCRIBE,
                client_id = %self.client_id,
                principal_id = %self.peer.principal,
                trace_id = %self.peer.trace,
                filter = text,
                "not subscribed: {what}"
            );
            return Ok(Err(No::new(ReasonCode::NotAuthorized, what)));
        }
        if let Some(no) = self.filter_limit(&filter, options.qos) {
            METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
            return if self.context.limits.is_aws() {
                Err(self.protocol_error(&no.what, no.code))
            } else {
                Ok(Err(no))
            };
        }
        if !self.ask(Action::Subscribe, text) {
            METRICS.count(Metric::SubscribeAuthError, self.peer.protocol);
            let what = format!("{} is denied", Action::Subscribe);
            return Ok(Err(No::new(ReasonCode::NotAuthorized, what)));
        }
        Ok(Ok(Subscription {
            filter,
            text: Arc::from(text),
            options: SubscribeOptions {
                qos: options.qos.min(self.context.limits.max_qos),
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: match options.retain_handling {
                    iotedge_mqtt::RetainHandling::Send => RetainHandling::Send,
                    iotedge_mqtt::RetainHandling::SendIfNew => RetainHandling::SendIfNew,
                    iotedge_mqtt::RetainHandling::DoNotSend => RetainHandling::DoNotSend,
                },
                identifier,
            },
        }))
    }

    /// Whether a filter is none of the reserved ones, or one that is documented. AWS IoT Core has
    /// no `$SYS` and nothing else that begins with `$`.
    fn may_ask_for(&self, filter: &str) -> bool {
        reserved::client_may_subscribe(filter)
            && (!self.context.limits.is_aws()
                || !filter.starts_with('$')
                || filter.starts_with("$aws/"))
    }

    /// What is too much about a filter. A QoS that is too high is granted as far as it goes
    /// (5: [MQTT-3.2.2-10]); at AWS IoT Core it is not ("the message broker doesn't send a PUBACK
    /// or SUBACK").
    fn filter_limit(&self, filter: &SharedFilter, qos: QoS) -> Option<No> {
        let limits = &self.context.limits;
        if limits.is_aws() && qos > limits.max_qos {
            let what = format!(
                "a subscription of QoS {}, more than max_qos ({})",
                u8::from(qos),
                u8::from(limits.max_qos)
            );
            return Some(No::new(ReasonCode::QosNotSupported, what));
        }
        let excess = limits.filter_excess(filter)?;
        Some(No::new(ReasonCode::TopicFilterInvalid, excess))
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<(), End> {
        self.check_count(unsubscribe.filters.len())?;
        let mut filters: Vec<Arc<str>> = Vec::with_capacity(unsubscribe.filters.len());
        let mut refusals = Vec::with_capacity(unsubscribe.filters.len());
        let mut why = Why::default();
        for filter in &unsubscribe.filters {
            match self.valid_filter(filter.as_str())? {
                Ok(_) => {
                    refusals.push(None);
                    filters.push(Arc::from(filter.as_str()));
                }
                Err(no) => {
                    why.add(filter.as_str(), &no.what);
                    refusals.push(Some(no.code));
                }
            }
        }
        let token = self.answer_token();
        let ack = (self.handle.clone() as Arc<_>, token);
        let (removed, done) = self
            .context
            .broker
            .unsubscribe(self.connection, &filters, ack);
        let count = removed.iter().filter(|r| **r).count() as u64;
        METRICS.add(Metric::UnsubscribeSuccess, self.peer.protocol, count);
        let is_aws = self.context.limits.is_aws();
        let mut removed = removed.into_iter().map(|was_there| {
            if was_there || is_aws {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            }
        });
        let codes = refusals
            .into_iter()
            .map(|refusal| {
                refusal
                    .or_else(|| removed.next())
                    .unwrap_or(ReasonCode::UnspecifiedError)
            })
            .collect();
        let answer = Answer::Unsubscribed {
            packet: Packet::UnsubAck(UnsubAck {
                packet_id: unsubscribe.packet_id,
                codes,
                properties: self.why(&why),
            }),
        };
        if done {
            self.give_answer(answer);
        } else {
            self.await_answer(token, answer);
        }
        Ok(())
    }
}

const TOO_MANY: &str = "more subscriptions than broker.max_subscriptions";

/// What is wrong with the filters of one packet: SUBACK and UNSUBACK have one reason string for all
/// of them.
#[derive(Default)]
struct Why(String);

impl Why {
    /// Bytes after which no further filter is named.
    const ENOUGH: usize = 512;

    fn add(&mut self, filter: &str, what: &str) {
        if self.0.len() >= Self::ENOUGH {
            return;
        }
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
        self.0.push_str(filter);
        self.0.push_str(": ");
        self.0.push_str(what);
    }
}

/// A filter's code in SUBACK.
fn suback(result: SubscribeResult) -> SubAckCode {
    match result {
        SubscribeResult::Granted(qos) | SubscribeResult::Replaced(qos) => SubAckCode::Granted(qos),
        SubscribeResult::QuotaExceeded => SubAckCode::Refused(ReasonCode::QuotaExceeded),
    }
}

fn wants_retained(subscription: &Subscription, result: SubscribeResult) -> bool {
    match result {
        SubscribeResult::Granted(_) => true,
        SubscribeResult::Replaced(_) => {
            subscription.options.retain_handling != RetainHandling::SendIfNew
        }
        SubscribeResult::QuotaExceeded => false,
    }
}
