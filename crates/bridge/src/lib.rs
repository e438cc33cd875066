//! Upstreams: routes, queue, pacing, state.
//!
//! What always holds:
//!
//! 1. **The store is the only truth.** An outbound row is acknowledged to its mailbox after the
//!    upstream's PUBACK for it (QoS 0: after it went to the socket), and not before.
//! 2. **A connection leaves nothing behind.** What was under way on it is forgotten with it. The mailboxes are rewound, so
//!    that everything not acknowledged goes again, in order, after the next CONNACK.
//! 3. **In order.** Deliveries of one route go to the wire in the order of the mailbox, on one
//!    connection at a time. After a lost connection only what was in flight can be there twice.
//! 4. **Bounded.** At most [`Config::max_in_flight`] messages and a fixed number of bytes are
//!    outside the store; packet ids cannot collide within that window.
//! 5. **Inbound is acknowledged when it is durable here**, in the order of receipt. What the local
//!    broker does not take is tried again, then the connection is ended: the upstream keeps it.
//! 6. **A refusal is no outage.** CONNACK and SUBACK refusals and unreadable files show as
//!    misconfigured with their reason and are tried again slowly; everything else backs off with
//!    decorrelated jitter.
#![forbid(unsafe_code)]

mod bridge;
mod config;
mod echo;
mod endpoint;
mod flow;
#[doc(hidden)]
pub mod fuzzed;
mod gate;
mod inbound;
mod link;
mod liveness;
mod losses;
mod mapping;
mod pacing;
mod pause;
mod payload;
mod peering;
mod preset;
mod route;
mod schedule;
mod shared;
mod task;
mod tls;
mod trial;
pub mod uplink;
mod window;

pub use bridge::Bridge;
pub use config::{Backoff, Config, ConfigError, Version};
pub use endpoint::Proxy;
pub use gate::TimeWindow;
pub use mapping::{Template, TemplateError};
pub use preset::{KINDS, Kind};
pub use route::{Direction, Idempotency, Route};
pub use trial::TrialStep;
