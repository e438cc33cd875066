//! What is going on, for `iotedgectl status` and metrics.

use std::sync::Arc;

use serde::Serialize;

use crate::Shared;

/// The broker at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerStatus {
    /// Attached clients.
    pub connected: usize,
    /// Sessions, attached or waiting.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Rows waiting for sessions and for shared subscriptions.
    pub queued: u64,
    /// Each attached client and each session with something waiting, at most 100.
    pub clients: Vec<ClientStatus>,
}

/// One session.
#[derive(Debug, Clone, Serialize)]
pub struct ClientStatus {
    /// Client id.
    pub client_id: String,
    /// Principal.
    pub principal: Arc<str>,
    /// Whether a connection is attached.
    pub connected: bool,
    /// The peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Arc<str>>,
    /// Keep-alive in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<u16>,
    /// 4 for MQTT 3.1.1.
    pub protocol_level: u8,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Rows waiting in the store.
    pub queued: u64,
    /// Deliveries waiting in memory.
    pub in_memory: usize,
}

const LISTED: usize = 100;

pub(crate) fn status(shared: &Shared) -> BrokerStatus {
    let core = shared.lock();
    let mut status = BrokerStatus {
        connected: core.by_connection.len(),
        sessions: core.sessions.len(),
        subscriptions: 0,
        retained: core.retained.len(),
        queued: 0,
        clients: Vec::new(),
    };
    for taker in core.groups.takers() {
        status.queued += shared.store.depth(taker).rows;
    }
    for session in core.sessions.iter() {
        let queued = session
            .taker()
            .map_or(0, |taker| shared.store.depth(taker).rows);
        status.subscriptions += session.subscriptions.len();
        status.queued += queued;
        let worth = session.live.is_some() || queued > 0;
        if worth && status.clients.len() < LISTED {
            let live = session.live.as_ref();
            status.clients.push(ClientStatus {
                client_id: session.client_id.to_string(),
                principal: session.principal.id(),
                connected: live.is_some(),
                remote: live.and_then(|l| l.remote).map(|r| r.to_string()),
                listener: live.map(|l| l.listener.clone()),
                keep_alive: live.map(|l| l.keep_alive),
                protocol_level: session.protocol_level,
                subscriptions: session.subscriptions.len(),
                queued,
                in_memory: session.mailbox.feed.in_memory(),
            });
        }
    }
    status
}
