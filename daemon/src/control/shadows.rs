//! Shadows: the same way as over MQTT and HTTP.

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Protocol, ShadowName, ThingName, TraceId};
use iotedge_shadow::Call;

use super::Answer;
use iotedge_shadow::sync::{Entry, Kind};

use crate::ctl::protocol::{
    ConflictInfo, Failure, Reply, Shadow, ShadowInfo, ShadowList, ShadowUpdate,
};
use crate::house::Rooms;

pub(super) async fn get(rooms: &Rooms, shadow: Shadow) -> Answer {
    call(
        rooms,
        shadow.thing,
        shadow.name,
        ShadowOperation::Get,
        Bytes::new(),
    )
    .await
}

pub(super) async fn delete(rooms: &Rooms, shadow: Shadow) -> Answer {
    call(
        rooms,
        shadow.thing,
        shadow.name,
        ShadowOperation::Delete,
        Bytes::new(),
    )
    .await
}

pub(super) async fn update(rooms: &Rooms, update: ShadowUpdate) -> Answer {
    let document = Bytes::from(update.document.0);
    call(
        rooms,
        update.thing,
        update.name,
        ShadowOperation::Update,
        document,
    )
    .await
}

/// Shadows in one answer.
const PAGE: usize = 500;

pub(super) fn list(rooms: &Rooms, list: &ShadowList) -> Answer {
    let found = rooms
        .shadow
        .list(list.thing.as_ref(), list.after.as_deref(), PAGE)
        .map_err(|e| Failure::new(&e.code().to_string(), e.to_string()))?;
    let all: Vec<ShadowInfo> = found
        .into_iter()
        .map(|shadow| ShadowInfo {
            thing: shadow.thing,
            name: shadow.name,
            version: shadow.version,
            timestamp: shadow.timestamp,
        })
        .collect();
    Ok(Reply::Ok(serde_json::json!(all)))
}

/// Conflicts in one answer.
const CONFLICTS: usize = 100;

pub(super) fn conflicts(rooms: &Rooms, after: Option<u64>) -> Answer {
    let failed = |e: iotedge_shadow::StorageFailure| Failure::new("failed", e.to_string());
    let entries = rooms.conflicts.list(after, CONFLICTS).map_err(failed)?;
    let all: Vec<ConflictInfo> = entries
        .into_iter()
        .map(|(id, entry)| conflict(id, entry))
        .collect();
    Ok(Reply::Ok(serde_json::json!(all)))
}

fn conflict(id: u64, entry: Entry) -> ConflictInfo {
    let text = match &entry.what {
        Kind::Conflict(leaves) => {
            format!(
                "both sides had changed {} leaves",
                leaves.len() + entry.more
            )
        }
        Kind::RefusedByCloud(code, message) => format!("the cloud refuses it: {message} ({code})"),
        Kind::RefusedHere(message) => format!("the cloud's is refused here: {message}"),
        Kind::SubscriptionRefused => "the upstream refuses the subscription".to_owned(),
        Kind::DeletedUnseen(version) => {
            format!("deleted in the cloud at version {version}, which was not known here")
        }
    };
    let leaves = match entry.what {
        Kind::Conflict(leaves) => leaves,
        _ => Vec::new(),
    };
    ConflictInfo {
        id,
        at: entry.at,
        upstream: entry.upstream,
        shadow: entry.shadow,
        text,
        leaves,
    }
}

pub(super) fn clear_conflicts(rooms: &Rooms) -> Answer {
    match rooms.conflicts.clear() {
        Ok(count) => Ok(Reply::Ok(serde_json::json!(count))),
        Err(e) => Err(Failure::new("failed", e.to_string())),
    }
}

async fn call(
    rooms: &Rooms,
    thing: ThingName,
    shadow: Option<ShadowName>,
    operation: ShadowOperation,
    payload: Bytes,
) -> Answer {
    let call = Call {
        thing,
        shadow,
        operation,
        payload,
        trace: TraceId(0),
        protocol: Protocol::Internal,
    };
    match rooms.shadow.call(call).await {
        Ok(document) => serde_json::from_slice(&document)
            .map(Reply::Ok)
            .map_err(|e| Failure::new("failed", format!("the answer is no JSON: {e}"))),
        Err(rejection) => Err(Failure::new(
            &rejection.reason.code().to_string(),
            rejection.reason.to_string(),
        )),
    }
}
