//! The thread between the machine, the service and the upstream.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{Topic, TopicFilter, TraceId};
use iotedge_ports::{Clock, RequestRefused, UpstreamLine, UpstreamPeer, UpstreamPort};
use iotedge_telemetry::event;

use super::{Action, Entry, Journal, Machine, Settings, Status};
use crate::core::ShadowError;
use crate::core::sync::Synchronised;
use crate::{ShadowService, SyncKey};

/// Messages of the upstream that wait for the thread, and their bytes. Those beyond are thrown away,
/// and the cloud is asked for all shadows again.
const MAX_MESSAGES: usize = 4096;
const MAX_BYTES: usize = 4 << 20;
/// Shadows that are looked at in one step after the start.
const PAGE: usize = 64;
/// After a failure of ours, in milliseconds.
const LOOK_AGAIN: u64 = 5_000;
/// The longest sleep, in milliseconds.
const LONGEST: u64 = 60_000;

enum Input {
    Up,
    Down,
    Subscribed(String, bool),
    Received(String, Bytes),
    /// A request did not go, with the code that the cloud would have given.
    Refused(String, u64, String),
    Merged(SyncKey, Box<Result<Synchronised, ShadowError>>),
    Unsettled(SyncKey),
}

#[derive(Default)]
struct Inputs {
    queue: VecDeque<Input>,
    /// Shadows that have changed. Told behind the queue: a merge that did not know of a change may
    /// not hide it; one that did is made again for nothing.
    changed: BTreeSet<SyncKey>,
    messages: usize,
    bytes: usize,
    /// Messages were thrown away.
    overflow: bool,
    /// Whether the last thing said of the link is that it is there.
    up: bool,
    stopping: bool,
}

impl Inputs {
    /// Messages of the link, and what is known of it.
    fn clear(&mut self) {
        self.queue.clear();
        (self.messages, self.bytes) = (0, 0);
        self.overflow = false;
    }
}

struct Shared {
    inputs: Mutex<Inputs>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, key: &SyncKey) {
        let mut inputs = self.lock();
        if !inputs.changed.contains(key) {
            inputs.changed.insert(key.clone());
            self.wake.notify_one();
        }
    }

    fn push(&self, input: Input) {
        self.lock().queue.push_back(input);
        self.wake.notify_one();
    }
}

/// What the link tells. Bounded: what is thrown away is made good by asking again.
impl UpstreamPeer for Shared {
    fn connected(&self) {
        self.lock().up = true;
        self.push(Input::Up);
    }

    fn disconnected(&self) {
        let mut inputs = self.lock();
        inputs.up = false;
        // Nothing that was said on it counts any more.
        inputs.queue.retain(|input| {
            !matches!(
                input,
                Input::Received(..) | Input::Subscribed(..) | Input::Refused(..)
            )
        });
        (inputs.messages, inputs.bytes) = (0, 0);
        inputs.overflow = false;
        inputs.queue.push_back(Input::Down);
        drop(inputs);
        self.wake.notify_one();
    }

    fn refused(&self, topic: &Topic, why: &RequestRefused) {
        let code = match why {
            RequestRefused::TooLarge { .. } => 413,
            RequestRefused::NotAuthorized(_) => 403,
            RequestRefused::Quota(_) => 429,
            RequestRefused::Other(_) => 500,
        };
        let topic = topic.as_str().to_owned();
        self.push(Input::Refused(topic, code, why.to_string()));
    }

    fn subscribed(&self, filter: &str, granted: bool) {
        self.push(Input::Subscribed(filter.to_owned(), granted));
    }

    fn received(&self, topic: &str, payload: &Bytes) {
        let mut inputs = self.lock();
        let bytes = topic.len() + payload.len();
        if inputs.messages >= MAX_MESSAGES || inputs.bytes + bytes > MAX_BYTES {
            inputs.overflow = true;
            self.wake.notify_one();
            return;
        }
        inputs.messages += 1;
        inputs.bytes += bytes;
        let input = Input::Received(topic.to_owned(), payload.clone());
        inputs.queue.push_back(input);
        drop(inputs);
        self.wake.notify_one();
    }
}

