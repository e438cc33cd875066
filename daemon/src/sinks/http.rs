//! Requests to web servers: HTTP/1.1, with TLS and a client certificate where the action has them.

mod tls;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use iotedge_ports::BoxFuture;
use iotedge_rules::sink::{Item, Progress, Sink, SinkError};
use iotedge_rules::{HttpTask, Task};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection that nothing is sent on is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// Files of certificates and keys are read again after this.
const FILES: Duration = Duration::from_secs(60);
/// An answer's body is read so far, so that its connection serves the next request.
const MAX_ANSWER: usize = 64 << 10;
/// What of an answer is told.
const TOLD: usize = 200;

type Sender = SendRequest<Full<Bytes>>;
/// Certificate, key and CA.
type Files = (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>);

/// Where a connection leads: host, port, and the files of its TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Peer {
    host: String,
    port: u16,
    tls: Option<Files>,
}

/// Sends requests.
#[derive(Default)]
pub struct HttpSink {
    idle: Mutex<HashMap<Peer, Vec<(Sender, Instant)>>>,
    tls: Mutex<HashMap<Files, (Arc<ClientConfig>, Instant)>>,
}

fn unavailable(error: impl std::fmt::Display) -> SinkError {
    SinkError::Unavailable(error.to_string())
}

fn refused(error: impl std::fmt::Display) -> SinkError {
    SinkError::Refused(error.to_string())
}

/// The error with all that it came of: hyper's own words say little.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

fn peer(task: &HttpTask, uri: &Uri) -> Result<Peer, SinkError> {
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(refused("the URL begins with neither http:// nor https://")),
    };
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| refused("the URL has no host"))?;
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(refused("the URL holds credentials: use a header"));
    }
    Ok(Peer {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        tls: tls.then(|| (task.certificate.clone(), task.key.clone(), task.ca.clone())),
    })
}

