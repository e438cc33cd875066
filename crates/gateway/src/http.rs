//! HTTP/1.1: publish, retained messages, what services mount, and the way to WebSocket.

mod properties;
mod publish;
mod request;
mod retained;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use iotedge_model::{Protocol, TraceId};
use iotedge_ports::{HttpCredentials, HttpRequest, HttpResponse, NotAuthenticated};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::Context;
use crate::authenticate;
use crate::connection::{LAST_WORDS, Peer, hang_up, standing_text};
use crate::websocket::handshake::{self, Origins};

/// How long a client may take for its headers, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// What has become a WebSocket: the connection, what came behind the handshake, and what the
/// request for it showed.
pub(crate) type Upgraded<S> = (S, Bytes, Option<Arc<HttpCredentials>>);

/// Serves one connection. What comes back has become a WebSocket.
pub(crate) async fn run<S>(
    stream: S,
    peer: &Peer,
    context: &Arc<Context>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let remote = peer.remote;
    let upgraded = Arc::new(OnceLock::new());
    let service = {
        let (context, peer, upgraded) = (context.clone(), peer.clone(), upgraded.clone());
        service_fn(move |request| {
            let (context, peer, upgraded) = (context.clone(), peer.clone(), upgraded.clone());
            Box::pin(async move {
                Ok::<_, Infallible>(respond(&context, &peer, request, &upgraded).await)
            })
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    let outcome = loop {
        tokio::select! {
            outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break outcome,
            _ = stopped.changed(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    if let Err(error) = outcome {
        tracing::debug!(%remote, %error, "an HTTP connection ended");
    } else if let Some(request) = upgraded.get() {
        return Some((stream, parts.read_buf, Some(Arc::clone(request))));
    }
    // The peer may be gone, or never read again.
    let _ = if stopping {
        tokio::time::timeout(LAST_WORDS, stream.shutdown()).await
    } else {
        tokio::time::timeout(LAST_WORDS, hang_up(&mut stream)).await
    };
    None
}

/// The answer to a request for a WebSocket; the connection is one when it says so.
fn upgrade(
    peer: &Peer,
    request: &Request<hyper::body::Incoming>,
    upgraded: &OnceLock<Arc<HttpCredentials>>,
    trace: TraceId,
) -> Result<Response<Full<Bytes>>, HttpResponse> {
    let origins = Origins {
        allowed: &peer.listener.allowed_origins,
        loopback: peer.listener.address.is_local(),
    };
    match handshake::accept(request, origins) {
        Ok(response) => {
            // Who asks is found out when CONNECT has come.
            upgraded.get_or_init(|| Arc::new(authenticate::shown(request)));
            Ok(response)
        }
        Err(refused) => {
            tracing::warn!(
                event = event::CONNECT_REFUSED,
                remote = %peer.remote,
                listener = %peer.listener.name,
                principal_id = %peer.principal,
                trace_id = %trace,
                "no WebSocket: {}", refused.message
            );
            METRICS.count(Metric::ConnectClientError, Protocol::WebSocket);
            let mut answer = request::error(refused.status, refused.kind, &refused.message, trace);
            if refused.status == 426 {
                answer.headers.push(("upgrade", "websocket".into()));
                answer.headers.push(("sec-websocket-version", "13".into()));
            }
            Err(answer)
        }
    }
}

async fn respond(
    context: &Arc<Context>,
    peer: &Peer,
    request: Request<hyper::body::Incoming>,
    upgraded: &OnceLock<Arc<HttpCredentials>>,
) -> Response<Full<Bytes>> {
    let trace = TraceId::unique();
    let speaks = peer.listener.speaks;
    let answer = if speaks.websocket && (handshake::is_upgrade(&request) || !speaks.http) {
        match upgrade(peer, &request, upgraded, trace) {
            Ok(response) => return response,
            Err(refused) => refused,
        }
    } else {
        answer(context, peer, request, trace).await
    };
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

/// What follows the path of retained messages, where it is one.
fn retained_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(retained::PATH)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The answer to who has not shown who it is.
fn stranger(peer: &Peer, why: &NotAuthenticated, trace: TraceId) -> HttpResponse {
    tracing::warn!(
        event = event::CONNECT_REFUSED,
        remote = %peer.remote,
        listener = %peer.listener.name,
        trace_id = %trace,
        "not authenticated: {why}"
    );
    METRICS.count(Metric::ConnectAuthError, Protocol::Http);
    let (status, kind, message) = match why {
        NotAuthenticated::Refused(_) => (401, "UnauthorizedException", "Unauthorized"),
        NotAuthenticated::Busy(_) => (429, "ThrottlingException", "Too many requests"),
        NotAuthenticated::Unavailable(_) => (
            503,
            "ServiceUnavailableException",
            "Nobody can say who you are",
        ),
    };
    let mut answer = request::error(status, kind, message, trace);
    if status == 401 {
        answer
            .headers
            .push(("www-authenticate", "Basic realm=\"iotedge\"".into()));
    }
    answer
}

/// The answer to a certificate that may not be here.
fn switched_off(peer: &Peer, status: &str, trace: TraceId) -> HttpResponse {
    tracing::warn!(
        event = event::CONNECT_REFUSED,
        remote = %peer.remote,
        listener = %peer.listener.name,
        principal_id = %peer.principal,
        trace_id = %trace,
        "the certificate is {status}"
    );
    METRICS.count(Metric::ConnectAuthError, Protocol::Http);
    let message = "The certificate is not active";
    request::error(403, "ForbiddenException", message, trace)
}

/// A request that is let in and whole, or the answer to one that is not.
async fn admitted(
    context: &Context,
    peer: &Peer,
    request: Request<hyper::body::Incoming>,
    trace: TraceId,
) -> Result<HttpRequest, HttpResponse> {
    if let Some(status) = standing_text(peer.standing(context)) {
        return Err(switched_off(peer, status, trace));
    }
    let known = authenticate::request(&request, peer).await;
    let known = known.map_err(|why| stranger(peer, &why, trace))?;
    request::read(context, known.as_ref().unwrap_or(peer), request, trace).await
}

async fn answer(
    context: &Arc<Context>,
    peer: &Peer,
    request: Request<hyper::body::Incoming>,
    trace: TraceId,
) -> HttpResponse {
    let headers = request.headers().clone();
    let request = match admitted(context, peer, request, trace).await {
        Ok(request) => request,
        Err(mut refused) => {
            // The body has not been read, or not all of it: nothing can follow on the connection,
            // and the client must know.
            refused.headers.push(("connection", "close".into()));
            return refused;
        }
    };
    if let Some(topic) = request.path.strip_prefix("/topics/") {
        let topic = topic.to_owned();
        return publish::publish(context, request, &headers, &topic).await;
    }
    if let Some(rest) = retained_path(&request.path) {
        return retained::answer(context, &request, rest);
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
