//! Life of a client and questions about it.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::codes::{FAILURE, NULL_VALUE_ERROR, SUCCESS};
use super::registry::{self, Entry};
use super::settings::{Given, endpoint, settings};
use super::types::{AwsIotClient, CompatConfig, DisconnectHandler, InitParams};
use crate::boundary::UserData;
use crate::client::{Client, LossHandler, State};
use crate::error::{Error, Result};

/// Initialises a client with the samples' values for all macros; what the header's inline
/// function of the same name hides, for those who look the symbol up.
///
/// # Safety
/// `client` and `params` are NULL or valid; the texts in `params` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_init(
    client: *mut AwsIotClient,
    params: *const InitParams,
) -> c_int {
    // SAFETY: as the caller says.
    unsafe { iotedge_compat_mqtt_init(client, params, size_of::<InitParams>(), std::ptr::null()) }
}

/// Initialises a client with the application's macros. Touches neither network nor files, nor the
/// client's memory. `config` may be NULL.
///
/// # Safety
/// As [`aws_iot_mqtt_init`]; `params_size` is the size of `*params`, `config` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_compat_mqtt_init(
    client: *mut AwsIotClient,
    params: *const InitParams,
    params_size: usize,
    config: *const CompatConfig,
) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() || params.is_null() {
            return NULL_VALUE_ERROR;
        }
        if params_size < size_of::<InitParams>() {
            return FAILURE;
        }
        // SAFETY: not NULL, at least this long, and valid as the caller says.
        let params = unsafe { &*params };
        // SAFETY: valid as the caller says.
        let config = match unsafe { read_config(config) } {
            Some(config) => config,
            None => return FAILURE,
        };
        // SAFETY: the texts end with NUL as the caller says.
        let Ok(endpoint) = (unsafe { endpoint(&given_by(params)) }) else {
            return NULL_VALUE_ERROR;
        };
        if endpoint.port == 0 {
            return NULL_VALUE_ERROR;
        }
        let new = Client::new(settings(
            endpoint,
            &config,
            params.command_timeout_ms,
            params.tls_handshake_timeout_ms,
            params.enable_auto_reconnect,
        ));
        if let Some(handler) = params.disconnect_handler {
            new.set_loss_handler(Some(loss_handler(
                client,
                handler,
                params.disconnect_handler_data,
            )));
        }
        let entry = Entry::new(new, config.disable_metrics != 0, config.shadow_limits());
        registry::put(client, entry);
        SUCCESS
    })
}

/// The macros; `None` when the header that the application was built with is older than any.
pub(super) unsafe fn read_config(config: *const CompatConfig) -> Option<CompatConfig> {
    if config.is_null() {
        return Some(CompatConfig::default());
    }
    // SAFETY: valid as the caller says; every version begins with its size.
    let size = unsafe { *config.cast::<usize>() };
    // SAFETY: as long as this version's, as its own size says.
    (size >= size_of::<CompatConfig>()).then(|| unsafe { *config })
}

fn given_by(params: &InitParams) -> Given {
    Given {
        host: params.host,
        port: params.port,
        root_ca: params.root_ca,
        device_cert: params.device_cert,
        private_key: params.private_key,
        verify: params.is_ssl_hostname_verify,
    }
}

fn loss_handler(
    client: *mut AwsIotClient,
    handler: DisconnectHandler,
    data: *mut c_void,
) -> LossHandler {
    let client = UserData::new(client.cast());
    let data = UserData::new(data);
    // SAFETY: the application's own function with the application's own pointers.
    Arc::new(move || unsafe { handler(client.pointer().cast(), data.pointer()) })
}

/// Runs `work` on the client at this address.
pub(super) fn with<T>(
    client: *const AwsIotClient,
    unknown: T,
    work: impl FnOnce(&Entry) -> T,
) -> T {
    match registry::find(client) {
        Some(entry) => work(&entry),
        None => unknown,
    }
}

/// Closes what is open, without DISCONNECT, and forgets the client.
///
/// # Safety
/// None: the client's memory is not looked at.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_free(client: *mut AwsIotClient) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() {
            return NULL_VALUE_ERROR;
        }
        registry::remove(client);
        SUCCESS
    })
}

/// A packet id: increments, then returns; never 0 but for a client that was not initialised.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_get_next_packet_id(client: *mut AwsIotClient) -> u16 {
    boundary!(0, with(client, 0, Entry::next_packet_id))
}

/// Whether there is a connection, as far as known.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_is_client_connected(client: *mut AwsIotClient) -> bool {
    boundary!(false, with(client, false, |e| e.client.is_connected()))
}

/// The state.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_get_client_state(client: *mut AwsIotClient) -> c_int {
    let invalid = State::Invalid as c_int;
    boundary!(
        invalid,
        with(client, invalid, |e| e.client.state() as c_int)
    )
}

/// Whether yield reconnects.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_is_autoreconnect_enabled(client: *mut AwsIotClient) -> bool {
    boundary!(false, with(client, false, |e| e.client.auto_reconnect()))
}

/// Whether yield shall reconnect.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_autoreconnect_set_status(
    client: *mut AwsIotClient,
    on: bool,
) -> c_int {
    boundary!(
        FAILURE,
        with(client, NULL_VALUE_ERROR, |e| {
            e.client.set_auto_reconnect(on);
            SUCCESS
        })
    )
}

/// Who is told of a lost connection.
///
/// # Safety
/// `handler` may be called with `client` and `data` as long as the client lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_set_disconnect_handler(
    client: *mut AwsIotClient,
    handler: Option<DisconnectHandler>,
    data: *mut c_void,
) -> c_int {
    boundary!(FAILURE, {
        let Some(handler) = handler else {
            return NULL_VALUE_ERROR;
        };
        with(client, NULL_VALUE_ERROR, |e| {
            let handler = loss_handler(client, handler, data);
            e.client.set_loss_handler(Some(handler));
            SUCCESS
        })
    })
}

/// How often the connection was lost.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_get_network_disconnected_count(client: *mut AwsIotClient) -> u32 {
    boundary!(0, with(client, 0, |e| e.client.losses()))
}

/// Counts from 0 again.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_reset_network_disconnected_count(client: *mut AwsIotClient) {
    boundary!((), with(client, (), |e| e.client.reset_losses()));
}

/// A text of the application as a missing value or bytes.
pub(super) unsafe fn given<'a>(
    what: &'static str,
    text: *const c_char,
    len: u16,
) -> Result<&'a [u8]> {
    // SAFETY: as long as the caller says.
    unsafe { crate::boundary::sized_bytes(text.cast(), len.into()) }.ok_or(Error::Missing(what))
}
