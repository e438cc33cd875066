//! MQTT over WebSocket (RFC 6455; MQTT 3.1.1 and 5, chapter 6): the handshake, and a stream that
//! is MQTT on one side and frames on the other.
//!
//! 1. Frames mean nothing to MQTT: packets may span them, and one may hold several. So nothing is
//!    collected. What a read brought is taken apart and unmasked where it lies, and the decoder of
//!    packets behind it, with its own limit, sees one stream of bytes.
//! 2. An idle connection holds no buffer for its frames: a few numbers, and a control frame only
//!    while it comes or goes.
//! 3. Of several pings that come while the socket takes nothing, the last alone is answered (RFC
//!    6455, 5.5.3): what is to be said about frames never grows.
//! 4. Whatever breaks the rules ends the connection with the close code that RFC 6455 has for it.

pub mod frame;
pub(crate) mod handshake;
mod stream;

pub(crate) use stream::Stream;
