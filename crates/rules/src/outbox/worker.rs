//! The task that empties one outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iotedge_model::{DropReason, Message};
use iotedge_ports::{
    AckSink, Delivery, DrainLimit, DrainState, Failure as CommitFailure, Publication,
    PublishOutcome,
};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::sync::{oneshot, watch};

use super::{Outbox, Phase, Shared, action_of};
use crate::counters::{FailureReason, MAX_ACTIONS};
use crate::engine::{self, Made};
use crate::failure::{Failure, names};
use crate::sink::{Item, Progress, SinkError};
use crate::work::Work;

/// What is taken out at once, and so what may be in doubt after a crash.
const BATCH: DrainLimit = DrainLimit {
    messages: 64,
    bytes: 1 << 20,
};
/// The first pause before a sink is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a sink may go on when the daemon stops.
const LAST_MOMENT: Duration = Duration::from_secs(3);
/// How often an error document is offered to the broker.
const OFFERS: u32 = 5;

/// The daemon stops.
struct Stopped;

type Going<T = ()> = Result<T, Stopped>;

type Stop = watch::Receiver<Phase>;

struct Entry {
    delivery: Delivery,
    work: Work,
    item: Item,
    /// When it was taken out, for where the wall clock cannot tell how long it has waited.
    taken: Instant,
}

/// Waits until the daemon stops.
async fn stopped(stop: &mut Stop) {
    // Without a sender there is nobody left to work for.
    drop(stop.wait_for(|phase| *phase == Phase::Stopped).await);
}

/// Works until the daemon stops, or until the outbox has gone.
pub(super) async fn run(shared: Arc<Shared>, outbox: Arc<Outbox>, stop: Stop) {
    let mut worker = Worker {
        shared,
        outbox,
        stop,
    };
    drop(worker.stop.wait_for(|phase| *phase != Phase::Waiting).await);
    while worker.round().await.is_ok() {}
}

struct Worker {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    stop: Stop,
}

impl Worker {
    async fn round(&mut self) -> Going {
        if *self.stop.borrow() == Phase::Stopped {
            return Err(Stopped);
        }
        let mut batch = Vec::new();
        let state = self.outbox.mailbox.drain(BATCH, &mut batch);
        if !batch.is_empty() {
            // Boxed, so that an idle outbox does not hold the room for it.
            return Box::pin(self.empty(batch)).await;
        }
        if state == DrainState::More {
            tokio::task::yield_now().await;
            return Ok(());
        }
        if !self
            .outbox
            .wanted
            .load(std::sync::atomic::Ordering::Acquire)
            && self.shared.remove(&self.outbox)
        {
            return Err(Stopped);
        }
        tokio::select! {
            () = self.outbox.news.0.notified() => Ok(()),
            () = stopped(&mut self.stop) => Err(Stopped),
        }
    }

    async fn empty(&mut self, batch: Vec<Delivery>) -> Going {
        let mut waiting = VecDeque::with_capacity(batch.len());
        for delivery in batch {
            match self.entry(delivery.clone()) {
                Some(entry) => waiting.push_back(entry),
                None => {
                    let reason = "it is not as it was written";
                    self.outbox.mailbox.bury(&[delivery], reason);
                    self.settled().await?;
                }
            }
        }
        let mut attempts = 0;
        while !waiting.is_empty() {
            let progress = self.attempt(&waiting).await?;
            if progress.done > 0 {
                attempts = 0;
                *self.outbox.trouble() = None;
                let done: Vec<Entry> = waiting.drain(..progress.done.min(waiting.len())).collect();
                self.done(done).await?;
            }
            let Some(error) = progress.error else {
                continue;
            };
            let Some(head) = waiting.front() else {
                continue;
            };
            attempts += 1;
            match self.verdict(head, &error, attempts) {
                None => self.pause(head, &error, attempts).await?,
                Some(reason) => {
                    attempts = 0;
                    if let Some(head) = waiting.pop_front() {
                        self.give_up(head, reason, &error).await?;
                    }
                }
            }
        }
        *self.outbox.trouble() = None;
        Ok(())
    }

