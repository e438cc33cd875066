//! Why a call failed, in words; each border turns it into its own codes.

use std::io;
use std::path::PathBuf;

use iotedge_mqtt::{ConnectReturnCode, DecodeError, EncodeError, TopicError};
use thiserror::Error;

/// What went wrong.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// An argument that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// The application has disconnected.
    #[error("disconnected by the application")]
    ManuallyDisconnected,
    /// There is a connection already, or one is being made or ended.
    #[error("already connected, connecting or disconnecting")]
    AlreadyConnected,
    /// Another operation of this client is going on.
    #[error("another operation of this client is in progress")]
    NotIdle,
    /// The client is not in the state that the operation needs.
    #[error("the client is not in a state for this")]
    UnexpectedState,
    /// The host's name has no address.
    #[error("unknown host {host}: {reason}")]
    UnknownHost {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// No socket could be made.
    #[error("cannot make a socket: {0}")]
    Socket(io::Error),
    /// Nobody answers at the address.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The CA file cannot be used.
    #[error("CA file {path}: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client certificate cannot be used.
    #[error("certificate file {path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The private key cannot be used.
    #[error("private key file {path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS handshake failed, or the server was not believed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection broke while reading.
    #[error("the connection broke: {0}")]
    Read(String),
    /// The connection broke while writing.
    #[error("the connection broke: {0}")]
    Write(String),
    /// The peer takes nothing.
    #[error("nothing could be written in time")]
    WriteTimeout,
    /// The connection was lost just now.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// No PINGRESP within the keep-alive time.
    #[error("the server did not answer PINGREQ in time")]
    KeepAlive,
    /// CONNACK refuses.
    #[error("the server refused the connection: {0:?}")]
    Refused(ConnectReturnCode),
    /// No answer within the time.
    #[error("no answer in time")]
    Timeout,
    /// A packet for the server does not fit the transmit buffer.
    #[error("a packet of {size} bytes does not fit the transmit buffer of {limit}")]
    TxBuffer {
        /// Bytes of the packet.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A packet from the server did not fit the receive buffer and was skipped.
    #[error("a packet of {size} bytes did not fit the receive buffer of {limit} and was skipped")]
    RxBuffer {
        /// Bytes of the packet.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// All slots for subscriptions are taken.
    #[error("all {0} slots for subscriptions are taken")]
    TooManySubscriptions(usize),
    /// Too much waits to be acknowledged.
    #[error("more than {0} bytes of messages wait to be acknowledged")]
    QueueFull(usize),
    /// The shadow has no such member, or nothing of it is known yet.
    #[error("the shadow has no {0}")]
    NoMember(String),
    /// The member is of another type, or does not fit the caller's.
    #[error("{0} of the shadow is of another type, or does not fit")]
    WrongType(String),
    /// The server refused the document.
    #[error("the server refused the document: {0}")]
    Rejected(String),
    /// There is no such subscription.
    #[error("there is no subscription to this filter")]
    NotSubscribed,
    /// SUBACK refuses.
    #[error("the server refused the subscription")]
    SubscriptionRefused,
    /// The topic or filter is not valid.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// A text is not UTF-8, has U+0000 in it or is too long.
    #[error("{what} {reason}")]
    Text {
        /// Which.
        what: &'static str,
        /// Why.
        reason: iotedge_mqtt::StrError,
    },
    /// A number is not one of those allowed.
    #[error("{what} cannot be {value}")]
    Value {
        /// Which.
        what: &'static str,
        /// The number.
        value: i64,
    },
    /// The packet cannot be written.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// The server sent what is no MQTT.
    #[error("the server broke the protocol: {0}")]
    Decode(#[from] DecodeError),
    /// The connection is lost and being made again.
    #[error("the connection is lost; reconnecting")]
    AttemptingReconnect,
    /// The connection could not be made again within the longest back-off.
    #[error("the connection could not be made again")]
    ReconnectTimedOut,
}

impl Error {
    /// Whether the connection is of no more use.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Read(_) | Self::Write(_) | Self::WriteTimeout | Self::KeepAlive | Self::Tls(_)
        )
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
