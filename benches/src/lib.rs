//! A load generator that is faster than the brokers it drives.
//!
//! MQTT 3.1.1 as bytes, over blocking sockets, one thread a client. Packets are built in batches
//! before the clock starts, and only their sequence numbers are written while it runs; a receiver
//! reads no more of a packet than it must to check and acknowledge it. Every message carries its
//! publisher and its number, so that what is counted has been seen.
#![forbid(unsafe_code)]

pub mod account;
pub mod far;
pub mod load;
pub mod packet;
pub mod shadow;
pub mod wire;
