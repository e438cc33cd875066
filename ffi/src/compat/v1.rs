//! What the headers in `include/v1` call: source compatibility with version 1 of the AWS IoT
//! Device SDK for embedded C. There is one connection for the whole process, and the names of C
//! are those of the later versions with other types: the headers give them names of their own
//! here, `iotedge_v1_*`.

mod codes;
mod mqtt;
mod shadow;
mod types;

pub use self::mqtt::*;
pub use self::shadow::*;
pub use self::types::*;
