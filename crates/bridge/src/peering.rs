//! A room of the daemon that talks with the upstream beside the routes.
//!
//! What it asks waits here until the link's task takes it; a lost connection takes it along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iotedge_model::{Topic, TopicFilter};
use iotedge_ports::{UpstreamLine, UpstreamPeer};
use tokio::sync::Notify;

/// What waits at most, and its bytes.
const MAX_COMMANDS: usize = 256;
const MAX_BYTES: usize = 1 << 20;

/// What the peer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe(Vec<String>),
    Unsubscribe(String),
    Publish(Topic, Bytes),
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Subscribe(filters) => filters.iter().map(String::len).sum(),
            Self::Unsubscribe(filter) => filter.len(),
            Self::Publish(topic, payload) => topic.as_str().len() + payload.len(),
        }
    }
}

#[derive(Default)]
struct State {
    peer: Option<Arc<dyn UpstreamPeer>>,
    up: bool,
    queue: VecDeque<Command>,
    bytes: usize,
}

/// One upstream's peer.
pub(crate) struct Peering {
    state: Mutex<State>,
    notify: Arc<Notify>,
}

impl Peering {
    pub(crate) fn new(notify: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            notify,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: there is one.
    pub(crate) fn join(&self, peer: Arc<dyn UpstreamPeer>) -> bool {
        let mut state = self.lock();
        if state.peer.is_some() {
            return false;
        }
        // Under the lock, so that it hears of the link's states in their order.
        if state.up {
            peer.connected();
        }
        state.peer = Some(peer);
        true
    }

    /// A connection is there, or is gone.
    pub(crate) fn set_up(&self, up: bool) {
        let mut state = self.lock();
        if state.up == up {
            return;
        }
        state.up = up;
        state.queue.clear();
        state.bytes = 0;
        if let Some(peer) = &state.peer {
            match up {
                true => peer.connected(),
                false => peer.disconnected(),
            }
        }
    }

    pub(crate) fn subscribed(&self, filter: &str, granted: bool) {
        if let Some(peer) = &self.lock().peer {
            peer.subscribed(filter, granted);
        }
    }

    /// `false`: nobody is there to hear it.
    pub(crate) fn received(&self, topic: &str, payload: &Bytes) -> bool {
        let state = self.lock();
        if let Some(peer) = &state.peer {
            peer.received(topic, payload);
        }
        state.peer.is_some()
    }

    /// The next command, if `may` it go.
    pub(crate) fn next(&self, may: impl FnOnce(&Command) -> bool) -> Option<Command> {
        let mut state = self.lock();
        if !may(state.queue.front()?) {
            return None;
        }
        let command = state.queue.pop_front()?;
        state.bytes = state.bytes.saturating_sub(command.bytes());
        Some(command)
    }

    fn add(&self, commands: Vec<Command>) -> bool {
        let mut state = self.lock();
        let bytes: usize = commands.iter().map(Command::bytes).sum();
        let fits = state.queue.len() + commands.len() <= MAX_COMMANDS;
        if !state.up || !fits || state.bytes + bytes > MAX_BYTES {
            return false;
        }
        state.bytes += bytes;
        state.queue.extend(commands);
        drop(state);
        self.notify.notify_one();
        true
    }
}

impl UpstreamLine for Peering {
    fn subscribe(&self, filters: &[TopicFilter]) -> bool {
        let filters = filters.iter().map(ToString::to_string).collect();
        self.add(vec![Command::Subscribe(filters)])
    }

    fn unsubscribe(&self, filters: &[TopicFilter]) -> bool {
        let filters = filters.iter().map(ToString::to_string);
        self.add(filters.map(Command::Unsubscribe).collect())
    }

    fn publish(&self, topic: &Topic, payload: Bytes) -> bool {
        self.add(vec![Command::Publish(topic.clone(), payload)])
    }
}
