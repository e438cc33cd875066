//! Connect, publish, subscribe, yield.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iotedge_mqtt::{Connect, LastWill, Publish, QoS, Str, Version};

use super::codes::{
    FAILURE, MQTT_UNACCEPTABLE_PROTOCOL_VERSION_ERROR, NETWORK_ALREADY_CONNECTED_ERROR,
    NETWORK_RECONNECTED, NULL_VALUE_ERROR, SUCCESS, code, code_of,
};
use super::functions::{given, with};
use super::registry::Entry;
use super::types::{AwsIotClient, ConnectParams, MessageHandler, PublishParams, WillOptions};
use crate::boundary::{UserData, qos, sized_bytes, text};
use crate::client::{Handler, Ran};
use crate::error::{Error, Result};

/// `MQTT_3_1_1`.
const MQTT_3_1_1: c_int = 4;

/// What the SDK's programs tell about themselves as their user name.
const METRICS: &str = "?SDK=C&Version=3.0.1";

/// What a call finds where no client was initialised.
const NOT_CONNECTED: c_int = -13;

/// Keeps the parameters for the next connect.
///
/// # Safety
/// `params` is NULL or valid; its texts are as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_set_connect_params(
    client: *mut AwsIotClient,
    params: *const ConnectParams,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: valid as the caller says.
        let Some(params) = (unsafe { params.as_ref() }) else {
            return NULL_VALUE_ERROR;
        };
        with(client, NULL_VALUE_ERROR, |entry| {
            // SAFETY: as the caller says.
            match unsafe { login(entry, params) } {
                Ok(login) => {
                    entry.client.set_login(login);
                    SUCCESS
                }
                Err(error) => code(&error),
            }
        })
    })
}

/// Connects; without parameters with those of the last time.
///
/// # Safety
/// As [`aws_iot_mqtt_set_connect_params`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_connect(
    client: *mut AwsIotClient,
    params: *const ConnectParams,
) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() {
            return NULL_VALUE_ERROR;
        }
        with(client, NETWORK_ALREADY_CONNECTED_ERROR, |entry| {
            if !entry.client.state().may_connect() {
                return NETWORK_ALREADY_CONNECTED_ERROR;
            }
            // SAFETY: valid as the caller says.
            let params = match unsafe { params.as_ref() } {
                None => None,
                Some(params) if params.mqtt_version != MQTT_3_1_1 => {
                    return MQTT_UNACCEPTABLE_PROTOCOL_VERSION_ERROR;
                }
                // SAFETY: as the caller says.
                Some(params) => match unsafe { login(entry, params) } {
                    Ok(login) => Some(login),
                    Err(error) => return code(&error),
                },
            };
            code_of(entry.client.connect(params))
        })
    })
}

unsafe fn login(entry: &Entry, params: &ConnectParams) -> Result<Connect> {
    if params.client_id.is_null() != (params.client_id_len == 0) {
        return Err(Error::Missing("client id"));
    }
    // SAFETY: as long as the caller says.
    let id = unsafe { sized_bytes(params.client_id.cast(), params.client_id_len.into()) };
    let will = if params.is_will_present == 0 {
        None
    } else {
        // SAFETY: as the caller says.
        Some(unsafe { will(&params.will) }?)
    };
    // SAFETY: as long as the caller says.
    let name = unsafe { sized_bytes(params.username.cast(), params.username_len.into()) };
    let username = if entry.disable_metrics {
        name.map(|name| text("user name", name)).transpose()?
    } else {
        Some(text("user name", METRICS.as_bytes())?)
    };
    // SAFETY: as long as the caller says.
    let password = unsafe { sized_bytes(params.password.cast(), params.password_len.into()) };
    Ok(Connect {
        version: Version::V311,
        clean: params.is_clean_session != 0,
        keep_alive: params.keep_alive,
        client_id: text("client id", id.unwrap_or_default())?,
        will,
        // A password needs a user name in MQTT 3.1.1.
        password: password
            .filter(|_| username.is_some())
            .map(Bytes::copy_from_slice),
        username,
        properties: None,
    })
}

unsafe fn will(will: &WillOptions) -> Result<LastWill> {
    // SAFETY: as long as the caller says.
    let topic = unsafe { given("will topic", will.topic_name, will.topic_name_len) }?;
    // SAFETY: as long as the caller says.
    let message = unsafe { sized_bytes(will.message.cast(), will.message_len.into()) };
    Ok(LastWill {
        topic: text("will topic", topic)?,
        payload: Bytes::copy_from_slice(message.unwrap_or_default()),
        qos: qos(will.qos, QoS::AtLeastOnce)?,
        retain: will.is_retained != 0,
        properties: None,
    })
}

