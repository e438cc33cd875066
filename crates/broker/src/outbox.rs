//! What waits for one taker: a bounded part in memory, the rest as rows in the store.
//!
//! [`Feed`] is the queue itself. [`SessionBox`] puts packet ids and the in-flight window on top of
//! it, [`RouteBox`] what a bridge or a rule's action has in flight.

mod actions;
mod age;
mod ahead;
mod attached;
mod feed;
mod flight;
mod plain;
mod route;
mod session;
mod share;
mod states;

pub(crate) use actions::Outboxes;
pub(crate) use feed::{Env, PRESSED_PART, Push};
pub(crate) use route::{RouteBox, RouteLimits};
pub(crate) use session::{Durable, SessionBox};
