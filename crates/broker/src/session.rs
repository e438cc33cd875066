//! A session: what a client id owns.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use iotedge_model::{ClientId, Principal, TopicFilter};
use iotedge_ports::{
    ClientHandle, ConnectionId, RetainHandling, SubscribeOptions, Subscription, Wake,
};
use iotedge_store::{SessionRecord, SubscriptionRecord, TakerId};

use crate::outbox::SessionBox;
use crate::will::{DelayedWill, SessionWill};

/// A session, attached or waiting for its client.
pub(crate) struct Session {
    pub(crate) client_id: ClientId,
    pub(crate) principal: Arc<Principal>,
    pub(crate) protocol_level: u8,
    /// What lifecycle events call it: globally unique.
    pub(crate) identifier: u128,
    /// Seconds that it outlives its connection; 0 ends with it.
    pub(crate) expiry: u32,
    /// Of a session that outlives its connection.
    pub(crate) record: Option<Box<SessionRecord>>,
    pub(crate) mailbox: Arc<SessionBox>,
    pub(crate) subscriptions: BTreeMap<Arc<str>, (TopicFilter, SubscribeOptions)>,
    pub(crate) live: Option<Live>,
    /// Monotonic milliseconds at which it is over, while nobody is attached.
    pub(crate) deadline: Option<u64>,
    /// The will of its last connection, while it waits.
    pub(crate) delayed_will: Option<DelayedWill>,
}

/// The connection of an attached session.
pub(crate) struct Live {
    pub(crate) connection: ConnectionId,
    pub(crate) handle: Arc<dyn ClientHandle>,
    pub(crate) will: Option<Box<SessionWill>>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) listener: Arc<str>,
    pub(crate) keep_alive: u16,
    /// The number that lifecycle events give the connection: grows with each one, restarts included.
    pub(crate) version: u64,
    /// It makes no lifecycle events.
    pub(crate) silent: bool,
    /// Who waits for its end.
    pub(crate) successor: Option<Arc<dyn Wake>>,
}

impl Session {
    /// Whether it outlives its connection.
    pub(crate) fn outlives(&self) -> bool {
        self.record.is_some() && self.expiry > 0
    }

    pub(crate) fn set_expiry(&mut self, expiry: u32) {
        self.expiry = expiry;
        if let Some(record) = &mut self.record {
            record.expiry = expiry;
        }
    }

    /// Where its rows are, when it outlives its connection.
    pub(crate) fn taker(&self) -> Option<TakerId> {
        self.record.as_ref().map(|r| r.taker)
    }
}

/// The row of a subscription.
pub(crate) fn subscription_record(subscription: &Subscription) -> SubscriptionRecord {
    let options = &subscription.options;
    SubscriptionRecord {
        text: subscription.text.clone(),
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            RetainHandling::Send => 0,
            RetainHandling::SendIfNew => 1,
            RetainHandling::DoNotSend => 2,
        },
        identifier: options.identifier,
    }
}

/// Back from its row.
pub(crate) fn subscription_options(record: &SubscriptionRecord) -> SubscribeOptions {
    SubscribeOptions {
        qos: record.qos,
        no_local: record.no_local,
        retain_as_published: record.retain_as_published,
        retain_handling: match record.retain_handling {
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => RetainHandling::Send,
        },
        identifier: record.identifier,
    }
}
