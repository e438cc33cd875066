//! `network_interface.h`: a TLS connection by itself.

use std::ffi::{c_char, c_int, c_void};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::codes::{FAILURE, NULL_VALUE_ERROR, SUCCESS, code, code_of};
use super::settings::{Given, endpoint};
use crate::boundary::sized_bytes;
use crate::error::Result;
use crate::tls;
use crate::wire::{Filled, Patience, Wire};

const NETWORK_PHYSICAL_LAYER_CONNECTED: c_int = 6;
const NETWORK_SSL_READ_TIMEOUT_ERROR: c_int = -11;
const NETWORK_DISCONNECTED_ERROR: c_int = -13;
const NETWORK_SSL_NOTHING_TO_READ: c_int = -25;

/// How long the TCP connection may take: the interface has no time for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// `Timer` of `timer_platform.h`.
#[repr(C)]
pub struct Timer {
    end_time: libc::timeval,
}

impl Timer {
    /// The moment at which it runs out.
    fn deadline(&self) -> Instant {
        let mut now = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        // SAFETY: valid for writing, and no time zone is asked for.
        unsafe { libc::gettimeofday(&raw mut now, std::ptr::null_mut()) };
        let seconds = i128::from(self.end_time.tv_sec) - i128::from(now.tv_sec);
        let micros = i128::from(self.end_time.tv_usec) - i128::from(now.tv_usec);
        let left = (seconds * 1_000_000 + micros).max(0);
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        let start = Instant::now();
        start.checked_add(left).unwrap_or(start)
    }
}

/// `TLSConnectParams`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsConnectParams {
    root_ca: *const c_char,
    device_cert: *const c_char,
    private_key: *const c_char,
    destination: *const c_char,
    port: u16,
    timeout_ms: u32,
    verify: u8,
}

type Transfer = unsafe extern "C" fn(*mut Network, *mut u8, usize, *mut Timer, *mut usize) -> c_int;
type Simple = unsafe extern "C" fn(*mut Network) -> c_int;

/// `Network`.
#[repr(C)]
pub struct Network {
    connect: unsafe extern "C" fn(*mut Network, *mut TlsConnectParams) -> c_int,
    read: Transfer,
    write: Transfer,
    disconnect: Simple,
    is_connected: Simple,
    destroy: Simple,
    params: TlsConnectParams,
    line: *mut c_void,
}

/// What a connected [`Network`] points to.
struct Line {
    wire: Wire,
    /// Read from the wire, not yet by the application.
    buf: BytesMut,
}

/// Fills in a [`Network`].
///
/// # Safety
/// `network` is NULL or valid for writing; the texts are NULL or end with NUL, and live until the
/// connection is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_init(
    network: *mut Network,
    root_ca: *const c_char,
    device_cert: *const c_char,
    private_key: *const c_char,
    destination: *const c_char,
    port: u16,
    timeout_ms: u32,
    verify: bool,
) -> c_int {
    if network.is_null() {
        return NULL_VALUE_ERROR;
    }
    let filled = Network {
        connect: iot_tls_connect,
        read: iot_tls_read,
        write: iot_tls_write,
        disconnect: iot_tls_disconnect,
        is_connected: iot_tls_is_connected,
        destroy: iot_tls_destroy,
        params: TlsConnectParams {
            root_ca,
            device_cert,
            private_key,
            destination,
            port,
            timeout_ms,
            verify: verify.into(),
        },
        line: std::ptr::null_mut(),
    };
    // SAFETY: valid for writing as the caller says.
    unsafe { network.write(filled) };
    SUCCESS
}

/// Connects and shakes hands.
///
/// # Safety
/// `network` is NULL or was filled by [`iot_tls_init`]; `params` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_connect(
    network: *mut Network,
    params: *mut TlsConnectParams,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let Some(network) = (unsafe { network.as_mut() }) else {
            return NULL_VALUE_ERROR;
        };
        // SAFETY: as the caller says.
        if let Some(params) = unsafe { params.as_ref() } {
            network.params = *params;
        }
        // SAFETY: as the caller says.
        let Ok(endpoint) = (unsafe { endpoint(&given_by(&network.params)) }) else {
            return NULL_VALUE_ERROR;
        };
        // SAFETY: as the caller says.
        unsafe { hang_up(network) };
        let timeout = Duration::from_millis(network.params.timeout_ms.into());
        let made = tls::config(&endpoint)
            .and_then(|config| Wire::connect(&endpoint, config, CONNECT_TIMEOUT, timeout));
        code_of(made.map(|wire| {
            let buf = BytesMut::new();
            network.line = Box::into_raw(Box::new(Line { wire, buf })).cast();
        }))
    })
}

