//! The traits between rooms.
//!
//! A room that needs another asks for one of these; `daemon` binds them. No logic lives here but
//! what joins several waits into one answer ([`Completion`]).
#![forbid(unsafe_code)]

mod auth;
mod authenticate;
mod broker;
mod clock;
mod completion;
mod http;
mod mailbox;
mod route;
mod rules;
mod run;
mod things;
mod upstream;

pub use auth::{AuthRequest, Authorizer, ConnectFacts, Decision, Link, PrincipalStatus};
pub use authenticate::{
    Authenticated, Authenticator, Credentials, Grant, HttpCredentials, MqttCredentials,
    NotAuthenticated,
};
pub use broker::{
    AttachRoute, BrokerPort, ClientHandle, CloseReason, ConnectFailed, ConnectRefused,
    ConnectRequest, Connected, ConnectionId, Detached, DisconnectReason, EndKind, Pressure,
    Publication, PublishOutcome, Refusal, RetainHandling, Service, SubscribeOptions,
    SubscribeResult, Subscription, Wake, Will,
};
pub use clock::Clock;
pub use completion::{AckSink, Completion, Failure, Part};
pub use http::{BoxFuture, HttpBody, HttpLink, HttpMount, HttpRequest, HttpResponse, Method};
pub use mailbox::{
    Delivery, DrainLimit, DrainState, Mailbox, Outgoing, OutgoingPublish, Outlet, PubRecOutcome,
    Sending, SessionMailbox, ShareId,
};
pub use route::{FreshOrder, FreshRule, RouteRules};
pub use rules::{AttachOutbox, OutboxId, RuleEngine, RuleOutput, Target};
pub use run::{Frames, Run, RunPart};
pub use things::{GroupRecord, ShadowReader, ThingFacts, ThingRecord};
pub use upstream::{
    LinkState, OnFull, Pause, RequestRefused, RouteStatus, UpstreamLine, UpstreamPeer,
    UpstreamPort, UpstreamStatus,
};
