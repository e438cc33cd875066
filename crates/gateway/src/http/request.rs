//! Requests as services see them.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use iotedge_model::{Action, TraceId, percent_decode};
use iotedge_ports::{Decision, HttpLink, HttpRequest, HttpResponse, Method};
use iotedge_telemetry::log_http_denial;

use crate::Context;
use crate::connection::Peer;

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// An error as AWS IoT's data plane writes it.
pub(super) fn error(status: u16, kind: &str, message: &str, trace: TraceId) -> HttpResponse {
    let body = serde_json::json!({ "message": message, "traceId": trace.to_string() });
    let mut response = HttpResponse::json(status, body.to_string());
    response.headers.push(("x-amzn-errortype", kind.to_owned()));
    response
}

/// Status, error type and message of what is refused.
pub(super) type Wrong = (u16, &'static str, String);

/// The request is not as it has to be.
pub(super) fn invalid(message: String) -> Wrong {
    (400, "InvalidRequestException", message)
}

/// Asks the policies, and logs a denial with its explanation.
pub(super) fn authorize(
    context: &Context,
    request: &HttpRequest,
    action: Action,
    resource: &str,
) -> Result<(), Wrong> {
    let question = request.question(action, resource);
    let Decision::Deny(why) = context.authorizer.authorize(&question) else {
        return Ok(());
    };
    log_http_denial(&request.principal, request.trace, action, resource, &why);
    Err((403, "ForbiddenException", "Forbidden".into()))
}

/// Reads the body, within its limit, and takes the request apart.
pub(super) async fn read(
    context: &Context,
    peer: &Peer,
    request: Request<Incoming>,
    trace: TraceId,
) -> Result<HttpRequest, HttpResponse> {
    let method = match *request.method() {
        hyper::Method::GET => Method::Get,
        hyper::Method::POST => Method::Post,
        hyper::Method::DELETE => Method::Delete,
        ref other => {
            let message = format!("The method {other} is not supported");
            return Err(error(405, "MethodNotAllowedException", &message, trace));
        }
    };
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let Some(query) = parse_query(query) else {
        return Err(error(
            400,
            "InvalidRequestException",
            "The query is not URL-encoded",
            trace,
        ));
    };
    let limit = context.limits.max_packet_bytes;
    let too_large = || {
        let message = format!("The body has more than {limit} bytes");
        error(413, "RequestEntityTooLargeException", &message, trace)
    };
    if request.body().size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), limit).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(cause)) => {
            let message = format!("The body cannot be read: {cause}");
            return Err(error(400, "InvalidRequestException", &message, trace));
        }
        Err(_) => {
            let message = format!("The body did not come within {BODY_TIMEOUT:?}");
            return Err(error(408, "RequestTimeoutException", &message, trace));
        }
    };
    Ok(HttpRequest {
        method,
        path,
        query,
        body,
        principal: peer.principal.clone(),
        remote: peer.remote.address(),
        trace,
        link: HttpLink {
            secure: Some(peer.is_secure()),
            server_name: peer.server_name.clone(),
            grant: peer.grant.as_ref().map(|slot| slot.current()),
        },
    })
}

fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((
                percent_decode(&name.replace('+', " "))?,
                percent_decode(&value.replace('+', " "))?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        assert_eq!(
            parse_query("qos=1&a%2Fb=c+d&x"),
            Some(vec![
                ("qos".into(), "1".into()),
                ("a/b".into(), "c d".into()),
                ("x".into(), String::new())
            ])
        );
        assert_eq!(parse_query("a=%4"), None);
        assert_eq!(percent_decode("%ff"), None);
    }
}
