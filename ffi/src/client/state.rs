//! The states of a client, with the numbers that the C headers give them.

use std::sync::atomic::Ordering;

use super::Client;

/// A client's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum State {
    Invalid = 0,
    Initialized = 1,
    Connecting = 2,
    ConnectedIdle = 3,
    YieldInProgress = 4,
    PublishInProgress = 5,
    SubscribeInProgress = 6,
    UnsubscribeInProgress = 7,
    ResubscribeInProgress = 8,
    WaitForCallback = 9,
    Disconnecting = 10,
    DisconnectedError = 11,
    DisconnectedManually = 12,
    PendingReconnect = 13,
}

impl State {
    const ALL: [Self; 14] = [
        Self::Invalid,
        Self::Initialized,
        Self::Connecting,
        Self::ConnectedIdle,
        Self::YieldInProgress,
        Self::PublishInProgress,
        Self::SubscribeInProgress,
        Self::UnsubscribeInProgress,
        Self::ResubscribeInProgress,
        Self::WaitForCallback,
        Self::Disconnecting,
        Self::DisconnectedError,
        Self::DisconnectedManually,
        Self::PendingReconnect,
    ];

    pub(crate) fn is_connected(self) -> bool {
        (Self::ConnectedIdle as i32..=Self::WaitForCallback as i32).contains(&(self as i32))
    }

    /// Whether a connection may be made from here.
    pub(crate) fn may_connect(self) -> bool {
        matches!(
            self,
            Self::Initialized
                | Self::DisconnectedError
                | Self::DisconnectedManually
                | Self::PendingReconnect
        )
    }
}

impl Client {
    pub(crate) fn state(&self) -> State {
        let number = self.state.load(Ordering::Acquire);
        usize::try_from(number)
            .ok()
            .and_then(|index| State::ALL.get(index).copied())
            .unwrap_or(State::Invalid)
    }

    /// Moves from one state to another, if it is the one.
    pub(super) fn swap(&self, from: State, to: State) -> bool {
        let (from, to) = (from as i32, to as i32);
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(super) fn put(&self, state: State) {
        self.state.store(state as i32, Ordering::Release);
    }
}
