//! MQTT packets, both directions, and the state of a session: functions of bytes and values,
//! without socket, clock or runtime, shared by the gateway and the C library.
//!
//! - [`Decoder`] takes packets off the front of a buffer; payloads and strings share it.
//! - [`encode`] writes a packet; [`encode_publish`] and [`publish_header`] are the hot path.
//! - [`Outbound`] is the window of what was sent with a packet id and is not acknowledged.
//! - [`Inbound`] keeps acknowledgements in the order of receipt.
//!
//! Version 3.1.1 is spoken; the types leave room for version 5, whose CONNECT is read as far as
//! it takes to refuse it with the right CONNACK ([`DecodeError::connack`]).
//!
//! No input makes anything here panic; names like [MQTT-3.1.0-1] are the numbered statements of
//! the standard.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
mod inbound;
mod outbound;
mod packet;
mod text;

pub use decode::{Decoder, Role};
pub use encode::{encode, encode_publish, publish_header};
pub use error::{DecodeError, EncodeError, Field};
pub use inbound::{Ack, Inbound, Received};
pub use iotedge_model::{Properties, QoS, TopicError};
pub use outbound::{InFlight, Outbound, Phase, PubRec};
pub use packet::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PacketId, PacketType, Publish, SubAck,
    SubAckCode, Subscribe, Unsubscribe, Version,
};
pub use text::{Str, StrError};

/// The largest value of the remaining length (MQTT 3.1.1, 2.2.3).
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;
