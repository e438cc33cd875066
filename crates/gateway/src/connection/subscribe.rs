//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;
use std::sync::Arc;

use iotedge_model::{Action, QoS, SharedFilter};
use iotedge_mqtt::{
    Packet, ReasonCode, SubAck, SubAckCode, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe,
};
use iotedge_ports::{RetainHandling, SubscribeOptions, SubscribeResult, Subscription};
use iotedge_telemetry::{METRICS, Metric};

use super::end::End;
use super::pump::{Answer, Pump};

/// Filters of one SUBSCRIBE; AWS IoT takes 8.
const MAX_FILTERS: usize = 1_000;

impl Pump {
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), End> {
        if subscribe.filters.len() > MAX_FILTERS {
            let what = format!("a SUBSCRIBE of more than {MAX_FILTERS} filters");
            return Err(self.protocol_error(&what, ReasonCode::QuotaExceeded));
        }
        let identifier = subscribe
            .properties
            .as_deref()
            .and_then(|p| p.subscription_id);
        let mut refusals = Vec::with_capacity(subscribe.filters.len());
        let mut allowed = Vec::new();
        for (text, options) in &subscribe.filters {
            match self.check_filter(text.as_str(), *options, identifier)? {
                Ok(subscription) => {
                    refusals.push(None);
                    allowed.push(subscription);
                }
                Err(code) => refusals.push(Some(SubAckCode::Refused(code))),
            }
        }
        let token = self.answer_token();
        let ack = (self.handle.clone() as Arc<_>, token);
        let (results, done) = self
            .context
            .broker
            .subscribe(self.connection, &allowed, ack);
        let mut granted = results.iter().copied().map(suback);
        let codes: Vec<SubAckCode> = refusals
            .into_iter()
            .map(|refusal| {
                refusal
                    .or_else(|| granted.next())
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

    /// A filter that is none is a protocol violation in 3.1.1 ([MQTT-4.7.1-2], [MQTT-4.8.0-1]);
    /// version 5 has a code for it in SUBACK and UNSUBACK.
    fn valid_filter(&mut self, text: &str) -> Result<Option<SharedFilter>, End> {
        match SharedFilter::new(text) {
            Ok(filter) => Ok(Some(filter)),
            Err(error) => {
                METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
                if self.terms.is_v5() {
                    return Ok(None);
                }
                let what = format!("the filter {text:?} is not valid: {error}");
                Err(self.protocol_error(&what, ReasonCode::TopicFilterInvalid))
            }
        }
    }

    /// The subscription, or the code of its refusal.
    fn check_filter(
        &mut self,
        text: &str,
        options: SubscriptionOptions,
        identifier: Option<NonZeroU32>,
    ) -> Result<Result<Subscription, ReasonCode>, End> {
        let Some(filter) = self.valid_filter(text)? else {
            return Ok(Err(ReasonCode::TopicFilterInvalid));
        };
        if filter.share.is_some() && self.terms.is_v5() {
            METRICS.count(Metric::SubscribeClientError, self.peer.protocol);
            return Ok(Err(ReasonCode::SharedSubscriptionsNotSupported));
        }
        if !self.permissions.ask(Action::Subscribe, text) {
            METRICS.count(Metric::SubscribeAuthError, self.peer.protocol);
            return Ok(Err(ReasonCode::NotAuthorized));
        }
        Ok(Ok(Subscription {
            filter,
            text: Arc::from(text),
            options: SubscribeOptions {
                qos: options.qos.min(QoS::AtLeastOnce),
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

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<(), End> {
        let mut filters: Vec<Arc<str>> = Vec::with_capacity(unsubscribe.filters.len());
        let mut refusals = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            if self.valid_filter(filter.as_str())?.is_some() {
                refusals.push(None);
                filters.push(Arc::from(filter.as_str()));
            } else {
                refusals.push(Some(ReasonCode::TopicFilterInvalid));
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
        let mut removed = removed.into_iter().map(|was_there| {
            if was_there {
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
                properties: None,
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
