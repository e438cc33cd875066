//! Messages for routes.

use std::sync::{Arc, LazyLock};

use iotedge_model::{DropReason, Message, QoS, Source, SubscriptionIds};
use iotedge_ports::{Delivery, OnFull, Refusal, Target};
use iotedge_store::TakerRow;
use iotedge_telemetry::METRICS;

use super::{Committed, SHED_BYTES};
use crate::core::{Core, Grant};
use crate::outbox::RouteBox;

/// A route does not send back what came from its own upstream.
pub(super) fn takes(route: &RouteBox, message: &Message) -> bool {
    !matches!(&message.source, Source::Upstream { name } if *name == route.upstream)
}

pub(super) fn admit_route(route: &RouteBox, message: &Message) -> Result<(), Refusal> {
    if route.on_full == OnFull::Reject && route.is_full(message.cost() as u64) {
        return Err(Refusal::QuotaExceeded);
    }
    Ok(())
}

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
    if route.is_full(cost) {
        // `reject` comes here with QoS 0 only.
        let made_room = route.on_full == OnFull::DropOldest && route.make_room(cost);
        if !made_room {
            METRICS.dropped(DropReason::QueueFull, 1);
            store.count_drop(route.taker, DropReason::QueueFull, 1);
            return;
        }
    }
    let shed = || store.health().is_err() || store.pending_bytes() > SHED_BYTES;
    if message.qos == QoS::AtMostOnce && shed() {
        METRICS.dropped(DropReason::StoreFull, 1);
        store.count_drop(route.taker, DropReason::StoreFull, 1);
        return;
    }
    let qos = grant.qos.min(message.qos).min(route.qos);
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

/// What a queue is given that a message names: all of it.
static WHOLE: LazyLock<Grant> = LazyLock::new(|| Grant {
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
