//! What this gateway is called among gateways.

use std::sync::Arc;

use iotedge_model::TraceId;
use iotedge_store::{Expect, Store};

const KEY: &str = "id";

/// The name that no other gateway has: 16 hex digits, made by chance at the first start. It is in the
/// hop lists of messages that go to other brokers, and in the keys that they are given.
///
/// # Errors
/// The store can not be read or written.
pub(super) fn gateway_id(store: &Store) -> Result<Arc<str>, String> {
    let documents = store.documents("gateway");
    let found = documents.get(KEY).map_err(|e| e.to_string())?;
    let found = found.and_then(|document| String::from_utf8(document.body.to_vec()).ok());
    if let Some(id) = found.filter(|id| !id.is_empty()) {
        return Ok(Arc::from(id));
    }
    // Its low half counts.
    let id = format!("{:016x}", TraceId::unique().0 >> 64);
    documents
        .put(KEY, id.clone(), Expect::Any, None)
        .map_err(|e| e.to_string())?;
    Ok(Arc::from(id))
}
