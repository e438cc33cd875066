//! Lifecycle events: what clients do, as messages on `$aws/events/…` (2016 guide, "Lifecycle
//! Events", and today's page of that name).
//!
//! An event is noted under the broker's lock, in the same section as what it tells of, and
//! published when the lock is free and before the call that caused it returns. So events come in
//! the order of what they tell of, and a connection's first event before anything else of it. What
//! nobody takes is not even noted.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iotedge_model::{ClientId, Message, Principal, QoS, Source, Topic, TraceId, UnixMillis};
use iotedge_ports::{ConnectFailed, DisconnectReason, Publication, PublishOutcome};
use iotedge_telemetry::{METRICS, event};
use serde::Serialize;

use crate::Shared;
use crate::core::Core;
use crate::will::dropped;

/// The room that events come from.
const SERVICE: &str = "lifecycle";
/// What the topics of all events begin with.
pub(crate) const EVENTS: &str = "$aws/events/";

/// Whether a message is an event.
pub(crate) fn is_event(source: &Source) -> bool {
    matches!(source, Source::Service { name } if **name == *SERVICE)
}

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connected,
    Disconnected,
    ConnectFailed,
    Subscribed,
    Unsubscribed,
}

impl Kind {
    /// The topic between what all events have and the client id.
    fn topic(self) -> &'static str {
        match self {
            Self::Connected => "presence/connected/",
            Self::Disconnected => "presence/disconnected/",
            Self::ConnectFailed => "presence/connect_failed/",
            Self::Subscribed => "subscriptions/subscribed/",
            Self::Unsubscribed => "subscriptions/unsubscribed/",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::ConnectFailed => "connect_failed",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// What one kind has beside what all have.
pub(crate) enum Detail {
    None,
    Reason(DisconnectReason),
    /// Filters as the client wrote them.
    Topics(Vec<Arc<str>>),
}

/// An event that somebody takes.
pub(crate) struct Event {
    topic: Topic,
    kind: Kind,
    detail: Detail,
    client_id: ClientId,
    principal: Arc<Principal>,
    /// What the session is called.
    session: u128,
    /// The number of its connection.
    version: u64,
    address: Option<IpAddr>,
    at: UnixMillis,
}

/// The payloads: all members that AWS IoT documents, in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    client_id: &'a str,
    timestamp: u64,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_failure_reason: Option<&'static str>,
    /// The name of the next one in the guide of 2016, for subscriptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    session_identifier: &'a str,
    principal_identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_initiated_disconnect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<&'a [Arc<str>]>,
}

impl Event {
    fn payload(&self) -> Bytes {
        let session = TraceId(self.session).to_string();
        let principal = self.principal.id();
        let presence = matches!(self.kind, Kind::Connected | Kind::Disconnected);
        let connect = matches!(self.kind, Kind::Connected | Kind::ConnectFailed);
        let reason = match &self.detail {
            Detail::Reason(reason) => Some(*reason),
            Detail::None | Detail::Topics(_) => None,
        };
        let topics = match &self.detail {
            Detail::Topics(topics) => Some(&**topics),
            Detail::None | Detail::Reason(_) => None,
        };
        let body = Body {
            client_id: self.client_id.as_str(),
            timestamp: self.at.0,
            event_type: self.kind.event_type(),
            connect_failure_reason: (self.kind == Kind::ConnectFailed)
                .then_some("AUTHORIZATION_FAILED"),
            session_id: topics.map(|_| &*session),
            session_identifier: &session,
            principal_identifier: &principal,
            client_initiated_disconnect: reason.map(|r| r == DisconnectReason::ClientInitiated),
            disconnect_reason: reason.map(DisconnectReason::event_value),
            ip_address: self.address.filter(|_| connect),
            version_number: presence.then_some(self.version),
            topics,
        };
        match serde_json::to_vec(&body) {
            Ok(json) => json.into(),
            Err(error) => {
                // Strings and numbers alone: there is nothing that JSON has no word for.
                tracing::error!(%error, "an event could not be written");
                Bytes::new()
            }
        }
    }
}

/// Publishes events one batch after the other, and knows as whom.
pub(crate) struct Announcer {
    turn: Mutex<()>,
    principal: Arc<Principal>,
    name: Arc<str>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self {
            turn: Mutex::new(()),
            principal: Arc::new(Principal::service(SERVICE)),
            name: Arc::from(SERVICE),
        }
    }
}

