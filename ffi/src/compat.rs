//! What the headers `aws_iot_*.h` declare: source compatibility with the AWS IoT Device SDK for
//! embedded C, versions 2 and 3, as far as MQTT goes.
//!
//! The application's macros (`aws_iot_config.h`) are unknown to this library when it is built:
//! the header's `aws_iot_mqtt_init` is an inline function that hands them over to
//! [`iotedge_compat_mqtt_init`].
//!
//! A client is found by the address of its `AWS_IoT_Client`, whose memory is neither read nor
//! written: programs leave it uninitialised and never free it.
#![allow(unsafe_code)] // a C border; every function says what it takes for granted

mod codes;
mod functions;
mod mqtt;
mod network;
mod registry;
mod types;

pub use functions::*;
pub use mqtt::*;
pub use network::*;
pub use types::{
    AwsIotClient, CompatConfig, ConnectParams, DisconnectHandler, InitParams, MessageHandler,
    PublishParams, WillOptions,
};
