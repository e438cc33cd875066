//! `iotedge.h`: the native C API. cbindgen makes the header of this file; the names are C's.
#![allow(unsafe_code)] // a C border; every function says what it takes for granted
#![allow(non_camel_case_types)] // the names that C programs see
// `iotedge_client` is known to C by its name only.
#![allow(private_interfaces)]

use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iotedge_mqtt::{Connect, Publish, QoS, Str, SubAckCode, Version};

use crate::boundary::{UserData, c_bytes, qos, sized_bytes, text};
use crate::client::{Client, Endpoint, Handler, Settings};
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
}
use iotedge_status::*;

/// A client. One operation at a time; callbacks run on the calling thread, inside
/// iotedge_client_process and inside calls that wait for an answer. A callback may publish,
/// subscribe and unsubscribe.
pub struct iotedge_client {
    client: Client,
    login: Connect,
    error: Mutex<CString>,
}

/// What a client is made with. iotedge_options_init fills in what has a default.
#[repr(C)]
pub struct iotedge_options {
    /// sizeof(iotedge_options): set by iotedge_options_init.
    pub size: usize,
    /// Host name or address; the server's certificate must be valid for it. Required.
    pub host: *const c_char,
    /// Port; 8883.
    pub port: u16,
    /// Client id; NULL or empty lets the server choose one.
    pub client_id: *const c_char,
    /// PEM file of the certificates that may have signed the server's. Required.
    pub ca_file: *const c_char,
    /// PEM file of the client's certificate chain; NULL for none.
    pub cert_file: *const c_char,
    /// PEM file of its private key (PKCS#8, SEC1 or PKCS#1); NULL for none.
    pub key_file: *const c_char,
    /// Protocol to ask for by ALPN; NULL for none, and x-amzn-mqtt-ca on port 443.
    pub alpn: *const c_char,
    /// User name; NULL for none.
    pub username: *const c_char,
    /// Password; NULL for none. Needs a user name.
    pub password: *const u8,
    /// Bytes of the password.
    pub password_len: usize,
    /// Seconds between two packets; 60. 0 switches it off.
    pub keep_alive_s: u16,
    /// Whether the server forgets the session with the connection; true.
    pub clean_session: bool,
    /// How long connecting, the handshake and each answer may take; 20,000.
    pub timeout_ms: u32,
    /// Bytes of a packet at most, either way; 131,072.
    pub max_packet_bytes: u32,
    /// Subscriptions at most; 64.
    pub max_subscriptions: u32,
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
        _ => c"no status of libiotedge",
    };
    text.as_ptr()
}

/// Fills in the defaults; everything else becomes NULL.
///
/// # Safety
/// `options` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_options_init(options: *mut iotedge_options) {
    if options.is_null() {
        return;
    }
    let defaults = iotedge_options {
        size: size_of::<iotedge_options>(),
        host: std::ptr::null(),
        port: 8883,
        client_id: std::ptr::null(),
        ca_file: std::ptr::null(),
        cert_file: std::ptr::null(),
        key_file: std::ptr::null(),
        alpn: std::ptr::null(),
        username: std::ptr::null(),
        password: std::ptr::null(),
        password_len: 0,
        keep_alive_s: 60,
        clean_session: true,
        timeout_ms: 20_000,
        max_packet_bytes: 131_072,
        max_subscriptions: 64,
    };
    // SAFETY: not NULL, and valid for writing as the caller says.
    unsafe { options.write(defaults) };
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
            .and_then(|settings| Ok((settings, unsafe { login(options) }?)));
        match parts {
            Ok((settings, login)) => {
                let made = Box::new(iotedge_client {
                    client: Client::new(settings),
                    login,
                    error: Mutex::new(CString::default()),
                });
                // SAFETY: valid for writing as the caller says.
                unsafe { client.write(Box::into_raw(made)) };
                IOTEDGE_OK
            }
            Err(error) => status(&error),
        }
    })
}