impl Announcer {
    fn message(&self, event: Event) -> Message {
        let source = Source::Service {
            name: self.name.clone(),
        };
        let payload = event.payload();
        // At least once: it waits for durable sessions and routes too.
        let qos = QoS::AtLeastOnce;
        Message::from_inside(self.principal.clone(), source, event.topic, payload, qos)
    }
}

impl Shared {
    /// The topic of an event, if anybody takes it. `None` also for client ids that make no topic:
    /// those with `#` or `+`, as in AWS IoT, and those that are too long.
    fn wanted(&self, core: &Core, kind: Kind, client_id: &ClientId) -> Option<Topic> {
        if !self.limits.lifecycle_events {
            return None;
        }
        let text = format!("{EVENTS}{}{client_id}", kind.topic());
        let rules = || self.rules.get().is_some_and(|rules| rules.concern(&text));
        if core.is_taken(&text) || rules() {
            Topic::new(&text).ok()
        } else {
            None
        }
    }

    /// Notes what the attached client of a session does. To be followed by [`Shared::announce`]
    /// when the lock is free.
    pub(crate) fn note(
        &self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        detail: impl FnOnce() -> Detail,
    ) {
        let Some(session) = core.sessions.get(key) else {
            return;
        };
        let Some(live) = session.live.as_ref().filter(|live| !live.silent) else {
            return;
        };
        let Some(topic) = self.wanted(core, kind, &session.client_id) else {
            return;
        };
        let detail = detail();
        if matches!(&detail, Detail::Topics(topics) if topics.is_empty()) {
            return;
        }
        let event = Event {
            topic,
            kind,
            detail,
            client_id: session.client_id.clone(),
            principal: session.principal.clone(),
            session: session.identifier,
            version: live.version,
            address: live.remote.map(address),
            at: self.clock.now().wall,
        };
        core.events.push(event);
    }

    /// The event of a client that was not let in.
    pub(crate) fn connect_failed(&self, failed: ConnectFailed) {
        {
            let mut core = self.lock();
            let kind = Kind::ConnectFailed;
            let Some(topic) = self.wanted(&core, kind, &failed.client_id) else {
                return;
            };
            core.events.push(Event {
                topic,
                kind,
                detail: Detail::None,
                client_id: failed.client_id,
                principal: failed.principal,
                session: TraceId::unique().0,
                version: 0,
                address: failed.remote.map(address),
                at: self.clock.now().wall,
            });
        }
        self.announce();
    }

    /// Ends a section of the lock, and publishes what was noted in it.
    pub(crate) fn announce_from(&self, core: MutexGuard<'_, Core>) {
        let news = !core.events.is_empty();
        drop(core);
        if news {
            self.announce();
        }
    }

    /// Publishes what has been noted. Whoever is at it takes everything; others wait for their
    /// turn, so that their events are out when they return.
    pub(crate) fn announce(&self) {
        let turn = self.announcer.turn.lock();
        // Nothing is behind this lock but the turn itself.
        let _turn = turn.unwrap_or_else(PoisonError::into_inner);
        let events = std::mem::take(&mut self.lock().events);
        let mut batch: Vec<Publication> = events
            .into_iter()
            .map(|event| Publication::new(self.announcer.message(event), None))
            .collect();
        self.publish(&mut batch);
        for publication in batch {
            if let PublishOutcome::Refused(refusal) = publication.outcome {
                METRICS.dropped(dropped(refusal), 1);
                tracing::warn!(
                    event = event::MESSAGE_DROPPED,
                    "a lifecycle event was lost: {refusal:?}"
                );
            }
        }
    }
}

/// An IPv4 client of an IPv6 socket has its own address.
fn address(remote: SocketAddr) -> IpAddr {
    remote.ip().to_canonical()
}
