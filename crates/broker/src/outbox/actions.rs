//! Queues that one message is meant for by name: outboxes of rule actions, and routes.

use std::collections::HashMap;
use std::sync::Arc;

use iotedge_model::{DropReason, QoS};
use iotedge_ports::{AttachOutbox, Mailbox, OutboxId, RouteRules, Target};
use iotedge_store::{DeadLetterError, Done, TakerId, TakerKind};
use iotedge_telemetry::METRICS;

use super::{Env, RouteBox, RouteLimits};
use crate::Shared;
use crate::core::Core;
use crate::group::Shares;

/// Messages of an outbox in memory: what waits longer is read from its rows. There may be ten
/// outboxes a rule, and all of their sinks may be down at once.
const IN_MEMORY: usize = 256;
/// Their bytes.
const IN_MEMORY_BYTES: usize = 256 * 1024;

/// All outboxes.
pub(crate) struct Outboxes {
    env: Arc<Env>,
    all: Vec<Option<Arc<RouteBox>>>,
    names: HashMap<Arc<str>, OutboxId>,
}

impl Outboxes {
    pub(crate) fn new(env: &Env) -> Self {
        Self {
            env: Arc::new(Env {
                store: env.store.clone(),
                clock: env.clock.clone(),
                max_messages: IN_MEMORY,
                max_bytes: IN_MEMORY_BYTES,
                first_id: env.first_id,
                shares: Shares::default(),
                unread: env.unread.clone(),
            }),
            all: Vec::new(),
            names: HashMap::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<RouteBox>> {
        self.all.iter().flatten()
    }

    fn get(&self, id: OutboxId) -> Option<&Arc<RouteBox>> {
        self.all.get(id.0)?.as_ref()
    }
}

impl Core {
    /// The queue that is meant; `None` when it is gone.
    pub(crate) fn target(&self, target: &Target) -> Option<&Arc<RouteBox>> {
        match target {
            Target::Outbox(id) => self.outboxes.get(*id),
            Target::Route(name) => self.routes.get(*self.route_names.get(name)?),
        }
    }

    /// The queue of a taker.
    fn queue_of(&self, taker: TakerId) -> Option<&Arc<RouteBox>> {
        let mut queues = self.outboxes.iter().chain(&self.routes);
        queues.find(|queue| queue.taker == taker)
    }
}

impl Shared {
    pub(crate) fn attach_outbox(&self, outbox: AttachOutbox) -> (OutboxId, Arc<dyn Mailbox>) {
        let taker = self.store.create_taker(TakerKind::Outbox, &outbox.name);
        let limits = RouteLimits {
            max_bytes: outbox.max_bytes,
            max_messages: outbox.max_messages,
            on_full: outbox.on_full,
            buried: DropReason::ActionFailed,
            rules: RouteRules::default(),
        };
        let mut core = self.lock();
        let mailbox = Arc::new(RouteBox::new(
            core.outboxes.env.clone(),
            taker,
            Arc::from(""),
            QoS::AtLeastOnce,
            limits,
            outbox.wake,
        ));
        let outboxes = &mut core.outboxes;
        let id = match outboxes.names.get(&outbox.name) {
            Some(id) => *id,
            None => {
                let id = OutboxId(outboxes.all.len());
                outboxes.all.push(None);
                outboxes.names.insert(outbox.name, id);
                id
            }
        };
        if let Some(place) = outboxes.all.get_mut(id.0) {
            *place = Some(mailbox.clone());
        }
        (id, mailbox)
    }

    pub(crate) fn remove_outbox(&self, id: OutboxId) {
        let mut core = self.lock();
        let place = core.outboxes.all.get_mut(id.0);
        let Some(outbox) = place.and_then(Option::take) else {
            return;
        };
        let left = self.store.depth(outbox.taker).rows;
        METRICS.dropped(DropReason::TakerRemoved, left);
        // Under the lock: whoever attaches it again gets a new taker.
        self.store
            .remove_taker(outbox.taker, DropReason::TakerRemoved, None);
    }

    /// A dead letter waits again, behind all that its queue holds.
    pub(crate) fn revive(&self, letter: u64, done: Done) -> Result<TakerId, DeadLetterError> {
        let absent = DeadLetterError::Absent { id: letter };
        let before = letter.checked_sub(1).ok_or_else(|| absent.clone())?;
        let found = self.store.dead_letters(Some(before), 1)?;
        let found = found.into_iter().find(|l| l.id == letter).ok_or(absent)?;
        let taker = self.store.find_taker(found.kind, &found.taker);
        // The lock is held to the end: ids reach the store in their order.
        let mut core = self.lock();
        let id = core.next_message();
        let queue = taker.and_then(|taker| core.queue_of(taker)).cloned();
        if let Some(queue) = &queue {
            queue.queued(id, found.message.cost() as u64);
            if found.retain {
                queue.queued_retained(&found.message.topic, id);
            }
            queue.feed.append_unread(id);
        }
        let told = queue.clone();
        let revived = self.store.revive(
            letter,
            id,
            Some(Box::new(move |outcome| {
                if let Some(queue) = told {
                    queue.feed.committed(id, outcome.is_ok());
                }
                done(outcome);
            })),
        );
        if let (Err(_), Some(queue)) = (&revived, queue) {
            queue.feed.committed(id, false);
        }
        revived
    }
}
