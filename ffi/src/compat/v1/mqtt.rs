//! The one MQTT client of version 1.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iotedge_mqtt::{Connect, LastWill, Publish, QoS, Str, SubAckCode, Version};

use super::codes::{
    CONNECTION_ERROR, DISCONNECT_ERROR, GENERIC_ERROR, NETWORK_ALREADY_CONNECTED, NONE_ERROR,
    NULL_VALUE_ERROR, PUBLISH_ERROR, RECONNECT_SUCCESSFUL, SUBSCRIBE_ERROR, UNSUBSCRIBE_ERROR,
    YIELD_ERROR, of_call, of_connect, of_yield,
};
use super::types::{
    CallbackParamsV1, ConnectParamsV1, MessageHandlerV1, MessageParamsV1, PublishParamsV1,
    SubscribeParamsV1,
};
use crate::boundary::{c_bytes, qos, sized_bytes, text};
use crate::client::{Client, Endpoint, Handler, LossHandler, Ran};
use crate::compat::functions::read_config;
use crate::compat::mqtt::with_nul;
use crate::compat::registry::{self, Entry};
use crate::compat::settings::{Given, endpoint, settings};
use crate::compat::types::{AwsIotClient, CompatConfig};
use crate::error::{Error, Result};

/// The client of the process has the address of this.
static CLIENT: u64 = 0;

pub(super) fn client() -> *const AwsIotClient {
    (&raw const CLIENT).cast()
}

/// Runs `work` on the client, if there is one.
fn with(absent: c_int, work: impl FnOnce(&Entry) -> c_int) -> c_int {
    boundary!(
        GENERIC_ERROR,
        registry::find(client()).map_or(absent, |entry| work(&entry))
    )
}

/// Connects with these parameters.
///
/// # Safety
/// `params` is NULL or valid, its texts NULL or end with NUL; `config` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_mqtt_connect(
    params: *const ConnectParamsV1,
    config: *const CompatConfig,
) -> c_int {
    boundary!(GENERIC_ERROR, {
        // SAFETY: valid as the caller says.
        let (Some(params), Some(config)) = (unsafe { (params.as_ref(), read_config(config)) })
        else {
            return NULL_VALUE_ERROR;
        };
        if registry::find(client()).is_some_and(|entry| entry.client.is_connected()) {
            return NETWORK_ALREADY_CONNECTED;
        }
        // SAFETY: texts as the caller says.
        let parts = unsafe { endpoint(&given_by(params)) }
            // SAFETY: as above.
            .and_then(|endpoint| Ok((endpoint, unsafe { login(params) }?)));
        match parts {
            Ok((endpoint, login)) => connect(params, &config, endpoint, login),
            Err(error) => of_connect(&error),
        }
    })
}

fn connect(
    params: &ConnectParamsV1,
    config: &CompatConfig,
    endpoint: Endpoint,
    login: Connect,
) -> c_int {
    let new = Client::new(settings(
        endpoint,
        config,
        params.command_timeout_ms,
        params.tls_handshake_timeout_ms,
        params.enable_auto_reconnect,
    ));
    if let Some(handler) = params.disconnect_handler {
        // SAFETY: the application's own function.
        let handler: LossHandler = Arc::new(move || unsafe { handler() });
        new.set_loss_handler(Some(handler));
    }
    registry::put(client(), Entry::new(new, true, config.shadow_limits()));
    with(CONNECTION_ERROR, |entry| {
        match entry.client.connect(Some(login)) {
            Ok(()) => NONE_ERROR,
            Err(error) => of_connect(&error),
        }
    })
}

fn given_by(params: &ConnectParamsV1) -> Given {
    Given {
        host: params.host,
        port: params.port,
        root_ca: params.root_ca,
        device_cert: params.device_cert,
        private_key: params.private_key,
        verify: params.is_ssl_hostname_verify,
    }
}

unsafe fn login(params: &ConnectParamsV1) -> Result<Connect> {
    // SAFETY: the texts end with NUL as the caller says.
    let bytes = |pointer: *const c_char| unsafe { c_bytes(pointer) };
    let id = bytes(params.client_id).ok_or(Error::Missing("pClientID"))?;
    let will = if params.is_will_present == 0 {
        None
    } else {
        let topic = bytes(params.will.topic_name).ok_or(Error::Missing("will topic"))?;
        Some(LastWill {
            topic: text("will topic", topic)?,
            payload: Bytes::copy_from_slice(bytes(params.will.message).unwrap_or_default()),
            qos: qos(params.will.qos, QoS::ExactlyOnce)?,
            retain: params.will.is_retained != 0,
            properties: None,
        })
    };
    let username = bytes(params.user_name)
        .map(|name| text("user name", name))
        .transpose()?;
    Ok(Connect {
        version: Version::V311,
        clean: params.is_clean_session != 0,
        keep_alive: params.keep_alive,
        client_id: text("client id", id)?,
        will,
        // A password needs a user name in MQTT 3.1.1.
        password: bytes(params.password)
            .filter(|_| username.is_some())
            .map(Bytes::copy_from_slice),
        username,
        properties: None,
    })
}

