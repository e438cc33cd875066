//! The numbers of `IoT_Error_t` (`aws_iot_error.h`).

use std::ffi::c_int;

use iotedge_mqtt::{ConnectReturnCode, DecodeError, EncodeError};

use crate::error::{Error, Result};

pub(super) const NETWORK_RECONNECTED: c_int = 3;
pub(super) const SUCCESS: c_int = 0;
pub(super) const FAILURE: c_int = -1;
pub(super) const NULL_VALUE_ERROR: c_int = -2;
pub(super) const NETWORK_ALREADY_CONNECTED_ERROR: c_int = -15;
pub(super) const JSON_PARSE_ERROR: c_int = -42;
pub(super) const SHADOW_JSON_ERROR: c_int = -45;
pub(super) const LIMIT_EXCEEDED_ERROR: c_int = -51;
pub(super) const MQTT_UNACCEPTABLE_PROTOCOL_VERSION_ERROR: c_int = -37;

/// The code of a result without a value.
pub(super) fn code_of<T>(result: Result<T>) -> c_int {
    match result {
        Ok(_) => SUCCESS,
        Err(error) => code(&error),
    }
}

/// The code of an error.
pub(super) fn code(error: &Error) -> c_int {
    match error {
        Error::ManuallyDisconnected => 5,
        Error::AttemptingReconnect => 4,
        Error::Missing(_) => NULL_VALUE_ERROR,
        Error::Tls(_) => -4,
        Error::Write(_) => -7,
        Error::WriteTimeout => -10,
        Error::Read(_) => -12,
        Error::NotConnected | Error::KeepAlive | Error::Lost(_) => -13,
        Error::ReconnectTimedOut => -14,
        Error::AlreadyConnected => NETWORK_ALREADY_CONNECTED_ERROR,
        Error::Ca { .. } => -19,
        Error::Certificate { .. } => -20,
        Error::Key { .. } => -21,
        Error::Socket(_) => -22,
        Error::UnknownHost { .. } => -23,
        Error::Connect(_) => -24,
        Error::Timeout => -28,
        Error::UnexpectedState => -29,
        Error::NotIdle => -30,
        Error::Decode(error) => decode_code(error),
        Error::RxBuffer { .. } => -32,
        Error::TxBuffer { .. } => -33,
        // What cannot be written at all fits no buffer either.
        Error::Encode(EncodeError::PacketTooLarge(_) | EncodeError::FieldTooLong { .. }) => -33,
        Error::TooManySubscriptions(_) => -34,
        Error::QueueFull(_) => LIMIT_EXCEEDED_ERROR,
        Error::Refused(code) => refused(*code),
        Error::NotSubscribed
        | Error::SubscriptionRefused
        | Error::NoMember(_)
        | Error::WrongType(_)
        | Error::Rejected(_)
        | Error::Topic(_)
        | Error::Text { .. }
        | Error::Value { .. }
        | Error::Encode(_) => FAILURE,
    }
}

fn decode_code(error: &DecodeError) -> c_int {
    match error {
        DecodeError::ReservedType(_)
        | DecodeError::UnexpectedPacket { .. }
        | DecodeError::WrongFirstPacket { .. }
        | DecodeError::Repeated(_) => -31,
        DecodeError::RemainingLength => -35,
        DecodeError::ConnAckCode(_)
        | DecodeError::ConnAckFlags(_)
        | DecodeError::SessionPresentOnRefusal => -36,
        _ => FAILURE,
    }
}

fn refused(code: ConnectReturnCode) -> c_int {
    match code {
        ConnectReturnCode::Accepted => SUCCESS,
        ConnectReturnCode::UnacceptableProtocolVersion => MQTT_UNACCEPTABLE_PROTOCOL_VERSION_ERROR,
        ConnectReturnCode::IdentifierRejected => -38,
        ConnectReturnCode::ServerUnavailable => -39,
        ConnectReturnCode::BadUserNameOrPassword => -40,
        ConnectReturnCode::NotAuthorized => -41,
    }
}
