//! A room of the daemon that talks with the upstream beside the routes.
//!
//! What it asks waits here until the link's task takes it; a lost connection takes it along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iotedge_model::{Topic, TopicFilter};
use iotedge_ports::{RequestRefused, UpstreamLine, UpstreamPeer};
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
        drop(state);
        self.notify.notify_one();
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

    pub(crate) fn refused(&self, topic: &Topic, why: &RequestRefused) {
        if let Some(peer) = &self.lock().peer {
            peer.refused(topic, why);
        }
    }

    /// Whether there is a peer.
    pub(crate) fn is_joined(&self) -> bool {
        self.lock().peer.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl UpstreamPeer for Heard {
        fn connected(&self) {
            self.0.lock().unwrap().push("connected");
        }
        fn disconnected(&self) {
            self.0.lock().unwrap().push("disconnected");
        }
        fn subscribed(&self, _: &str, _: bool) {}
        fn refused(&self, _: &Topic, _: &RequestRefused) {}
        fn received(&self, _: &str, _: &Bytes) {
            self.0.lock().unwrap().push("received");
        }
    }

    fn publish(peering: &Peering, bytes: usize) -> bool {
        peering.publish(&Topic::new("t").unwrap(), Bytes::from(vec![0; bytes]))
    }

    fn count(peering: &Peering) -> usize {
        std::iter::from_fn(|| peering.next(|_| true)).count()
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_by_bytes() {
        let peering = Peering::new(Arc::default());
        peering.set_up(true);
        let taken = (0..MAX_COMMANDS + 5)
            .filter(|_| publish(&peering, 1))
            .count();
        assert_eq!(taken, MAX_COMMANDS);
        assert_eq!(count(&peering), MAX_COMMANDS);
        assert!(publish(&peering, MAX_BYTES - 1));
        assert!(!publish(&peering, 1));
        assert_eq!(count(&peering), 1);
        assert!(publish(&peering, 1), "there is room again");
    }

    #[test]
    fn a_lost_connection_takes_along_what_waits() {
        let peering = Peering::new(Arc::default());
        assert!(!publish(&peering, 1), "there is none");
        peering.set_up(true);
        assert!(publish(&peering, MAX_BYTES - 1));
        peering.set_up(false);
        assert!(!publish(&peering, 1));
        peering.set_up(true);
        assert_eq!(count(&peering), 0);
        assert!(publish(&peering, MAX_BYTES - 1), "nor do its bytes count");
    }

    #[test]
    fn a_peer_hears_of_the_link_as_it_stands_and_each_change_once() {
        let peering = Peering::new(Arc::default());
        assert!(!peering.received("t", &Bytes::new()), "nobody hears it");
        peering.set_up(true);
        let heard = Arc::new(Heard::default());
        assert!(peering.join(heard.clone()));
        assert!(!peering.join(Arc::new(Heard::default())));
        peering.set_up(true);
        assert!(peering.received("t", &Bytes::new()));
        peering.set_up(false);
        peering.set_up(false);
        assert_eq!(
            *heard.0.lock().unwrap(),
            ["connected", "received", "disconnected"]
        );
    }

    #[test]
    fn the_first_that_may_not_go_holds_those_behind_it() {
        let peering = Peering::new(Arc::default());
        peering.set_up(true);
        let filter = TopicFilter::new("a").unwrap();
        assert!(peering.subscribe(&[filter]) && publish(&peering, 1));
        let publishes = |command: &Command| matches!(command, Command::Publish(..));
        assert_eq!(peering.next(publishes), None);
        assert!(matches!(
            peering.next(|_| true),
            Some(Command::Subscribe(_))
        ));
        assert!(peering.next(publishes).is_some());
    }
}
