//! One thread that writes one file: takes all that waits, commits it in one transaction, then
//! tells everyone in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iotedge_telemetry::event;

use crate::{Done, OnFatal, StoreError};

mod state;

use state::State;

/// How long an operation that nobody waits for may stay uncommitted, where counters may lag: a
/// removal a commit of its own would cost the card as much as the message did.
const LAZY: Duration = Duration::from_millis(500);
/// How long otherwise, and the pause before the first chore.
const SOON: Duration = Duration::from_millis(50);
/// Bytes of operations that nobody waits for at which they are committed at once.
const LAZY_ENOUGH: u64 = 64 << 10;
/// Bytes waiting at which a lingering commit is due at once.
const ENOUGH: u64 = 1 << 20;
/// Pause before a batch is tried again on a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// An operation and who waits for it.
pub(crate) struct Job<Op> {
    pub(crate) op: Op,
    pub(crate) done: Option<Done>,
    /// Bytes it holds in memory.
    pub(crate) cost: u64,
    /// Whether it makes a commit due after the linger; otherwise it rides along.
    pub(crate) urgent: bool,
    /// When it came.
    pub(crate) at: Instant,
}

/// What a writer is asked to do.
pub(crate) trait Operation: Send + Sized + 'static {
    /// What operations must have in common to become one.
    type Key: Eq + std::hash::Hash + Send;

    /// `Some` when nobody waits for this operation and it may be added to one before it, whatever
    /// lies between: a counter. So a full disk does not fill the memory with them.
    fn key(&self) -> Option<Self::Key>;

    /// Adds one of the same key.
    fn absorb(&mut self, other: Self);

    /// Whether [`Engine::spare`] may find that this need not be written, when others have come.
    fn is_sparable(&self) -> bool {
        false
    }

    /// Whether this may be what makes `other`, which is sparable, need no writing.
    fn spares(&self, _other: &Self) -> bool {
        false
    }
}

/// An operation that came after the writer's end.
pub(crate) struct Refused<Op> {
    pub(crate) job: Job<Op>,
    pub(crate) error: StoreError,
}

impl<Op> Refused<Op> {
    pub(crate) fn tell(self) {
        if let Some(done) = self.job.done {
            done(Err(self.error));
        }
    }
}

/// What the thread does with operations.
pub(crate) trait Engine: Send + 'static {
    type Op: Operation;

    /// One transaction. On an error nothing of it is in the file.
    fn commit(&mut self, batch: &[Job<Self::Op>]) -> Result<(), StoreError>;

    /// Whether, after a full disk, the job is tried again; otherwise its waiter is told.
    fn keeps(&self, job: &Job<Self::Op>) -> bool;

    /// The jobs were given up: their effects in memory must go. Jobs that rest on them, of those
    /// kept and of those that wait, go with them: they are moved to `given_up`.
    fn undo(
        &mut self,
        given_up: &mut Vec<Job<Self::Op>>,
        kept: &mut Vec<Job<Self::Op>>,
        waiting: &Waiting<'_, Self::Op>,
    );

    /// Takes out what need not be written any more, in order, and what goes with it: those jobs
    /// are done. The first job that has to be written ends them.
    fn spare(&mut self, _batch: &mut Vec<Job<Self::Op>>) -> Vec<Job<Self::Op>> {
        Vec::new()
    }

    /// The last word: what is in memory only goes into the file.
    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Work for a quiet moment; says how long until there is more of it.
    fn chore(&mut self) -> Result<Option<Duration>, StoreError>;
}

struct Shared<Op: Operation> {
    path: PathBuf,
    linger: Duration,
    lazy: Duration,
    looks: bool,
    on_fatal: Option<OnFatal>,
    state: Mutex<State<Op>>,
    arrived: Condvar,
}

impl<Op: Operation> Shared<Op> {
    fn lock(&self) -> MutexGuard<'_, State<Op>> {
        // The state is whole at every unlock; a panic elsewhere does not change that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs that came while a batch was written. Its lock is inside every lock that callers hold
/// while they hand jobs in.
pub(crate) struct Waiting<'a, Op: Operation>(&'a Shared<Op>);

impl<Op: Operation> Waiting<'_, Op> {
    /// Takes those that rest on what was given up, in their order.
    pub(crate) fn take(&self, rests: impl Fn(&Op) -> bool) -> Vec<Job<Op>> {
        let mut state = self.0.lock();
        let (taken, left): (Vec<_>, Vec<_>) =
            state.take().into_iter().partition(|job| rests(&job.op));
        for job in left {
            state.add(job);
        }
        let bytes: u64 = taken.iter().map(|job: &Job<Op>| job.cost).sum();
        state.bytes = state.bytes.saturating_sub(bytes);
        let lazy = taken.iter().filter(|job| !job.urgent);
        let lazy: u64 = lazy.map(|job| job.cost).sum();
        state.lazy_bytes = state.lazy_bytes.saturating_sub(lazy);
        taken
    }
}

