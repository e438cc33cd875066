//! `aws_iot_shadow_interface.h`: a client of AWS IoT's device shadows on top of the MQTT client.
//!
//! 1. Nothing is locked while a callback of the application runs: it may call everything here
//!    but yield.
//! 2. An answer belongs to a request by its client token. A request's record goes before its
//!    callback runs, so that the callback may use the room.
//! 3. Topics of answers are subscribed on first use, and left when the last request that did not
//!    want to keep them has ended.

mod answers;
mod delta;
mod document;
mod fed;
mod functions;
mod process;

use std::ffi::{CString, c_char, c_int, c_void};
use std::time::{Duration, Instant};

use iotedge_mqtt::{QoS, Str};

use self::answers::Request;
pub(super) use self::delta::{Delta, Form};
pub use self::delta::{JsonStruct, JsonStructV1};
pub(super) use self::document::{Buffer, Member, Section};
use super::codes::{FAILURE, SUCCESS, code};
use super::registry::{self, Entry};
use super::types::AwsIotClient;
use crate::boundary::{UserData, c_bytes, text};
use crate::error::Error;

pub(crate) use self::fed::take_document;
pub use self::functions::*;
pub use self::process::*;

/// What the application's macros say about shadows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Requests that wait for an answer, at most.
    pub(super) max_acks: usize,
    /// Registered deltas, at most.
    pub(super) max_deltas: usize,
    /// Answers of this many bytes and more are not looked at.
    pub(super) rx_buffer: usize,
}

/// What a client knows of its shadows.
#[derive(Debug)]
pub(super) struct Shadow {
    limits: Limits,
    /// The thing that this client is; its deltas are registered for.
    thing: Option<String>,
    topics: Vec<answers::Topics>,
    requests: Vec<Request>,
    deltas: Vec<Delta>,
    listens_for_deltas: bool,
    /// The last answer, with a NUL byte: what a request that was not answered is given.
    last_answer: CString,
}

impl Shadow {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            thing: None,
            topics: Vec::new(),
            requests: Vec::new(),
            deltas: Vec::new(),
            listens_for_deltas: false,
            last_answer: CString::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.requests.len() >= self.limits.max_acks
    }
}

/// What is asked of a shadow: `ShadowActions_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Get = 0,
    Update = 1,
    Delete = 2,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// `Shadow_Ack_Status_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Timeout = 0,
    Rejected = 1,
    Accepted = 2,
}

/// `fpActionCallback_t`.
pub type ActionCallback = unsafe extern "C" fn(
    thing: *const c_char,
    action: c_int,
    status: c_int,
    document: *const c_char,
    context: *mut c_void,
);

/// Why a call on a shadow failed; each generation has its own numbers.
#[derive(Debug)]
pub(super) enum Fault {
    /// Something that must be there is NULL.
    Missing,
    /// There is no connection.
    NotConnected,
    /// All places for requests or deltas are taken.
    NoRoom,
    /// Not even one more byte fits the document's buffer, or a number is none of JSON's.
    Document,
    /// The document did not fit its buffer.
    Truncated,
    /// The MQTT client failed.
    Client(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Fault {
    /// The number in `aws_iot_error.h` of version 3.
    pub(super) fn code(&self) -> c_int {
        match self {
            Self::Missing => -2,
            Self::NotConnected => -26,
            Self::NoRoom => FAILURE,
            Self::Truncated => -44,
            Self::Document => -45,
            Self::Client(error) => code(error),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// The number of a result.
pub(super) fn code_of(result: Result<()>) -> c_int {
    match result {
        Ok(()) => SUCCESS,
        Err(fault) => fault.code(),
    }
}

/// Runs `work` on a client that is connected.
pub(super) fn connected<T>(
    client: *const AwsIotClient,
    work: impl FnOnce(&Entry) -> Result<T>,
) -> Result<T> {
    match registry::find(client) {
        Some(entry) if entry.client.is_connected() => work(&entry),
        _ => Err(Fault::NotConnected),
    }
}

/// The topic of an action on a thing's classic shadow.
fn topic(thing: &str, action: Action, suffix: &str) -> Result<Str> {
    let action = action.name();
    Ok(text(
        "topic",
        format!("$aws/things/{thing}/shadow/{action}{suffix}").as_bytes(),
    )?)
}

/// A thing's name from C.
///
/// # Safety
/// NULL or ends with NUL.
pub(super) unsafe fn thing_name(name: *const c_char) -> Result<String> {
    // SAFETY: as the caller says.
    let name = unsafe { c_bytes(name) }.ok_or(Fault::Missing)?;
    Ok(text("thing name", name)?.as_str().to_owned())
}

/// What the client that has just connected is called, for client tokens and deltas.
pub(super) fn set_identity(entry: &Entry, thing: String, client_id: &str) {
    entry.shadow().thing = Some(thing);
    process::set_client_id(client_id);
}

/// Begins anew: as a client that was just initialised.
pub(super) fn reset() {
    process::reset();
}

/// A request to a shadow as C gives it.
pub(super) struct Ask {
    pub(super) thing: String,
    pub(super) action: Action,
    /// The document, with what the generation sends behind it.
    pub(super) payload: Vec<u8>,
    pub(super) callback: Option<ActionCallback>,
    pub(super) context: *mut c_void,
    pub(super) timeout: Duration,
    /// Whether the topics of the answer stay subscribed.
    pub(super) keep: bool,
}

/// Publishes a request, and remembers who waits for its answer.
pub(super) fn request(client: *const AwsIotClient, entry: &Entry, ask: Ask) -> Result<()> {
    let token = ask
        .callback
        .and_then(|callback| Some((callback, document::client_token(&ask.payload)?)));
    let Some((callback, token)) = token else {
        return publish(entry, &ask);
    };
    if entry.shadow().is_full() {
        return Err(Fault::NoRoom);
    }
    answers::listen(client, entry, &ask.thing, ask.action, ask.keep)?;
    let thing = CString::new(ask.thing.as_str()).map_err(|_| Fault::Missing)?;
    entry.shadow().requests.push(Request {
        token: token.clone(),
        thing,
        action: ask.action,
        callback,
        context: UserData::new(ask.context),
        deadline: Instant::now() + ask.timeout,
    });
    let published = publish(entry, &ask);
    if published.is_err() {
        let waits = entry.shadow().take(|request| request.token == token);
        if waits.is_some() {
            answers::leave(entry, &ask.thing, ask.action);
        }
    }
    published
}

fn publish(entry: &Entry, ask: &Ask) -> Result<()> {
    let topic = topic(&ask.thing, ask.action, "")?;
    entry
        .client
        .publish(&topic, &ask.payload, QoS::AtMostOnce, false)?;
    Ok(())
}

/// Tells the requests that were not answered in time.
pub(super) fn expire(entry: &Entry) {
    answers::expire(entry);
}

/// Registers for a part of the thing's deltas.
pub(super) fn register(client: *const AwsIotClient, entry: &Entry, new: Delta) -> Result<()> {
    let (first, thing) = {
        let mut shadow = entry.shadow();
        if shadow.deltas.len() >= shadow.limits.max_deltas {
            return Err(Fault::NoRoom);
        }
        let thing = shadow.thing.clone().ok_or(Fault::NotConnected)?;
        shadow.deltas.push(new);
        (!shadow.listens_for_deltas, thing)
    };
    if first {
        if let Err(fault) = delta::listen(client, entry, &thing) {
            entry.shadow().deltas.pop();
            return Err(fault);
        }
        entry.shadow().listens_for_deltas = true;
    }
    Ok(())
}
