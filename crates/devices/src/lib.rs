//! Serial, Modbus and GPIO devices as message sources
#![forbid(unsafe_code)]