/// The caller's end of a writer thread.
pub(crate) struct Writer<Op: Operation> {
    shared: Arc<Shared<Op>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<Op: Operation> Writer<Op> {
    pub(crate) fn start<E: Engine<Op = Op>>(
        path: &Path,
        (linger, lag): (Duration, Duration),
        on_fatal: Option<OnFatal>,
        engine: E,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            path: path.to_path_buf(),
            linger,
            lazy: if lag.is_zero() { SOON } else { LAZY },
            looks: !linger.is_zero() && !lag.is_zero(),
            on_fatal,
            state: Mutex::new(State::default()),
            arrived: Condvar::new(),
        });
        let name = path.file_stem().map_or_else(
            || "store".to_owned(),
            |stem| format!("store-{}", stem.to_string_lossy()),
        );
        let inside = shared.clone();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || body(&inside, engine))
            .map_err(|e| StoreError::io(path, &e))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands an operation in. After the writer's end it comes back, for the caller to tell its
    /// waiter when no lock is held.
    pub(crate) fn push(&self, job: Job<Op>) -> Result<(), Refused<Op>> {
        let mut state = self.shared.lock();
        if let Some(error) = state.ended.clone() {
            return Err(Refused { job, error });
        }
        let wake = state.receive(job, self.shared.looks);
        drop(state);
        if wake {
            self.shared.arrived.notify_one();
        }
        Ok(())
    }

    /// Hands operations in that shall be in one commit; all or none are taken.
    pub(crate) fn push_all(&self, jobs: Vec<Job<Op>>) -> Result<(), (Vec<Job<Op>>, StoreError)> {
        let mut state = self.shared.lock();
        if let Some(error) = state.ended.clone() {
            return Err((jobs, error));
        }
        let mut wake = false;
        for job in jobs {
            wake |= state.receive(job, self.shared.looks);
        }
        drop(state);
        if wake {
            self.shared.arrived.notify_one();
        }
        Ok(())
    }

    /// Bytes of operations that wait.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// What ended the writer, if anything did.
    pub(crate) fn ended(&self) -> Option<StoreError> {
        self.shared.lock().ended.clone()
    }

    /// Commits what waits and ends the thread. From the writer's own thread (the last owner went
    /// in a callback) it only asks for that.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.arrived.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            if thread.thread().id() != std::thread::current().id() {
                // A panic inside was caught and recorded by `body`.
                let _ = thread.join();
            }
        }
    }
}

impl<Op: Operation> Drop for Writer<Op> {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.arrived.notify_one();
    }
}

enum Taken<Op> {
    Batch(Vec<Job<Op>>),
    Look(Vec<Job<Op>>),
    Chore,
    End,
}

