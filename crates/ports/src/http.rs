use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{Action, Principal};

use crate::{AuthRequest, Grant, Link};

/// A future without a runtime's name on it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request's body, whole: the gateway has bounded its size.
pub type HttpBody = Bytes;

/// The methods that AWS IoT's data plane uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// DELETE
    Delete,
}

/// A request with an authenticated principal.
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Path as sent, still percent-encoded, without the query.
    pub path: String,
    /// Query parameters, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Body.
    pub body: HttpBody,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// The peer.
    pub remote: Option<SocketAddr>,
    /// For the log and for `traceId`.
    pub trace: iotedge_model::TraceId,
    /// How it came.
    pub link: HttpLink,
}

/// What policies may ask about how a request came.
#[derive(Debug, Clone, Default)]
pub struct HttpLink {
    /// Whether it came over TLS; `None` where nobody knows.
    pub secure: Option<bool>,
    /// The server name of the TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// What an authenticator has granted.
    pub grant: Option<Grant>,
}

impl HttpRequest {
    /// The question whether its principal may do this. HTTP has no client id.
    pub fn question<'a>(&'a self, action: Action, resource: &'a str) -> AuthRequest<'a> {
        AuthRequest {
            source_ip: self.remote.map(|remote| remote.ip()),
            link: Link {
                secure: self.link.secure,
                server_name: self.link.server_name.as_deref(),
                grant: self.link.grant.as_ref(),
            },
            ..AuthRequest::new(&self.principal, "", action, resource)
        }
    }

    /// The first value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// An answer.
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Headers beside content length and date.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
}

impl HttpResponse {
    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: body.into(),
        }
    }
}

/// A service that answers HTTP requests below a path.
pub trait HttpMount: Send + Sync {
    /// Whether this request is the service's.
    fn takes(&self, method: Method, path: &str) -> bool;

    /// The answer. The service asks the Authorizer itself.
    fn handle(&self, request: HttpRequest) -> BoxFuture<'_, HttpResponse>;
}
