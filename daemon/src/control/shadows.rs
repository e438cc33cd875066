//! Shadows: the same way as over MQTT and HTTP.

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Protocol, ShadowName, ThingName, TraceId};
use iotedge_shadow::Call;

use super::Answer;
use crate::ctl::protocol::{Failure, Reply, Shadow, ShadowInfo, ShadowList, ShadowUpdate};
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
