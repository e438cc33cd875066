//! `iotedge.h`: the native C API. cbindgen makes the header of this file and those in `native/`;
//! the names are C's.
#![allow(unsafe_code)] // a C border; every function says what it takes for granted
#![allow(non_camel_case_types)] // the names that C programs see
// `iotedge_client` is known to C by its name only.
#![allow(private_interfaces)]

mod log;
mod options;
mod publish;
mod shadow;

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use iotedge_mqtt::{Connect, Publish, QoS, Str, SubAckCode};

use crate::boundary::{UserData, c_bytes, qos, text};
use crate::client::{Client, Handler, Wake};
use crate::error::{Error, Result};

/// What a call came to. IOTEDGE_OK is 0, everything else is negative.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum iotedge_status {
    /// Done.
    IOTEDGE_OK = 0,
    /// An argument is missing or not valid.
    IOTEDGE_INVALID_ARGUMENT = -1,
    /// There is no connection.
    IOTEDGE_NOT_CONNECTED = -2,
    /// There is a connection already.
    IOTEDGE_ALREADY_CONNECTED = -3,
    /// Another operation of this client is in progress.
    IOTEDGE_BUSY = -4,
    /// No answer in time.
    IOTEDGE_TIMEOUT = -5,
    /// The host is unknown or does not answer.
    IOTEDGE_UNREACHABLE = -6,
    /// The CA, certificate or key file cannot be used.
    IOTEDGE_BAD_CERTIFICATE = -7,
    /// The TLS handshake failed.
    IOTEDGE_TLS_FAILED = -8,
    /// The connection is lost. Connect again, and subscribe again.
    IOTEDGE_CONNECTION_LOST = -9,
    /// The server refused the connection.
    IOTEDGE_REFUSED = -10,
    /// The server refused the subscription.
    IOTEDGE_SUBSCRIPTION_REFUSED = -11,
    /// A packet is too large, or there are too many subscriptions.
    IOTEDGE_LIMIT_EXCEEDED = -12,
    /// The server sent what is no MQTT.
    IOTEDGE_PROTOCOL_ERROR = -13,
    /// A fault of this library.
    IOTEDGE_INTERNAL_ERROR = -14,
    /// The connection is lost and iotedge_client_process makes it again.
    IOTEDGE_RECONNECTING = -15,
    /// The shadow has no such member, or is not known yet.
    IOTEDGE_NOT_FOUND = -16,
    /// The member is of another type, or does not fit.
    IOTEDGE_WRONG_TYPE = -17,
    /// The server refused the document.
    IOTEDGE_REJECTED = -18,
}
use iotedge_status::*;

use self::options::{login, settings};

pub use self::log::*;
pub use self::options::{iotedge_options, iotedge_options_init};
pub use self::publish::*;
pub use self::shadow::*;

/// A client. Several threads may use it. Callbacks run inside iotedge_client_process and inside
/// calls that wait for an answer, on the thread that called. A callback may publish, subscribe and
/// unsubscribe; it must neither process nor free the client. A client does not live through fork:
/// the child may only exit or exec.
pub struct iotedge_client {
    pub(crate) client: Client,
    login: Connect,
}

thread_local! {
    /// The client of the last call on this thread that failed, and why.
    static LAST: RefCell<(usize, CString)> = RefCell::default();
}

/// A received message. Its memory is valid until the callback returns.
#[repr(C)]
pub struct iotedge_message {
    /// Topic, with a NUL byte behind it.
    pub topic: *const c_char,
    /// Bytes of the topic.
    pub topic_len: usize,
    /// Payload, with a NUL byte behind it.
    pub payload: *const u8,
    /// Bytes of the payload.
    pub payload_len: usize,
    /// QoS: 0, 1 or 2.
    pub qos: c_int,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
}

/// Is given the messages of a subscription.
pub type iotedge_message_callback =
    Option<unsafe extern "C" fn(message: *const iotedge_message, user_data: *mut c_void)>;

/// The library's version, like "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A status in words.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_status_text(status: c_int) -> *const c_char {
    let text = match status {
        0 => c"done",
        -1 => c"an argument is missing or not valid",
        -2 => c"not connected",
        -3 => c"already connected",
        -4 => c"another operation of this client is in progress",
        -5 => c"no answer in time",
        -6 => c"the host is unknown or does not answer",
        -7 => c"the CA, certificate or key file cannot be used",
        -8 => c"the TLS handshake failed",
        -9 => c"the connection is lost",
        -10 => c"the server refused the connection",
        -11 => c"the server refused the subscription",
        -12 => c"a packet is too large, or there are too many subscriptions",
        -13 => c"the server broke the protocol",
        -14 => c"a fault of libiotedge",
        -15 => c"the connection is lost and is being made again",
        -16 => c"the shadow has no such member, or is not known yet",
        -17 => c"the member is of another type, or does not fit",
        -18 => c"the server refused the document",
        _ => c"no status of libiotedge",
    };
    text.as_ptr()
}