/// One upstream's synchronisation.
pub struct Synchroniser {
    shared: Arc<Shared>,
    machine: Arc<Mutex<Machine>>,
    upstream: String,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Synchroniser {
    /// Starts it. `seed` is another at each start. `None`: there is no such upstream, or another room
    /// talks with it.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        settings: Settings,
        service: &Arc<ShadowService>,
        upstreams: &dyn UpstreamPort,
        journal: Arc<Journal>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> std::io::Result<Option<Arc<Self>>> {
        let shared = Arc::new(Shared {
            inputs: Mutex::default(),
            wake: Condvar::new(),
        });
        let upstream = settings.upstream.clone();
        let Some(line) = upstreams.join(&upstream, shared.clone()) else {
            return Ok(None);
        };
        let watched = Arc::downgrade(&shared);
        service.watch(Box::new(move |key| {
            if let Some(shared) = Weak::upgrade(&watched) {
                shared.changed(key);
            }
        }));
        let machine = Machine::new(settings.clone(), seed, clock.now().mono);
        let machine = Arc::new(Mutex::new(machine));
        let carrier = Carrier {
            machine: machine.clone(),
            shared: shared.clone(),
            service: service.clone(),
            line,
            journal,
            clock,
            settings,
        };
        let thread = std::thread::Builder::new()
            .name("shadow-sync".into())
            .spawn(move || carrier.run())?;
        Ok(Some(Arc::new(Self {
            shared,
            machine,
            upstream,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        lock(&self.machine).status()
    }

    /// Ends it. What is not brought over is at the next start. To be called before the service is
    /// stopped.
    pub fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Drop for Synchroniser {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Carrier {
    /// Somebody asks for its status now and then.
    machine: Arc<Mutex<Machine>>,
    shared: Arc<Shared>,
    service: Arc<ShadowService>,
    line: Arc<dyn UpstreamLine>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl Carrier {
    /// Until it is stopped. Nothing that the machine knows is more than what can be asked again, so
    /// that a panic costs no more than a new connection does.
    fn run(mut self) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.carry())) {
            let why = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            tracing::error!(
                event = event::UPDATE_SHADOW,
                upstream = self.settings.upstream,
                trace_id = %TraceId::unique(),
                "shadow synchronisation panicked and begins anew: {why}"
            );
            let mut inputs = self.shared.lock();
            let up = inputs.up;
            inputs.clear();
            inputs.queue.extend(up.then_some(Input::Up));
            // What panics each time shall not take the processor.
            let pause = Duration::from_millis(LOOK_AGAIN);
            let stops = |inputs: &mut Inputs| !inputs.stopping;
            let waited = self.shared.wake.wait_timeout_while(inputs, pause, stops);
            drop(waited);
            let seed = RandomState::new().hash_one(self.now());
            *lock(&self.machine) = Machine::new(self.settings.clone(), seed, self.now());
        }
    }

    fn carry(&mut self) {
        // How far the store was looked through, and when to go on.
        let (mut looking, mut look_at) = (Some(None::<String>), 0);
        loop {
            let now = self.now();
            if let Some(after) = looking.take_if(|_| now >= look_at) {
                looking = self.look(after.clone()).unwrap_or_else(|_| {
                    look_at = now + LOOK_AGAIN;
                    Some(after)
                });
            }
            let (next, actions) = {
                let mut machine = lock(&self.machine);
                (machine.poll(now), machine.actions())
            };
            for action in actions {
                self.act(action);
            }
            let look = looking.as_ref().map(|_| look_at);
            let next = [next, look].into_iter().flatten().min();
            let wait = next.map_or(LONGEST, |at| at.saturating_sub(now).min(LONGEST));
            let Some((inputs, changed)) = self.wait(wait) else {
                return;
            };
            let now = self.now();
            let mut machine = lock(&self.machine);
            for input in inputs {
                take(&mut machine, input, now);
            }
            for key in changed {
                machine.found(&key, true);
            }
        }
    }

    fn now(&self) -> u64 {
        self.clock.now().mono
    }

    /// One step through what is in the store: `None` at the end. A failure is in the log.
    fn look(&self, after: Option<String>) -> Result<Option<Option<String>>, ShadowError> {
        let (keys, next) = self.service.synchronisable(after.as_deref(), PAGE)?;
        let mut machine = lock(&self.machine);
        for (key, news) in keys {
            machine.found(&key, news);
        }
        Ok(next.map(Some))
    }

    /// What has come in, or nothing after so many milliseconds; `None`: the end.
    fn wait(&self, millis: u64) -> Option<(VecDeque<Input>, BTreeSet<SyncKey>)> {
        let inputs = self.shared.lock();
        let idle = |i: &mut Inputs| {
            i.queue.is_empty() && i.changed.is_empty() && !i.stopping && !i.overflow
        };
        let (mut inputs, _) = self
            .shared
            .wake
            .wait_timeout_while(inputs, Duration::from_millis(millis), idle)
            .unwrap_or_else(PoisonError::into_inner);
        if inputs.stopping {
            return None;
        }
        (inputs.messages, inputs.bytes) = (0, 0);
        let mut queue = std::mem::take(&mut inputs.queue);
        if std::mem::take(&mut inputs.overflow) && inputs.up {
            // As if the connection were new: subscriptions are asked for again, which changes
            // nothing, and so are all shadows.
            queue.push_back(Input::Up);
        }
        Some((queue, std::mem::take(&mut inputs.changed)))
    }

    fn act(&self, action: Action) {
        match action {
            Action::Subscribe(filters) => {
                // Refused, it is asked for again when no answer has come.
                self.line.subscribe(&valid(&filters));
            }
            Action::Unsubscribe(filters) => {
                self.line.unsubscribe(&valid(&filters));
            }
            Action::Publish { topic, payload } => match Topic::new(&topic) {
                Ok(topic) => {
                    self.line.publish(&topic, Bytes::from(payload));
                }
                Err(e) => tracing::warn!(topic, "no shadow request can be sent: {e}"),
            },
            Action::Merge(key, seen) => {
                let shared = self.shared.clone();
                let of = key.clone();
                self.service.synchronise(
                    &key,
                    *seen,
                    Box::new(move |answer| shared.push(Input::Merged(of, Box::new(answer)))),
                );
            }
            Action::Settle(key, base) => {
                let shared = self.shared.clone();
                let of = key.clone();
                let reply = move |answer: Result<(), ShadowError>| {
                    if answer.is_err() {
                        shared.push(Input::Unsettled(of));
                    }
                };
                let base = base.map(|base| *base);
                self.service
                    .settle(&key, &self.settings.peer, base, Box::new(reply));
            }
            Action::Note(key, what) => self.note(&key, what),
        }
    }

    fn note(&self, key: &SyncKey, what: super::Kind) {
        let at = self.clock.now().wall.0;
        let entry = Entry::new(at, &self.settings.upstream, key.to_string(), what);
        tracing::warn!(
            event = event::UPDATE_SHADOW,
            upstream = entry.upstream,
            shadow = entry.shadow,
            trace_id = %TraceId::unique(),
            what = %serde_json::to_string(&entry.what).unwrap_or_default(),
            "shadow synchronisation"
        );
        if let Err(e) = self.journal.note(&entry) {
            tracing::error!(shadow = entry.shadow, "the conflict journal: {e}");
        }
    }
}

fn take(machine: &mut Machine, input: Input, now: u64) {
    match input {
        Input::Up => machine.link_up(),
        Input::Down => machine.link_down(),
        Input::Subscribed(filter, granted) => machine.subscribed(&filter, granted, now),
        Input::Received(topic, payload) => machine.received(&topic, &payload, now),
        Input::Refused(topic, code, why) => machine.refuse(&topic, code, why, now),
        Input::Merged(key, answer) => machine.merged(&key, *answer, now),
        Input::Unsettled(key) => machine.unsettled(&key, now),
    }
}

fn valid(filters: &[String]) -> Vec<TopicFilter> {
    let valid = filters.iter().filter_map(|f| TopicFilter::new(f).ok());
    valid.collect()
}
