use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{Topic, TopicFilter, UnixMillis};
use serde::{Deserialize, Serialize};

/// What a route does at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// The publisher is refused (nothing acknowledged is lost).
    #[default]
    Reject,
    /// The oldest waiting message goes, counted.
    DropOldest,
    /// The new message is not queued here, counted.
    DropNew,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Its name is looked up.
    Resolving,
    /// TCP is under way.
    Connecting,
    /// Proxy, TLS, WebSocket or CONNECT is under way.
    Handshaking,
    /// CONNACK has come, and the other side answers.
    Connected,
    /// The other side owes an answer and is silent.
    Degraded,
    /// Waits before the next try.
    BackingOff,
    /// An operator paused it.
    Paused,
    /// Will not come up until the configuration changes.
    Misconfigured,
    /// The daemon stops.
    Stopped,
}

/// The accounts of one route: accepted = delivered + queued + the sum of dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `out` or `in`.
    pub direction: &'static str,
    /// Its filter.
    pub filter: String,
    /// Messages taken in, since ever.
    pub accepted: u64,
    /// Messages that the other side acknowledged, since ever.
    pub delivered: u64,
    /// Messages waiting.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Drops since ever, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// Sent again after a lost connection, since start.
    pub resent: u64,
}

/// What an operator has said of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When.
    pub since: UnixMillis,
    /// Who, in words.
    pub by: String,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its URL without credentials.
    pub url: String,
    /// Where it stands.
    pub state: LinkState,
    /// Why it stands there.
    pub reason: String,
    /// Since when.
    pub since: UnixMillis,
    /// When the next try begins.
    pub next_retry: Option<UnixMillis>,
    /// Successful connections since start.
    pub connects: u64,
    /// Bytes sent since start, those of TLS included, without TCP's and IP's headers.
    pub bytes_sent: u64,
    /// Bytes received since start, likewise.
    pub bytes_received: u64,
    /// What a day may cost, both ways; `None`: no limit.
    pub daily_bytes: Option<u64>,
    /// What today has cost, where there is a limit.
    pub day_bytes: Option<u64>,
    /// The pause that an operator has asked for.
    pub paused: Option<Pause>,
    /// Its routes.
    pub routes: Vec<RouteStatus>,
}

/// Why a request of an [`UpstreamPeer`] will not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestRefused {
    /// Its packet is larger than the configuration or the other side allows; it was not sent.
    TooLarge {
        /// The packet.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// The other side does not let us: its words.
    NotAuthorized(String),
    /// The other side has a quota: its words.
    Quota(String),
    /// The other side does not take it: its words.
    Other(String),
}

impl std::fmt::Display for RequestRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { bytes, most } => {
                write!(
                    f,
                    "its packet of {bytes} bytes is larger than the upstream's {most}"
                )
            }
            Self::NotAuthorized(why) | Self::Quota(why) | Self::Other(why) => f.write_str(why),
        }
    }
}

/// A room that talks with an upstream beside the routes, in requests and answers: nothing of it is
/// kept over a lost connection. Its calls come from the link's task, in the order of events: they
/// must not block.
pub trait UpstreamPeer: Send + Sync {
    /// A connection is there; nothing is subscribed on it.
    fn connected(&self);
    /// It is gone, and what was under way with it.
    fn disconnected(&self);
    /// The answer to [`UpstreamLine::subscribe`], filter by filter.
    fn subscribed(&self, filter: &str, granted: bool);
    /// A message that was taken by [`UpstreamLine::publish`] and that the other side has not taken.
    fn refused(&self, topic: &Topic, why: &RequestRefused);
    /// A message of the peer's subscriptions, that no inbound route takes.
    fn received(&self, topic: &str, payload: &Bytes);
}

/// The other direction. Nothing waits: what there is no room for, or no connection, is refused.
pub trait UpstreamLine: Send + Sync {
    /// Asks for subscriptions, on this connection only. `false`: refused.
    fn subscribe(&self, filters: &[TopicFilter]) -> bool;
    /// Gives them up. `false`: refused.
    fn unsubscribe(&self, filters: &[TopicFilter]) -> bool;
    /// Sends a message with QoS 1, once, unless the connection is lost before. `false`: refused.
    fn publish(&self, topic: &Topic, payload: Bytes) -> bool;
}

/// The bridge, as others see it.
pub trait UpstreamPort: Send + Sync {
    /// All upstreams.
    fn status(&self) -> Vec<UpstreamStatus>;
    /// Stops sending to and receiving from an upstream, over restarts too; its queue goes on filling.
    /// `by`: who wants it, in words. Waits for the disk. `false`: no such upstream.
    ///
    /// # Errors
    /// It is paused, and a restart would not know of it.
    fn pause(&self, upstream: &str, by: &str) -> Result<bool, String>;
    /// Undoes [`UpstreamPort::pause`]. A link that waits for its next try tries at once.
    ///
    /// # Errors
    /// It goes on, and would be paused again after a restart.
    fn resume(&self, upstream: &str) -> Result<bool, String>;
    /// Lets a room talk with an upstream from now on, one room each. It hears
    /// [`UpstreamPeer::connected`] at once where that is so. `None`: no such upstream, or it has a
    /// peer.
    fn join(&self, upstream: &str, peer: Arc<dyn UpstreamPeer>) -> Option<Arc<dyn UpstreamLine>>;
}