unsafe fn settings(options: &iotedge_options) -> Result<Settings> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = |pointer| unsafe { c_bytes(pointer) };
    let path = |pointer| bytes(pointer).map(|b| PathBuf::from(OsStr::from_bytes(b)));
    let host = bytes(options.host).ok_or(Error::Missing("host"))?;
    let identity = match (path(options.cert_file), path(options.key_file)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(Error::Missing("key_file")),
        (None, Some(_)) => return Err(Error::Missing("cert_file")),
    };
    let timeout = Duration::from_millis(options.timeout_ms.into());
    // The limits are of packets that are smaller.
    let packet_limit = (options.max_packet_bytes as usize).saturating_add(1);
    Ok(Settings {
        endpoint: Endpoint {
            host: text("host", host)?.as_str().to_owned(),
            port: options.port,
            ca: path(options.ca_file).ok_or(Error::Missing("ca_file"))?,
            identity,
            verify: true,
            alpn: bytes(options.alpn).map(<[u8]>::to_vec),
        },
        command_timeout: timeout,
        tls_timeout: timeout,
        tx_limit: packet_limit,
        rx_limit: packet_limit,
        max_subscriptions: options.max_subscriptions as usize,
        reconnect_min: Duration::ZERO,
        reconnect_max: Duration::ZERO,
        auto_reconnect: false,
    })
}

unsafe fn login(options: &iotedge_options) -> Result<Connect> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = |pointer| unsafe { c_bytes(pointer) };
    // SAFETY: as long as the caller says.
    let password = unsafe { sized_bytes(options.password, options.password_len) };
    Ok(Connect {
        version: Version::V311,
        clean: options.clean_session,
        keep_alive: options.keep_alive_s,
        client_id: text("client id", bytes(options.client_id).unwrap_or_default())?,
        will: None,
        username: bytes(options.username)
            .map(|name| text("user name", name))
            .transpose()?,
        password: password.map(Bytes::copy_from_slice),
        properties: None,
    })
}

/// Closes what is open and frees the client. Not from within a callback. NULL is nothing.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_free(client: *mut iotedge_client) {
    boundary!((), {
        if !client.is_null() {
            // SAFETY: from `Box::into_raw`, and given back once, as the caller says.
            drop(unsafe { Box::from_raw(client) });
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

/// Publishes. With QoS 0 it returns when the bytes are handed to the socket, with QoS 1 and 2
/// when the server has acknowledged.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, `topic` is NULL or ends with NUL, `payload` is
/// NULL or as long as `payload_len` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_publish(
    client: *mut iotedge_client,
    topic: *const c_char,
    payload: *const u8,
    payload_len: usize,
    level: c_int,
    retain: bool,
) -> iotedge_status {
    // SAFETY: as the caller says.
    let payload = unsafe { sized_bytes(payload, payload_len) };
    let work = |c: &iotedge_client| {
        if payload.is_none() && payload_len > 0 {
            return Err(Error::Missing("payload"));
        }
        // SAFETY: as the caller says.
        let topic = unsafe { name("topic", topic) }?;
        let qos = qos(level, QoS::ExactlyOnce)?;
        c.client
            .publish(&topic, payload.unwrap_or_default(), qos, retain)
    };
    // SAFETY: as the caller says.
    unsafe { on_client(client, work) }
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

/// Why the last call on this client failed, in words; empty when none has. Valid until the next
/// call on it.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_error(client: *const iotedge_client) -> *const c_char {
    let none = c"".as_ptr();
    // SAFETY: as the caller says.
    boundary!(
        none,
        unsafe { client.as_ref() }.map_or(none, |c| {
            let error = c.error.lock().unwrap_or_else(PoisonError::into_inner);
            error.as_ptr()
        })
    )
}

/// A topic or filter.
unsafe fn name(what: &'static str, pointer: *const c_char) -> Result<Str> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = unsafe { c_bytes(pointer) }.ok_or(Error::Missing(what))?;
    text(what, bytes)
}

/// Runs `work`, keeps its error's words, and gives its status.
unsafe fn on_client<T>(
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
        *client.error.lock().unwrap_or_else(PoisonError::into_inner) = words;
        status(&error)
    })
}

fn status(error: &Error) -> iotedge_status {
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
        | Error::AttemptingReconnect
        | Error::ReconnectTimedOut => IOTEDGE_CONNECTION_LOST,
        Error::Refused(_) => IOTEDGE_REFUSED,
        Error::SubscriptionRefused => IOTEDGE_SUBSCRIPTION_REFUSED,
        Error::RxBuffer { .. } | Error::TxBuffer { .. } | Error::TooManySubscriptions(_) => {
            IOTEDGE_LIMIT_EXCEEDED
        }
        Error::Decode(_) => IOTEDGE_PROTOCOL_ERROR,
    }
}
