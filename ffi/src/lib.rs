//! libiotedge: an MQTT client with TLS for C programs.
//!
//! Two borders over one client: [`native`] is `iotedge.h`, [`compat`] is what the headers
//! `aws_iot_*.h` call. Behind them is plain Rust without `unsafe`: blocking, without threads of
//! its own, with no lock held while a callback runs. Nothing panics across the border, and a
//! closed socket raises no SIGPIPE.
#![deny(unsafe_code)]

#[macro_use]
mod boundary;
mod client;
pub mod compat;
mod connection;
mod error;
#[doc(hidden)]
pub mod fuzzed;
mod json;
mod log;
pub mod native;
mod shadow;
mod tls;
mod wire;