/// Makes a client and puts it where `client` points. Touches neither network nor files; all texts
/// are copied.
///
/// # Safety
/// `options` is NULL or was filled by iotedge_options_init, its texts are NULL or end with NUL;
/// `client` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_new(
    options: *const iotedge_options,
    client: *mut *mut iotedge_client,
) -> iotedge_status {
    boundary!(IOTEDGE_INTERNAL_ERROR, {
        // SAFETY: valid as the caller says.
        let Some(options) = (unsafe { options.as_ref() }) else {
            return IOTEDGE_INVALID_ARGUMENT;
        };
        if client.is_null() || options.size < size_of::<iotedge_options>() {
            return IOTEDGE_INVALID_ARGUMENT;
        }
        // SAFETY: the texts are as the caller says.
        let parts = unsafe { settings(options) }
            // SAFETY: as above.
            .and_then(|settings| Ok((settings, unsafe { login(options) }?)))
            .and_then(|(settings, login)| {
                let wake = Wake::new().map_err(Error::Socket)?;
                Ok((Client::with_wake(settings, Some(wake)), login))
            });
        match parts {
            Ok((new, login)) => {
                let made = Box::new(iotedge_client { client: new, login });
                // SAFETY: valid for writing as the caller says.
                unsafe { client.write(Box::into_raw(made)) };
                IOTEDGE_OK
            }
            Err(error) => status(&error),
        }
    })
}

/// Closes what is open and frees the client. Messages that are not acknowledged yet are told to be
/// lost. Not from within a callback. NULL is nothing.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_free(client: *mut iotedge_client) {
    boundary!((), {
        if !client.is_null() {
            // SAFETY: from `Box::into_raw`, and given back once, as the caller says.
            let client = unsafe { Box::from_raw(client) };
            client.client.retire();
        }
    });
}

/// Connects: TCP, TLS, CONNECT and CONNACK.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_connect(client: *mut iotedge_client) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { on_client(client, |c| c.client.connect(Some(c.login.clone()))) }
}

/// Whether there is a connection, as far as known.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_is_connected(client: *const iotedge_client) -> bool {
    // SAFETY: as the caller says.
    boundary!(
        false,
        unsafe { client.as_ref() }.is_some_and(|c| c.client.is_connected())
    )
}

/// Subscribes; returns when the server has answered. A second subscription to the same filter
/// takes the place of the first.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, `filter` is NULL or ends with NUL; `callback` may
/// be called with `user_data` as long as the subscription lasts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_subscribe(
    client: *mut iotedge_client,
    filter: *const c_char,
    level: c_int,
    callback: iotedge_message_callback,
    user_data: *mut c_void,
) -> iotedge_status {
    let work = |c: &iotedge_client| {
        let callback = callback.ok_or(Error::Missing("callback"))?;
        // SAFETY: as the caller says.
        let filter = unsafe { name("topic filter", filter) }?;
        let qos = qos(level, QoS::ExactlyOnce)?;
        let handler = message_handler(callback, user_data);
        match c.client.subscribe(&filter, qos, handler, true)? {
            SubAckCode::Granted(_) => Ok(()),
            SubAckCode::Refused(_) => Err(Error::SubscriptionRefused),
        }
    };
    // SAFETY: as the caller says.
    unsafe { on_client(client, work) }
}

fn message_handler(
    callback: unsafe extern "C" fn(*const iotedge_message, *mut c_void),
    user_data: *mut c_void,
) -> Handler {
    let user_data = UserData::new(user_data);
    Arc::new(move |message: &Publish| {
        let with_nul = |bytes: &[u8]| [bytes, &[0]].concat();
        let topic = with_nul(message.topic.as_bytes());
        let payload = with_nul(&message.payload);
        let given = iotedge_message {
            topic: topic.as_ptr().cast(),
            topic_len: message.topic.len(),
            payload: payload.as_ptr(),
            payload_len: message.payload.len(),
            qos: u8::from(message.qos).into(),
            retain: message.retain,
            dup: message.dup,
        };
        // SAFETY: the application's own function with its own pointer, and a message that lives
        // until it returns.
        unsafe { callback(&raw const given, user_data.pointer()) };
    })
}

/// Unsubscribes; returns when the server has answered.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, `filter` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_unsubscribe(
    client: *mut iotedge_client,
    filter: *const c_char,
) -> iotedge_status {
    let work = |c: &iotedge_client| {
        // SAFETY: as the caller says.
        let filter = unsafe { name("topic filter", filter) }?;
        c.client.unsubscribe(&filter)
    };
    // SAFETY: as the caller says.
    unsafe { on_client(client, work) }
}

