//! What both generations make a client with.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::types::CompatConfig;
use crate::boundary::c_bytes;
use crate::client::{Endpoint, Settings};
use crate::error::{Error, Result};

/// Where to connect and as whom, as C has it.
pub(super) struct Given {
    pub(super) host: *const c_char,
    pub(super) port: u16,
    pub(super) root_ca: *const c_char,
    pub(super) device_cert: *const c_char,
    pub(super) private_key: *const c_char,
    /// 0: the server is not verified at all.
    pub(super) verify: u8,
}

/// The server; an error when a text is NULL.
///
/// # Safety
/// The texts are NULL or end with NUL.
pub(super) unsafe fn endpoint(given: &Given) -> Result<Endpoint> {
    let text = |pointer, what| {
        // SAFETY: as the caller says.
        unsafe { c_bytes(pointer) }.ok_or(Error::Missing(what))
    };
    let path =
        |pointer, what| text(pointer, what).map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)));
    let host = text(given.host, "host")?;
    let certificate = path(given.device_cert, "certificate")?;
    Ok(Endpoint {
        host: String::from_utf8_lossy(host).into_owned(),
        port: given.port,
        ca: path(given.root_ca, "root CA")?,
        identity: Some((certificate, path(given.private_key, "private key")?)),
        verify: given.verify != 0,
        alpn: None,
        local: None,
    })
}

/// What a client is made with: times in milliseconds, and the application's macros.
pub(super) fn settings(
    endpoint: Endpoint,
    config: &CompatConfig,
    command_timeout_ms: u32,
    tls_timeout_ms: u32,
    auto_reconnect: u8,
) -> Settings {
    let millis = |ms: u32| Duration::from_millis(ms.into());
    Settings {
        endpoint,
        command_timeout: millis(command_timeout_ms),
        tls_timeout: millis(tls_timeout_ms),
        tx_limit: config.tx_buf_len as usize,
        rx_limit: config.rx_buf_len as usize,
        max_subscriptions: config.num_subscribe_handlers as usize,
        reconnect_min: millis(config.min_reconnect_wait_ms),
        reconnect_max: millis(config.max_reconnect_wait_ms),
        auto_reconnect: auto_reconnect != 0,
        gives_up: true,
        max_in_flight: 0,
        max_queued_bytes: 0,
    }
}