fn given_by(params: &TlsConnectParams) -> Given {
    Given {
        host: params.destination,
        port: params.port,
        root_ca: params.root_ca,
        device_cert: params.device_cert,
        private_key: params.private_key,
        verify: params.verify,
    }
}

/// Closes and frees what is open.
unsafe fn hang_up(network: &mut Network) -> bool {
    let line = std::mem::replace(&mut network.line, std::ptr::null_mut());
    if line.is_null() {
        return false;
    }
    // SAFETY: from `Box::into_raw` above, and taken out of the network just now.
    let line = unsafe { Box::from_raw(line.cast::<Line>()) };
    line.wire.close(Instant::now() + Duration::from_secs(1));
    true
}

/// The open line and the timer's end.
unsafe fn parts<'a>(
    network: *mut Network,
    timer: *const Timer,
) -> std::result::Result<(&'a mut Line, Instant), c_int> {
    // SAFETY: NULL or valid as the caller says.
    let (network, timer) = unsafe { (network.as_mut(), timer.as_ref()) };
    let (Some(network), Some(timer)) = (network, timer) else {
        return Err(NULL_VALUE_ERROR);
    };
    // SAFETY: NULL or from `Box::into_raw` above.
    let line = unsafe { network.line.cast::<Line>().as_mut() };
    line.map(|line| (line, timer.deadline()))
        .ok_or(NETWORK_DISCONNECTED_ERROR)
}

/// Writes all bytes.
///
/// # Safety
/// `network` is NULL or was filled by [`iot_tls_init`], `bytes` is as long as `len` says, `timer`
/// and `written` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_write(
    network: *mut Network,
    bytes: *mut u8,
    len: usize,
    timer: *mut Timer,
    written: *mut usize,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let (parts, bytes) = unsafe { (parts(network, timer), sized_bytes(bytes, len)) };
        let (line, deadline) = match parts {
            Ok(parts) => parts,
            Err(code) => return code,
        };
        let Some(bytes) = bytes else {
            return NULL_VALUE_ERROR;
        };
        let sent = line.wire.write_all(bytes, deadline);
        if !written.is_null() {
            // SAFETY: valid for writing as the caller says.
            unsafe { written.write(if sent.is_ok() { len } else { 0 }) };
        }
        code_of(sent)
    })
}

/// Reads exactly `len` bytes; what came too late is there for the next read.
///
/// # Safety
/// As [`iot_tls_write`]; `bytes` is valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_read(
    network: *mut Network,
    bytes: *mut u8,
    len: usize,
    timer: *mut Timer,
    read: *mut usize,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let (line, deadline) = match unsafe { parts(network, timer) } {
            Ok(parts) => parts,
            Err(code) => return code,
        };
        if bytes.is_null() {
            return NULL_VALUE_ERROR;
        }
        let filled = fill(line, len, deadline);
        let count = if line.buf.len() >= len { len } else { 0 };
        // SAFETY: `count` is at most `len` and at most what is in the buffer.
        unsafe { std::ptr::copy_nonoverlapping(line.buf.as_ptr(), bytes, count) };
        line.buf.advance(count);
        if !read.is_null() {
            // SAFETY: valid for writing as the caller says.
            unsafe { read.write(count) };
        }
        match filled {
            _ if count == len => SUCCESS,
            Err(error) => code(&error),
            Ok(()) if line.buf.is_empty() => NETWORK_SSL_NOTHING_TO_READ,
            Ok(()) => NETWORK_SSL_READ_TIMEOUT_ERROR,
        }
    })
}

fn fill(line: &mut Line, len: usize, deadline: Instant) -> Result<()> {
    let mut patience = Patience::until(deadline);
    while line.buf.len() < len {
        if line.wire.fill(&mut line.buf, &mut patience)? != Filled::Data {
            break;
        }
    }
    Ok(())
}

/// Closes.
///
/// # Safety
/// `network` is NULL or was filled by [`iot_tls_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_disconnect(network: *mut Network) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let Some(network) = (unsafe { network.as_mut() }) else {
            return NULL_VALUE_ERROR;
        };
        // SAFETY: as the caller says.
        if unsafe { hang_up(network) } {
            SUCCESS
        } else {
            NETWORK_DISCONNECTED_ERROR
        }
    })
}

/// Closes what is open and frees it.
///
/// # Safety
/// As [`iot_tls_disconnect`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_destroy(network: *mut Network) -> c_int {
    // SAFETY: as the caller says.
    match unsafe { iot_tls_disconnect(network) } {
        NETWORK_DISCONNECTED_ERROR => SUCCESS,
        other => other,
    }
}

/// Always connected, as far as can be said without using the line.
///
/// # Safety
/// None: nothing is looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iot_tls_is_connected(_network: *mut Network) -> c_int {
    NETWORK_PHYSICAL_LAYER_CONNECTED
}
