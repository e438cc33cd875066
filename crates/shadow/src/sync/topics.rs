//! AWS IoT's shadow topics and documents, from the client's side.

use iotedge_model::reserved::{ShadowOperation, shadow_prefix};
use serde_json::{Map, Value, json};

use crate::SyncKey;
use crate::core::read_json;
use crate::core::sync::Replica;

/// What the wildcard subscriptions are.
pub(super) const WILDCARDS: [&str; 2] = [
    "$aws/things/+/shadow/+/+",
    "$aws/things/+/shadow/name/+/+/+",
];

/// All answers to requests for one shadow, and what is told of it.
pub(super) fn filter(key: &SyncKey) -> String {
    format!("{}/+/+", shadow_prefix(&key.thing, key.shadow.as_ref()))
}

/// Whose filter it is.
pub(super) fn key_of_filter(filter: &str) -> Option<SyncKey> {
    let prefix = filter.strip_suffix("/+/+")?;
    let (key, _, _) = parse(&format!("{prefix}/get/accepted"))?;
    Some(key)
}

/// Where a request goes.
pub(super) fn request(key: &SyncKey, operation: ShadowOperation) -> String {
    let prefix = shadow_prefix(&key.thing, key.shadow.as_ref());
    format!("{prefix}/{}", operation.as_str())
}

/// The shadow and the operation of a request's topic.
pub(super) fn request_of(topic: &str) -> Option<(SyncKey, ShadowOperation)> {
    let (key, operation, _) = parse(&format!("{topic}/accepted"))?;
    Some((key, operation))
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Accepted,
    Rejected,
    Documents,
}

/// Which shadow a message is about, and what it says.
pub(super) fn parse(topic: &str) -> Option<(SyncKey, ShadowOperation, Word)> {
    let (thing, rest) = topic.strip_prefix("$aws/things/")?.split_once('/')?;
    let rest = rest.strip_prefix("shadow/")?;
    let (shadow, rest) = match rest.strip_prefix("name/") {
        Some(named) => {
            let (name, rest) = named.split_once('/')?;
            (Some(name), rest)
        }
        None => (None, rest),
    };
    let key = match shadow {
        Some(name) => SyncKey::parse(&format!("{thing}/{name}"))?,
        None => SyncKey::parse(thing)?,
    };
    let (operation, word) = rest.split_once('/')?;
    let operation = match operation {
        "get" => ShadowOperation::Get,
        "update" => ShadowOperation::Update,
        "delete" => ShadowOperation::Delete,
        _ => return None,
    };
    let word = match word {
        "accepted" => Word::Accepted,
        "rejected" => Word::Rejected,
        "documents" if operation == ShadowOperation::Update => Word::Documents,
        _ => return None,
    };
    Some((key, operation, word))
}

/// A document from the cloud.
#[derive(Debug, Clone)]
pub(super) struct Document(Map<String, Value>);

impl Document {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        match read_json(payload).ok()? {
            Value::Object(members) => Some(Self(members)),
            _ => None,
        }
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.0.get("clientToken")?.as_str()
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.0.get("version")?.as_u64()
    }

    pub(super) fn code(&self) -> Option<u64> {
        self.0.get("code")?.as_u64()
    }

    pub(super) fn message(&self) -> &str {
        let message = self.0.get("message").and_then(Value::as_str);
        message.unwrap_or("no message")
    }

    /// The shadow of `get/accepted`.
    pub(super) fn replica(&self) -> Option<Replica> {
        replica(&self.0)
    }

    /// The shadow of `update/documents`.
    pub(super) fn current(&self) -> Option<Replica> {
        replica(self.0.get("current")?.as_object()?)
    }

    /// Whether `update/documents` tells of a new shadow.
    pub(super) fn is_first(&self) -> bool {
        match self.0.get("previous") {
            None | Some(Value::Null) => true,
            Some(previous) => previous.get("version").is_none(),
        }
    }
}

fn replica(document: &Map<String, Value>) -> Option<Replica> {
    let state = document.get("state");
    let section = |name| {
        let section = state.and_then(|state| state.get(name));
        section.and_then(Value::as_object).cloned()
    };
    Some(Replica::Live {
        version: document.get("version")?.as_u64()?,
        desired: section("desired").unwrap_or_default(),
        reported: section("reported").unwrap_or_default(),
    })
}

/// An update request.
pub(super) fn update(state: &Value, version: Option<u64>, token: &str) -> String {
    match version {
        Some(version) => json!({"state": state, "version": version, "clientToken": token}),
        None => json!({"state": state, "clientToken": token}),
    }
    .to_string()
}

/// A request that has nothing but its token.
pub(super) fn bare(token: &str) -> String {
    json!({"clientToken": token}).to_string()
}
