//! MQTT packets, both directions, and the state of a session: functions of bytes and values,
//! without socket, clock or runtime, shared by the gateway and the C library.
//!
//! - [`Decoder`] takes packets off the front of a buffer; payloads and strings share it.
//! - [`encode`] writes a packet; [`encode_publish`] and [`publish_header`] are the hot path.
//! - [`Outbound`] is the window of what was sent with a packet id and is not acknowledged.
//! - [`Inbound`] keeps acknowledgements in the order of receipt.
//!
//! Versions 3.1.1 and 5 are spoken with the same types: what only version 5 has stands in
//! `properties` and reason codes, which 3.1.1 leaves at `None` and success. [`encode_for`] and
//! [`encode_publish_for`] write either version; [`encode`] and [`encode_publish`] write 3.1.1.
//!
//! No input makes anything here panic. Names like [MQTT-3.1.0-1] are the numbered statements of
//! 3.1.1, and of version 5 where a 5 stands in front or only version 5 has what they are about.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
mod inbound;
mod outbound;
mod packet;
mod reason;
mod text;

pub use decode::{Decoder, Role};
pub use encode::{
    PublishHead, encode, encode_for, encode_publish, encode_publish_for, encode_within,
    publish_header, publish_header_for, publish_len,
};
pub use error::{DecodeError, EncodeError, Field};
pub use inbound::{Inbound, Receipt, Received};
pub use iotedge_model::{PayloadFormat, Properties, QoS, TopicError, UserProperty};
pub use outbound::{InFlight, Outbound, Phase, PubRec};
pub use packet::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, LastWill, Packet, PacketId, PacketType,
    Property, Publish, PublishProperties, PublishPropertiesRef, RetainHandling, SubAck, SubAckCode,
    Subscribe, SubscribeProperties, SubscriptionOptions, UnsubAck, Unsubscribe,
    UnsubscribeProperties, Version, WillProperties,
};
pub use reason::{ConnectReturnCode, ReasonCode};
pub use text::{Str, StrError};

/// The largest value of the remaining length and of any variable byte integer (MQTT 3.1.1, 2.2.3;
/// MQTT 5, 1.5.5).
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;
