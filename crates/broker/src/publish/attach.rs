//! Routes come: their queues fill from then on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use iotedge_model::{DropReason, Message, TopicFilter};
use iotedge_ports::{AttachRoute, Mailbox};
use iotedge_store::{Append, Done, TakerKind};

use super::route::{WHOLE, admit_route, count_drop, give_to_route, takes};
use crate::Shared;
use crate::core::Core;
use crate::outbox::{RouteBox, RouteLimits};

impl Shared {
    pub(crate) fn attach_route(&self, route: AttachRoute) -> Arc<dyn Mailbox> {
        let taker = self.store.create_taker(TakerKind::Route, &route.name);
        let mut core = self.lock();
        let retained = route.rules.send_retained;
        let limits = RouteLimits {
            max_bytes: route.max_bytes,
            max_messages: route.max_messages,
            on_full: route.on_full,
            buried: DropReason::UpstreamRefused,
            rules: route.rules,
        };
        let mailbox = Arc::new(RouteBox::new(
            core.env.clone(),
            taker,
            route.upstream,
            route.qos,
            limits,
            route.wake,
        ));
        core.add_route(route.name, mailbox.clone(), &route.filters);
        if retained {
            self.route_retained(&mut core, &mailbox, &route.filters);
        }
        mailbox
    }

    /// Queues what is retained for a route that has just come. Each becomes a row of its own, under
    /// a new id so that the queue's order stays its ids' order.
    fn route_retained(&self, core: &mut Core, route: &Arc<RouteBox>, filters: &[TopicFilter]) {
        let now = self.clock.now();
        let mut topics = BTreeSet::new();
        let found = filters.iter().map(|f| core.retained.matching(f));
        for message in found.collect::<Vec<_>>().into_iter().flatten() {
            if message.is_expired(&now) || !takes(route, &message) {
                continue;
            }
            if !topics.insert(message.topic.clone()) {
                continue;
            }
            if admit_route(route, &message).is_err() {
                count_drop(route, DropReason::QueueFull);
                continue;
            }
            let id = core.next_message();
            let message = Arc::new(Message {
                id,
                ..(*message).clone()
            });
            let (mut rows, mut committed) = (Vec::new(), Vec::new());
            give_to_route(route, &WHOLE, &message, false, &mut rows, &mut committed);
            if rows.is_empty() {
                continue;
            }
            let told = route.clone();
            let done: Done = Box::new(move |outcome| told.feed.committed(id, outcome.is_ok()));
            self.store
                .append(vec![Append::new(message, rows, None)], Some(done));
            route.feed.appended();
        }
    }

    /// Wakes all consumers when a queue could not be read: none of them knows what it has missed.
    pub(crate) fn look_again(&self) {
        let core = self.lock();
        if !core.env.unread.swap(false, Ordering::Relaxed) {
            return;
        }
        let routes = core.routes.iter().chain(core.outboxes.iter());
        routes.for_each(|queue| queue.feed.rouse());
        let sessions = core.sessions.iter();
        sessions.for_each(|session| session.mailbox.feed.rouse());
    }

    /// Drops what has waited too long for its route.
    pub(crate) fn expire_routed(&self) {
        // Not under the lock: it reads the store.
        let queues: Vec<_> = {
            let core = self.lock();
            core.routes
                .iter()
                .chain(core.outboxes.iter())
                .cloned()
                .collect()
        };
        queues.iter().for_each(|queue| queue.expire());
    }
}