    fn entry(&self, delivery: Delivery) -> Option<Entry> {
        let message = &delivery.message;
        let work = Work::decode(&message.payload)?;
        let rule = action_of(&self.outbox.name).map_or("", |(rule, _)| rule);
        let item = Item {
            id: message.id,
            trace: message.trace,
            rule: rule.into(),
            topic: message.topic.as_str().into(),
            accepted_at: message.accepted_at,
            trusted: message.trusted,
            task: work.task.clone(),
            body: work.body.clone(),
        };
        Some(Entry {
            delivery,
            work,
            item,
            taken: Instant::now(),
        })
    }

    /// Gives the sink all that is for it, from the head on.
    async fn attempt(&mut self, waiting: &VecDeque<Entry>) -> Going<Progress> {
        let kind = waiting.front().map(|e| e.work.task.kind());
        let same = waiting
            .iter()
            .take_while(|e| Some(e.work.task.kind()) == kind);
        let items: Vec<Item> = same.map(|e| e.item.clone()).collect();
        let Some(first) = items.first() else {
            return Ok(Progress::all(&items));
        };
        let sink = self.shared.sinks.of(&first.task).clone();
        let name = self.outbox.name.clone();
        let mut running = sink.run(&name, &items);
        let progress = tokio::select! {
            progress = &mut running => progress,
            () = stopped(&mut self.stop) => {
                let last = tokio::time::timeout(LAST_MOMENT, running).await;
                last.map_err(|_| Stopped)?
            }
        };
        if progress.done == 0 && progress.error.is_none() {
            let text = "the sink made no progress".to_owned();
            return Ok(Progress::until(0, SinkError::Failed(text)));
        }
        Ok(progress)
    }

    /// Why the head has failed for good; `None` while it may be tried again.
    fn verdict(&self, head: &Entry, error: &SinkError, attempts: u32) -> Option<FailureReason> {
        let late = self.age(head) >= self.shared.settings.retry_for;
        match error {
            SinkError::Refused(_) => Some(FailureReason::Refused),
            SinkError::Failed(_) => (late || attempts >= self.shared.settings.max_attempts)
                .then_some(FailureReason::Failed),
            SinkError::Unavailable(_) => late.then_some(FailureReason::Unavailable),
        }
    }

    /// How long ago it was accepted, as far as it can be known.
    fn age(&self, entry: &Entry) -> Duration {
        let message = &entry.delivery.message;
        let now = self.shared.clock.now();
        if message.trusted && now.trusted {
            Duration::from_millis(now.wall.0.saturating_sub(message.accepted_at.0))
        } else {
            entry.taken.elapsed()
        }
    }

