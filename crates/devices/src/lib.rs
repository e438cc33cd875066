//! Devices as message sources. Serial ports today: bytes to lines, lines to payloads, payloads to
//! the broker.
//!
//! What decides is pure and has no port in it ([`Framer`], [`Decoder`]); the shell around it
//! ([`SerialPort`]) opens, reads, publishes and comes back when the port does.
#![forbid(unsafe_code)]

mod decoder;
mod framer;
mod serial;
mod status;

pub use decoder::{Decoder, Format, Reject};
pub use framer::{Frame, Framer};
pub use serial::{
    ConfigProblem, FlowControl, Framing, MAX_LINE, Parity, READ_BUFFER, SerialConfig, SerialDevice,
    SerialPort, WINDOW,
};
pub use status::{DeviceState, DeviceStatus};
