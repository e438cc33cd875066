//! What waits for upstreams.

use iotedge_ports::{Clock as _, UpstreamPort as _};
use iotedge_store::{QueuedRow, TakerKind};

use super::Answer;
use crate::ctl::protocol::{self as p, Failure, QueueHead, QueueInfo, Reply};
use crate::house::Rooms;

/// Bytes read of one queue.
const BYTES: usize = 1 << 20;

pub(super) fn list(rooms: &Rooms, asked: &p::BridgeQueue) -> Answer {
    let failed = |error: iotedge_store::StoreError| Failure::new("failed", error.to_string());
    let mut upstreams = rooms.bridge.status();
    if let Some(name) = &asked.upstream {
        upstreams.retain(|upstream| *upstream.name == **name);
        if upstreams.is_empty() {
            let text = format!("there is no upstream {name:?}");
            return Err(Failure::new("not-found", text));
        }
    }
    let now = rooms.clock.now();
    let dead = rooms.store.dead_counts(TakerKind::Route).map_err(failed)?;
    let mut found = Vec::new();
    for upstream in &upstreams {
        for route in upstream.routes.iter().filter(|r| r.direction == "out") {
            let name = format!("{}/{}", upstream.name, route.name);
            let most = usize::try_from(asked.peek).unwrap_or(0);
            let rows = match rooms.store.find_taker(TakerKind::Route, &name) {
                Some(taker) => rooms.store.read(taker, None, most.max(1), BYTES),
                None => Ok(Vec::new()),
            };
            let rows = rows.map_err(failed)?;
            let oldest = rows.first().map(|row| &row.message);
            let age = oldest.filter(|m| m.trusted && now.trusted);
            let age = age.map(|m| now.wall.0.saturating_sub(m.accepted_at.0) / 1000);
            found.push(QueueInfo {
                upstream: upstream.name.to_string(),
                route: route.name.to_string(),
                queued: route.queued,
                queued_bytes: route.queued_bytes,
                oldest_at: oldest.map(|message| message.accepted_at),
                oldest_age: age,
                dead_letters: dead.get(&name).copied().unwrap_or(0),
                heads: rows.iter().take(most).map(head).collect(),
            });
        }
    }
    Ok(Reply::ok(&found))
}

fn head(row: &QueuedRow) -> QueueHead {
    let message = &row.message;
    QueueHead {
        id: message.id.0,
        topic: message.topic.as_str().to_owned(),
        bytes: u64::try_from(message.payload.len()).unwrap_or(u64::MAX),
        qos: u8::from(row.qos),
        accepted_at: message.accepted_at,
        client_id: message.client_id.to_string(),
    }
}
