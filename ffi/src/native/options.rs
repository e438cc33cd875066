//! What a client is made with.

use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use iotedge_mqtt::{Connect, LastWill, QoS, Version};

use crate::boundary::{c_bytes, qos, sized_bytes, text};
use crate::client::{Endpoint, Settings};
use crate::error::{Error, Result};

/// What a client is made with. iotedge_options_init fills in what has a default.
#[repr(C)]
pub struct iotedge_options {
    /// sizeof(iotedge_options): set by iotedge_options_init.
    pub size: usize,
    /// Host name or address; the server's certificate must be valid for it. Required without
    /// socket_path.
    pub host: *const c_char,
    /// Port; 8883.
    pub port: u16,
    /// Client id; NULL or empty lets the server choose one.
    pub client_id: *const c_char,
    /// PEM file of the certificates that may have signed the server's. Required without
    /// socket_path.
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
    /// Unix socket of a gateway on this machine, in place of host, port and certificates: the
    /// gateway knows who connects by the process's user. NULL for none.
    pub socket_path: *const c_char,
    /// Topic of what the server publishes when the connection is lost; NULL for none.
    pub will_topic: *const c_char,
    /// Its payload.
    pub will_payload: *const u8,
    /// Bytes of its payload.
    pub will_payload_len: usize,
    /// Its QoS: 0, 1 or 2.
    pub will_qos: c_int,
    /// Its RETAIN flag.
    pub will_retain: bool,
    /// Whether iotedge_client_process makes a lost connection again, with its subscriptions;
    /// false.
    pub auto_reconnect: bool,
    /// Milliseconds before the first attempt, doubled before each further one; 1,000.
    pub reconnect_min_ms: u32,
    /// The longest wait before an attempt; 60,000.
    pub reconnect_max_ms: u32,
    /// Published messages that wait for the server's acknowledgement at a time, at most; 32.
    pub max_in_flight: u16,
    /// Bytes of published messages that are not acknowledged yet, at most; 1,048,576.
    pub max_queued_bytes: usize,
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
        socket_path: std::ptr::null(),
        will_topic: std::ptr::null(),
        will_payload: std::ptr::null(),
        will_payload_len: 0,
        will_qos: 0,
        will_retain: false,
        auto_reconnect: false,
        reconnect_min_ms: 1000,
        reconnect_max_ms: 60_000,
        max_in_flight: 32,
        max_queued_bytes: 1_048_576,
    };
    // SAFETY: not NULL, and valid for writing as the caller says.
    unsafe { options.write(defaults) };
}

pub(super) unsafe fn settings(options: &iotedge_options) -> Result<Settings> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = |pointer| unsafe { c_bytes(pointer) };
    let path = |pointer| bytes(pointer).map(|b| PathBuf::from(OsStr::from_bytes(b)));
    let local = path(options.socket_path);
    let host = match (bytes(options.host), &local) {
        (Some(host), _) => host,
        (None, Some(_)) => b"",
        (None, None) => return Err(Error::Missing("host")),
    };
    let ca = match (path(options.ca_file), &local) {
        (Some(ca), _) => ca,
        (None, Some(_)) => PathBuf::new(),
        (None, None) => return Err(Error::Missing("ca_file")),
    };
    let identity = match (path(options.cert_file), path(options.key_file)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(Error::Missing("key_file")),
        (None, Some(_)) => return Err(Error::Missing("cert_file")),
    };
    let millis = |ms: u32| Duration::from_millis(ms.into());
    // The limits are of packets that are smaller.
    let packet_limit = (options.max_packet_bytes as usize).saturating_add(1);
    Ok(Settings {
        endpoint: Endpoint {
            host: text("host", host)?.as_str().to_owned(),
            port: options.port,
            ca,
            identity,
            verify: true,
            alpn: bytes(options.alpn).map(<[u8]>::to_vec),
            local,
        },
        command_timeout: millis(options.timeout_ms),
        tls_timeout: millis(options.timeout_ms),
        tx_limit: packet_limit,
        rx_limit: packet_limit,
        max_subscriptions: options.max_subscriptions as usize,
        reconnect_min: millis(options.reconnect_min_ms),
        reconnect_max: millis(options.reconnect_max_ms),
        auto_reconnect: options.auto_reconnect,
        gives_up: false,
        max_in_flight: options.max_in_flight.max(1),
        max_queued_bytes: options.max_queued_bytes,
    })
}

pub(super) unsafe fn login(options: &iotedge_options) -> Result<Connect> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let bytes = |pointer| unsafe { c_bytes(pointer) };
    // SAFETY: as long as the caller says.
    let password = unsafe { sized_bytes(options.password, options.password_len) };
    Ok(Connect {
        version: Version::V311,
        clean: options.clean_session,
        keep_alive: options.keep_alive_s,
        client_id: text("client id", bytes(options.client_id).unwrap_or_default())?,
        // SAFETY: as the caller says.
        will: unsafe { will(options) }?,
        username: bytes(options.username)
            .map(|name| text("user name", name))
            .transpose()?,
        password: password.map(Bytes::copy_from_slice),
        properties: None,
    })
}

unsafe fn will(options: &iotedge_options) -> Result<Option<LastWill>> {
    // SAFETY: NULL or ends with NUL as the caller says.
    let Some(topic) = (unsafe { c_bytes(options.will_topic) }) else {
        return Ok(None);
    };
    // SAFETY: as long as the caller says.
    let payload = unsafe { sized_bytes(options.will_payload, options.will_payload_len) };
    Ok(Some(LastWill {
        topic: text("will topic", topic)?,
        payload: Bytes::copy_from_slice(payload.unwrap_or_default()),
        qos: qos(options.will_qos, QoS::ExactlyOnce)?,
        retain: options.will_retain,
        properties: None,
    }))
}
