//! HTTP/1.1: `POST /topics/{topic}` and what services mount.

mod publish;
mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use iotedge_ports::{HttpResponse, PrincipalStatus};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::Context;
use crate::connection::Peer;

/// How long a client may take for its headers, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection.
pub(crate) async fn run<S>(
    stream: S,
    peer: Peer,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let remote = peer.remote;
    let service = service_fn(move |request| {
        let (context, peer) = (context.clone(), peer.clone());
        async move { Ok::<_, Infallible>(respond(&context, &peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%remote, %error, "an HTTP connection ended");
    }
}

async fn respond(
    context: &Arc<Context>,
    peer: &Peer,
    request: Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>> {
    let trace = iotedge_model::TraceId::unique();
    let answer = answer(context, peer, request, trace).await;
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(*name, value);
    }
    builder = builder.header("x-amzn-requestid", trace.to_string());
    match builder.body(Full::new(answer.body)) {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "an HTTP answer could not be built");
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

async fn answer(
    context: &Arc<Context>,
    peer: &Peer,
    request: Request<hyper::body::Incoming>,
    trace: iotedge_model::TraceId,
) -> HttpResponse {
    if peer.principal.certificate_id().is_some()
        && context.authorizer.status(&peer.principal) != PrincipalStatus::Active
    {
        return request::error(
            403,
            "ForbiddenException",
            "The certificate is not active",
            trace,
        );
    }
    let request = match request::read(context, peer, request, trace).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    if let Some(topic) = request.path.strip_prefix("/topics/") {
        let topic = topic.to_owned();
        return publish::publish(context, request, &topic).await;
    }
    let mount = context
        .mounts
        .iter()
        .find(|m| m.takes(request.method, &request.path));
    match mount {
        Some(mount) => mount.handle(request).await,
        None => request::error(404, "ResourceNotFoundException", "No such path", trace),
    }
}
