//! What a bridge's outbound route asks of its queue.

use std::sync::Arc;
use std::time::Duration;

/// Rules of a route's queue beside its limits. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteRules {
    /// How long a message waits at most. By the wall clock from its acceptance, over restarts, where
    /// the clock could be believed at both ends; otherwise the time that the daemon has run counts.
    pub ttl: Option<Duration>,
    /// Whether fresh messages may pass what has waited; `None`: all go in the order of acceptance.
    pub fresh: Option<FreshRule>,
    /// What was published with QoS 0 goes with the route's QoS.
    pub raise_qos: bool,
    /// Client ids whose messages are not taken: of a gateway that the messages came from.
    pub not_from: Vec<Arc<str>>,
    /// Whether the retained messages that the filters match wait for the route from its attachment
    /// on, marked as retained.
    pub send_retained: bool,
    /// Whether [`Mailbox::retained_on_its_way`](crate::Mailbox::retained_on_its_way) will be asked.
    pub tells_retained: bool,
}

/// How messages that are accepted while the route is drained share it with those that waited before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshRule {
    /// Percent of the drained messages that are fresh ones while there are both: 1 to 99.
    pub share: u8,
    /// What order is kept.
    pub order: FreshOrder,
}

/// What order a route keeps that lets fresh messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshOrder {
    /// Of each topic: a fresh message stays behind older ones of its own topic.
    Topic,
    /// Of the fresh ones, and of the others.
    Lane,
}