/// Receives, calls callbacks and keeps the connection alive for so many milliseconds, and at
/// least once. To be called often: nothing happens between calls.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_process(
    client: *mut iotedge_client,
    timeout_ms: u32,
) -> iotedge_status {
    let timeout = Duration::from_millis(timeout_ms.into());
    // SAFETY: as the caller says.
    unsafe { on_client(client, |c| c.client.run(timeout)) }
}

/// Sends DISCONNECT and closes.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_disconnect(client: *mut iotedge_client) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { on_client(client, |c| c.client.disconnect()) }
}

/// Why the last call of this thread on this client failed, in words; empty when none has. Valid
/// until the thread's next call.
///
/// # Safety
/// None: the client is not looked at.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_client_error(client: *const iotedge_client) -> *const c_char {
    let none = c"".as_ptr();
    boundary!(
        none,
        LAST.with_borrow(|(of, words)| {
            if *of == client.addr() {
                words.as_ptr()
            } else {
                none
            }
        })
    )
}

/// A descriptor for a loop of the program's own: readable when iotedge_client_process has
/// something to do, a keep-alive or an attempt to reconnect included. Call it with a time of 0
/// then; only reconnecting makes it wait, as iotedge_client_connect does. The descriptor stays the
/// same as long as the client lives. -1 without a client.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_fd(client: *const iotedge_client) -> c_int {
    // SAFETY: as the caller says.
    boundary!(
        -1,
        unsafe { client.as_ref() }
            .and_then(|c| c.client.descriptor())
            .unwrap_or(-1)
    )
}

/// A topic or filter.
pub(crate) unsafe fn name(what: &'static str, pointer: *const c_char) -> Result<Str> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = unsafe { c_bytes(pointer) }.ok_or(Error::Missing(what))?;
    text(what, bytes)
}

/// Runs `work`, keeps its error's words, and gives its status.
pub(crate) unsafe fn on_client<T>(
    client: *const iotedge_client,
    work: impl FnOnce(&iotedge_client) -> Result<T>,
) -> iotedge_status {
    boundary!(IOTEDGE_INTERNAL_ERROR, {
        // SAFETY: as the caller says.
        let Some(client) = (unsafe { client.as_ref() }) else {
            return IOTEDGE_INVALID_ARGUMENT;
        };
        let Err(error) = work(client) else {
            return IOTEDGE_OK;
        };
        let words = CString::new(error.to_string()).unwrap_or_default();
        LAST.set((std::ptr::from_ref(client).addr(), words));
        status(&error)
    })
}

pub(crate) fn status(error: &Error) -> iotedge_status {
    match error {
        Error::Missing(_)
        | Error::NotSubscribed
        | Error::Topic(_)
        | Error::Text { .. }
        | Error::Value { .. }
        | Error::Encode(_) => IOTEDGE_INVALID_ARGUMENT,
        Error::NotConnected | Error::ManuallyDisconnected => IOTEDGE_NOT_CONNECTED,
        Error::AlreadyConnected => IOTEDGE_ALREADY_CONNECTED,
        Error::NotIdle | Error::UnexpectedState => IOTEDGE_BUSY,
        Error::Timeout => IOTEDGE_TIMEOUT,
        Error::UnknownHost { .. } | Error::Socket(_) | Error::Connect(_) => IOTEDGE_UNREACHABLE,
        Error::Ca { .. } | Error::Certificate { .. } | Error::Key { .. } => IOTEDGE_BAD_CERTIFICATE,
        Error::Tls(_) => IOTEDGE_TLS_FAILED,
        Error::Read(_)
        | Error::Write(_)
        | Error::WriteTimeout
        | Error::KeepAlive
        | Error::Lost(_)
        | Error::ReconnectTimedOut => IOTEDGE_CONNECTION_LOST,
        Error::AttemptingReconnect => IOTEDGE_RECONNECTING,
        Error::NoMember(_) => IOTEDGE_NOT_FOUND,
        Error::WrongType(_) => IOTEDGE_WRONG_TYPE,
        Error::Rejected(_) => IOTEDGE_REJECTED,
        Error::Refused(_) => IOTEDGE_REFUSED,
        Error::SubscriptionRefused => IOTEDGE_SUBSCRIPTION_REFUSED,
        Error::RxBuffer { .. }
        | Error::TxBuffer { .. }
        | Error::TooManySubscriptions(_)
        | Error::QueueFull(_) => IOTEDGE_LIMIT_EXCEEDED,
        Error::Decode(_) => IOTEDGE_PROTOCOL_ERROR,
    }
}
