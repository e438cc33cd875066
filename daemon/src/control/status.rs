//! Status, bridge, reload.

use std::sync::Arc;

use iotedge_model::Topic;
use iotedge_ports::UpstreamPort as _;
use iotedge_store::TakerKind;
use iotedge_telemetry::METRICS;

use super::Answer;
use iotedge_ports::Clock as _;

use crate::ctl::protocol::{
    BridgeStatus, BridgeTest, BridgeTestStep, BridgeTested, Failure, ListenerStatus, OutboxStatus,
    Reloaded, Reply, SerialStatus, Status, StoreStatus, UpstreamStatus,
};
use crate::house::Rooms;

pub(super) fn status(rooms: &Rooms) -> Reply {
    let broker = rooms.broker.status();
    let now = rooms.clock.now();
    let health = rooms.store.health();
    let listeners = rooms
        .config
        .listeners
        .iter()
        .map(|listener| ListenerStatus {
            protocol: listener.protocols_text(),
            address: listener.address.to_string(),
            auth: listener.auth.as_str().to_owned(),
        })
        .collect();
    Reply::ok(&Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        thing_name: rooms.config.gateway.thing_name.to_string(),
        pid: std::process::id(),
        uptime: now.mono / 1000,
        time: now.wall,
        time_trusted: now.trusted,
        listeners,
        clients: broker.connected as u64,
        sessions: broker.sessions as u64,
        subscriptions: broker.subscriptions as u64,
        retained: broker.retained as u64,
        queued: broker.queued,
        store: StoreStatus {
            healthy: health.is_ok(),
            reason: health.err().map(|e| e.to_string()),
            used_bytes: rooms.store.used_bytes(),
            written_bytes: rooms.store.written_bytes(),
            messages: rooms.store.stored_messages(),
            max_bytes: rooms.config.store.max_bytes,
            pending_bytes: rooms.store.pending_bytes(),
        },
        upstreams: upstreams(rooms),
        outboxes: outboxes(rooms),
        serial: serial(rooms),
        dropped: METRICS
            .drops()
            .into_iter()
            .map(|(reason, n)| (reason.as_str().to_owned(), n))
            .collect(),
    })
}

fn upstreams(rooms: &Rooms) -> Vec<UpstreamStatus> {
    let shadows = |name: &str| {
        let mut all = rooms.synchronisers.iter();
        all.find(|s| s.upstream() == name).map(|s| s.status())
    };
    let status = rooms.bridge.status();
    let all = status.iter().map(|upstream| UpstreamStatus {
        shadows: shadows(&upstream.name),
        ..UpstreamStatus::from(upstream)
    });
    all.collect()
}

/// Those that an operator should see.
fn outboxes(rooms: &Rooms) -> Vec<OutboxStatus> {
    let status = |outbox: iotedge_rules::OutboxStatus| {
        let taker = rooms.store.find_taker(TakerKind::Outbox, &outbox.name)?;
        let account = rooms.store.account(taker);
        (account.queued > 0 || outbox.trouble.is_some()).then(|| OutboxStatus {
            name: outbox.name.to_string(),
            queued: account.queued,
            queued_bytes: account.queued_bytes,
            trouble: outbox.trouble,
        })
    };
    let all = rooms.outboxes.status().into_iter();
    all.filter_map(status).collect()
}

fn serial(rooms: &Rooms) -> Vec<SerialStatus> {
    let path = |name: &str| {
        let port = rooms.config.serial.iter().find(|port| port.name == name);
        port.map(|port| port.path.display().to_string())
            .unwrap_or_default()
    };
    rooms
        .devices()
        .into_iter()
        .map(|device| SerialStatus {
            path: path(&device.name),
            name: device.name.to_string(),
            state: device.state.as_str().to_owned(),
            reason: device.reason,
            lines: device.accepted,
            errors: device.rejected.iter().map(|(_, n)| n).sum(),
        })
        .collect()
}

pub(super) fn bridge(rooms: &Rooms) -> Reply {
    Reply::ok(&BridgeStatus {
        upstreams: upstreams(rooms),
        written_bytes: rooms.store.written_bytes(),
        messages: rooms.store.stored_messages(),
    })
}

pub(super) async fn bridge_test(rooms: &Rooms, test: &BridgeTest) -> Answer {
    let upstream = &test.upstream;
    let topic = test.publish.as_deref().map(Topic::new).transpose();
    let topic = topic.map_err(|e| Failure::new("invalid", format!("--publish: {e}")))?;
    let Some(steps) = rooms.bridge.test(upstream, topic.as_ref()).await else {
        return Err(Failure::new(
            "not-found",
            format!("there is no upstream {upstream:?}"),
        ));
    };
    let steps = steps.into_iter().map(|step| BridgeTestStep {
        layer: step.layer.to_owned(),
        ok: step.ok,
        text: step.text,
        millis: step.millis,
    });
    Ok(Reply::ok(&BridgeTested {
        steps: steps.collect(),
    }))
}

/// `by`: who pauses it; `None`: it goes on.
pub(super) fn pause(rooms: &Rooms, upstream: &str, by: Option<&str>) -> Answer {
    let known = match by {
        Some(by) => rooms.bridge.pause(upstream, by),
        None => rooms.bridge.resume(upstream),
    };
    let known = known.map_err(|error| {
        let told = match by {
            Some(_) => "paused, but not over a restart",
            None => "resumed, but paused again after a restart",
        };
        Failure::new("failed", format!("{told}: {error}"))
    })?;
    if known {
        Ok(Reply::done())
    } else {
        Err(Failure::new(
            "not-found",
            format!("there is no upstream {upstream:?}"),
        ))
    }
}

pub(super) async fn reload(rooms: &Arc<Rooms>) -> Answer {
    match rooms.reload().await {
        Ok(changes) => {
            tracing::info!(
                event = iotedge_telemetry::event::RELOAD,
                "reloaded: {}",
                changes.join("; ")
            );
            Ok(Reply::ok(&Reloaded { changes }))
        }
        Err(problems) => Err(Failure::new("refused", problems.join("\n"))),
    }
}