/// Publishes; with QoS 1 it returns when the server has acknowledged, and handlers of other
/// messages may run meanwhile.
///
/// # Safety
/// The topic is as long as `topic_len` says, `params` is NULL or valid and its payload as long as
/// it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_publish(
    client: *mut AwsIotClient,
    topic: *const c_char,
    topic_len: u16,
    params: *mut PublishParams,
) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() || topic.is_null() || topic_len == 0 {
            return NULL_VALUE_ERROR;
        }
        // SAFETY: valid as the caller says.
        let Some(given) = (unsafe { params.as_ref() }) else {
            return NULL_VALUE_ERROR;
        };
        // SAFETY: as long as the caller says.
        let payload = unsafe { sized_bytes(given.payload.cast(), given.payload_len) };
        // SAFETY: as long as the caller says.
        let topic = unsafe { sized_bytes(topic.cast(), topic_len.into()) };
        let (Some(payload), Some(topic)) = (payload, topic) else {
            return NULL_VALUE_ERROR;
        };
        let (level, retain) = (given.qos, given.is_retained != 0);
        with(client, NOT_CONNECTED, |entry| {
            if !entry.client.is_connected() {
                return NOT_CONNECTED;
            }
            let published = qos(level, QoS::AtLeastOnce)
                .and_then(|qos| Ok((qos, text("topic", topic)?)))
                .and_then(|(qos, topic)| entry.client.publish(&topic, payload, qos, retain));
            match published {
                Ok(id) => {
                    if let Some(id) = id {
                        // SAFETY: valid as the caller says; nothing else refers to it any more.
                        unsafe { (*params).id = id.get() };
                    }
                    SUCCESS
                }
                Err(error) => code(&error),
            }
        })
    })
}

/// Subscribes. The server's refusal of a filter is not told: the SDK's programs expect success.
///
/// # Safety
/// The topic is as long as `topic_len` says; `handler` may be called with `client` and `data` as
/// long as the subscription lasts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_subscribe(
    client: *mut AwsIotClient,
    topic: *const c_char,
    topic_len: u16,
    level: c_int,
    handler: Option<MessageHandler>,
    data: *mut c_void,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as long as the caller says.
        let topic = unsafe { sized_bytes(topic.cast(), topic_len.into()) };
        let (false, Some(topic), Some(handler)) = (client.is_null(), topic, handler) else {
            return NULL_VALUE_ERROR;
        };
        with(client, NOT_CONNECTED, |entry| {
            if !entry.client.is_connected() {
                return NOT_CONNECTED;
            }
            let handler = message_handler(client, handler, data);
            let subscribed = qos(level, QoS::AtLeastOnce)
                .and_then(|qos| Ok((qos, text("topic filter", topic)?)))
                .and_then(|(qos, filter)| entry.client.subscribe(&filter, qos, handler, false));
            code_of(subscribed)
        })
    })
}

/// The handler as the client calls it. Topic and payload are copies with a NUL byte behind them:
/// C code may write to the payload and may forget that nothing ends it.
fn message_handler(
    client: *mut AwsIotClient,
    handler: MessageHandler,
    data: *mut c_void,
) -> Handler {
    let client = UserData::new(client.cast());
    let data = UserData::new(data);
    Arc::new(move |message: &Publish| {
        let mut topic = with_nul(message.topic.as_bytes());
        let mut payload = with_nul(&message.payload);
        let mut params = PublishParams {
            qos: u8::from(message.qos).into(),
            is_retained: message.retain.into(),
            is_dup: message.dup.into(),
            id: message.packet_id.map_or(0, u16::from),
            payload: payload.as_mut_ptr().cast(),
            payload_len: message.payload.len(),
        };
        // A topic has at most 65,535 bytes.
        let topic_len = u16::try_from(message.topic.len()).unwrap_or(u16::MAX);
        // SAFETY: the application's own function with its own pointers, and buffers that live
        // until it returns.
        unsafe {
            handler(
                client.pointer().cast(),
                topic.as_mut_ptr().cast(),
                topic_len,
                &raw mut params,
                data.pointer(),
            );
        }
    })
}

pub(super) fn with_nul(bytes: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(bytes.len() + 1);
    copy.extend_from_slice(bytes);
    copy.push(0);
    copy
}

/// Subscribes again to everything there is a handler for.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_resubscribe(client: *mut AwsIotClient) -> c_int {
    on_client(client, |entry| code_of(entry.client.resubscribe()))
}

/// Unsubscribes; all handlers of the filter go.
///
/// # Safety
/// The filter is as long as `filter_len` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_mqtt_unsubscribe(
    client: *mut AwsIotClient,
    filter: *const c_char,
    filter_len: u16,
) -> c_int {
    // SAFETY: as long as the caller says.
    let Some(filter) = (unsafe { sized_bytes(filter.cast(), filter_len.into()) }) else {
        return NULL_VALUE_ERROR;
    };
    on_client(client, |entry| {
        let filter: Result<Str> = text("topic filter", filter);
        code_of(filter.and_then(|filter| entry.client.unsubscribe(&filter)))
    })
}

/// Sends DISCONNECT and closes.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_disconnect(client: *mut AwsIotClient) -> c_int {
    on_client(client, |entry| code_of(entry.client.disconnect()))
}

/// Receives, calls handlers, keeps alive and reconnects for so many milliseconds.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_yield(client: *mut AwsIotClient, timeout_ms: u32) -> c_int {
    if timeout_ms == 0 {
        return NULL_VALUE_ERROR;
    }
    on_client(client, |entry| {
        match entry.client.run(Duration::from_millis(timeout_ms.into())) {
            Ok(Ran::Done) => SUCCESS,
            Ok(Ran::Reconnected) => NETWORK_RECONNECTED,
            Err(error) => code(&error),
        }
    })
}

/// One attempt to connect again, now.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_mqtt_attempt_reconnect(client: *mut AwsIotClient) -> c_int {
    on_client(client, |entry| match entry.client.attempt_reconnect() {
        Ok(()) => NETWORK_RECONNECTED,
        Err(error) => code(&error),
    })
}

fn on_client(client: *mut AwsIotClient, work: impl FnOnce(&Entry) -> c_int) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() {
            return NULL_VALUE_ERROR;
        }
        with(client, NOT_CONNECTED, work)
    })
}
