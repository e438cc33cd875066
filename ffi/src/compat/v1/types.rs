//! The C structures of `include/v1`, field by field. Enumerations and booleans are integers here.

use std::ffi::{c_char, c_int, c_void};

/// `MQTTwillOptions`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WillOptionsV1 {
    /// Topic.
    pub topic_name: *const c_char,
    /// Payload.
    pub message: *const c_char,
    /// RETAIN flag.
    pub is_retained: u8,
    /// 0 to 2.
    pub qos: c_int,
}

/// `MQTTConnectParams` of version 1.1.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ConnectParamsV1 {
    /// Whether yield reconnects.
    pub enable_auto_reconnect: u8,
    /// Host.
    pub host: *const c_char,
    /// Port.
    pub port: u16,
    /// CA file.
    pub root_ca: *const c_char,
    /// Certificate file.
    pub device_cert: *const c_char,
    /// Key file.
    pub private_key: *const c_char,
    /// Client id.
    pub client_id: *const c_char,
    /// User name.
    pub user_name: *const c_char,
    /// Password.
    pub password: *const c_char,
    /// 3 or 4.
    pub mqtt_version: c_int,
    /// Seconds.
    pub keep_alive: u16,
    /// Clean session.
    pub is_clean_session: u8,
    /// Whether `will` is meant.
    pub is_will_present: u8,
    /// The will.
    pub will: WillOptionsV1,
    /// How long a call waits for its answer.
    pub command_timeout_ms: u32,
    /// How long the handshake may take.
    pub tls_handshake_timeout_ms: u32,
    /// Whether the server is verified.
    pub is_ssl_hostname_verify: u8,
    /// Called on loss of the connection.
    pub disconnect_handler: Option<unsafe extern "C" fn()>,
}

/// `MQTTMessageParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MessageParamsV1 {
    /// 0 to 2.
    pub qos: c_int,
    /// RETAIN flag.
    pub is_retained: u8,
    /// DUP flag.
    pub is_duplicate: u8,
    /// Packet id.
    pub id: u16,
    /// The bytes.
    pub payload: *mut c_void,
    /// How many.
    pub payload_len: u32,
}

/// `MQTTCallbackParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CallbackParamsV1 {
    /// Topic.
    pub topic_name: *mut c_char,
    /// Its bytes.
    pub topic_name_len: u16,
    /// The message.
    pub message: MessageParamsV1,
}

/// `iot_message_handler`.
pub type MessageHandlerV1 = unsafe extern "C" fn(params: CallbackParamsV1) -> i32;

/// `MQTTSubscribeParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SubscribeParamsV1 {
    /// Topic filter.
    pub topic: *const c_char,
    /// 0 to 2.
    pub qos: c_int,
    /// Is given the messages.
    pub handler: Option<MessageHandlerV1>,
}

/// `MQTTPublishParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PublishParamsV1 {
    /// Topic.
    pub topic: *const c_char,
    /// The message.
    pub message: MessageParamsV1,
}

/// `ShadowParameters_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ShadowParametersV1 {
    /// The thing that this client is.
    pub thing_name: *const c_char,
    /// Client id.
    pub client_id: *const c_char,
    /// Host.
    pub host: *const c_char,
    /// Port.
    pub port: c_int,
    /// CA file.
    pub root_ca: *const c_char,
    /// Certificate file.
    pub client_crt: *const c_char,
    /// Key file.
    pub client_key: *const c_char,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<ConnectParamsV1>() == 128);
    assert!(size_of::<MessageParamsV1>() == 24);
    assert!(size_of::<CallbackParamsV1>() == 40);
    assert!(size_of::<SubscribeParamsV1>() == 24);
    assert!(size_of::<PublishParamsV1>() == 32);
    assert!(size_of::<ShadowParametersV1>() == 56);
    assert!(size_of::<super::super::shadow::JsonStructV1>() == 32);
};
