//! Messages for routes.

use std::sync::{Arc, LazyLock};

use iotedge_model::{DropReason, Message, QoS, Source, SubscriptionIds};
use iotedge_ports::{Delivery, OnFull, Publication, Refusal, Target};
use iotedge_store::{StoreError, TakerRow};
use iotedge_telemetry::METRICS;

use super::{Committed, SHED_BYTES};
use crate::Shared;
use crate::core::{Core, Grant};
use crate::outbox::RouteBox;

/// A route does not send back what came from its own upstream, or from a gateway that it is told of.
pub(super) fn takes(route: &RouteBox, message: &Message) -> bool {
    let own = matches!(&message.source, Source::Upstream { name } if *name == route.upstream);
    !own && !route.rules.not_from.contains(&message.client_id)
}

pub(super) fn admit_route(route: &RouteBox, message: &Message) -> Result<(), Refusal> {
    let cost = message.cost() as u64;
    match route.on_full {
        OnFull::Reject if route.never_holds(cost) => Err(Refusal::TooLarge),
        OnFull::Reject if is_full(route, cost) => Err(Refusal::QuotaExceeded),
        _ => Ok(()),
    }
}

/// Whether the store has to be well for a message of QoS 1 or 2: a route that may drop does so when
/// there is no room, and refuses nobody.
pub(super) fn needs_room(route: &RouteBox) -> bool {
    route.on_full == OnFull::Reject || !is_no_room(route.feed.env.store.health())
}

fn is_no_room(health: Result<(), StoreError>) -> bool {
    matches!(
        health,
        Err(StoreError::DiskFull { .. } | StoreError::QuotaExceeded { .. })
    )
}

/// What of a message of QoS 1 or 2 becomes where the store has no room: `true`, when it has a place
/// all the same, that of older ones. On a full disk nothing has: what is dropped gives no room back
/// before more is written.
fn has_place(route: &RouteBox, cost: u64) -> bool {
    match route.feed.env.store.health() {
        _ if route.on_full == OnFull::Reject => true,
        Err(StoreError::DiskFull { .. }) => false,
        Err(StoreError::QuotaExceeded { .. }) => {
            route.on_full == OnFull::DropOldest && route.displace(cost)
        }
        _ => true,
    }
}

/// Whether there is no room, when what has outlived its time is gone.
fn is_full(route: &RouteBox, cost: u64) -> bool {
    if !route.is_full(cost) {
        return false;
    }
    route.expire();
    route.is_full(cost)
}

/// A message for a route has no place there.
pub(super) fn count_drop(route: &RouteBox, reason: DropReason) {
    METRICS.dropped(reason, 1);
    let store = &route.feed.env.store;
    store.count_drop(route.taker, reason, 1);
}

/// Gives a route a message that was admitted ([`admit_route`]).
pub(super) fn give_to_route(
    route: &Arc<RouteBox>,
    grant: &Grant,
    message: &Arc<Message>,
    hold: bool,
    rows: &mut Vec<TakerRow>,
    committed: &mut Vec<Committed>,
) {
    let store = &route.feed.env.store;
    let cost = message.cost() as u64;
    // What `reject` has admitted is kept: the others that were admitted with it, or while it waited
    // for services, may have filled the queue.
    let admitted = route.on_full == OnFull::Reject && message.qos > QoS::AtMostOnce;
    if !admitted && is_full(route, cost) {
        let made_room = route.on_full == OnFull::DropOldest && route.make_room(cost);
        if !made_room {
            return count_drop(route, DropReason::QueueFull);
        }
    }
    let shed = match message.qos {
        QoS::AtMostOnce => store.health().is_err() || store.pending_bytes() > SHED_BYTES,
        QoS::AtLeastOnce | QoS::ExactlyOnce => !has_place(route, cost),
    };
    if shed {
        return count_drop(route, DropReason::StoreFull);
    }
    let published = match route.rules.raise_qos {
        true => message.qos.max(QoS::AtLeastOnce),
        false => message.qos,
    };
    let qos = grant.qos.min(published).min(route.qos);
    route.queued(message.id, cost);
    if message.retain {
        route.queued_retained(&message.topic, message.id);
    }
    let delivery = Delivery {
        message: message.clone(),
        qos,
        retain: message.retain,
        dup: false,
        durable: true,
        share: None,
        identifiers: grant.identifiers.clone(),
    };
    route.feed.append(delivery, hold);
    committed.push(Committed::Route(route.clone(), message.id));
    rows.push(TakerRow {
        taker: route.taker,
        qos,
        retain: message.retain,
        identifiers: grant.identifiers.clone(),
    });
}

impl Shared {
    /// Whether a gateway that this one has sent it to sends it back.
    pub(super) fn comes_back(&self, publication: &Publication) -> bool {
        // The bridge looks for itself at what it brings, and signs it.
        let from_client =
            |source: &Source| matches!(source, Source::Mqtt | Source::WebSocket | Source::Http);
        let message = publication.message.as_ref();
        let message = message.filter(|message| from_client(&message.source));
        let properties = message.and_then(|message| message.properties.as_ref());
        let Some((properties, own)) = properties.zip(self.limits.gateway_id.as_ref()) else {
            return false;
        };
        properties.came_by(own)
    }
}

/// What a queue is given that a message names: all of it.
pub(super) static WHOLE: LazyLock<Grant> = LazyLock::new(|| Grant {
    qos: QoS::ExactlyOnce,
    retain_as_published: true,
    identifiers: SubscriptionIds::NONE,
});

/// A message for one queue. `false`: the queue has gone since the message was made for it.
pub(super) fn give_to_target(
    core: &Core,
    target: &Target,
    message: &Arc<Message>,
    hold: bool,
    rows: &mut Vec<TakerRow>,
    committed: &mut Vec<Committed>,
) -> bool {
    let Some(queue) = core.target(target) else {
        METRICS.dropped(DropReason::TakerRemoved, 1);
        return false;
    };
    give_to_route(queue, &WHOLE, message, hold, rows, committed);
    true
}
