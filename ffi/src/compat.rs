//! What the headers `aws_iot_*.h` declare: source compatibility with the AWS IoT Device SDK for
//! embedded C: [`v1`] is its first generation, everything else versions 2 and 3.
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
mod jobs;
mod json;
mod mqtt;
mod network;
mod registry;
mod settings;
mod shadow;
mod types;
mod v1;

pub use functions::*;
pub use jobs::*;
pub use json::*;
pub use mqtt::*;
pub use network::*;
pub use shadow::*;
pub use types::{
    AwsIotClient, CompatConfig, ConnectParams, DisconnectHandler, InitParams, MessageHandler,
    PublishParams, WillOptions,
};
pub use v1::*;

pub(crate) use self::shadow::take_document;
