//! The `event` field of log records (2016 guide, "CloudWatch Log Entry Format", and events of our
//! own in the same style).

/// A client connected.
pub const CONNECT: &str = "Connect";
/// A client went, for whatever reason.
pub const DISCONNECT: &str = "Disconnect";
/// A client published.
pub const PUBLISH_IN: &str = "PublishIn";
/// A client was sent a message.
pub const PUBLISH_OUT: &str = "PublishOut";
/// A client subscribed.
pub const SUBSCRIBE: &str = "Subscribe";
/// A policy said no.
pub const POLICY_DENIED: &str = "PolicyDenied";
/// A handshake or CONNECT was refused.
pub const CONNECT_REFUSED: &str = "ConnectRefused";
/// A packet that is none.
pub const PROTOCOL_ERROR: &str = "ProtocolError";
/// A message was dropped.
pub const MESSAGE_DROPPED: &str = "MessageDropped";
/// A message reached a rule.
pub const MESSAGE_RECEIVED: &str = "MessageReceived";
/// A rule's republish went out.
pub const REPUBLISH_SUCCESS: &str = "RepublishActionSuccess";
/// A rule's republish failed.
pub const REPUBLISH_FAILURE: &str = "RepublishActionFailure";
/// A shadow was read.
pub const GET_SHADOW: &str = "GetThingShadow";
/// A shadow was changed.
pub const UPDATE_SHADOW: &str = "UpdateThingShadow";
/// A shadow was deleted.
pub const DELETE_SHADOW: &str = "DeleteThingShadow";
/// An upstream link changed its state.
pub const UPSTREAM: &str = "Upstream";
/// A device appeared, failed or sent what could not be used.
pub const DEVICE: &str = "Device";
/// The configuration was read again.
pub const RELOAD: &str = "Reload";
/// Start and stop.
pub const LIFECYCLE: &str = "Lifecycle";
/// A certificate: registered, its status changed, a list of revoked ones.
pub const CERTIFICATE: &str = "Certificate";
/// The gateway's clock, and whether it can be trusted.
pub const CLOCK: &str = "Clock";
/// The store.
pub const STORE: &str = "Store";
/// A rule's outbox: its sink is tried again.
pub const OUTBOX: &str = "Outbox";
