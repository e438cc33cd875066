//! Shadows of version 1, on its one client.

use std::ffi::{c_char, c_int, c_void};

use super::codes::{GENERIC_ERROR, NONE_ERROR, NULL_VALUE_ERROR, of_shadow};
use super::mqtt::{client, iotedge_v1_mqtt_connect, iotedge_v1_mqtt_yield};
use super::types::{ConnectParamsV1, ShadowParametersV1, WillOptionsV1};
use crate::boundary::c_bytes;
use crate::compat::registry;
use crate::compat::shadow::{
    Action, ActionCallback, Answer, Buffer, Form, JsonStructV1, Result, add, ask, ask_with_token,
    expire, register_member, reset, set_identity, thing_name,
};
use crate::compat::types::CompatConfig;

fn code_of(result: Result<()>) -> c_int {
    match result {
        Ok(()) => NONE_ERROR,
        Err(fault) => of_shadow(&fault),
    }
}

/// Begins anew: client tokens, the last version.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_shadow_init() -> c_int {
    boundary!(GENERIC_ERROR, {
        reset();
        NONE_ERROR
    })
}

/// Connects with a keep-alive of ten seconds and a clean session.
///
/// # Safety
/// `params` is NULL or valid, its texts NULL or end with NUL; `config` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_connect(
    params: *const ShadowParametersV1,
    config: *const CompatConfig,
) -> c_int {
    boundary!(GENERIC_ERROR, {
        // SAFETY: valid as the caller says.
        let Some(params) = (unsafe { params.as_ref() }) else {
            return NULL_VALUE_ERROR;
        };
        let Ok(port) = u16::try_from(params.port) else {
            return GENERIC_ERROR;
        };
        // SAFETY: texts as the caller says.
        let thing = match unsafe { thing_name(params.thing_name) } {
            Ok(thing) => thing,
            Err(fault) => return of_shadow(&fault),
        };
        let connect = connect_params(params, port);
        // SAFETY: texts as the caller says.
        let code = unsafe { iotedge_v1_mqtt_connect(&raw const connect, config) };
        if code == NONE_ERROR {
            // SAFETY: as the caller says.
            let id = unsafe { c_bytes(params.client_id) }.unwrap_or_default();
            if let Some(entry) = registry::find(client()) {
                set_identity(&entry, thing, &String::from_utf8_lossy(id));
            }
        }
        code
    })
}

fn connect_params(params: &ShadowParametersV1, port: u16) -> ConnectParamsV1 {
    ConnectParamsV1 {
        enable_auto_reconnect: 0,
        host: params.host,
        port,
        root_ca: params.root_ca,
        device_cert: params.client_crt,
        private_key: params.client_key,
        client_id: params.client_id,
        user_name: std::ptr::null(),
        password: std::ptr::null(),
        mqtt_version: 4,
        keep_alive: 10,
        is_clean_session: 1,
        is_will_present: 0,
        will: WillOptionsV1 {
            topic_name: std::ptr::null(),
            message: std::ptr::null(),
            is_retained: 0,
            qos: 0,
        },
        command_timeout_ms: 2000,
        tls_handshake_timeout_ms: 10_000,
        is_ssl_hostname_verify: 1,
        disconnect_handler: None,
    }
}

/// Tells requests whose time is over, then yields.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_shadow_yield(timeout_ms: c_int) -> c_int {
    boundary!(GENERIC_ERROR, {
        if let Some(entry) = registry::find(client()) {
            expire(&entry);
        }
        iotedge_v1_mqtt_yield(timeout_ms)
    })
}

/// Publishes a document; the callback gets the answer.
///
/// # Safety
/// Texts end with NUL; the callback may be called with the context until it was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_update(
    thing: *const c_char,
    document: *const c_char,
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout_seconds: u8,
    keep: bool,
) -> c_int {
    let answer = Answer::new(callback, context, timeout_seconds, keep);
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, unsafe {
        let document = c_bytes(document);
        code_of(ask(client(), thing, Action::Update, document, answer, true))
    })
}

/// Asks for the shadow (`delete` false) or deletes it; the callback gets the answer.
///
/// # Safety
/// As [`iotedge_v1_shadow_update`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_ask(
    delete: bool,
    thing: *const c_char,
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout_seconds: u8,
    keep: bool,
) -> c_int {
    let answer = Answer::new(callback, context, timeout_seconds, keep);
    let action = if delete { Action::Delete } else { Action::Get };
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, unsafe {
        code_of(ask_with_token(client(), thing, action, answer, true))
    })
}

/// Registers for a member of the own shadow's deltas.
///
/// # Safety
/// The structure and what it points to stay valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_register_delta(member: *mut JsonStructV1) -> c_int {
    boundary!(
        GENERIC_ERROR,
        code_of(register_member(client(), member.cast(), Form::V1))
    )
}

/// Begins a document.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_init_json_document(
    buf: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, {
        code_of(unsafe { Buffer::empty(buf, size) }.and_then(|mut b| b.begin()))
    })
}

/// Adds members to a document.
///
/// # Safety
/// As `iotedge_compat_shadow_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_shadow_add(
    buf: *mut c_char,
    size: usize,
    section: c_int,
    count: u8,
    members: *const *const JsonStructV1,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, unsafe {
        code_of(add(buf, size, section, members, count))
    })
}

/// Ends a document with a client token.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes and holds a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_finalize_json_document(buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, {
        code_of(unsafe { Buffer::after_text(buf, size) }.and_then(|mut b| b.finish()))
    })
}

/// Writes a client token.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_fill_with_client_token(buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: as the caller says.
    boundary!(GENERIC_ERROR, {
        code_of(unsafe { Buffer::empty(buf, size) }.and_then(|mut b| b.token()))
    })
}
