//! What `aws_iot_shadow_interface.h` and `aws_iot_shadow_json_data.h` of version 3 declare.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use super::{
    Action, ActionCallback, Ask, Buffer, Delta, Fault, Form, JsonStruct, Member, Result, Section,
    code_of, connected, expire, process, register, request, reset, set_identity, thing_name,
};
use crate::boundary::c_bytes;
use crate::compat::codes::{FAILURE, NULL_VALUE_ERROR, SUCCESS};
use crate::compat::mqtt::{aws_iot_mqtt_connect, aws_iot_mqtt_subscribe, aws_iot_mqtt_yield};
use crate::compat::types::{
    AwsIotClient, CompatConfig, ConnectParams, DisconnectHandler, InitParams, MessageHandler,
    WillOptions,
};
use crate::compat::{
    aws_iot_mqtt_autoreconnect_set_status, aws_iot_mqtt_disconnect, aws_iot_mqtt_free,
    iotedge_compat_mqtt_init, registry,
};

/// `ShadowInitParameters_t`.
#[repr(C)]
pub struct ShadowInitParameters {
    /// Host.
    pub host: *const c_char,
    /// Port.
    pub port: u16,
    /// CA file.
    pub root_ca: *const c_char,
    /// Certificate file.
    pub client_crt: *const c_char,
    /// Key file.
    pub client_key: *const c_char,
    /// Whether yield reconnects.
    pub enable_auto_reconnect: u8,
    /// Called on loss of the connection.
    pub disconnect_handler: Option<DisconnectHandler>,
}

/// `ShadowConnectParameters_t`.
#[repr(C)]
pub struct ShadowConnectParameters {
    /// The thing that this client is.
    pub thing_name: *const c_char,
    /// Client id.
    pub client_id: *const c_char,
    /// Its bytes; 0: up to its NUL byte.
    pub client_id_len: u16,
    /// Is told when the thing's shadow was deleted.
    pub delete_handler: Option<MessageHandler>,
}

/// Initialises a client for shadows with the samples' values for all macros.
///
/// # Safety
/// As for [`iotedge_compat_shadow_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_init(
    client: *mut AwsIotClient,
    params: *const ShadowInitParameters,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe { iotedge_compat_shadow_init(client, params, std::ptr::null()) }
}

/// Initialises a client for shadows with the application's macros.
///
/// # Safety
/// `client` and `params` are NULL or valid; texts end with NUL; `config` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_compat_shadow_init(
    client: *mut AwsIotClient,
    params: *const ShadowInitParameters,
    config: *const CompatConfig,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: valid as the caller says.
        let Some(params) = (unsafe { params.as_ref() }) else {
            return NULL_VALUE_ERROR;
        };
        let mqtt = InitParams {
            enable_auto_reconnect: params.enable_auto_reconnect,
            host: params.host,
            port: params.port,
            root_ca: params.root_ca,
            device_cert: params.client_crt,
            private_key: params.client_key,
            packet_timeout_ms: 5000,
            command_timeout_ms: 20_000,
            tls_handshake_timeout_ms: 5000,
            is_ssl_hostname_verify: 1,
            disconnect_handler: params.disconnect_handler,
            disconnect_handler_data: std::ptr::null_mut(),
        };
        // SAFETY: as the caller says.
        let code = unsafe {
            iotedge_compat_mqtt_init(client, &raw const mqtt, size_of::<InitParams>(), config)
        };
        if code == SUCCESS {
            reset();
        }
        code
    })
}

/// Forgets the client.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_free(client: *mut AwsIotClient) -> c_int {
    aws_iot_mqtt_free(client)
}

/// Connects with a keep-alive of ten minutes and a clean session.
///
/// # Safety
/// `client` and `params` are NULL or valid; texts end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_connect(
    client: *mut AwsIotClient,
    params: *const ShadowConnectParameters,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: valid as the caller says.
        let Some(params) = (unsafe { params.as_ref() }) else {
            return NULL_VALUE_ERROR;
        };
        // SAFETY: texts as the caller says.
        match unsafe { login(params) } {
            // SAFETY: as the caller says.
            Ok((thing, login)) => unsafe { connect(client, params, thing, &login) },
            Err(fault) => fault.code(),
        }
    })
}

