use std::net::IpAddr;
use std::sync::Arc;

use iotedge_model::{Action, Principal};

use crate::Grant;

/// One question to the policies.
#[derive(Debug, Clone, Copy)]
pub struct AuthRequest<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// The client id of the connection, `""` where there is none (HTTP).
    pub client_id: &'a str,
    /// The peer's address, where it has one.
    pub source_ip: Option<IpAddr>,
    /// What it wants to do.
    pub action: Action,
    /// To what: topic, filter, client id, or `thing[/shadow]`, without the ARN's beginning.
    pub resource: &'a str,
    /// How the principal came here.
    pub link: Link<'a>,
    /// With [`Action::Connect`]: what the CONNECT asks for.
    pub connect: Option<ConnectFacts<'a>>,
}

impl<'a> AuthRequest<'a> {
    /// A question with nothing known of how it came.
    pub fn new(
        principal: &'a Principal,
        client_id: &'a str,
        action: Action,
        resource: &'a str,
    ) -> Self {
        Self {
            principal,
            client_id,
            source_ip: None,
            action,
            resource,
            link: Link::default(),
            connect: None,
        }
    }
}

/// What policies may ask about a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link<'a> {
    /// Whether it is over TLS; `None` where nobody knows.
    pub secure: Option<bool>,
    /// The server name that the client asked for in its handshake (SNI).
    pub server_name: Option<&'a str>,
    /// What an [`Authenticator`](crate::Authenticator) has granted beside the principal's policies.
    pub grant: Option<&'a Grant>,
}

/// What a CONNECT asks for beside the client id.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectFacts<'a> {
    /// Its session outlives the connection, or it resumes one (`PersistentConnect`).
    pub persistent: bool,
    /// The topic of its will.
    pub will_topic: Option<&'a str>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not; the text says why, for the log and for `policy explain`.
    Deny(Arc<str>),
}

impl Decision {
    /// Whether it may.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// Whether a principal may be here at all, whatever its policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalStatus {
    /// Known and good.
    Active,
    /// A registered certificate that was switched off.
    Inactive,
    /// A registered certificate that was revoked.
    Revoked,
    /// Waits for its activation.
    PendingActivation,
    /// Before or after the time that the certificate is valid for.
    Expired,
    /// Not registered here.
    Unknown,
}

/// Decides what principals may do. Evaluates on an immutable snapshot and never blocks.
pub trait Authorizer: Send + Sync {
    /// One decision.
    fn authorize(&self, request: &AuthRequest<'_>) -> Decision;

    /// Grows with each change of policies, attachments, certificates or things: an answer may be
    /// kept as long as this stays the same.
    fn generation(&self) -> u64;

    /// A client has shown these certificates in a handshake, its own first (DER), and proven that it has
    /// the key: one that nobody has registered may register itself so. Never blocks.
    fn introduce(&self, chain: &[&[u8]]) {
        let _ = chain;
    }

    /// The same certificates, shown to this listener (its address as configured): what a certificate
    /// that nobody has registered may do there, if anything.
    fn welcome(&self, listener: &str, chain: &[&[u8]]) -> Option<Grant> {
        let _ = (listener, chain);
        None
    }

    /// The standing of a principal with what it was granted; read after every handshake, resumed ones
    /// included.
    fn status(&self, principal: &Principal, grant: Option<&Grant>) -> PrincipalStatus;
}
