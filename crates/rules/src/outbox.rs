//! Outboxes: what is to be done for accepted messages, durable, in order, until it is done.
//!
//! # Invariants
//! 1. **In order for each action.** One task empties an outbox, head first; the head is done, or it
//!    has failed for good, before the next begins.
//! 2. **What is taken out is done.** A row goes when its sink has it for good, or when it is kept
//!    as a dead letter. A crash in between brings it again; no more than one batch is in doubt
//!    ([`iotedge_ports::Mailbox::settled`] comes before the next).
//! 3. **A bad message stops nothing.** What a sink refuses, or fails with a few times, goes to the
//!    error action and then to the dead letters, and the next begins. Only a sink that is not there
//!    keeps its outbox waiting, until each message's deadline.
//! 4. **A slow sink stops nobody else.** Each outbox has a task of its own and a limit of bytes and
//!    messages; at the limit it does what the configuration says, and every drop is counted.
//! 5. **A row needs no rule.** It says itself what is to be done: it is carried out when its rule
//!    has been changed or has gone.

mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use iotedge_ports::{AttachOutbox, BrokerPort, Clock, Mailbox, OnFull, OutboxId, Wake};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::counters::MAX_ACTIONS;
use crate::engine::Engine;
use crate::rule::Rule;
use crate::sink::Sinks;

/// How outboxes behave.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// How long a sink that is not there is tried for each message, from its acceptance on.
    pub retry_for: Duration,
    /// How often a message is tried that a sink fails with.
    pub max_attempts: u32,
    /// Bytes of one outbox.
    pub max_bytes: u64,
    /// Messages of one outbox.
    pub max_messages: u64,
    /// What happens at the limit.
    pub on_full: OnFull,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            retry_for: Duration::from_secs(24 * 3600),
            max_attempts: 5,
            max_bytes: 64 << 20,
            max_messages: 100_000,
            on_full: OnFull::DropOldest,
        }
    }
}

/// One outbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxStatus {
    /// `RULE/0`, `RULE/1`, … `RULE/error`: the name of its queue in the store.
    pub name: Arc<str>,
    /// Why the head is not done yet, while its sink is tried again.
    pub trouble: Option<String>,
}

/// What all tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing yet: what an error action publishes could miss its takers.
    Waiting,
    Working,
    Stopped,
}

/// How often sinks may close what they hold open.
const TIDY: Duration = Duration::from_secs(5);

/// All outboxes and the tasks that empty them.
pub struct Outboxes {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    phase: watch::Sender<Phase>,
    runtime: tokio::runtime::Handle,
}

struct Shared {
    broker: Arc<dyn BrokerPort>,
    clock: Arc<dyn Clock>,
    sinks: Sinks,
    settings: OutboxSettings,
    engine: OnceLock<Weak<Engine>>,
    all: Mutex<HashMap<Arc<str>, Arc<Outbox>>>,
}

struct Outbox {
    name: Arc<str>,
    id: OutboxId,
    mailbox: Arc<dyn Mailbox>,
    news: Arc<News>,
    /// A rule in force fills it.
    wanted: AtomicBool,
    trouble: Mutex<Option<String>>,
}

/// Wakes the task.
struct News(Notify);

impl Wake for News {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The name of an action's outbox.
fn name_of(rule: &str, number: usize) -> String {
    match number {
        MAX_ACTIONS => format!("{rule}/error"),
        n => format!("{rule}/{n}"),
    }
}

/// The rule and the number of the action that an outbox is of.
fn action_of(name: &str) -> Option<(&str, usize)> {
    let (rule, number) = name.rsplit_once('/')?;
    let number = match number {
        "error" => MAX_ACTIONS,
        n => n.parse().ok()?,
    };
    Some((rule, number))
}

impl Shared {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Outbox>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rule(&self, name: &str) -> Option<(Arc<Engine>, Arc<Rule>)> {
        let engine = self.engine.get()?.upgrade()?;
        let rule = engine.rule(name)?;
        Some((engine, rule))
    }

