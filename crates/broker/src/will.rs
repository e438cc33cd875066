//! Wills: what is published for a client that is gone, at once or after a delay (MQTT 5, 3.1.3.2.2).
//!
//! The will of a session that outlives its connection outlives the process as well: it is in the
//! store from CONNECT on, until it is published or discarded. After a kill its connection counts
//! as lost at the start. It may then be published a second time, where the kill came between the
//! publication and its removal.

use std::net::IpAddr;
use std::sync::Arc;

use iotedge_model::{
    ClientId, DropReason, Message, MessageId, Now, Principal, Source, TraceId, UnixMillis,
};
use iotedge_ports::{Publication, PublishOutcome, Refusal, Will};
use iotedge_store::WillRecord;
use iotedge_telemetry::{METRICS, event};

use crate::Shared;
use crate::core::Core;
use crate::session::Session;

/// A will of a session, as long as its connection lives and while it waits after that.
pub(crate) struct SessionWill {
    message: Message,
    /// Seconds between the end of the connection and the will.
    delay: u32,
    /// The store has it, under the message's id.
    stored: bool,
}

impl SessionWill {
    pub(crate) fn new(
        will: Will,
        principal: Arc<Principal>,
        client_id: &ClientId,
        source_ip: Option<IpAddr>,
    ) -> Box<Self> {
        let message = Message {
            id: MessageId(0),
            trace: TraceId(0),
            hops: 0,
            principal,
            client_id: client_id.shared(),
            source_ip,
            source: Source::Will,
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: will.expiry,
            properties: will.properties,
        };
        Box::new(Self {
            message,
            delay: will.delay,
            stored: false,
        })
    }

    /// The connection ended at `end`, in monotonic milliseconds.
    fn delayed(self: Box<Self>, end: u64) -> DelayedWill {
        DelayedWill {
            due: end.saturating_add(u64::from(self.delay) * 1000),
            will: self,
        }
    }
}

/// A will whose connection is lost.
pub(crate) struct DelayedWill {
    will: Box<SessionWill>,
    /// Monotonic milliseconds.
    due: u64,
}

impl DelayedWill {
    /// One of the process before, whose connection was lost `waited` milliseconds ago.
    pub(crate) fn load(record: WillRecord, now: &Now, waited: u64) -> Self {
        let will = Box::new(SessionWill {
            message: record.message,
            delay: record.delay,
            stored: true,
        });
        let mut delayed = will.delayed(now.mono);
        delayed.due = delayed.due.saturating_sub(waited).max(now.mono);
        delayed
    }
}

impl Session {
    /// The connection is lost: its will waits for its delay, or for the session's end.
    pub(crate) fn delay_will(&mut self, will: Option<Box<SessionWill>>, now: &Now) {
        self.delayed_will = will.map(|will| will.delayed(now.mono));
    }

    /// The will, if its time has come at `mono`.
    pub(crate) fn due_will(&mut self, mono: u64) -> Option<DelayedWill> {
        self.delayed_will.take_if(|delayed| delayed.due <= mono)
    }
}

impl Shared {
    /// A session that outlives its connection has been given this will.
    pub(crate) fn keep_will(&self, core: &mut Core, will: &mut SessionWill) {
        will.message.id = core.next_message();
        will.stored = true;
        let record = WillRecord {
            delay: will.delay,
            message: will.message.clone(),
        };
        self.store.put_will(record, None);
    }

    /// Nobody will get this will.
    pub(crate) fn discard_will(&self, will: &SessionWill) {
        if will.stored {
            self.store.remove_will(will.message.id, None);
        }
    }

    /// The client is back before its will was due: it is not sent any more (5: [MQTT-3.1.3-9]).
    /// Gives one whose time had come.
    #[must_use = "the will is to be published when the lock is free"]
    pub(crate) fn recall_will(&self, session: &mut Session, now: &Now) -> Option<DelayedWill> {
        let delayed = session.delayed_will.take()?;
        if delayed.due <= now.mono {
            return Some(delayed);
        }
        self.discard_will(&delayed.will);
        None
    }

    /// A will was checked against the policies when it was given.
    pub(crate) fn publish_will(&self, delayed: DelayedWill) {
        let SessionWill {
            message, stored, ..
        } = *delayed.will;
        let (id, topic) = (message.id, message.topic.clone());
        let mut batch = [Publication::new(message, None)];
        self.publish(&mut batch);
        let [publication] = batch;
        if let PublishOutcome::Refused(refusal) = publication.outcome {
            METRICS.dropped(dropped(refusal), 1);
            tracing::warn!(event = event::MESSAGE_DROPPED, %topic, "a will was lost: {refusal:?}");
        }
        if stored {
            self.store.remove_will(id, None);
        }
    }
}

/// What is lost with a message that nobody can send again.
pub(crate) fn dropped(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::QuotaExceeded | Refusal::TooLarge => DropReason::QueueFull,
        Refusal::StoreUnavailable | Refusal::Stopping | Refusal::Detached => DropReason::StoreFull,
    }
}
