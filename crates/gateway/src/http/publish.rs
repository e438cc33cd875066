//! `POST /topics/{url-encoded topic}?qos=0|1` (2016 guide, "HTTP": publish).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iotedge_model::{Action, Message, MessageId, QoS, Source, Topic, UnixMillis, percent_decode};
use iotedge_ports::{
    AckSink, AuthRequest, Decision, Failure, HttpRequest, HttpResponse, Method, Publication,
    PublishOutcome, Refusal,
};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::sync::oneshot;

use super::request::error;
use crate::Context;

/// How long a QoS 1 publish waits for its commit before the client is told to try again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

struct Waiting(Mutex<Option<oneshot::Sender<Result<(), Failure>>>>);

impl AckSink for Waiting {
    fn acked(&self, _token: u64, outcome: Result<(), Failure>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The client may have gone; the message is kept all the same.
            let _ = sender.send(outcome);
        }
    }
}

pub(super) async fn publish(
    context: &Arc<Context>,
    request: HttpRequest,
    encoded: &str,
) -> HttpResponse {
    let trace = request.trace;
    let (topic, qos) = match check(context, &request, encoded) {
        Ok(checked) => checked,
        Err((status, kind, message)) => {
            let metric = if status == 403 {
                Metric::PublishInAuthError
            } else {
                Metric::PublishInClientError
            };
            METRICS.count(metric, iotedge_model::Protocol::Http);
            return error(status, kind, &message, trace);
        }
    };
    let message = Message {
        id: MessageId(0),
        trace,
        hops: 0,
        principal: request.principal,
        client_id: Arc::from(""),
        source: Source::Http,
        topic,
        payload: request.body,
        qos,
        retain: false,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: None,
        properties: None,
    };
    let (sender, receiver) = oneshot::channel();
    let ack = (qos > QoS::AtMostOnce).then(|| {
        (
            Arc::new(Waiting(Mutex::new(Some(sender)))) as Arc<dyn AckSink>,
            0,
        )
    });
    let mut batch = [Publication::new(message, ack)];
    context.broker.publish(&mut batch);
    let [publication] = batch;
    let committed = match publication.outcome {
        PublishOutcome::Done { .. } => true,
        PublishOutcome::Pending => {
            matches!(
                tokio::time::timeout(COMMIT_TIMEOUT, receiver).await,
                Ok(Ok(Ok(())))
            )
        }
        PublishOutcome::Refused(reason) => {
            METRICS.count(Metric::PublishInServerError, iotedge_model::Protocol::Http);
            return refused(reason, trace);
        }
    };
    if !committed {
        METRICS.count(Metric::PublishInServerError, iotedge_model::Protocol::Http);
        return error(
            500,
            "InternalFailureException",
            "The message could not be kept",
            trace,
        );
    }
    METRICS.count(Metric::PublishInSuccess, iotedge_model::Protocol::Http);
    let body = serde_json::json!({ "message": "OK", "traceId": trace.to_string() });
    HttpResponse::json(200, body.to_string())
}

type Wrong = (u16, &'static str, String);

fn invalid(message: String) -> Wrong {
    (400, "InvalidRequestException", message)
}

fn check(context: &Context, request: &HttpRequest, encoded: &str) -> Result<(Topic, QoS), Wrong> {
    if request.method != Method::Post {
        return Err((405, "MethodNotAllowedException", "Publish with POST".into()));
    }
    let text =
        percent_decode(encoded).ok_or_else(|| invalid("The topic is not URL-encoded".into()))?;
    let topic = Topic::new(&text).map_err(|e| invalid(e.to_string()))?;
    let qos = match request.query("qos") {
        None | Some("0") => QoS::AtMostOnce,
        Some("1") => QoS::AtLeastOnce,
        Some(other) => return Err(invalid(format!("qos is 0 or 1, not {other:?}"))),
    };
    if qos > context.limits.max_qos {
        let most = u8::from(context.limits.max_qos);
        return Err(invalid(format!("qos is at most {most}")));
    }
    for (name, _) in &request.query {
        if name != "qos" {
            return Err(invalid(format!(
                "The query parameter {name:?} is not supported"
            )));
        }
    }
    if let Some(excess) = context.limits.topic_excess(topic.as_str()) {
        return Err(invalid(excess));
    }
    if let Some(excess) = context.limits.payload_excess(request.body.len()) {
        return Err((413, "RequestEntityTooLargeException", excess));
    }
    if !context.limits.may_publish(&topic) {
        return Err((403, "ForbiddenException", "The topic is reserved".into()));
    }
    let question = AuthRequest {
        principal: &request.principal,
        client_id: "",
        source_ip: request.remote.map(|r| r.ip()),
        action: Action::Publish,
        resource: topic.as_str(),
    };
    if let Decision::Deny(why) = context.authorizer.authorize(&question) {
        tracing::warn!(
            event = event::POLICY_DENIED,
            principal_id = %request.principal,
            action = %Action::Publish,
            resource = topic.as_str(),
            trace_id = %request.trace,
            "{why}"
        );
        return Err((403, "ForbiddenException", "Forbidden".into()));
    }
    Ok((topic, qos))
}

fn refused(reason: Refusal, trace: iotedge_model::TraceId) -> HttpResponse {
    match reason {
        Refusal::QuotaExceeded => error(
            429,
            "ThrottlingException",
            "A queue that it is bound for is full",
            trace,
        ),
        Refusal::StoreUnavailable => error(
            503,
            "ServiceUnavailableException",
            "The store takes nothing",
            trace,
        ),
        Refusal::Stopping | Refusal::Detached => error(
            503,
            "ServiceUnavailableException",
            "The gateway stops",
            trace,
        ),
    }
}
