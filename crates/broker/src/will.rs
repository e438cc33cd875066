//! Wills: what is published for a client that is gone, at once or after a delay (MQTT 5, 3.1.3.2.2).

use std::sync::Arc;

use iotedge_model::{
    ClientId, DropReason, Message, MessageId, Now, Principal, Source, TraceId, UnixMillis,
};
use iotedge_ports::{Publication, PublishOutcome, Will};
use iotedge_telemetry::{METRICS, event};

use crate::Shared;
use crate::session::Session;

/// A will whose connection is lost. It is in memory alone: it waits as long as the daemon runs, and
/// is published without further delay when the daemon stops.
pub(crate) struct DelayedWill {
    pub(crate) will: Will,
    principal: Arc<Principal>,
    client_id: ClientId,
    /// Monotonic milliseconds.
    due: u64,
}

impl Session {
    /// The connection is lost: its will waits for its delay, or for the session's end.
    pub(crate) fn delay_will(&mut self, will: Option<Will>, now: &Now) {
        self.delayed_will = will.map(|will| {
            Box::new(DelayedWill {
                due: now.mono.saturating_add(u64::from(will.delay) * 1000),
                principal: self.principal.clone(),
                client_id: self.client_id.clone(),
                will,
            })
        });
    }

    /// The will, if its time has come at `mono`.
    pub(crate) fn due_will(&mut self, mono: u64) -> Option<Box<DelayedWill>> {
        self.delayed_will.take_if(|delayed| delayed.due <= mono)
    }
}

impl Shared {
    /// A will was checked against the policies when it was given.
    pub(crate) fn publish_will(&self, delayed: DelayedWill) {
        let will = delayed.will;
        let message = Message {
            id: MessageId(0),
            trace: TraceId(0),
            hops: 0,
            principal: delayed.principal,
            client_id: delayed.client_id.shared(),
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
        let topic = message.topic.clone();
        let mut batch = [Publication::new(message, None)];
        self.publish(&mut batch);
        let [publication] = batch;
        if let PublishOutcome::Refused(reason) = publication.outcome {
            METRICS.dropped(DropReason::StoreFull, 1);
            tracing::warn!(event = event::MESSAGE_DROPPED, %topic, "a will was lost: {reason:?}");
        }
    }
}
