//! The C structures, field by field as in `aws_iot_mqtt_client.h`. C's enumerations and booleans
//! are integers here: C code may leave any value in them.

use std::ffi::{c_char, c_int, c_void};

use super::shadow::Limits;

/// `AWS_IoT_Client`: only its address counts.
#[repr(C)]
pub struct AwsIotClient {
    reserved: [u64; 16],
}

/// `IoT_Publish_Message_Params`.
#[repr(C)]
#[derive(Debug)]
pub struct PublishParams {
    /// 0 or 1.
    pub qos: c_int,
    /// RETAIN flag.
    pub is_retained: u8,
    /// DUP flag; only of received messages.
    pub is_dup: u8,
    /// Packet id; written by a publish with QoS 1.
    pub id: u16,
    /// The bytes.
    pub payload: *mut c_void,
    /// How many.
    pub payload_len: usize,
}

/// `IoT_MQTT_Will_Options`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WillOptions {
    /// "MQTW".
    pub struct_id: [c_char; 4],
    /// Topic.
    pub topic_name: *mut c_char,
    /// Its bytes.
    pub topic_name_len: u16,
    /// Payload.
    pub message: *mut c_char,
    /// Its bytes.
    pub message_len: u16,
    /// RETAIN flag.
    pub is_retained: u8,
    /// 0 or 1.
    pub qos: c_int,
}

/// `IoT_Client_Connect_Params`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ConnectParams {
    /// "MQTC".
    pub struct_id: [c_char; 4],
    /// 4.
    pub mqtt_version: c_int,
    /// Client id.
    pub client_id: *const c_char,
    /// Its bytes.
    pub client_id_len: u16,
    /// Seconds.
    pub keep_alive: u16,
    /// Clean session.
    pub is_clean_session: u8,
    /// Whether `will` is meant.
    pub is_will_present: u8,
    /// The will.
    pub will: WillOptions,
    /// User name, sent only without metrics.
    pub username: *mut c_char,
    /// Its bytes.
    pub username_len: u16,
    /// Password.
    pub password: *mut c_char,
    /// Its bytes.
    pub password_len: u16,
}

/// `iot_disconnect_handler`.
pub type DisconnectHandler = unsafe extern "C" fn(client: *mut AwsIotClient, data: *mut c_void);

/// `pApplicationHandler_t`.
pub type MessageHandler = unsafe extern "C" fn(
    client: *mut AwsIotClient,
    topic: *mut c_char,
    topic_len: u16,
    params: *mut PublishParams,
    data: *mut c_void,
);

/// `IoT_Client_Init_Params`. With `_ENABLE_THREAD_SUPPORT_` a last field follows that is not read:
/// operations exclude each other in any case, and no call waits for a lock longer than a moment.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InitParams {
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
    /// Not used by any call.
    pub packet_timeout_ms: u32,
    /// How long a call waits for its answer.
    pub command_timeout_ms: u32,
    /// How long the handshake may take.
    pub tls_handshake_timeout_ms: u32,
    /// Whether the server is verified.
    pub is_ssl_hostname_verify: u8,
    /// Called on loss of the connection.
    pub disconnect_handler: Option<DisconnectHandler>,
    /// For it.
    pub disconnect_handler_data: *mut c_void,
}

/// `struct iotedge_compat_config`: the application's macros.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CompatConfig {
    /// Its size in the header that the application was built with.
    pub size: usize,
    /// `AWS_IOT_MQTT_TX_BUF_LEN`.
    pub tx_buf_len: u32,
    /// `AWS_IOT_MQTT_RX_BUF_LEN`.
    pub rx_buf_len: u32,
    /// `AWS_IOT_MQTT_NUM_SUBSCRIBE_HANDLERS`.
    pub num_subscribe_handlers: u32,
    /// `AWS_IOT_MQTT_MIN_RECONNECT_WAIT_INTERVAL`.
    pub min_reconnect_wait_ms: u32,
    /// `AWS_IOT_MQTT_MAX_RECONNECT_WAIT_INTERVAL`.
    pub max_reconnect_wait_ms: u32,
    /// `DISABLE_METRICS`.
    pub disable_metrics: u32,
    /// `MAX_ACKS_TO_COMEIN_AT_ANY_GIVEN_TIME`.
    pub max_shadow_acks: u32,
    /// `MAX_JSON_TOKEN_EXPECTED`.
    pub max_shadow_deltas: u32,
    /// `SHADOW_MAX_SIZE_OF_RX_BUFFER`.
    pub shadow_rx_buf_len: u32,
}

impl CompatConfig {
    pub(super) fn shadow_limits(&self) -> Limits {
        Limits {
            max_acks: self.max_shadow_acks as usize,
            max_deltas: self.max_shadow_deltas as usize,
            rx_buffer: self.shadow_rx_buf_len as usize,
        }
    }
}

impl Default for CompatConfig {
    /// The values of the SDK's samples.
    fn default() -> Self {
        Self {
            size: size_of::<Self>(),
            tx_buf_len: 512,
            rx_buf_len: 512,
            num_subscribe_handlers: 5,
            min_reconnect_wait_ms: 1000,
            max_reconnect_wait_ms: 128_000,
            disable_metrics: 0,
            max_shadow_acks: 10,
            max_shadow_deltas: 120,
            shadow_rx_buf_len: 513,
        }
    }
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<PublishParams>() == 24);
    assert!(size_of::<WillOptions>() == 40);
    assert!(size_of::<ConnectParams>() == 96);
    assert!(std::mem::offset_of!(ConnectParams, will) == 24);
    assert!(size_of::<InitParams>() == 80);
    assert!(std::mem::offset_of!(InitParams, port) == 16);
    assert!(std::mem::offset_of!(InitParams, disconnect_handler_data) == 72);
};
