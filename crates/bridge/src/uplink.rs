//! One connection to an upstream in MQTT's own terms, whatever carries it: sockets, or a script in a
//! test.
//!
//! What always holds of a [`Connection`]:
//!
//! 1. Handing over ([`Connection::publish`] and its like) never waits. What was handed over goes
//!    out in that order, and for each PUBLISH one [`Event::Published`] says so, in that order too.
//! 2. [`Connection::poll_event`] may be given up at any time; nothing is lost by it.
//! 3. The first error is the end: what was read before it came before it, nothing comes after it,
//!    and it connects never again by itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use iotedge_model::{Properties, QoS};

mod client;
mod counted;
mod dial;
mod found;
pub(crate) mod proxy;
pub mod reason;
#[doc(hidden)]
pub mod scripted;
mod session;
mod websocket;

pub(crate) use client::{Client, MAX_ACKS, SLOWEST};

/// How far a connection is, or where it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Our own files and settings.
    Settings,
    /// Name resolution.
    Dns,
    /// TCP.
    Tcp,
    /// CONNECT or SOCKS to the proxy.
    Proxy,
    /// TLS.
    Tls,
    /// The WebSocket's handshake.
    WebSocket,
    /// CONNECT and CONNACK.
    Connack,
    /// MQTT after CONNACK.
    Mqtt,
}

impl Layer {
    /// As an operator calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::WebSocket => "WebSocket",
            Self::Connack => "CONNACK",
            Self::Mqtt => "MQTT",
        }
    }
}

/// What kind of end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An outage: tried again after a pause.
    Lost,
    /// A refusal, or files that can not be used: tried again slowly.
    Refused,
    /// Our clock is not trusted and the peer's certificate can not be judged by it.
    Clock,
}

/// Why a connection did not come up, or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Where.
    pub layer: Layer,
    /// What it asks for.
    pub kind: Kind,
    /// The reason code of CONNACK or DISCONNECT.
    pub code: Option<u8>,
    /// In an operator's words.
    pub text: String,
}

impl Ended {
    /// An outage.
    pub fn lost(layer: Layer, text: impl Into<String>) -> Self {
        Self {
            layer,
            kind: Kind::Lost,
            code: None,
            text: text.into(),
        }
    }

    /// A refusal.
    pub fn refused(layer: Layer, text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused,
            ..Self::lost(layer, text)
        }
    }

    /// CONNACK said no (MQTT 3.1.1, 3.2.2.3; MQTT 5, 3.2.2.2). `said`: the server's reason string.
    pub fn connack(code: u8, said: Option<&str>) -> Self {
        let kind = if reason::is_temporary(code) {
            Kind::Lost
        } else {
            Kind::Refused
        };
        Self {
            layer: Layer::Connack,
            kind,
            code: Some(code),
            text: reason::told("CONNACK", code, said),
        }
    }

    /// The server's DISCONNECT (MQTT 5, 3.14).
    pub fn disconnect(code: u8, said: Option<&str>) -> Self {
        let kind = match code {
            // Who comes back at once is pushed out again, and pushes the other out.
            0x8E => Kind::Refused,
            _ => Kind::Lost,
        };
        Self {
            layer: Layer::Mqtt,
            kind,
            code: Some(code),
            text: reason::told("DISCONNECT", code, said),
        }
    }
}

/// What CONNACK says (MQTT 5, 3.2.2.3); of a 3.1.1 server what holds without saying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The server has our session.
    pub session_present: bool,
    /// How many QoS 1 messages may wait for PUBACK; at least 1.
    pub receive_maximum: u16,
    /// Largest packet the server takes, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// Highest QoS the server takes.
    pub maximum_qos: QoS,
    /// Whether it takes retained messages.
    pub retain_available: bool,
    /// The keep alive in force, in seconds.
    pub keep_alive: u16,
}

impl Accepted {
    /// A server that sets no limit of its own.
    pub fn unlimited(keep_alive: u16) -> Self {
        Self {
            session_present: false,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            keep_alive,
        }
    }
}

