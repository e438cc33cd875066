//! What the writer of `queue.db` knows from one transaction to the next.

use std::collections::HashSet;

use super::early::Early;
use super::parcels::Last;
use super::rows::Encoder;
use super::spare::Owed;
use crate::TakerId;

/// See the fields.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) encoder: Encoder,
    /// Takers that are there.
    pub(crate) known: HashSet<TakerId>,
    /// Message ids below this are reserved.
    pub(crate) reserved: u64,
    pub(crate) early: Early,
    pub(crate) last: Last,
    pub(crate) owed: Owed,
}
