//! Deltas of the own thing's shadow, and the members of them that the application registered.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use iotedge_mqtt::{Publish, QoS};

use super::super::json::{Primitive, store};
use super::super::registry::{self, Entry};
use super::super::types::AwsIotClient;
use super::{Action, Member, Result, document, process, topic};
use crate::boundary::{c_bytes, write_text};
use crate::json::{self, Token, kind};

/// `jsonStruct_t` of `aws_iot_shadow_json_data.h`, version 3.
#[repr(C)]
pub struct JsonStruct {
    /// The member's name.
    pub key: *const c_char,
    /// Where its value is.
    pub data: *mut c_void,
    /// Bytes of the value. Counts for strings only: programs of version 2 leave it as it was.
    pub data_length: usize,
    /// `JsonPrimitiveType`.
    pub kind: c_int,
    /// Is told of a new value.
    pub callback: Option<unsafe extern "C" fn(*const c_char, u32, *mut JsonStruct)>,
}

/// `jsonStruct_t` of versions 1 (without `dataLength`).
#[repr(C)]
pub struct JsonStructV1 {
    /// The member's name.
    pub key: *const c_char,
    /// Where its value is.
    pub data: *mut c_void,
    /// `JsonPrimitiveType`.
    pub kind: c_int,
    /// Is told of a new value.
    pub callback: Option<unsafe extern "C" fn(*const c_char, u32, *mut JsonStructV1)>,
}

impl From<&JsonStruct> for Member {
    fn from(given: &JsonStruct) -> Self {
        Self {
            key: given.key,
            data: given.data,
            kind: given.kind,
        }
    }
}

impl From<&JsonStructV1> for Member {
    fn from(given: &JsonStructV1) -> Self {
        Self {
            key: given.key,
            data: given.data,
            kind: given.kind,
        }
    }
}

/// Which of the two a pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Form {
    V1,
    V3,
}

/// A registered member: the application's structure, which lives as long as the client.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Delta {
    address: usize,
    form: Form,
}

/// What the structure says when a delta comes.
struct Target {
    key: *const c_char,
    data: *mut c_void,
    /// Room for a string, where it is known.
    room: Option<usize>,
    kind: c_int,
}

impl Delta {
    pub(in super::super) fn new(pointer: *mut c_void, form: Form) -> Self {
        Self {
            address: pointer.expose_provenance(),
            form,
        }
    }

    fn pointer<T>(self) -> *mut T {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// # Safety
    /// The structure is there.
    unsafe fn target(self) -> Target {
        match self.form {
            Form::V3 => {
                // SAFETY: as the caller says.
                let given = unsafe { &*self.pointer::<JsonStruct>() };
                Target {
                    key: given.key,
                    data: given.data,
                    room: Some(given.data_length),
                    kind: given.kind,
                }
            }
            Form::V1 => {
                // SAFETY: as the caller says.
                let given = unsafe { &*self.pointer::<JsonStructV1>() };
                Target {
                    key: given.key,
                    data: given.data,
                    room: None,
                    kind: given.kind,
                }
            }
        }
    }

    /// # Safety
    /// The structure is there, and `value` has `len` bytes.
    unsafe fn call(self, value: *const c_char, len: u32) {
        // SAFETY: the application's own function with its own structure.
        unsafe {
            match self.form {
                Form::V3 => {
                    let given = self.pointer::<JsonStruct>();
                    if let Some(callback) = (*given).callback {
                        callback(value, len, given);
                    }
                }
                Form::V1 => {
                    let given = self.pointer::<JsonStructV1>();
                    if let Some(callback) = (*given).callback {
                        callback(value, len, given);
                    }
                }
            }
        }
    }
}

/// Subscribes to the deltas of a thing.
pub(super) fn listen(client: *const AwsIotClient, entry: &Entry, thing: &str) -> Result<()> {
    let filter = topic(thing, Action::Update, "/delta")?;
    let address = client.addr();
    let handler = Arc::new(move |message: &Publish| {
        if let Some(entry) = registry::find_address(address) {
            received(&entry, message);
        }
    });
    entry
        .client
        .subscribe(&filter, QoS::AtMostOnce, handler, false)?;
    Ok(())
}

pub(super) fn received(entry: &Entry, message: &Publish) {
    if message.payload.len() >= entry.shadow().limits.rx_buffer {
        return;
    }
    // The application's functions get a text that ends with NUL.
    let text = document::c_text(&message.payload);
    let json = text.as_bytes();
    let Ok(tokens) = json::tokens(json) else {
        return;
    };
    if let Some(version) = document::version(json) {
        if !process::received_delta(version) {
            return;
        }
    }
    let mut index = 0;
    loop {
        // A callback may register more.
        let Some(delta) = entry.shadow().deltas.get(index).copied() else {
            return;
        };
        index += 1;
        // SAFETY: the application keeps the structure as long as it is registered.
        unsafe { tell(delta, text.as_ptr(), json, &tokens) };
    }
}

/// Writes the new value and calls back, if the delta has the member.
///
/// # Safety
/// The structure is there, and its data is of its kind; `text` is `json`.
unsafe fn tell(delta: Delta, text: *const c_char, json: &[u8], tokens: &[Token]) {
    // SAFETY: as the caller says.
    let target = unsafe { delta.target() };
    // SAFETY: as the caller says.
    let Some(key) = (unsafe { c_bytes(target.key) }) else {
        return;
    };
    let found = json::anywhere(json, tokens, key, Some(b"metadata"));
    let Some(token) = found.and_then(|at| tokens.get(at)) else {
        return;
    };
    let Some(value) = token.bytes(json) else {
        return;
    };
    // SAFETY: as the caller says.
    unsafe {
        write(&target, text, token, value);
        delta.call(
            value.as_ptr().cast(),
            u32::try_from(value.len()).unwrap_or(u32::MAX),
        );
    }
}

unsafe fn write(target: &Target, json: *const c_char, token: &Token, value: &[u8]) {
    unsafe fn put<T: Primitive>(target: &Target, json: *const c_char, token: &Token) {
        // A value of another kind leaves the application's as it was, and its callback sees it.
        // SAFETY: the data is of the kind as the caller says.
        unsafe { store::<T>(target.data.cast(), json, token) };
    }
    if target.data.is_null() {
        return;
    }
    // SAFETY: the data is of the kind that is written.
    unsafe {
        match target.kind {
            0 => put::<i32>(target, json, token),
            1 => put::<i16>(target, json, token),
            2 => put::<i8>(target, json, token),
            3 => put::<u32>(target, json, token),
            4 => put::<u16>(target, json, token),
            5 => put::<u8>(target, json, token),
            6 => put::<f32>(target, json, token),
            7 => put::<f64>(target, json, token),
            8 => put::<bool>(target, json, token),
            9 if token.kind == kind::STRING && target.room.is_none_or(|r| value.len() < r) => {
                write_text(target.data.cast(), value);
            }
            _ => {}
        }
    }
}
