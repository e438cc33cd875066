//! Shadows: members by their paths, deltas, and documents that are built member by member.

mod members;

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iotedge_mqtt::{Publish, QoS, Str, SubAckCode};
use serde_json::Value;

use super::{iotedge_client, iotedge_delivery_callback, iotedge_status, name, on_client, status};
use crate::boundary::{UserData, c_bytes, text};
use crate::client::{Client, Done, Handler, Post};
use crate::error::{Error, Result};
use crate::log;
use crate::shadow::{News, Shadow};

pub use self::members::*;

/// A part of a shadow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum iotedge_section {
    /// What the device says of itself.
    IOTEDGE_REPORTED = 0,
    /// What is wanted of it.
    IOTEDGE_DESIRED = 1,
    /// What is wanted and not reported. Can be read only.
    IOTEDGE_DELTA = 2,
}

/// What has happened to a shadow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum iotedge_shadow_event {
    /// Its state is known from now on.
    IOTEDGE_SHADOW_READY = 0,
    /// Something is wanted of the device: look at IOTEDGE_DELTA.
    IOTEDGE_SHADOW_DELTA = 1,
    /// There is none, or it was deleted. An update makes it.
    IOTEDGE_SHADOW_ABSENT = 2,
}

/// Is told what has happened to a shadow. May call everything but process and free.
pub type iotedge_shadow_callback = Option<
    unsafe extern "C" fn(
        shadow: *mut iotedge_shadow,
        event: iotedge_shadow_event,
        user_data: *mut c_void,
    ),
>;

/// A thing's shadow, as this program sees it. Used by one thread at a time, that of the client's
/// callbacks included.
pub struct iotedge_shadow {
    client: *mut iotedge_client,
    inner: Arc<Inner>,
}

/// What the client's callbacks share with the program.
struct Inner {
    topic: String,
    state: Mutex<Shadow>,
    /// Who waits for the answer to an update, by its client token.
    waiting: Mutex<Vec<(String, Done)>>,
    callback: iotedge_shadow_callback,
    user_data: UserData,
    /// The handle that callbacks get.
    handle: Mutex<Option<UserData>>,
    closed: AtomicBool,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, Shadow> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(String, Done)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: iotedge_shadow_event) {
        let handle = *self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(callback), Some(handle), false) =
            (self.callback, handle, self.closed.load(Ordering::Acquire))
        {
            // SAFETY: the application's own function with its own pointer, and a handle that is
            // there as long as it is not closed.
            unsafe { callback(handle.pointer().cast(), event, self.user_data.pointer()) };
        }
    }

    /// Ends the wait for an answer.
    fn answered(&self, document: &Value, result: impl FnOnce() -> Result<()>) {
        let token = document.get("clientToken").and_then(Value::as_str);
        let found = {
            let mut waiting = self.waiting();
            let index = waiting
                .iter()
                .position(|(own, _)| Some(own.as_str()) == token);
            index.map(|index| waiting.remove(index))
        };
        if let Some((_, done)) = found {
            done(result());
        }
    }
}

/// The topics that a shadow's answers come on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    GetAccepted,
    GetRejected,
    UpdateAccepted,
    UpdateRejected,
    Delta,
    Deleted,
}

impl Topic {
    const ALL: [(Self, &str); 6] = [
        (Self::GetAccepted, "/get/accepted"),
        (Self::GetRejected, "/get/rejected"),
        (Self::UpdateAccepted, "/update/accepted"),
        (Self::UpdateRejected, "/update/rejected"),
        (Self::Delta, "/update/delta"),
        (Self::Deleted, "/delete/accepted"),
    ];

    fn received(self, inner: &Inner, document: &Value) {
        use iotedge_shadow_event::*;
        match self {
            Self::GetAccepted => {
                if inner.state().got(document) == News::Got {
                    inner.tell(IOTEDGE_SHADOW_READY);
                }
            }
            Self::GetRejected => {
                if document.get("code").and_then(Value::as_u64) == Some(404) {
                    inner.state().absent();
                    inner.tell(IOTEDGE_SHADOW_ABSENT);
                }
            }
            Self::UpdateAccepted => {
                inner.state().updated(document);
                inner.answered(document, || Ok(()));
            }
            Self::UpdateRejected => {
                inner.answered(document, || Err(Error::Rejected(words(document))));
            }
            Self::Delta => {
                if inner.state().differs(document) == News::Delta {
                    inner.tell(IOTEDGE_SHADOW_DELTA);
                }
            }
            Self::Deleted => {
                inner.state().absent();
                inner.tell(IOTEDGE_SHADOW_ABSENT);
            }
        }
    }
}