/// Waits until something is due.
fn take<Op: Operation>(shared: &Shared<Op>, chore_at: Option<Instant>) -> Taken<Op> {
    let mut state = shared.lock();
    loop {
        let now = Instant::now();
        if state.closing && state.waiting.is_empty() {
            return Taken::End;
        }
        let due = due(&state, shared, now);
        let is_due = due.is_some_and(|due| due <= now);
        if is_due || state.look_at.is_some_and(|at| at <= now) {
            state.bytes = 0;
            state.lazy_bytes = 0;
            state.urgent_since = None;
            state.lazy_since = None;
            let taken = state.take();
            return if is_due {
                Taken::Batch(taken)
            } else {
                Taken::Look(taken)
            };
        }
        if chore_at.is_some_and(|at| at <= now) {
            return Taken::Chore;
        }
        let next = [due, state.look_at, chore_at].into_iter().flatten().min();
        state = match next {
            Some(next) => {
                shared
                    .arrived
                    .wait_timeout(state, next.saturating_duration_since(now))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => shared
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn due<Op: Operation>(state: &State<Op>, shared: &Shared<Op>, now: Instant) -> Option<Instant> {
    if state.closing && !state.waiting.is_empty() {
        return Some(now);
    }
    let urgent = state.urgent_since.map(|since| since + shared.linger);
    let lazy = state.lazy_since.map(|since| since + shared.lazy);
    let mut due = [urgent, lazy].into_iter().flatten().min()?;
    if state.bytes >= ENOUGH || state.lazy_bytes >= LAZY_ENOUGH {
        due = now;
    }
    Some(state.not_before.map_or(due, |not| due.max(not)))
}

fn body<E: Engine>(shared: &Shared<E::Op>, mut engine: E) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(shared, &mut engine)));
    let error = match outcome {
        Ok(Ok(())) => StoreError::Closed,
        Ok(Err(error @ StoreError::WriterStopped { .. })) => error,
        Ok(Err(error)) => StoreError::WriterStopped {
            path: shared.path.clone(),
            reason: error.to_string(),
        },
        Err(panic) => StoreError::WriterStopped {
            path: shared.path.clone(),
            reason: panic_text(&*panic),
        },
    };
    let left = {
        let mut state = shared.lock();
        state.ended = Some(error.clone());
        (state.bytes, state.lazy_bytes) = (0, 0);
        state.take()
    };
    tell(left, &Err(error.clone()));
    if error != StoreError::Closed {
        tracing::error!(event = event::STORE, %error, "a store writer has stopped");
        if let Some(on_fatal) = &shared.on_fatal {
            on_fatal(&error);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_default())
}

fn tell<Op>(batch: Vec<Job<Op>>, outcome: &Result<(), StoreError>) {
    for job in batch {
        if let Some(done) = job.done {
            done(outcome.clone());
        }
    }
}

fn run<E: Engine>(shared: &Shared<E::Op>, engine: &mut E) -> Result<(), StoreError> {
    let mut chore_at = Some(Instant::now());
    loop {
        match take(shared, chore_at) {
            Taken::End => return engine.close(),
            Taken::Chore => chore_at = engine.chore()?.map(|pause| Instant::now() + pause),
            Taken::Look(mut batch) => {
                let spared = engine.spare(&mut batch);
                shared.lock().put_back(batch, shared.looks);
                tell(spared, &Ok(()));
                chore_at = chore_at.or_else(|| Some(Instant::now() + SOON));
            }
            Taken::Batch(mut batch) => {
                let spared = engine.spare(&mut batch);
                tell(spared, &Ok(()));
                if let Some(batch) = still_due(shared, batch) {
                    commit(shared, engine, batch)?;
                }
                // It may have left something to clear away, or to write later.
                chore_at = chore_at.or_else(|| Some(Instant::now() + SOON));
            }
        }
    }
}

/// Puts jobs back if none of them has waited long enough.
fn still_due<Op: Operation>(shared: &Shared<Op>, batch: Vec<Job<Op>>) -> Option<Vec<Job<Op>>> {
    let now = Instant::now();
    let waits = |job: &Job<Op>| {
        let patience = if job.urgent {
            shared.linger
        } else {
            shared.lazy
        };
        job.at + patience > now
    };
    let cost = |lazy: bool| -> u64 {
        let jobs = batch.iter().filter(|job| !lazy || !job.urgent);
        jobs.map(|job| job.cost).sum()
    };
    if !batch.iter().all(waits) || cost(false) >= ENOUGH || cost(true) >= LAZY_ENOUGH {
        return Some(batch);
    }
    let mut state = shared.lock();
    if state.closing {
        return Some(batch);
    }
    state.put_back(batch, shared.looks);
    None
}

/// One call of the engine; a panic in it is an error like any other that ends the writer.
fn attempt<E: Engine>(
    shared: &Shared<E::Op>,
    engine: &mut E,
    batch: &[Job<E::Op>],
) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(|| engine.commit(batch))).unwrap_or_else(|panic| {
        Err(StoreError::WriterStopped {
            path: shared.path.clone(),
            reason: panic_text(&*panic),
        })
    })
}

fn commit<E: Engine>(
    shared: &Shared<E::Op>,
    engine: &mut E,
    batch: Vec<Job<E::Op>>,
) -> Result<(), StoreError> {
    let error = match attempt(shared, engine, &batch) {
        Ok(()) => {
            shared.lock().not_before = None;
            tell(batch, &Ok(()));
            return Ok(());
        }
        Err(error) => error,
    };
    if !matches!(error, StoreError::DiskFull { .. }) {
        return end(shared, batch, error);
    }
    tracing::warn!(event = event::STORE, %error, "a commit found no room");
    let (mut kept, mut given_up): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|job| engine.keeps(job));
    engine.undo(&mut given_up, &mut kept, &Waiting(shared));
    // What makes room goes alone, or what needs room would keep it out for ever.
    let again = if kept.is_empty() || given_up.is_empty() {
        Err(error.clone())
    } else {
        attempt(shared, engine, &kept)
    };
    tell(given_up, &Err(error));
    match again {
        Ok(()) => tell(kept, &Ok(())),
        Err(error @ StoreError::DiskFull { .. }) => keep(shared, kept, error),
        Err(error) => return end(shared, kept, error),
    }
    Ok(())
}

/// The writer can not go on.
fn end<Op: Operation>(
    shared: &Shared<Op>,
    batch: Vec<Job<Op>>,
    error: StoreError,
) -> Result<(), StoreError> {
    shared.lock().ended = Some(error.clone());
    tell(batch, &Err(error.clone()));
    Err(error)
}

/// Puts jobs back in front, to be tried again after a pause.
fn keep<Op: Operation>(shared: &Shared<Op>, kept: Vec<Job<Op>>, error: StoreError) {
    let mut state = shared.lock();
    if state.closing {
        // The last chance has passed: say so to everyone.
        drop(state);
        tell(kept, &Err(error));
        return;
    }
    state.not_before = Some(Instant::now() + RETRY);
    state.put_back(kept, shared.looks);
}
