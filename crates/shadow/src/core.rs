//! Shadow documents without I/O (2016 guide, "Device Shadows Documents" and "Device Shadow Document
//! Syntax"; today's guide for named shadows and `/documents`).

mod document;
mod error;
mod merge;
mod request;
pub mod sync;
mod tree;

use iotedge_model::Now;
use serde_json::{Map, Value};

pub use document::{DamagedShadow, Document, Stored, Tombstone};
pub use error::{Rejection, ShadowError};
use request::UpdateRequest;
pub(crate) use request::read_json;
use tree::Object;

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
pub struct Updated<'a> {
    /// The shadow from now on.
    pub document: Document<'a>,
    /// For `update/accepted`; documents are JSON texts.
    pub accepted: String,
    /// For `update/delta`, where desired and reported differ.
    pub delta: Option<String>,
    /// For `update/documents`.
    pub documents: String,
}

/// A deletion that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Deleted<'a> {
    /// What is stored in the shadow's place.
    pub tombstone: Tombstone<'a>,
    /// For `delete/accepted`.
    pub accepted: String,
}

fn live<'s, 'a>(stored: Option<&'s Stored<'a>>) -> Option<&'s Document<'a>> {
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

/// Ends an answer: its time, and the token of the request.
fn end(out: &mut String, seconds: u64, token: Option<&str>) {
    out.push_str(",\"timestamp\":");
    tree::push_number(seconds, out);
    push_token(out, token);
    out.push('}');
}

fn push_token(out: &mut String, token: Option<&str>) {
    if let Some(token) = token {
        out.push_str(",\"clientToken\":");
        out.push_str(&tree::key_text(token));
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
pub fn update<'a>(
    stored: Option<&Stored<'a>>,
    payload: &[u8],
    now: &Now,
    limits: &Limits,
) -> Result<Updated<'a>, Rejection> {
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
    Ok(Updated {
        accepted: accepted(&request, document.version, seconds),
        delta: document
            .difference()
            .map(|delta| delta_document(&delta, document.version, seconds, token)),
        documents: documents(current, &document, seconds, token),
        document,
    })
}

/// `update/accepted`: what was sent, with its timestamps.
fn accepted(request: &UpdateRequest, version: u64, seconds: u64) -> String {
    let mut out = String::from("{\"state\":");
    request.write_echo(&mut out);
    out.push_str(",\"metadata\":");
    request.write_echo_metadata(seconds, &mut out);
    out.push_str(",\"version\":");
    tree::push_number(version, &mut out);
    end(&mut out, seconds, request.client_token.as_deref());
    out
}

/// `update/delta`, with its members in the order of the guide.
fn delta_document(delta: &Object<'_>, version: u64, seconds: u64, token: Option<&str>) -> String {
    let mut out = String::from("{\"version\":");
    tree::push_number(version, &mut out);
    out.push_str(",\"timestamp\":");
    tree::push_number(seconds, &mut out);
    out.push_str(",\"state\":");
    delta.write_state(&mut out);
    out.push_str(",\"metadata\":");
    delta.write_metadata(&mut out);
    push_token(&mut out, token);
    out.push('}');
    out
}

/// `update/documents`: the shadow before and after.
fn documents(
    previous: Option<&Document<'_>>,
    current: &Document<'_>,
    seconds: u64,
    token: Option<&str>,
) -> String {
    let mut out = String::with_capacity(256 + 4 * current.state_bytes());
    out.push_str("{\"previous\":");
    match previous {
        None => out.push_str("null"),
        Some(previous) => {
            out.push('{');
            previous.write_content(None, &mut out);
            out.push('}');
        }
    }
    out.push_str(",\"current\":{");
    current.write_content(None, &mut out);
    out.push('}');
    end(&mut out, seconds, token);
    out
}

/// The whole shadow with its delta, as `get/accepted` carries it. `name` as in
/// [`ShadowError::NotFound`].
pub fn get(
    stored: Option<&Stored<'_>>,
    payload: &[u8],
    name: &str,
    now: &Now,
    limits: &Limits,
) -> Result<String, Rejection> {
    let client_token = request::client_token(payload, limits);
    let Some(document) = live(stored) else {
        return Err(Rejection {
            reason: not_found(name),
            client_token,
        });
    };
    let mut out = String::with_capacity(256 + 2 * document.state_bytes());
    out.push('{');
    document.write_content(document.difference().as_ref(), &mut out);
    end(&mut out, now.wall.seconds(), client_token.as_deref());
    Ok(out)
}

/// Deletes the shadow; the content of the request does not count, but for its client token.
pub fn delete<'a>(
    stored: Option<&Stored<'a>>,
    payload: &[u8],
    name: &str,
    now: &Now,
    limits: &Limits,
) -> Result<Deleted<'a>, Rejection> {
    let client_token = request::client_token(payload, limits);
    let Some(document) = live(stored) else {
        return Err(Rejection {
            reason: not_found(name),
            client_token,
        });
    };
    let mut accepted = String::from("{\"version\":");
    tree::push_number(document.version, &mut accepted);
    end(&mut accepted, now.wall.seconds(), client_token.as_deref());
    Ok(Deleted {
        tombstone: document.bury(now),
        accepted,
    })
}

type Section = Map<String, Value>;
