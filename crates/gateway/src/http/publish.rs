//! `POST /topics/{url-encoded topic}` (2016 guide, "HTTP"; today's data plane, `Publish`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use iotedge_model::{Action, Message, MessageId, QoS, Source, Topic, UnixMillis, percent_decode};
use iotedge_ports::{
    AckSink, Failure, HttpRequest, HttpResponse, Method, Publication, PublishOutcome, Refusal,
};
use iotedge_telemetry::{METRICS, Metric};
use tokio::sync::oneshot;

use super::properties::{self, Asked};
use super::request::{Wrong, authorize, error, invalid};
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
    headers: &HeaderMap,
    encoded: &str,
) -> HttpResponse {
    let trace = request.trace;
    let (topic, asked) = match check(context, &request, headers, encoded) {
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
        source_ip: request.remote.map(|remote| remote.ip()),
        source: Source::Http,
        topic,
        payload: request.body,
        qos: asked.qos,
        retain: asked.retain,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: asked.expiry,
        properties: asked.properties,
    };
    let (sender, receiver) = oneshot::channel();
    let ack = (asked.qos > QoS::AtMostOnce).then(|| {
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

fn check(
    context: &Context,
    request: &HttpRequest,
    headers: &HeaderMap,
    encoded: &str,
) -> Result<(Topic, Asked), Wrong> {
    if request.method != Method::Post {
        return Err((405, "MethodNotAllowedException", "Publish with POST".into()));
    }
    let text =
        percent_decode(encoded).ok_or_else(|| invalid("The topic is not URL-encoded".into()))?;
    let topic = Topic::new(&text).map_err(|e| invalid(e.to_string()))?;
    let asked = properties::read(request, headers, &context.limits).map_err(invalid)?;
    if let Some(excess) = context.limits.topic_excess(topic.as_str()) {
        return Err(invalid(excess));
    }
    if let Some(excess) = context.limits.payload_excess(request.body.len()) {
        return Err((413, "RequestEntityTooLargeException", excess));
    }
    if !context.limits.may_publish(&topic) {
        return Err((403, "ForbiddenException", "The topic is reserved".into()));
    }
    authorize(context, request, Action::Publish, topic.as_str())?;
    if asked.retain {
        authorize(context, request, Action::RetainPublish, topic.as_str())?;
    }
    Ok((topic, asked))
}

fn refused(reason: Refusal, trace: iotedge_model::TraceId) -> HttpResponse {
    match reason {
        Refusal::QuotaExceeded | Refusal::TooLarge => error(
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