/// The server's reason.
fn words(document: &Value) -> String {
    let code = document.get("code").and_then(Value::as_u64).unwrap_or(0);
    let message = document.get("message").and_then(Value::as_str);
    format!("{} ({code})", message.unwrap_or("no reason given"))
}

/// Subscribes to what a thing's shadow has to say and asks for it. `shadow_name` is NULL for the
/// classic shadow. The client must be connected, and have six subscriptions left; a lost connection
/// that is made again keeps them. Events come with iotedge_client_process.
///
/// # Safety
/// `client` is from iotedge_client_new and outlives the shadow, texts are NULL or end with NUL,
/// `callback` may be called with `user_data` until the shadow is freed, `shadow` is NULL or valid
/// for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_new(
    client: *mut iotedge_client,
    thing: *const c_char,
    shadow_name: *const c_char,
    callback: iotedge_shadow_callback,
    user_data: *mut c_void,
    shadow: *mut *mut iotedge_shadow,
) -> iotedge_status {
    let user_data = UserData::new(user_data);
    let work = |c: &iotedge_client| {
        if shadow.is_null() {
            return Err(Error::Missing("shadow"));
        }
        // SAFETY: as the caller says.
        let thing = unsafe { name("thing name", thing) }?;
        // SAFETY: as the caller says.
        let topic = match unsafe { c_bytes(shadow_name) } {
            None => format!("$aws/things/{thing}/shadow"),
            Some(bytes) => {
                let shadow_name = text("shadow name", bytes)?;
                format!("$aws/things/{thing}/shadow/name/{shadow_name}")
            }
        };
        let inner = Arc::new(Inner {
            topic,
            state: Mutex::default(),
            waiting: Mutex::default(),
            callback,
            user_data,
            handle: Mutex::new(None),
            closed: AtomicBool::new(false),
        });
        if let Err(error) = subscribe(c, &inner) {
            unsubscribe(c, &inner);
            return Err(error);
        }
        // What was missed while the connection was lost.
        let of = Arc::downgrade(&inner);
        c.client.on_return(Arc::new(move |client| {
            if let Some(inner) = of.upgrade() {
                if let Err(error) = ask(client, &inner) {
                    log::warning(&format!("{}: {error}", inner.topic));
                }
            }
        }));
        let handle = Box::into_raw(Box::new(iotedge_shadow {
            client,
            inner: Arc::clone(&inner),
        }));
        *inner.handle.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(UserData::new(handle.cast()));
        // SAFETY: valid for writing as the caller says.
        unsafe { shadow.write(handle) };
        ask(&c.client, &inner)
    };
    // SAFETY: as the caller says.
    unsafe { on_client(client, work) }
}

fn subscribe(client: &iotedge_client, inner: &Arc<Inner>) -> Result<()> {
    for (topic, suffix) in Topic::ALL {
        let filter: Str = text(
            "topic filter",
            format!("{}{suffix}", inner.topic).as_bytes(),
        )?;
        let of = Arc::downgrade(inner);
        let handler: Handler = Arc::new(move |message: &Publish| {
            let document = serde_json::from_slice(&message.payload);
            if let (Some(inner), Ok(document)) = (of.upgrade(), document) {
                topic.received(&inner, &document);
            }
        });
        let granted = client
            .client
            .subscribe(&filter, QoS::AtLeastOnce, handler, true)?;
        if let SubAckCode::Refused(_) = granted {
            return Err(Error::SubscriptionRefused);
        }
    }
    Ok(())
}

fn unsubscribe(client: &iotedge_client, inner: &Inner) {
    for (_, suffix) in Topic::ALL {
        if let Ok(filter) = text(
            "topic filter",
            format!("{}{suffix}", inner.topic).as_bytes(),
        ) {
            // Without a connection there is nothing to leave.
            let _ = client.client.unsubscribe(&filter);
        }
    }
}

fn ask(client: &Client, inner: &Inner) -> Result<()> {
    let post = Post {
        topic: format!("{}/get", inner.topic),
        payload: Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        done: None,
    };
    client.post(post).map(|_| ())
}

