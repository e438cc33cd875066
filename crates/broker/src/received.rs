//! QoS 2 from a client whose session outlives its connection: which packet ids it has not released
//! (MQTT 3.1.1, 4.3.3), and what has to wait behind their commit.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_ports::{Failure, Part, Pressure, Wake};

use crate::Limits;
use crate::outbox::{PRESSED_PART, SessionBox};

/// Packet ids between their PUBLISH and its PUBREL. Nothing is allocated while there are none.
#[derive(Default)]
pub(crate) struct Received(Mutex<Option<Box<State>>>);

#[derive(Default)]
struct State {
    ids: HashMap<NonZeroU16, Entry>,
    last: u64,
    /// Publications whose deliveries wait for a commit.
    behind: usize,
    /// How many deliveries those are.
    late: usize,
    /// What they hold in memory.
    bytes: usize,
    /// Publishers that wait for it.
    waiters: Vec<Arc<dyn Wake>>,
    given_up: bool,
}

enum Entry {
    /// Handed to the store.
    Committing {
        number: u64,
        /// The same message came again on another connection.
        again: Vec<Part>,
    },
    Kept,
}

/// What is known of the packet id of a QoS 2 PUBLISH.
pub(crate) enum Known {
    /// Nothing: it is a new message.
    No,
    /// Its commit is on the way.
    Committing,
    /// It is taken already.
    Kept,
}

impl Received {
    /// What was not released when the process ended.
    pub(crate) fn load(ids: &[u16]) -> Self {
        if ids.is_empty() {
            return Self::default();
        }
        let ids = ids.iter().filter_map(|id| NonZeroU16::new(*id));
        Self(Mutex::new(Some(Box::new(State {
            ids: ids.map(|id| (id, Entry::Kept)).collect(),
            ..State::default()
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        // No invariant is broken half-way through the short sections here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids whose message is committed.
    pub(crate) fn kept(&self) -> Vec<NonZeroU16> {
        let state = self.lock();
        let ids = state.iter().flat_map(|state| state.ids.iter());
        ids.filter(|(_, entry)| matches!(entry, Entry::Kept))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn known(&self, id: NonZeroU16) -> Known {
        match self.lock().as_ref().and_then(|state| state.ids.get(&id)) {
            None => Known::No,
            Some(Entry::Committing { .. }) => Known::Committing,
            Some(Entry::Kept) => Known::Kept,
        }
    }

    /// `part` is answered with the commit of `id`, or at once when that has passed.
    pub(crate) fn join(&self, id: NonZeroU16, part: Part) {
        let mut state = self.lock();
        match state.as_mut().and_then(|state| state.ids.get_mut(&id)) {
            Some(Entry::Committing { again, .. }) => again.push(part),
            Some(Entry::Kept) => part.finish(Ok(())),
            None => part.finish(Err(Failure::Store)),
        }
    }

    /// A new message is handed to the store with this id; the number that [`Received::committed`]
    /// names.
    pub(crate) fn begin(&self, id: NonZeroU16) -> u64 {
        let mut state = self.lock();
        let state = state.get_or_insert_with(Box::default);
        state.last += 1;
        let entry = Entry::Committing {
            number: state.last,
            again: Vec::new(),
        };
        state.ids.insert(id, entry);
        state.last
    }

    /// The store is done with it.
    pub(crate) fn committed(&self, id: NonZeroU16, begun: u64, outcome: Result<(), Failure>) {
        let mut state = self.lock();
        let Some(ids) = state.as_mut().map(|state| &mut state.ids) else {
            return;
        };
        // It may have been released since, and begun again.
        let Some(Entry::Committing { number, again }) = ids.get_mut(&id) else {
            return;
        };
        if *number != begun {
            return;
        }
        let again = std::mem::take(again);
        match outcome {
            Ok(()) => ids.insert(id, Entry::Kept),
            Err(_) => ids.remove(&id),
        };
        drop(state);
        for part in again {
            part.finish(outcome);
        }
    }

    /// The id may name another message.
    pub(crate) fn release(&self, id: NonZeroU16) {
        let mut state = self.lock();
        if let Some(inside) = state.as_mut() {
            inside.ids.remove(&id);
            if inside.ids.is_empty() && inside.behind == 0 {
                *state = None;
            }
        }
    }

    /// Whether deliveries of this publisher wait for a commit.
    pub(crate) fn is_waiting(&self) -> bool {
        self.lock().as_ref().is_some_and(|state| state.behind > 0)
    }

    /// Whether deliveries of this publisher wait that have no row to keep their place.
    pub(crate) fn is_late(&self) -> bool {
        self.lock().as_ref().is_some_and(|state| state.late > 0)
    }

    /// What they hold in memory.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().as_ref().map_or(0, |state| state.bytes)
    }

    /// Whether so much waits that the publisher should.
    pub(crate) fn is_pressed(&self, limits: &Limits) -> bool {
        self.lock().as_ref().is_some_and(|state| {
            let full = state.behind * PRESSED_PART >= limits.outbox_messages
                || state.bytes * PRESSED_PART >= limits.outbox_bytes;
            full && !state.given_up
        })
    }

    /// Deliveries begin to wait for a commit.
    pub(crate) fn wait(&self, publications: usize, late: usize, bytes: usize) {
        let mut state = self.lock();
        let state = state.get_or_insert_with(Box::default);
        state.behind += publications;
        state.late += late;
        state.bytes = state.bytes.saturating_add(bytes);
    }

    /// They have gone.
    pub(crate) fn gone(&self, late: usize, bytes: usize) {
        let mut state = self.lock();
        let Some(inside) = state.as_mut() else { return };
        inside.behind = inside.behind.saturating_sub(1);
        inside.late = inside.late.saturating_sub(late);
        inside.bytes = inside.bytes.saturating_sub(bytes);
        if inside.behind == 0 {
            inside.given_up = false;
            inside.waiters.drain(..).for_each(|waiter| waiter.wake());
            if inside.ids.is_empty() {
                *state = None;
            }
        }
    }
}

/// What a publisher's own messages wait for, as the publisher sees it.
pub(crate) struct Behind(pub(crate) Arc<SessionBox>);

impl Pressure for Behind {
    fn relieved_or_wake(&self, waiter: &Arc<dyn Wake>) -> bool {
        let mut state = self.0.received.lock();
        let Some(state) = state.as_mut().filter(|s| s.behind > 0 && !s.given_up) else {
            return true;
        };
        if !state.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            state.waiters.push(waiter.clone());
        }
        false
    }

    fn give_up(&self) {
        if let Some(state) = self.0.received.lock().as_mut() {
            state.given_up = true;
        }
    }
}
