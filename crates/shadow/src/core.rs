//! Shadow documents without I/O (2016 guide, "Device Shadows Documents" and "Device Shadow Document
//! Syntax"; today's guide for named shadows and `/documents`).

mod document;
mod error;
mod merge;
mod request;
pub mod sync;

use iotedge_model::Now;
use serde_json::{Map, Value, json};

pub use document::{DamagedShadow, Document, Stored, Tombstone};
pub use error::{Rejection, ShadowError};
use request::UpdateRequest;

/// What a document may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of objects and arrays in a section.
    pub max_depth: usize,
    /// Bytes of the compact JSON of both sections together.
    pub max_bytes: usize,
    /// Bytes of a whole request, white space and all: what AWS IoT takes as a message.
    pub max_request_bytes: usize,
    /// Bytes of a client token.
    pub max_client_token_bytes: usize,
}

impl Default for Limits {
    /// Those of AWS IoT.
    fn default() -> Self {
        Self {
            max_depth: 6,
            max_bytes: 8 * 1024,
            max_request_bytes: 128 * 1024,
            max_client_token_bytes: 64,
        }
    }
}

/// An update that was accepted: what to store, and what to say once it is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// The shadow from now on.
    pub document: Document,
    /// For `update/accepted`.
    pub accepted: Value,
    /// For `update/delta`, where desired and reported differ.
    pub delta: Option<Value>,
    /// For `update/documents`.
    pub documents: Value,
}

/// A deletion that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Deleted {
    /// What is stored in the shadow's place.
    pub tombstone: Tombstone,
    /// For `delete/accepted`.
    pub accepted: Value,
}

fn live(stored: Option<&Stored>) -> Option<&Document> {
    match stored {
        Some(Stored::Live(document)) => Some(document),
        Some(Stored::Deleted(_)) | None => None,
    }
}

/// `name` of error messages: the thing, for a named shadow with `~` and its name.
fn not_found(name: &str) -> ShadowError {
    ShadowError::NotFound {
        name: name.to_owned(),
    }
}

fn with_token(mut value: Value, token: Option<&str>) -> Value {
    if let (Some(token), Some(object)) = (token, value.as_object_mut()) {
        object.insert("clientToken".into(), token.into());
    }
    value
}

/// A refusal that does not come of the document: with the request's client token, where it has a
/// valid one ("Error Response Documents").
pub fn reject(reason: ShadowError, payload: &[u8], limits: &Limits) -> Rejection {
    Rejection {
        reason,
        client_token: request::client_token(payload, limits),
    }
}

/// Applies an update request.
pub fn update(
    stored: Option<&Stored>,
    payload: &[u8],
    now: &Now,
    limits: &Limits,
) -> Result<Updated, Rejection> {
    let request = UpdateRequest::parse(payload, limits)?;
    let token = request.client_token.as_deref();
    let reject = |reason| Rejection {
        reason,
        client_token: token.map(str::to_owned),
    };
    let current = live(stored);
    if let Some(expected) = request.version {
        let found = current.map_or(0, |d| d.version);
        if expected != found {
            return Err(reject(ShadowError::VersionConflict));
        }
    }
    let seconds = now.wall.seconds();
    let mut document = current.cloned().unwrap_or_default();
    document.version = match stored {
        Some(Stored::Live(document)) => document.version + 1,
        Some(Stored::Deleted(tombstone)) if !tombstone.is_over(now) => tombstone.version + 1,
        Some(Stored::Deleted(_)) | None => 1,
    };
    // A shadow that comes again after its deletion is still the one that was synchronised.
    if let Some(Stored::Deleted(tombstone)) = stored {
        document.base.clone_from(&tombstone.base);
    }
    document.timestamp = seconds;
    document.touch(now);
    request.apply(&mut document, seconds);
    if document.state_bytes() > limits.max_bytes {
        return Err(reject(ShadowError::TooLarge));
    }
    let accepted = json!({
        "state": request.echo(),
        "metadata": request.echo_metadata(seconds),
        "version": document.version,
        "timestamp": seconds,
    });
    let delta = document.delta().map(|(state, metadata)| {
        json!({
            "version": document.version,
            "timestamp": seconds,
            "state": state,
            "metadata": metadata,
        })
    });
    let documents = json!({
        "previous": current.map(Document::to_content),
        "current": document.to_content(),
        "timestamp": seconds,
    });
    Ok(Updated {
        accepted: with_token(accepted, token),
        delta: delta.map(|d| with_token(d, token)),
        documents: with_token(documents, token),
        document,
    })
}

/// The whole shadow with its delta, as `get/accepted` carries it. `name` as in
/// [`ShadowError::NotFound`].
pub fn get(
    stored: Option<&Stored>,
    payload: &[u8],
    name: &str,
    now: &Now,
    limits: &Limits,
) -> Result<Value, Rejection> {
    let client_token = request::client_token(payload, limits);
    let Some(document) = live(stored) else {
        return Err(Rejection {
            reason: not_found(name),
            client_token,
        });
    };
    let mut content = document.to_content();
    if let Some((state, metadata)) = document.delta() {
        for (section, delta) in [("state", state), ("metadata", metadata)] {
            if let Some(object) = content.get_mut(section).and_then(Value::as_object_mut) {
                object.insert("delta".into(), Value::Object(delta));
            }
        }
    }
    if let Some(object) = content.as_object_mut() {
        object.insert("timestamp".into(), now.wall.seconds().into());
    }
    Ok(with_token(content, client_token.as_deref()))
}

/// Deletes the shadow; the content of the request does not count, but for its client token.
pub fn delete(
    stored: Option<&Stored>,
    payload: &[u8],
    name: &str,
    now: &Now,
    limits: &Limits,
) -> Result<Deleted, Rejection> {
    let client_token = request::client_token(payload, limits);
    let Some(document) = live(stored) else {
        return Err(Rejection {
            reason: not_found(name),
            client_token,
        });
    };
    let accepted = json!({"version": document.version, "timestamp": now.wall.seconds()});
    Ok(Deleted {
        tombstone: document.bury(now),
        accepted: with_token(accepted, client_token.as_deref()),
    })
}

type Section = Map<String, Value>;