/// Publishes; with QoS 1 and 2 it returns when the server has acknowledged.
///
/// # Safety
/// `params` is NULL or valid, its topic ends with NUL, its payload is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_mqtt_publish(params: *mut PublishParamsV1) -> c_int {
    // SAFETY: valid as the caller says.
    let Some(given) = (unsafe { params.as_ref() }) else {
        return NULL_VALUE_ERROR;
    };
    // SAFETY: as the caller says.
    let (topic, payload) = unsafe {
        let payload_len = given.message.payload_len as usize;
        (
            c_bytes(given.topic),
            sized_bytes(given.message.payload.cast(), payload_len),
        )
    };
    let (Some(topic), Some(payload)) = (topic, payload) else {
        return NULL_VALUE_ERROR;
    };
    let (level, retain) = (given.message.qos, given.message.is_retained != 0);
    with(PUBLISH_ERROR, |entry| {
        let published = qos(level, QoS::ExactlyOnce)
            .and_then(|qos| Ok((qos, text("topic", topic)?)))
            .and_then(|(qos, topic)| entry.client.publish(&topic, payload, qos, retain));
        match published {
            Ok(id) => {
                if let Some(id) = id {
                    // SAFETY: valid as the caller says; nothing else refers to it any more.
                    unsafe { (*params).message.id = id.get() };
                }
                NONE_ERROR
            }
            Err(error) => of_call(&error, PUBLISH_ERROR),
        }
    })
}

/// Subscribes. A second subscription to the same filter takes the place of the first.
///
/// # Safety
/// `params` is NULL or valid, its topic ends with NUL; the handler may be called as long as the
/// subscription lasts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_mqtt_subscribe(params: *const SubscribeParamsV1) -> c_int {
    // SAFETY: valid as the caller says.
    let Some(given) = (unsafe { params.as_ref() }) else {
        return NULL_VALUE_ERROR;
    };
    // SAFETY: as the caller says.
    let (Some(topic), Some(handler)) = (unsafe { c_bytes(given.topic) }, given.handler) else {
        return NULL_VALUE_ERROR;
    };
    let level = given.qos;
    with(SUBSCRIBE_ERROR, |entry| {
        let subscribed = qos(level, QoS::ExactlyOnce)
            .and_then(|qos| Ok((qos, text("topic filter", topic)?)))
            .and_then(|(qos, filter)| {
                let handler = message_handler(handler);
                entry.client.subscribe(&filter, qos, handler, true)
            });
        match subscribed {
            Ok(SubAckCode::Granted(_)) => NONE_ERROR,
            Ok(SubAckCode::Refused(_)) => SUBSCRIBE_ERROR,
            Err(error) => of_call(&error, SUBSCRIBE_ERROR),
        }
    })
}

/// Topic and payload are copies with a NUL byte behind them.
fn message_handler(handler: MessageHandlerV1) -> Handler {
    Arc::new(move |message: &Publish| {
        let mut topic = with_nul(message.topic.as_bytes());
        let mut payload = with_nul(&message.payload);
        let params = CallbackParamsV1 {
            topic_name: topic.as_mut_ptr().cast(),
            // A topic has at most 65,535 bytes, a packet fewer than 4 GiB.
            topic_name_len: u16::try_from(message.topic.len()).unwrap_or(u16::MAX),
            message: MessageParamsV1 {
                qos: u8::from(message.qos).into(),
                is_retained: message.retain.into(),
                is_duplicate: message.dup.into(),
                id: message.packet_id.map_or(0, u16::from),
                payload: payload.as_mut_ptr().cast(),
                payload_len: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
            },
        };
        // SAFETY: the application's own function, and buffers that live until it returns.
        unsafe { handler(params) };
    })
}

/// Unsubscribes.
///
/// # Safety
/// `topic` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_v1_mqtt_unsubscribe(topic: *const c_char) -> c_int {
    // SAFETY: as the caller says.
    let Some(topic) = (unsafe { c_bytes(topic) }) else {
        return NULL_VALUE_ERROR;
    };
    with(UNSUBSCRIBE_ERROR, |entry| {
        let filter: Result<Str> = text("topic filter", topic);
        match filter.and_then(|filter| entry.client.unsubscribe(&filter)) {
            Ok(()) => NONE_ERROR,
            Err(error) => of_call(&error, UNSUBSCRIBE_ERROR),
        }
    })
}

/// Sends DISCONNECT and closes.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_mqtt_disconnect() -> c_int {
    with(DISCONNECT_ERROR, |entry| match entry.client.disconnect() {
        Ok(()) => NONE_ERROR,
        Err(_) => DISCONNECT_ERROR,
    })
}

/// Receives, calls handlers, keeps alive and reconnects for so many milliseconds.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_mqtt_yield(timeout_ms: c_int) -> c_int {
    let Ok(timeout) = u64::try_from(timeout_ms) else {
        return YIELD_ERROR;
    };
    with(YIELD_ERROR, |entry| {
        match entry.client.run(Duration::from_millis(timeout)) {
            Ok(Ran::Done) => NONE_ERROR,
            Ok(Ran::Reconnected) => RECONNECT_SUCCESSFUL,
            Err(error) => of_yield(&error),
        }
    })
}

/// One attempt to connect again, now.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_mqtt_attempt_reconnect() -> c_int {
    with(CONNECTION_ERROR, |entry| {
        match entry.client.attempt_reconnect() {
            Ok(()) => RECONNECT_SUCCESSFUL,
            Err(error) => of_yield(&error),
        }
    })
}

/// Whether yield shall reconnect.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_mqtt_autoreconnect_set_status(on: bool) -> c_int {
    with(GENERIC_ERROR, |entry| {
        entry.client.set_auto_reconnect(on);
        NONE_ERROR
    })
}

/// Whether there is a connection, as far as known.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_is_mqtt_connected() -> bool {
    boundary!(
        false,
        registry::find(client()).is_some_and(|entry| entry.client.is_connected())
    )
}

/// Whether yield reconnects.
#[unsafe(no_mangle)]
pub extern "C" fn iotedge_v1_is_autoreconnect_enabled() -> bool {
    boundary!(
        false,
        registry::find(client()).is_some_and(|entry| entry.client.auto_reconnect())
    )
}