/// The login, and the thing's name.
pub(in crate::compat) unsafe fn login(
    params: &ShadowConnectParameters,
) -> Result<(String, ConnectParams)> {
    // SAFETY: as the caller says.
    let thing = unsafe { thing_name(params.thing_name) }?;
    // SAFETY: as the caller says.
    let id = unsafe { c_bytes(params.client_id) }.ok_or(Fault::Missing)?;
    let whole = u16::try_from(id.len()).map_err(|_| Fault::Missing)?;
    let len = match params.client_id_len {
        0 => whole,
        given => given.min(whole),
    };
    let none = std::ptr::null_mut();
    let login = ConnectParams {
        struct_id: [0; 4],
        mqtt_version: 4,
        client_id: params.client_id,
        client_id_len: len,
        keep_alive: 600,
        is_clean_session: 1,
        is_will_present: 0,
        will: WillOptions {
            struct_id: [0; 4],
            topic_name: none,
            topic_name_len: 0,
            message: none,
            message_len: 0,
            is_retained: 0,
            qos: 0,
        },
        username: none,
        username_len: 0,
        password: none,
        password_len: 0,
    };
    Ok((thing, login))
}

unsafe fn connect(
    client: *mut AwsIotClient,
    params: &ShadowConnectParameters,
    thing: String,
    login: &ConnectParams,
) -> c_int {
    // SAFETY: texts as the caller says.
    let code = unsafe { aws_iot_mqtt_connect(client, login) };
    if code != SUCCESS {
        return code;
    }
    // SAFETY: as the caller says.
    let id = unsafe { c_bytes(params.client_id) }.unwrap_or_default();
    let id = String::from_utf8_lossy(id.get(..login.client_id_len.into()).unwrap_or(id));
    let deleted = format!("$aws/things/{thing}/shadow/delete/accepted");
    if let Some(entry) = registry::find(client) {
        set_identity(&entry, thing, &id);
    }
    if params.delete_handler.is_none() {
        return SUCCESS;
    }
    // SAFETY: the topic is as long as it says; the handler is the application's own.
    unsafe {
        aws_iot_mqtt_subscribe(
            client,
            deleted.as_ptr().cast(),
            u16::try_from(deleted.len()).unwrap_or(u16::MAX),
            1,
            params.delete_handler,
            std::ptr::null_mut(),
        )
    }
}

/// Tells requests whose time is over, then yields.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_yield(client: *mut AwsIotClient, timeout_ms: u32) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() {
            return NULL_VALUE_ERROR;
        }
        if let Some(entry) = registry::find(client) {
            expire(&entry);
        }
        aws_iot_mqtt_yield(client, timeout_ms)
    })
}

/// Sends DISCONNECT and closes.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_disconnect(client: *mut AwsIotClient) -> c_int {
    aws_iot_mqtt_disconnect(client)
}

/// Whether yield shall reconnect.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_set_autoreconnect_status(
    client: *mut AwsIotClient,
    on: bool,
) -> c_int {
    aws_iot_mqtt_autoreconnect_set_status(client, on)
}

/// Publishes a document; the callback gets the answer.
///
/// # Safety
/// Texts end with NUL; the callback may be called with the context until it was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_update(
    client: *mut AwsIotClient,
    thing: *const c_char,
    document: *mut c_char,
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout_seconds: u8,
    keep: bool,
) -> c_int {
    let answer = Answer::new(callback, context, timeout_seconds, keep);
    // SAFETY: NULL or ends with NUL as the caller says.
    let document = unsafe { c_bytes(document) };
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        code_of(ask(client, thing, Action::Update, document, answer, false))
    })
}

/// Asks for the shadow; the callback gets the answer.
///
/// # Safety
/// As [`aws_iot_shadow_update`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_get(
    client: *mut AwsIotClient,
    thing: *const c_char,
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout_seconds: u8,
    keep: bool,
) -> c_int {
    let answer = Answer::new(callback, context, timeout_seconds, keep);
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        code_of(ask_with_token(client, thing, Action::Get, answer, false))
    })
}

/// Deletes the shadow; the callback gets the answer.
///
/// # Safety
/// As [`aws_iot_shadow_update`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_delete(
    client: *mut AwsIotClient,
    thing: *const c_char,
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout_seconds: u8,
    keep: bool,
) -> c_int {
    let answer = Answer::new(callback, context, timeout_seconds, keep);
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        code_of(ask_with_token(client, thing, Action::Delete, answer, false))
    })
}

/// Who gets the answer.
pub(in crate::compat) struct Answer {
    callback: Option<ActionCallback>,
    context: *mut c_void,
    timeout: Duration,
    keep: bool,
}