/// A PUBLISH to the upstream. Version 3.1.1 carries neither expiry nor properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic there.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// Message expiry interval, in seconds.
    pub expiry: Option<u32>,
    /// Properties of version 5.
    pub properties: Option<Arc<Properties>>,
}

/// A PUBLISH from the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The topic there.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The QoS it came with.
    pub qos: QoS,
    /// As the server set it.
    pub retain: bool,
    /// Sent before.
    pub dup: bool,
    /// For [`Connection::acknowledge`]; 0 of QoS 0.
    pub packet_id: u16,
    /// Message expiry interval, in seconds.
    pub expiry: Option<u32>,
    /// Properties of version 5.
    pub properties: Option<Box<Properties>>,
}

/// One line of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The filter there.
    pub filter: String,
    /// Highest QoS.
    pub qos: QoS,
    /// Version 5: not what we publish ourselves.
    pub no_local: bool,
    /// Version 5: the retain flag as it was published.
    pub retain_as_published: bool,
    /// Whether the retained messages that it matches are to come; a 3.1.1 server sends them always.
    pub retained: bool,
}

/// PUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Of which PUBLISH.
    pub packet_id: u16,
    /// The reason code (MQTT 5, 3.4.2.1); below 0x80: the server has it.
    pub reason: u8,
    /// The server's reason string.
    pub said: Option<String>,
}

/// What happens on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The next PUBLISH that was handed over is on the wire, with this packet id (QoS 0: 0).
    Published(u16),
    /// PUBACK.
    Acknowledged(Acknowledged),
    /// Our SUBSCRIBE or UNSUBSCRIBE is on the wire.
    SubscribeSent,
    /// SUBACK, a reason code for each filter, in order; 0x80 and above is a refusal.
    Subscribed(Vec<u8>),
    /// PUBLISH from the upstream.
    Incoming(Box<Incoming>),
    /// Our PUBACK or PUBREC is on the wire.
    AckSent,
    /// Our PINGREQ is on the wire.
    PingSent,
    /// PINGRESP.
    Pong,
    /// Our DISCONNECT is on the wire.
    Left,
}

/// A connection whose CONNACK has come.
pub trait Connection: Send {
    /// Hands over a PUBLISH.
    fn publish(&mut self, publish: Publish) -> Result<(), Ended>;

    /// Hands over one SUBSCRIBE.
    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended>;

    /// Hands over an UNSUBSCRIBE of one filter.
    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended>;

    /// Hands over PUBACK, of QoS 2 PUBREC.
    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended>;

    /// Asks for a PINGREQ as soon as all that was handed over is on the wire. Not while another
    /// waits for its [`Event::Pong`].
    fn ping(&mut self);

    /// Hands over DISCONNECT.
    fn disconnect(&mut self) -> Result<(), Ended>;

    /// The next event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>>;

    /// An event that is there already.
    fn buffered(&mut self) -> Option<Event>;

    /// Lets go, and waits until what is on the wire has left.
    fn finish(self: Box<Self>) -> Finishing {
        Box::pin(std::future::ready(()))
    }
}

/// A connection that ends.
pub type Finishing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection with its CONNACK, or why there is none.
pub type Outcome = Result<(Box<dyn Connection>, Accepted), Ended>;

/// A connection on its way.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Makes connections to one upstream.
pub trait Connector: Send + Sync {
    /// From name resolution to CONNACK. `progress` is told each layer that is begun. To drop the
    /// future is to give up.
    fn connect<'a>(&'a self, progress: &'a (dyn Fn(Layer) + Send + Sync)) -> Connecting<'a>;

    /// What the last try has found on its way, layer by layer.
    fn found(&self) -> Vec<(Layer, String)> {
        Vec::new()
    }

    /// Bytes sent and received since start, without TCP's and IP's headers.
    fn traffic(&self) -> (u64, u64) {
        (0, 0)
    }
}