    /// Takes an outbox away that nobody fills, and that is empty. `false`: it is wanted again.
    fn remove(&self, outbox: &Outbox) -> bool {
        let mut all = self.all();
        if outbox.wanted.load(Ordering::Acquire) {
            return false;
        }
        all.remove(&outbox.name);
        self.broker.remove_outbox(outbox.id);
        true
    }
}

impl Outboxes {
    /// None yet. Tasks run on `runtime`, and wait for [`Outboxes::start`].
    pub fn new(
        broker: Arc<dyn BrokerPort>,
        clock: Arc<dyn Clock>,
        sinks: Sinks,
        settings: OutboxSettings,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let (phase, phases) = watch::channel(Phase::Waiting);
        let mut tasks = JoinSet::new();
        tasks.spawn_on(tidy(sinks.clone(), phases), &runtime);
        Arc::new(Self {
            shared: Arc::new(Shared {
                broker,
                clock,
                sinks,
                settings,
                engine: OnceLock::new(),
                all: Mutex::default(),
            }),
            tasks: Mutex::new(tasks),
            phase,
            runtime,
        })
    }

    pub(crate) fn bind(&self, engine: &Arc<Engine>) {
        // The engine itself reports a second binding.
        let _ = self.shared.engine.set(Arc::downgrade(engine));
    }

    /// Empties the outboxes of these names that no rule has: what is left of rules that have gone.
    /// Call when the rules are in force.
    pub fn adopt<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        for name in names {
            let known = self.shared.all().contains_key(name);
            if !known {
                self.open(name.clone(), false);
            }
        }
    }

    /// The outboxes of a rule's actions.
    pub(crate) fn attach(&self, rule: &Rule) -> Vec<Option<OutboxId>> {
        let number = |n| {
            rule.action(n).filter(|action| action.has_outbox())?;
            let name = || name_of(rule.name(), n).into();
            rule.is_enabled().then(|| self.open(name(), true))
        };
        (0..=MAX_ACTIONS).map(number).collect()
    }

    fn open(&self, name: Arc<str>, wanted: bool) -> OutboxId {
        let mut all = self.shared.all();
        if let Some(found) = all.get(&name) {
            found.wanted.store(wanted, Ordering::Release);
            return found.id;
        }
        let settings = &self.shared.settings;
        let news = Arc::new(News(Notify::new()));
        let (id, mailbox) = self.shared.broker.attach_outbox(AttachOutbox {
            name: name.clone(),
            max_bytes: settings.max_bytes,
            max_messages: settings.max_messages,
            on_full: settings.on_full,
            wake: news.clone(),
        });
        let outbox = Arc::new(Outbox {
            name: name.clone(),
            id,
            mailbox,
            news,
            wanted: AtomicBool::new(wanted),
            trouble: Mutex::default(),
        });
        all.insert(name, outbox.clone());
        drop(all);
        let task = worker::run(self.shared.clone(), outbox, self.phase.subscribe());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are forgotten, or they would pile up.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
        id
    }

    /// These rules are about to be the ones in force: what no action of theirs fills goes when it
    /// is empty.
    pub(crate) fn keep(&self, rules: &[Arc<Rule>]) {
        let enabled = rules.iter().filter(|r| r.is_enabled());
        let wanted: std::collections::HashSet<OutboxId> = enabled
            .flat_map(|rule| rule.outboxes.iter().flatten().copied())
            .collect();
        for outbox in self.shared.all().values() {
            if !wanted.contains(&outbox.id) {
                outbox.wanted.store(false, Ordering::Release);
                outbox.news.wake();
            }
        }
    }

    /// Begins to empty them. Call when all who take messages are attached.
    pub fn start(&self) {
        self.phase.send_replace(Phase::Working);
    }

    /// All of them, by name.
    pub fn status(&self) -> Vec<OutboxStatus> {
        let all = self.shared.all();
        let mut found: Vec<OutboxStatus> = all
            .values()
            .map(|outbox| OutboxStatus {
                name: outbox.name.clone(),
                trouble: outbox.trouble().clone(),
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Ends all tasks. What is being done has a moment to come to its end; what waits stays in the
    /// store.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an outbox did not stop in order");
            }
        }
    }
}

impl Outbox {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tidy(sinks: Sinks, mut phases: watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY) => sinks.all().into_iter().for_each(|s| s.tidy()),
            _ = phases.wait_for(|phase| *phase == Phase::Stopped) => return,
        }
    }
}
