//! What is known of one shadow while the daemon runs.

use iotedge_model::reserved::ShadowOperation;
use serde_json::{Map, Value};

use crate::core::sync::Replica;

/// Where a shadow stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Nothing is under way.
    Idle,
    /// The cloud is asked for it.
    Getting { token: String },
    /// The service merges it with the cloud's side of this version.
    Merging { version: Option<u64> },
    /// The cloud is told.
    Sending { token: String, sending: Sending },
}

impl Phase {
    /// What the cloud is asked, and the token of that; `None`: nothing.
    pub(super) fn asked(&self) -> Option<(ShadowOperation, &str)> {
        match self {
            Self::Idle | Self::Merging { .. } => None,
            Self::Getting { token } => Some((ShadowOperation::Get, token)),
            Self::Sending { token, sending } => match sending {
                Sending::Update { .. } => Some((ShadowOperation::Update, token)),
                Sending::Delete { .. } => Some((ShadowOperation::Delete, token)),
            },
        }
    }
}

/// What the cloud is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sending {
    Update {
        /// What it was compared with; `None`: there was no shadow.
        expected: Option<u64>,
        /// The local version that it comes of.
        local: u64,
        /// Both sections afterwards.
        merged: Box<(Map<String, Value>, Map<String, Value>)>,
    },
    Delete {
        expected: Option<u64>,
    },
}

/// What the cloud has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cloud {
    /// It has to be asked.
    Unknown,
    /// This version; the service has been told what it is.
    Live(u64),
    /// No shadow; the service has been told.
    Gone,
    /// Something that the service has not been told.
    News(Box<Replica>),
    /// No shadow, but this change until our deletion took it along.
    Lost(Box<Replica>),
}

impl Cloud {
    /// What the service has been told.
    pub(super) fn handed(version: Option<u64>) -> Self {
        version.map_or(Self::Gone, Self::Live)
    }
}

/// A subscription on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sub {
    No,
    Asked,
    Yes,
}

/// Why a shadow is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// An answer has not come.
    Answer,
    /// There may be something to do.
    Turn {
        /// One side has changed. Otherwise the cloud has to be asked whether it has.
        news: bool,
        /// It has what it needs to hear the answer.
        seated: bool,
    },
}

/// What the cloud says against a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: u64,
    pub(super) message: String,
}

#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) phase: Phase,
    pub(super) cloud: Cloud,
    /// It has changed here since the last merge.
    pub(super) local_news: bool,
    /// One side refuses what the other has.
    pub(super) refused: bool,
    pub(super) sub: Sub,
    /// It waits for a subscription.
    pub(super) waits: bool,
    /// When the answer to what is under way, or to the subscription, is due.
    pub(super) deadline: u64,
    /// When the next request may begin.
    pub(super) not_before: u64,
    /// When the cloud is asked although nothing was heard.
    pub(super) refresh_at: u64,
    /// Its place in the lists.
    pub(super) at: Option<(Due, u64)>,
    /// Its place among those that rest.
    pub(super) rests_since: u64,
    /// The highest version that was told of while the cloud was asked; `u64::MAX`: a deletion.
    pub(super) heard: u64,
    /// In a row.
    pub(super) failures: u8,
    /// Times in a row that what goes one way was changed against it.
    pub(super) quarrels: u8,
    /// A refusal without a token, which may be that of the request under way.
    pub(super) unsigned: Option<Box<Refusal>>,
}

impl Default for Shadow {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            cloud: Cloud::Unknown,
            local_news: false,
            refused: false,
            sub: Sub::No,
            waits: false,
            deadline: 0,
            not_before: 0,
            refresh_at: 0,
            at: None,
            rests_since: 0,
            heard: 0,
            failures: 0,
            quarrels: 0,
            unsigned: None,
        }
    }
}

impl Shadow {
    /// Whether there is something to be asked, merged or told.
    pub(super) fn has_work(&self) -> bool {
        let known = matches!(self.cloud, Cloud::Live(_) | Cloud::Gone);
        !self.refused && (self.local_news || !known)
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.phase == Phase::Idle && !self.refused && !self.has_work()
    }

    /// When to look at it, and why; `None`: when something happens. `wildcard`: it needs no
    /// subscription of its own.
    pub(super) fn place(&self, wildcard: bool) -> Option<(Due, u64)> {
        let news = self.local_news || matches!(self.cloud, Cloud::News(_) | Cloud::Lost(_));
        let seated = wildcard || self.sub == Sub::Yes;
        match &self.phase {
            Phase::Merging { .. } => None,
            Phase::Getting { .. } | Phase::Sending { .. } => Some((Due::Answer, self.deadline)),
            Phase::Idle if self.waits => None,
            Phase::Idle if self.sub == Sub::Asked => Some((Due::Answer, self.deadline)),
            Phase::Idle => {
                let at = match self.has_work() {
                    true => self.not_before,
                    false => self.refresh_at,
                };
                Some((Due::Turn { news, seated }, at))
            }
        }
    }
}
