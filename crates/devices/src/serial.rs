//! Serial ports: their settings and the task that reads one.

mod acks;
mod config;
mod port;

pub use config::{
    ConfigProblem, FlowControl, Framing, MAX_LINE, Parity, SerialConfig, SerialDevice,
};
pub use port::{READ_BUFFER, SerialPort, WINDOW};
