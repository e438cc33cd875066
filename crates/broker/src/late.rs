//! Deliveries without a row that wait for the commit of a QoS 2 packet id (invariant 6): those of
//! its own message, and those of what the same publisher sent after it.

use std::num::NonZeroU16;
use std::sync::Arc;

use iotedge_model::{ClientId, DropReason, Message, QoS};
use iotedge_ports::{ClientHandle, CloseReason, Delivery, Failure, Pressure};
use iotedge_telemetry::METRICS;

use crate::Limits;
use crate::core::Core;
use crate::group::Group;
use crate::outbox::{Push, SessionBox};
use crate::received::Behind;

/// One delivery that waits.
pub(crate) struct Late {
    to: To,
    qos: QoS,
    cost: usize,
}

enum To {
    Session {
        session: Arc<SessionBox>,
        delivery: Delivery,
        /// Closed when there is no room for the delivery and it may not be left out.
        handle: Option<Arc<dyn ClientHandle>>,
    },
    /// The member is found when the time has come.
    Group(Arc<Group>, Arc<Message>),
}

impl Late {
    pub(crate) fn to_session(
        session: Arc<SessionBox>,
        delivery: Delivery,
        handle: Option<Arc<dyn ClientHandle>>,
    ) -> Self {
        Self {
            qos: delivery.qos,
            cost: delivery.message.cost(),
            to: To::Session {
                session,
                delivery,
                handle,
            },
        }
    }

    pub(crate) fn to_group(group: &Arc<Group>, message: &Arc<Message>) -> Self {
        Self {
            qos: message.qos,
            cost: message.cost(),
            to: To::Group(group.clone(), message.clone()),
        }
    }

    /// Whether the taker's own queue is filled so far that its publisher should wait.
    fn is_pressed(&self) -> bool {
        match &self.to {
            To::Session { session, .. } => session.feed.is_pressed(),
            To::Group(..) => false,
        }
    }

    fn give(self) {
        let (session, delivery, handle) = match self.to {
            To::Group(group, message) => return group.give(&message),
            To::Session {
                session,
                delivery,
                handle,
            } => (session, delivery, handle),
        };
        if session.feed.push(delivery) == Push::Full {
            METRICS.dropped(DropReason::SlowConsumer, 1);
            if let (true, Some(handle)) = (self.qos > QoS::AtMostOnce, handle) {
                handle.close(CloseReason::SlowConsumer);
            }
        }
    }
}

/// What one publication holds back.
pub(crate) struct Hold {
    publisher: Arc<SessionBox>,
    /// The packet id that is committed with it, and the number of that.
    inbound: Option<(NonZeroU16, u64)>,
    late: Vec<Late>,
    bytes: usize,
    /// Deliveries of publications before it are still late.
    behind_late: bool,
    /// What comes after it waits too.
    begun: bool,
}

impl Hold {
    /// `None` where nothing needs to wait. The packet id is taken from here on.
    pub(crate) fn new(publisher: Arc<SessionBox>, inbound: Option<NonZeroU16>) -> Option<Self> {
        if inbound.is_none() && !publisher.received.is_waiting() {
            return None;
        }
        Some(Self {
            inbound: inbound.map(|id| (id, publisher.received.begin(id))),
            behind_late: publisher.received.is_late(),
            publisher,
            late: Vec::new(),
            bytes: 0,
            begun: false,
        })
    }

    /// Whether a delivery with a row waits for its commit: that of the QoS 2 message itself, and one
    /// that would overtake what has no row. A PUBLISH of QoS 2 to a session waits for a commit of
    /// its own packet id, which is no earlier one.
    pub(crate) fn holds(&self, marked: bool) -> bool {
        self.behind_late || (self.inbound.is_some() && !marked)
    }

    /// Whether nothing waits for it after all.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbound.is_none() && self.late.is_empty()
    }

    /// The packet id that is committed with it, and whose it is.
    pub(crate) fn inbound(&self) -> Option<(ClientId, NonZeroU16)> {
        let durable = self.publisher.durable()?;
        let (id, _) = self.inbound?;
        Some((durable.client_id.clone(), id))
    }

    /// The publisher's session, if it is still there.
    pub(crate) fn session(&self, core: &Core) -> Option<usize> {
        let durable = self.publisher.durable()?;
        let key = *core.by_client.get(&durable.client_id)?;
        let session = core.sessions.get(key)?;
        Arc::ptr_eq(&session.mailbox, &self.publisher).then_some(key)
    }

    /// Whether the taker's own queue is filled so far that its publisher should wait.
    pub(crate) fn add(&mut self, late: Late, limits: &Limits) -> bool {
        let full = self.publisher.received.waiting_bytes() >= limits.outbox_bytes;
        if full && late.qos == QoS::AtMostOnce {
            METRICS.dropped(DropReason::StoreFull, 1);
            return false;
        }
        let pressed = late.is_pressed();
        self.bytes = self.bytes.saturating_add(late.cost);
        self.late.push(late);
        pressed
    }

    /// It is about to be handed to the store, or to services before that. Gives what the publisher should wait for, where so
    /// much waits already that it should.
    pub(crate) fn begin(&mut self, limits: &Limits) -> Option<Arc<dyn Pressure>> {
        let received = &self.publisher.received;
        received.wait(usize::from(!self.begun), self.late.len(), self.bytes);
        self.begun = true;
        received
            .is_pressed(limits)
            .then(|| -> Arc<dyn Pressure> { Arc::new(Behind(self.publisher.clone())) })
    }

    /// The store is done. A message that it did not keep was refused, and reaches nobody.
    pub(crate) fn end(self, outcome: Result<(), Failure>) {
        let late = self.late.len();
        if outcome.is_ok() || self.inbound.is_none() {
            self.late.into_iter().for_each(Late::give);
        }
        let received = &self.publisher.received;
        if let Some((id, begun)) = self.inbound {
            received.committed(id, begun, outcome);
        }
        received.gone(late, self.bytes);
    }
}
