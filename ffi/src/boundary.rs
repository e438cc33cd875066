//! What every exported function needs.

use std::ffi::{CStr, c_char, c_int, c_void};

use iotedge_mqtt::{QoS, Str};

use crate::error::{Error, Result};

/// Runs the body of an exported function; a panic becomes the given value, since unwinding must
/// not reach C.
macro_rules! boundary {
    ($otherwise:expr, $body:expr) => {
        ::std::panic::catch_unwind(::std::panic::AssertUnwindSafe(|| $body)).unwrap_or($otherwise)
    };
}

/// Data that the application hands in for its own callbacks. It says by calling from several
/// threads that it may be used there.
#[derive(Clone, Copy)]
pub(crate) struct UserData(*mut c_void);

impl UserData {
    pub(crate) fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    pub(crate) fn pointer(self) -> *mut c_void {
        self.0
    }
}

// SAFETY: the pointer is never followed here, only given back to the application's callbacks,
// which run on the thread that the application calls from.
#[allow(unsafe_code)]
unsafe impl Send for UserData {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for UserData {}

/// The bytes of a C text that may be NULL.
///
/// # Safety
/// `text` is NULL or ends with a NUL byte.
#[allow(unsafe_code)]
pub(crate) unsafe fn c_bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, and the caller says that it ends with NUL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Bytes with their length; `None` when the pointer is NULL.
///
/// # Safety
/// `data` is NULL or points to `len` bytes.
#[allow(unsafe_code)]
pub(crate) unsafe fn sized_bytes<'a>(data: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: not NULL, and the caller says how long it is.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data, len) })
}

/// Writes a text and a NUL byte behind it.
///
/// # Safety
/// There is room for both.
#[allow(unsafe_code)]
pub(crate) unsafe fn write_text(buf: *mut c_char, text: &[u8]) {
    // The text may stand in the same buffer.
    // SAFETY: as the caller says.
    unsafe {
        std::ptr::copy(text.as_ptr(), buf.cast::<u8>(), text.len());
        buf.add(text.len()).write(0);
    }
}

/// Bytes as MQTT text.
pub(crate) fn text(what: &'static str, bytes: &[u8]) -> Result<Str> {
    std::str::from_utf8(bytes)
        .map_err(|_| iotedge_mqtt::StrError::Utf8)
        .and_then(Str::new)
        .map_err(|reason| Error::Text { what, reason })
}

/// A C number as QoS, up to `max`.
pub(crate) fn qos(value: c_int, max: QoS) -> Result<QoS> {
    u8::try_from(value)
        .ok()
        .and_then(|value| QoS::try_from(value).ok())
        .filter(|qos| *qos <= max)
        .ok_or(Error::Value {
            what: "QoS",
            value: value.into(),
        })
}