fn request(item: &Item, task: &HttpTask, uri: &Uri) -> Result<Request<Full<Bytes>>, SinkError> {
    let method = Method::from_bytes(task.method.as_bytes()).map_err(refused)?;
    let bare = method == Method::GET || method == Method::HEAD;
    let body = if bare {
        Bytes::new()
    } else {
        item.body.clone()
    };
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(body))
        .map_err(refused)?;
    let headers = request.headers_mut();
    let host = uri.authority().map_or("", |a| a.as_str());
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(refused)?);
    let agent = concat!("iotedge/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    // The same at each try: a server that keeps it takes the message once.
    let key = format!("{}-{}", item.trace, item.id.0);
    let key = HeaderValue::from_str(&key).map_err(refused)?;
    headers.insert(HeaderName::from_static("idempotency-key"), key);
    if !bare {
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&item.body).is_ok();
        let kind = if json {
            "application/json"
        } else {
            "application/octet-stream"
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in &task.headers {
        let bad = |e: &dyn std::fmt::Display| refused(format!("the header {name:?}: {e}"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(&e))?;
        if key == header::CONTENT_LENGTH || key == header::TRANSFER_ENCODING {
            return Err(bad(&"is made from the body"));
        }
        headers.insert(key, HeaderValue::from_str(value).map_err(|e| bad(&e))?);
    }
    Ok(request)
}

/// What an answer means.
fn judge(status: StatusCode, told: &str) -> Result<(), SinkError> {
    if status.is_success() {
        return Ok(());
    }
    let text = if told.is_empty() {
        format!("the server answers {status}")
    } else {
        format!("the server answers {status}: {told}")
    };
    Err(match status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => SinkError::Unavailable(text),
        status if status.is_server_error() => SinkError::Failed(text),
        _ => SinkError::Refused(text),
    })
}

impl HttpSink {
    fn idle(&self) -> MutexGuard<'_, HashMap<Peer, Vec<(Sender, Instant)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one(&self, item: &Item) -> Result<(), SinkError> {
        let Task::Http(task) = &item.task else {
            return Err(refused("this is no http action"));
        };
        let uri: Uri = task
            .url
            .parse()
            .map_err(|e| refused(format!("the URL: {e}")))?;
        let peer = peer(task, &uri)?;
        let request = request(item, task, &uri)?;
        let timeout = Duration::from_millis(task.timeout_ms);
        tokio::time::timeout(timeout, self.exchange(&peer, request))
            .await
            .map_err(|_| unavailable(format!("no answer within {} ms", task.timeout_ms)))?
    }

    async fn exchange(&self, peer: &Peer, request: Request<Full<Bytes>>) -> Result<(), SinkError> {
        // A connection that waited may have been closed by the other side meanwhile.
        while let Some(mut sender) = self.take(peer) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(answer) => return self.finish(peer, sender, answer).await,
                // Nothing of it was answered; what was sent carries the same key again.
                Err(error) => tracing::debug!(%error, "a connection that waited was no good"),
            }
        }
        let mut sender = self.connect(peer).await?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|e| unavailable(whole(&e)))?;
        self.finish(peer, sender, answer).await
    }

    fn take(&self, peer: &Peer) -> Option<Sender> {
        let mut idle = self.idle();
        let (sender, _) = idle.get_mut(peer)?.pop()?;
        Some(sender)
    }

    async fn finish(
        &self,
        peer: &Peer,
        sender: Sender,
        answer: Response<Incoming>,
    ) -> Result<(), SinkError> {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let told = match body {
            Ok(body) => {
                let text = body.to_bytes();
                if !sender.is_closed() {
                    let mut idle = self.idle();
                    let waiting = idle.entry(peer.clone()).or_default();
                    waiting.push((sender, Instant::now()));
                }
                String::from_utf8_lossy(text.get(..TOLD).unwrap_or(&text)).into_owned()
            }
            // Too long, or cut off: the status has come, and the connection goes.
            Err(_) => String::new(),
        };
        judge(status, told.trim())
    }

    async fn connect(&self, peer: &Peer) -> Result<Sender, SinkError> {
        let bare = peer.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, peer.port))
            .await
            .map_err(|e| unavailable(format!("{}:{}: {e}", peer.host, peer.port)))?;
        // Requests are written whole; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(unavailable)?;
        match &peer.tls {
            None => handshake(stream).await,
            Some(files) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(refused)?;
                let connector = TlsConnector::from(self.tls(files).await?);
                let stream = connector
                    .connect(name, stream)
                    .await
                    .map_err(|e: io::Error| unavailable(format!("TLS: {e}")))?;
                handshake(stream).await
            }
        }
    }

    async fn tls(&self, files: &Files) -> Result<Arc<ClientConfig>, SinkError> {
        let lock = || self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, _)) = lock().get(files) {
            return Ok(config.clone());
        }
        let of = files.clone();
        let read = iotedge_rules::sink::blocking::run(move || {
            let (certificate, key, ca) = &of;
            tls::client_config(certificate.as_deref(), key.as_deref(), ca.as_deref())
        });
        let config = read.await.and_then(|read| read).map_err(unavailable)?;
        let config = Arc::new(config);
        lock().insert(files.clone(), (config.clone(), Instant::now()));
        Ok(config)
    }
}

async fn handshake<S>(stream: S) -> Result<Sender, SinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let made = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|e| unavailable(whole(&e)))?;
    // It ends when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of an http action ended");
        }
    });
    Ok(sender)
}

impl Sink for HttpSink {
    fn run<'a>(&'a self, _outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        Box::pin(async move {
            // One at a time: after a crash no more than one is in doubt.
            match items.first() {
                None => Progress::all(items),
                Some(item) => match self.one(item).await {
                    Ok(()) => Progress {
                        done: 1,
                        error: None,
                    },
                    Err(error) => Progress::until(0, error),
                },
            }
        })
    }

    fn tidy(&self) {
        let mut idle = self.idle();
        idle.retain(|_, waiting| {
            waiting.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
            !waiting.is_empty()
        });
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.retain(|_, (_, since)| since.elapsed() < FILES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let verdict = |code| judge(StatusCode::from_u16(code).unwrap(), "");
        assert_eq!(verdict(200), Ok(()));
        assert_eq!(verdict(204), Ok(()));
        for code in [408, 429, 502, 503, 504] {
            assert!(
                matches!(verdict(code), Err(SinkError::Unavailable(_))),
                "{code}"
            );
        }
        assert!(matches!(verdict(500), Err(SinkError::Failed(_))));
        for code in [301, 400, 401, 404, 413, 422] {
            assert!(
                matches!(verdict(code), Err(SinkError::Refused(_))),
                "{code}"
            );
        }
    }
}