    async fn pause(&mut self, head: &Entry, error: &SinkError, attempts: u32) -> Going {
        if let Some((_, rule, number)) = self.action() {
            rule.counters.action(number).retry();
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << attempts.saturating_sub(1).min(10))
            .min(LONGEST_PAUSE);
        let text = format!("{}: {error}", head.work.task.resource());
        // Once when it begins, and when it is something else.
        let news = self.outbox.trouble().replace(text.clone());
        if news.as_deref() != Some(&*text) {
            tracing::warn!(
                event = event::OUTBOX,
                outbox = &*self.outbox.name,
                trace_id = %head.item.trace,
                topic = &*head.item.topic,
                "the action is tried again: {text}"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = stopped(&mut self.stop) => Err(Stopped),
        }
    }

    /// The rule and the number of the action, where the rule is still in force.
    fn action(&self) -> Option<(Arc<engine::Engine>, Arc<crate::Rule>, usize)> {
        let (rule, number) = action_of(&self.outbox.name)?;
        let (engine, rule) = self.shared.rule(rule)?;
        Some((engine, rule, number))
    }

    async fn done(&mut self, entries: Vec<Entry>) -> Going {
        if let Some((_, rule, number)) = self.action() {
            for entry in &entries {
                let message = &entry.delivery.message;
                rule.counters.action(number).success(self.age(entry));
                engine::succeeded(&rule, message, entry.work.task.kind());
                if number != MAX_ACTIONS {
                    let all = &rule.counters.succeeded;
                    all.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        for entry in &entries {
            let protocol = entry.delivery.message.source.protocol();
            METRICS.count(Metric::RuleActionSuccess, protocol);
        }
        let deliveries: Vec<Delivery> = entries.into_iter().map(|e| e.delivery).collect();
        self.outbox.mailbox.acknowledge(&deliveries);
        self.settled().await
    }

    /// To the error action, and then to the dead letters.
    async fn give_up(&mut self, head: Entry, reason: FailureReason, error: &SinkError) -> Going {
        let task = &head.work.task;
        let message = &head.delivery.message;
        let failure = Failure {
            action: names(task.kind()).0,
            resource: task.resource(),
            message: error.to_string(),
        };
        METRICS.count(Metric::RuleActionFailure, message.source.protocol());
        if let Some((engine, rule, number)) = self.action() {
            let all = &rule.counters.failed_action;
            all.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            rule.counters.action(number).failure(reason);
            engine::report(&rule, message, task.kind(), &failure);
            if number != MAX_ACTIONS {
                let original = head.work.original.clone();
                let made = engine.late_error_action(&rule, message, original, &failure);
                if let Some(made) = made {
                    self.offer(made).await?;
                }
            }
        }
        let text = format!("{} {}: {error}", reason.as_str(), failure.resource);
        self.outbox.mailbox.bury(&[head.delivery], &text);
        self.settled().await
    }

    /// Gives what the error action made to the broker.
    async fn offer(&mut self, made: Made) -> Going {
        let (target, message) = match made {
            Made::Published(message) => (None, message),
            Made::Handed(target, message) => (Some(target), message),
        };
        for offer in 1..=OFFERS {
            if self.publish(target.clone(), message.clone()).await? {
                return Ok(());
            }
            if offer < OFFERS {
                tokio::select! {
                    () = tokio::time::sleep(FIRST_PAUSE * offer) => {}
                    () = stopped(&mut self.stop) => return Err(Stopped),
                }
            }
        }
        METRICS.dropped(DropReason::StoreFull, 1);
        tracing::warn!(
            event = event::MESSAGE_DROPPED,
            outbox = &*self.outbox.name,
            trace_id = %message.trace,
            "the broker does not take the error document; the message itself is kept as a dead letter"
        );
        Ok(())
    }

    /// Whether the broker has taken it for good.
    async fn publish(
        &mut self,
        target: Option<iotedge_ports::Target>,
        message: Message,
    ) -> Going<bool> {
        let (ear, heard) = ear();
        let mut batch = [Publication::new(message, Some((ear, 0)))];
        let [publication] = &mut batch;
        publication.target = target;
        self.shared.broker.publish(&mut batch);
        let [publication] = batch;
        match publication.outcome {
            PublishOutcome::Done { .. } => Ok(true),
            PublishOutcome::Refused(_) => Ok(false),
            PublishOutcome::Pending => self.hear(heard).await,
        }
    }

    /// Waits until what was done cannot come again.
    async fn settled(&mut self) -> Going {
        let (ear, heard) = ear();
        self.outbox.mailbox.settled((ear, 0));
        if !self.hear(heard).await? {
            // The store does not commit: the daemon is about to end.
            tracing::error!(
                event = event::STORE,
                outbox = &*self.outbox.name,
                "the store could not note what was done; it may be done again"
            );
        }
        Ok(())
    }

    async fn hear(&mut self, heard: oneshot::Receiver<bool>) -> Going<bool> {
        // A commit is a matter of milliseconds, and the store outlives the outboxes.
        Ok(heard.await.unwrap_or(false))
    }
}

/// Hears of one commit.
struct Ear(std::sync::Mutex<Option<oneshot::Sender<bool>>>);

fn ear() -> (Arc<Ear>, oneshot::Receiver<bool>) {
    let (tell, heard) = oneshot::channel();
    (Arc::new(Ear(std::sync::Mutex::new(Some(tell)))), heard)
}

impl AckSink for Ear {
    fn acked(&self, _: u64, outcome: Result<(), CommitFailure>) {
        let mut tell = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(tell) = tell.take() {
            // Whoever waited may have gone.
            let _ = tell.send(outcome.is_ok());
        }
    }
}