/// Runs `work` on a shadow and its client.
unsafe fn on_shadow<T>(
    shadow: *const iotedge_shadow,
    work: impl FnOnce(&iotedge_client, &Arc<Inner>) -> Result<T>,
) -> iotedge_status {
    // SAFETY: as the caller says.
    let Some(shadow) = (unsafe { shadow.as_ref() }) else {
        return iotedge_status::IOTEDGE_INVALID_ARGUMENT;
    };
    // SAFETY: the client outlives the shadow as the caller says.
    unsafe { on_client(shadow.client, |client| work(client, &shadow.inner)) }
}

/// Asks for the whole shadow again; IOTEDGE_SHADOW_READY tells when it has come. A connection that
/// the client makes again does it by itself.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_refresh(shadow: *mut iotedge_shadow) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { on_shadow(shadow, |client, inner| ask(&client.client, inner)) }
}

/// Frees a shadow, and leaves its topics. Updates that were not answered are told to be lost. Not
/// from within a callback; before its client. NULL is nothing.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_free(shadow: *mut iotedge_shadow) {
    boundary!((), {
        if shadow.is_null() {
            return;
        }
        // SAFETY: from `Box::into_raw`, and given back once, as the caller says.
        let shadow = unsafe { Box::from_raw(shadow) };
        shadow.inner.closed.store(true, Ordering::Release);
        // SAFETY: the client is there as the caller says.
        if let Some(client) = unsafe { shadow.client.as_ref() } {
            unsubscribe(client, &shadow.inner);
        }
        let waiting = std::mem::take(&mut *shadow.inner.waiting());
        for (_, done) in waiting {
            done(Err(Error::Lost("the shadow was freed".into())));
        }
    });
}

/// The version that is known; 0 before the first.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_version(shadow: *const iotedge_shadow) -> u64 {
    // SAFETY: as the caller says.
    boundary!(
        0,
        unsafe { shadow.as_ref() }.map_or(0, |s| s.inner.state().version())
    )
}

static NEXT_TOKEN: AtomicU64 = AtomicU64::new(0);

/// Sends what was set, without waiting. `callback` is told the server's answer: IOTEDGE_OK, or
/// IOTEDGE_REJECTED, or why it did not get there. Nothing set: IOTEDGE_NOT_FOUND.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new; `callback` may be called with `user_data` until it
/// was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_update(
    shadow: *mut iotedge_shadow,
    callback: iotedge_delivery_callback,
    user_data: *mut c_void,
) -> iotedge_status {
    let user_data = UserData::new(user_data);
    let work = |client: &iotedge_client, inner: &Arc<Inner>| {
        let number = NEXT_TOKEN.fetch_add(1, Ordering::Relaxed);
        let token = format!("iotedge-{}-{number}", std::process::id());
        let document = inner.state().take_document(&token);
        let document = document.ok_or_else(|| Error::NoMember("change to send".into()))?;
        if let Some(callback) = callback {
            let done: Done = Box::new(move |result| {
                let status =
                    result.map_or_else(|error| status(&error), |()| iotedge_status::IOTEDGE_OK);
                // SAFETY: the application's own function with its own pointer.
                unsafe { callback(status, user_data.pointer()) };
            });
            inner.waiting().push((token.clone(), done));
        }
        let sent = client.client.post(update(inner, &token, &document));
        if let Err(error) = sent {
            inner.waiting().retain(|(own, _)| *own != token);
            inner.state().put_back(document);
            return Err(error);
        }
        Ok(())
    };
    // SAFETY: as the caller says.
    unsafe { on_shadow(shadow, work) }
}

fn update(inner: &Arc<Inner>, token: &str, document: &Value) -> Post {
    let of = Arc::downgrade(inner);
    let token = token.to_owned();
    Post {
        topic: format!("{}/update", inner.topic),
        payload: Bytes::from(document.to_string()),
        qos: QoS::AtLeastOnce,
        retain: false,
        // The answer tells how it ended; a message that was lost has none.
        done: Some(Box::new(move |result| {
            let (Some(inner), Err(error)) = (of.upgrade(), result) else {
                return;
            };
            inner.answered(&serde_json::json!({"clientToken": token}), || Err(error));
        })),
    }
}
