//! Members of a shadow: read and set by their paths.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use serde_json::Value;

use super::{Inner, iotedge_section, iotedge_shadow, on_shadow};
use crate::boundary::write_text;
use crate::error::{Error, Result};
use crate::native::{iotedge_client, iotedge_status, name};
use crate::shadow::{Section, number};

/// A member as `read` makes it.
unsafe fn get<T>(
    shadow: *const iotedge_shadow,
    section: iotedge_section,
    path: *const c_char,
    out: *mut T,
    read: impl FnOnce(&Value) -> Option<T>,
) -> iotedge_status {
    let work = |_: &iotedge_client, inner: &Arc<Inner>| {
        // SAFETY: as the caller says.
        let path = unsafe { name("path", path) }?;
        if out.is_null() {
            return Err(Error::Missing("value"));
        }
        let state = inner.state();
        let value = state.get(part(section), &path)?;
        let value = read(value).ok_or_else(|| Error::WrongType(path.to_string()))?;
        // SAFETY: valid for writing as the caller says.
        unsafe { out.write(value) };
        Ok(())
    };
    // SAFETY: as the caller says.
    unsafe { on_shadow(shadow, work) }
}

fn part(section: iotedge_section) -> Section {
    match section {
        iotedge_section::IOTEDGE_REPORTED => Section::Reported,
        iotedge_section::IOTEDGE_DESIRED => Section::Desired,
        iotedge_section::IOTEDGE_DELTA => Section::Delta,
    }
}

/// The section of a C number, or an error's status.
macro_rules! section {
    ($number:expr) => {
        match $number {
            0 => iotedge_section::IOTEDGE_REPORTED,
            1 => iotedge_section::IOTEDGE_DESIRED,
            2 => iotedge_section::IOTEDGE_DELTA,
            _ => return iotedge_status::IOTEDGE_INVALID_ARGUMENT,
        }
    };
}

/// A boolean member. `path` is its keys with slashes between them. IOTEDGE_NOT_FOUND and
/// IOTEDGE_WRONG_TYPE leave the value as it was. `section` is an iotedge_section.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new, `path` is NULL or ends with NUL, `value` is NULL or
/// valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_get_bool(
    shadow: *const iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: *mut bool,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { get(shadow, section!(section), path, value, Value::as_bool) }
}

/// An integer member.
///
/// # Safety
/// As iotedge_shadow_get_bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_get_int64(
    shadow: *const iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: *mut i64,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { get(shadow, section!(section), path, value, Value::as_i64) }
}

/// A number.
///
/// # Safety
/// As iotedge_shadow_get_bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_get_double(
    shadow: *const iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: *mut f64,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { get(shadow, section!(section), path, value, Value::as_f64) }
}

/// A text member with a NUL byte behind it; IOTEDGE_WRONG_TYPE when it does not fit.
///
/// # Safety
/// As iotedge_shadow_get_bool; `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_get_string(
    shadow: *const iotedge_shadow,
    section: c_int,
    path: *const c_char,
    buf: *mut c_char,
    size: usize,
) -> iotedge_status {
    let section = section!(section);
    // SAFETY: as the caller says.
    unsafe {
        get_text(shadow, section, path, buf, size, |value| {
            value.as_str().map(str::to_owned)
        })
    }
}

/// A member of any type as JSON; "" as `path` for the whole section.
///
/// # Safety
/// As iotedge_shadow_get_string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_get_json(
    shadow: *const iotedge_shadow,
    section: c_int,
    path: *const c_char,
    buf: *mut c_char,
    size: usize,
) -> iotedge_status {
    let section = section!(section);
    // SAFETY: as the caller says.
    unsafe {
        get_text(shadow, section, path, buf, size, |value| {
            Some(value.to_string())
        })
    }
}

unsafe fn get_text(
    shadow: *const iotedge_shadow,
    section: iotedge_section,
    path: *const c_char,
    buf: *mut c_char,
    size: usize,
    read: impl FnOnce(&Value) -> Option<String>,
) -> iotedge_status {
    if buf.is_null() {
        return iotedge_status::IOTEDGE_INVALID_ARGUMENT;
    }
    let mut found = String::new();
    let fits = |text: &String| text.len() < size && !text.contains('\0');
    // SAFETY: as the caller says; the text is written to a place of its own first.
    unsafe {
        let status = get(shadow, section, path, &raw mut found, |value| {
            read(value).filter(fits)
        });
        if status == iotedge_status::IOTEDGE_OK {
            write_text(buf, found.as_bytes());
        }
        status
    }
}

unsafe fn set(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: impl FnOnce() -> Result<Value>,
) -> iotedge_status {
    let section = section!(section);
    let work = |_: &iotedge_client, inner: &Arc<Inner>| {
        // SAFETY: as the caller says.
        let path = unsafe { name("path", path) }?;
        inner.state().set(part(section), &path, value()?)
    };
    // SAFETY: as the caller says.
    unsafe { on_shadow(shadow, work) }
}

/// Sets a member in what iotedge_shadow_update sends: IOTEDGE_REPORTED or IOTEDGE_DESIRED.
///
/// # Safety
/// `shadow` is NULL or from iotedge_shadow_new, `path` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_set_bool(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: bool,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { set(shadow, section, path, || Ok(value.into())) }
}

/// Sets an integer member.
///
/// # Safety
/// As iotedge_shadow_set_bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_set_int64(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: i64,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { set(shadow, section, path, || Ok(value.into())) }
}

/// Sets a number; IOTEDGE_WRONG_TYPE for infinity and NaN, which JSON does not have.
///
/// # Safety
/// As iotedge_shadow_set_bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_set_double(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: f64,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { set(shadow, section, path, || number(value)) }
}

/// Sets a text member.
///
/// # Safety
/// As iotedge_shadow_set_bool; `value` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_set_string(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: *const c_char,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe {
        set(shadow, section, path, || {
            Ok(name("value", value)?.as_str().into())
        })
    }
}

/// Sets a member of any type from JSON; null removes it.
///
/// # Safety
/// As iotedge_shadow_set_string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_set_json(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
    value: *const c_char,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe {
        set(shadow, section, path, || {
            let text = name("value", value)?;
            serde_json::from_str(&text).map_err(|e| Error::WrongType(e.to_string()))
        })
    }
}

/// Removes a member from the shadow.
///
/// # Safety
/// As iotedge_shadow_set_bool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_shadow_remove(
    shadow: *mut iotedge_shadow,
    section: c_int,
    path: *const c_char,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe { set(shadow, section, path, || Ok(Value::Null)) }
}