impl Answer {
    pub(in crate::compat) fn new(
        callback: Option<ActionCallback>,
        context: *mut c_void,
        timeout_seconds: u8,
        keep: bool,
    ) -> Self {
        Self {
            callback,
            context,
            timeout: Duration::from_secs(timeout_seconds.into()),
            keep,
        }
    }
}

/// A request without a document of its own: only a client token.
pub(in crate::compat) unsafe fn ask_with_token(
    client: *const AwsIotClient,
    thing: *const c_char,
    action: Action,
    answer: Answer,
    with_nul: bool,
) -> Result<()> {
    if client.is_null() || thing.is_null() {
        return Err(Fault::Missing);
    }
    let token = process::new_token();
    let document = format!("{{\"clientToken\":\"{token}\"}}");
    // SAFETY: as the caller says.
    unsafe {
        let document = Some(document.as_bytes());
        ask(client, thing, action, document, answer, with_nul)
    }
}

/// `with_nul`: the first generation sends the document's NUL byte too.
pub(in crate::compat) unsafe fn ask(
    client: *const AwsIotClient,
    thing: *const c_char,
    action: Action,
    document: Option<&[u8]>,
    answer: Answer,
    with_nul: bool,
) -> Result<()> {
    if client.is_null() {
        return Err(Fault::Missing);
    }
    connected(client, |entry| {
        // SAFETY: NULL or ends with NUL as the caller says.
        let thing = unsafe { thing_name(thing) }?;
        let mut payload = document.ok_or(Fault::Missing)?.to_vec();
        if with_nul {
            payload.push(0);
        }
        let ask = Ask {
            thing,
            action,
            payload,
            callback: answer.callback,
            context: answer.context,
            timeout: answer.timeout,
            keep: answer.keep,
        };
        request(client, entry, ask)
    })
}

/// Registers for a member of the own shadow's deltas. The structure is used until the client ends.
///
/// # Safety
/// The structure and what it points to stay valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_register_delta(
    client: *mut AwsIotClient,
    member: *mut JsonStruct,
) -> c_int {
    boundary!(
        FAILURE,
        code_of(register_member(client, member.cast(), Form::V3))
    )
}

pub(in crate::compat) fn register_member(
    client: *const AwsIotClient,
    member: *mut c_void,
    form: Form,
) -> Result<()> {
    if client.is_null() || member.is_null() {
        return Err(Fault::Missing);
    }
    connected(client, |entry| {
        register(client, entry, Delta::new(member, form))
    })
}

/// Begins a document.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_shadow_init_json_document(buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: as the caller says.
    boundary!(FAILURE, {
        code_of(unsafe { Buffer::empty(buf, size) }.and_then(|mut b| b.begin()))
    })
}

/// Adds members to a document: what the header's `aws_iot_shadow_add_reported` (`section` 0) and
/// `aws_iot_shadow_add_desired` (1) call.
///
/// # Safety
/// `buf` has room for `size` bytes and holds a text; `members` has `count` pointers, each NULL or
/// valid, its data of its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_compat_shadow_add(
    buf: *mut c_char,
    size: usize,
    section: c_int,
    count: u8,
    members: *const *const JsonStruct,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        code_of(add(buf, size, section, members, count))
    })
}

/// Adds the members that structures of either form stand for; an error when one is NULL.
pub(in crate::compat) unsafe fn add<T>(
    buf: *mut c_char,
    size: usize,
    section: c_int,
    members: *const *const T,
    count: u8,
) -> Result<()>
where
    for<'a> Member: From<&'a T>,
{
    if members.is_null() {
        return Err(Fault::Missing);
    }
    // SAFETY: as the caller says.
    let members = unsafe { std::slice::from_raw_parts(members, count.into()) };
    let member = |m: &*const T| {
        // SAFETY: NULL or valid as the caller says.
        unsafe { m.as_ref() }
            .map(Member::from)
            .ok_or(Fault::Missing)
    };
    let members = members.iter().map(member).collect::<Result<Vec<_>>>()?;
    let section = match section {
        0 => Section::Reported,
        _ => Section::Desired,
    };
    // SAFETY: as the caller says.
    unsafe { Buffer::after_text(buf, size)?.section(section, &members) }
}

/// Ends a document with a client token.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes and holds a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_finalize_json_document(buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: as the caller says.
    boundary!(FAILURE, {
        code_of(unsafe { Buffer::after_text(buf, size) }.and_then(|mut b| b.finish()))
    })
}

/// Writes a client token.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_fill_with_client_token(buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: as the caller says.
    boundary!(FAILURE, {
        code_of(unsafe { Buffer::empty(buf, size) }.and_then(|mut b| b.token()))
    })
}
