//! The numbers of `IoT_Error_t` in version 1.

use std::ffi::c_int;

use crate::compat::shadow::Fault;
use crate::error::Error;

pub(super) const RECONNECT_SUCCESSFUL: c_int = 1;
pub(super) const NONE_ERROR: c_int = 0;
pub(super) const GENERIC_ERROR: c_int = -1;
pub(super) const NULL_VALUE_ERROR: c_int = -2;
pub(super) const CONNECTION_ERROR: c_int = -3;
pub(super) const SUBSCRIBE_ERROR: c_int = -4;
pub(super) const PUBLISH_ERROR: c_int = -5;
pub(super) const DISCONNECT_ERROR: c_int = -6;
pub(super) const YIELD_ERROR: c_int = -7;
pub(super) const UNSUBSCRIBE_ERROR: c_int = -15;
pub(super) const NETWORK_ALREADY_CONNECTED: c_int = -26;
const SSL_CONNECT_ERROR: c_int = -9;
const SSL_CERT_ERROR: c_int = -14;
const SHADOW_JSON_BUFFER_TRUNCATED: c_int = -21;
const SHADOW_JSON_ERROR: c_int = -22;
const NETWORK_DISCONNECTED: c_int = -23;
const NETWORK_RECONNECT_TIMED_OUT: c_int = -24;
const NETWORK_ATTEMPTING_RECONNECT: c_int = -25;
const RX_MESSAGE_INVALID: c_int = -27;
const RX_MESSAGE_BIGGER_THAN_MQTT_RX_BUF: c_int = -28;

/// The number of an error of connecting.
pub(super) fn of_connect(error: &Error) -> c_int {
    match error {
        Error::Missing(_) => NULL_VALUE_ERROR,
        Error::Ca { .. } | Error::Certificate { .. } | Error::Key { .. } => SSL_CERT_ERROR,
        Error::Tls(_) => SSL_CONNECT_ERROR,
        Error::AlreadyConnected => NETWORK_ALREADY_CONNECTED,
        _ => CONNECTION_ERROR,
    }
}

/// The number of an error of yielding or reconnecting.
pub(super) fn of_yield(error: &Error) -> c_int {
    match error {
        Error::AttemptingReconnect => NETWORK_ATTEMPTING_RECONNECT,
        Error::ReconnectTimedOut => NETWORK_RECONNECT_TIMED_OUT,
        Error::AlreadyConnected => NETWORK_ALREADY_CONNECTED,
        Error::RxBuffer { .. } => RX_MESSAGE_BIGGER_THAN_MQTT_RX_BUF,
        Error::Decode(_) => RX_MESSAGE_INVALID,
        Error::NotConnected | Error::ManuallyDisconnected | Error::Lost(_) => NETWORK_DISCONNECTED,
        error if error.is_loss() => NETWORK_DISCONNECTED,
        _ => YIELD_ERROR,
    }
}

/// The number of an error of any other call, which has one number for all but missing arguments.
pub(super) fn of_call(error: &Error, number: c_int) -> c_int {
    match error {
        Error::Missing(_) => NULL_VALUE_ERROR,
        _ => number,
    }
}

/// The number of a shadow's call.
pub(super) fn of_shadow(fault: &Fault) -> c_int {
    match fault {
        Fault::Missing => NULL_VALUE_ERROR,
        Fault::NotConnected => CONNECTION_ERROR,
        Fault::NoRoom => GENERIC_ERROR,
        Fault::Truncated => SHADOW_JSON_BUFFER_TRUNCATED,
        Fault::Document => SHADOW_JSON_ERROR,
        Fault::Client(Error::SubscriptionRefused) => SUBSCRIBE_ERROR,
        Fault::Client(error) => of_call(error, PUBLISH_ERROR),
    }
}
