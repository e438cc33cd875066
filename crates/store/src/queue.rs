//! `queue.db`: messages, the takers' queues and books, sessions, retained messages.

use std::num::NonZeroU16;
use std::sync::Arc;

use iotedge_model::{ClientId, DropReason, MessageId, Topic, UnixMillis};

use crate::writer::Operation;
use crate::{Append, SessionRecord, SubscriptionRecord, TakerId, TakerKind, WillRecord};

pub(crate) mod batch;
mod bulk;
pub(crate) mod checked;
pub(crate) mod dead;
pub(crate) mod early;
pub(crate) mod engine;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod mirror;
pub(crate) mod parcel;
pub(crate) mod parcels;
pub(crate) mod qos2;
pub(crate) mod read;
mod records;
pub(crate) mod recount;
pub(crate) mod rows;
pub(crate) mod spare;
pub(crate) mod takers;
mod waiting;

/// How a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Delivered,
    Dropped(DropReason),
}

/// How a row ends whose append may still be to come.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Settled(Settled),
    Buried(Arc<Burial>),
}

/// How a row becomes a dead letter.
#[derive(Debug)]
pub(crate) struct Burial {
    pub(crate) kind: TakerKind,
    pub(crate) name: Arc<str>,
    pub(crate) reason: Arc<str>,
    pub(crate) died_at: UnixMillis,
}

/// What the writer can be asked.
#[derive(Debug)]
pub(crate) enum Op {
    CreateTaker {
        id: TakerId,
        kind: TakerKind,
        name: Arc<str>,
    },
    RemoveTaker {
        id: TakerId,
        reason: DropReason,
    },
    Append(Vec<Append>),
    Settle {
        taker: TakerId,
        ids: Vec<MessageId>,
        how: Settled,
        /// Their bytes, where the caller knows them: off the books at once.
        bytes: i64,
    },
    MarkSent {
        taker: TakerId,
        claimant: Option<TakerId>,
        sent: Vec<(MessageId, NonZeroU16)>,
    },
    Unmark {
        taker: TakerId,
        ids: Vec<MessageId>,
    },
    MarkReceived {
        taker: TakerId,
        id: MessageId,
    },
    ReleaseInbound {
        client_id: Arc<str>,
        packet_id: NonZeroU16,
    },
    Bury {
        taker: TakerId,
        ids: Vec<MessageId>,
        burial: Arc<Burial>,
    },
    Revive {
        letter: u64,
        taker: TakerId,
        message: MessageId,
        bytes: i64,
    },
    RemoveDead {
        letter: u64,
    },
    CountDrop {
        taker: TakerId,
        reason: DropReason,
        n: u64,
    },
    PutSession(Box<SessionRecord>),
    RemoveSession {
        client_id: Arc<str>,
        taker: Option<TakerId>,
    },
    PutSubscription {
        client_id: ClientId,
        record: SubscriptionRecord,
    },
    RemoveSubscription {
        client_id: Arc<str>,
        text: Arc<str>,
    },
    PutWill(Box<WillRecord>),
    RemoveWill {
        id: MessageId,
    },
    RemoveRetained {
        topic: Topic,
        id: MessageId,
    },
}

impl Op {
    /// Bytes that it holds while it waits, roughly.
    pub(crate) fn cost(&self) -> u64 {
        let bytes = match self {
            Self::Append(entries) => entries
                .iter()
                .map(|e| e.message.cost() + e.takers.len() * size_of::<crate::TakerRow>())
                .sum(),
            Self::Settle { ids, .. } | Self::Bury { ids, .. } => ids.len() * size_of::<MessageId>(),
            Self::PutWill(will) => will.message.cost(),
            Self::PutSession(_) => size_of::<SessionRecord>(),
            Self::MarkSent { sent, .. } => sent.len() * size_of::<(MessageId, NonZeroU16)>(),
            _ => 0,
        };
        u64::try_from(bytes).unwrap_or(u64::MAX) + 128
    }
}

impl Operation for Op {
    type Key = (TakerId, DropReason);

    fn key(&self) -> Option<Self::Key> {
        match self {
            Self::CountDrop { taker, reason, .. } => Some((*taker, *reason)),
            _ => None,
        }
    }

    fn absorb(&mut self, other: Self) {
        if let (Self::CountDrop { n, .. }, Self::CountDrop { n: more, .. }) = (self, other) {
            *n = n.saturating_add(more);
        }
    }

    fn is_sparable(&self) -> bool {
        matches!(self, Self::Append(entries) if !entries.is_empty())
    }

    /// By the range of the messages' ids: a look that finds nothing does no harm.
    fn spares(&self, other: &Self) -> bool {
        let (Self::Settle { taker, ids, .. }, Self::Append(entries)) = (self, other) else {
            return false;
        };
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return false;
        };
        let range = first.message.id..=last.message.id;
        let takes = |entry: &Append| entry.takers.iter().any(|row| row.taker == *taker);
        entries.iter().any(takes) && ids.iter().any(|id| range.contains(id))
    }
}
