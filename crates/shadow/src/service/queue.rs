//! What waits for the service's thread, and how much of it there may be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{NameError, Protocol, TraceId};
use iotedge_ports::Part;

use super::{Answer, Settings};
use crate::StorageFailure;
use crate::core::sync::{Base, Seen};

/// Who hears the outcome.
pub(super) enum Reply {
    /// The topics below the shadow; the part is the publisher's acknowledgement.
    Message(Option<Part>),
    /// A caller; the topics hear of changes, not of refusals.
    Direct(Option<Box<dyn FnOnce(Answer) + Send>>),
    /// Who brings the shadow and the cloud's together; the topics hear of changes.
    Synchronised(Option<super::SynchronisedReply>),
    /// The same, of a note.
    Settled(Option<super::SettledReply>),
}

/// What is to be done.
pub(super) enum Work {
    /// The operation of the request.
    Ask,
    /// To merge what the cloud has.
    Synchronise(Box<Seen>),
    /// To note what both have in common, the cloud being this one.
    Settle(String, Option<Box<Base>>),
}

pub(super) struct Request {
    /// As it was sent; counts in-flight requests and keeps their order.
    pub(super) thing: Arc<str>,
    /// Where the shadow is stored, or why it cannot be.
    pub(super) key: Result<String, NameError>,
    /// `$aws/things/{thing}/shadow[/name/{shadow}]`
    pub(super) prefix: String,
    pub(super) operation: ShadowOperation,
    pub(super) work: Work,
    pub(super) payload: Bytes,
    pub(super) trace: TraceId,
    pub(super) hops: u8,
    pub(super) protocol: Protocol,
    pub(super) reply: Reply,
    /// One more than may be in flight: to be refused with 429.
    pub(super) excess: bool,
    /// One of those in flight.
    pub(super) counted: bool,
}

pub(super) enum Job {
    Request(Request),
    /// The commit that slot `number` of the thing waits for.
    Committed {
        thing: Arc<str>,
        number: u64,
        outcome: Result<(), StorageFailure>,
    },
    /// One step: the keys behind this one.
    Sweep {
        after: Option<String>,
    },
}

/// The request is given back.
pub(super) struct Refused(pub(super) Box<Request>);

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Bytes of requests in `jobs`.
    bytes: usize,
    /// Requests that are not answered, in `jobs` or in the worker's lanes.
    open: usize,
    /// Of them, by thing, those that were not refused at once.
    in_flight: HashMap<Arc<str>, usize>,
    /// There is a step of a sweep, in `jobs` or in the worker's hands.
    sweeping: bool,
    stopping: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    watchers: Mutex<Vec<super::Watcher>>,
    max_in_flight: usize,
    max_open: usize,
    max_bytes: usize,
}

impl Queue {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            watchers: Mutex::default(),
            max_in_flight: settings.max_in_flight,
            max_open: settings.max_open,
            max_bytes: settings.max_queued_bytes,
        }
    }

    /// See [`super::ShadowService::watch`].
    pub(super) fn watch(&self, watcher: super::Watcher) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(watcher);
    }

    /// A shadow has changed.
    pub(super) fn changed(&self, key: &str) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if watchers.is_empty() {
            return;
        }
        if let Some(key) = super::SyncKey::parse(key) {
            watchers.iter().for_each(|watcher| watcher(&key));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request, marked when its thing has too many, unless everything is full.
    pub(super) fn submit(&self, mut request: Request) -> Result<(), Refused> {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(request.payload.len());
        if state.stopping || state.open >= self.max_open || bytes > self.max_bytes {
            return Err(Refused(Box::new(request)));
        }
        // The limit is for clients.
        if matches!(request.work, Work::Ask) {
            let count = state.in_flight.entry(request.thing.clone()).or_default();
            if *count >= self.max_in_flight {
                request.excess = true;
            } else {
                *count += 1;
                request.counted = true;
            }
        }
        state.open += 1;
        state.bytes = bytes;
        state.jobs.push_back(Job::Request(request));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues what the service asks of itself: bounded by the open requests.
    pub(super) fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.wake.notify_one();
    }

    /// Queues the first step of a sweep, unless one is under way.
    pub(super) fn begin_sweep(&self) {
        let mut state = self.lock();
        if state.sweeping || state.stopping {
            return;
        }
        state.sweeping = true;
        state.jobs.push_back(Job::Sweep { after: None });
        drop(state);
        self.wake.notify_one();
    }

    /// A step is done. The next one, if there is any, waits behind all that has come in meanwhile.
    pub(super) fn swept(&self, next: Option<String>) {
        let mut state = self.lock();
        match next {
            Some(after) if !state.stopping => {
                let after = Some(after);
                state.jobs.push_back(Job::Sweep { after });
            }
            _ => state.sweeping = false,
        }
    }

    /// A request was answered.
    pub(super) fn answered(&self, thing: &Arc<str>, counted: bool) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
        if !counted {
            return;
        }
        let left = state.in_flight.get_mut(thing).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            state.in_flight.remove(thing);
        }
    }

    /// Waits for jobs and takes all; `None` when the end has come and every request is answered.
    pub(super) fn take(&self) -> Option<VecDeque<Job>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.stopping && state.open == 0 {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes = 0;
        Some(std::mem::take(&mut state.jobs))
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }
}

/// Tells the worker of a commit, also when the store forgets to.
pub(super) struct CommitNotice {
    queue: Arc<Queue>,
    thing: Arc<str>,
    number: u64,
    told: bool,
}

impl CommitNotice {
    pub(super) fn new(queue: Arc<Queue>, thing: Arc<str>, number: u64) -> Self {
        Self {
            queue,
            thing,
            number,
            told: false,
        }
    }

    pub(super) fn tell(mut self, outcome: Result<(), StorageFailure>) {
        self.send(outcome);
    }

    /// There is no commit to wait for.
    pub(super) fn discard(mut self) {
        self.told = true;
    }

    fn send(&mut self, outcome: Result<(), StorageFailure>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.queue.push(Job::Committed {
            thing: self.thing.clone(),
            number: self.number,
            outcome,
        });
    }
}

impl Drop for CommitNotice {
    fn drop(&mut self) {
        self.send(Err(StorageFailure("the commit was given up".into())));
    }
}
