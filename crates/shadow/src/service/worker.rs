//! The thread that reads, merges, puts and answers.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Message, Now, QoS, Topic, TraceId};
use iotedge_ports::{BrokerPort, Clock, Failure, Publication, PublishOutcome};
use iotedge_telemetry::{METRICS, Metric, event};
use serde_json::Value;

use super::lane::{Lane, Outcome, Slot};
use super::queue::{CommitNotice, Job, Queue, Reply, Request, Work};
use super::{Settings, internal, sync};
use crate::core::{self, Deleted, Rejection, ShadowError, Stored, Updated};
use crate::{CommitDone, Put, ShadowStore, StorageFailure};

fn rejected(operation: ShadowOperation) -> &'static str {
    match operation {
        ShadowOperation::Get => "get/rejected",
        ShadowOperation::Update => "update/rejected",
        ShadowOperation::Delete => "delete/rejected",
    }
}

fn log_event(operation: ShadowOperation) -> &'static str {
    match operation {
        ShadowOperation::Get => event::GET_SHADOW,
        ShadowOperation::Update => event::UPDATE_SHADOW,
        ShadowOperation::Delete => event::DELETE_SHADOW,
    }
}

/// A decision, before it is known whether it can be stored.
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    /// What to put before it is told.
    pub(super) put: Option<Bytes>,
    /// Whether that deletes the shadow.
    deletes: bool,
    /// What to put, whoever waits: that it was read.
    seen: Option<Bytes>,
}

impl Decision {
    /// Nothing to put and nothing to publish.
    pub(super) fn new(answer: Bytes) -> Self {
        Self {
            outcome: Outcome {
                answer: Ok(answer),
                messages: Vec::new(),
                durable: Ok(()),
                metric: None,
                synchronised: None,
            },
            put: None,
            deletes: false,
            seen: None,
        }
    }

    fn answer(&self) -> Bytes {
        self.outcome.answer.clone().unwrap_or_default()
    }

    fn say(&mut self, suffix: &'static str, payload: Bytes) {
        self.outcome.messages.push((suffix, payload));
    }

    pub(super) fn updated(updated: Updated<'_>) -> Self {
        let mut decision = Self::new(Bytes::from(updated.accepted));
        decision.say("update/accepted", decision.answer());
        if let Some(delta) = updated.delta {
            decision.say("update/delta", Bytes::from(delta));
        }
        decision.say("update/documents", Bytes::from(updated.documents));
        decision.outcome.metric = Some(Metric::UpdateThingShadowAccepted);
        decision.put = Some(Stored::Live(updated.document).to_bytes().into());
        decision
    }

    pub(super) fn deleted(deleted: Deleted<'_>) -> Self {
        let mut decision = Self::new(Bytes::from(deleted.accepted));
        decision.say("delete/accepted", decision.answer());
        decision.outcome.metric = Some(Metric::DeleteThingShadowAccepted);
        decision.put = Some(Stored::Deleted(deleted.tombstone).to_bytes().into());
        decision.deletes = true;
        decision
    }
}

pub(super) struct Worker {
    queue: Arc<Queue>,
    store: Arc<dyn ShadowStore>,
    broker: Arc<dyn BrokerPort>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    lanes: HashMap<Arc<str>, Lane>,
    /// Decided in this turn, and handed to the store at its end: in one commit.
    puts: Vec<Put>,
    /// Where in `puts` a key was put last.
    last_put: HashMap<String, usize>,
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

impl Worker {
    pub(super) fn new(
        queue: Arc<Queue>,
        store: Arc<dyn ShadowStore>,
        broker: Arc<dyn BrokerPort>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self {
            queue,
            store,
            broker,
            clock,
            settings,
            lanes: HashMap::new(),
            puts: Vec::new(),
            last_put: HashMap::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(jobs) = self.queue.take() {
            let now = self.clock.now();
            let mut ready = Vec::new();
            for job in jobs {
                match job {
                    Job::Request(request) => self.begin(request, &now, &mut ready),
                    Job::Committed {
                        thing,
                        number,
                        outcome,
                    } => self.committed(&thing, number, outcome, &now, &mut ready),
                    Job::Sweep { after } => {
                        // It reads what stands in the store.
                        self.flush();
                        let next = self.sweep(after.as_deref(), &now);
                        self.queue.swept(next);
                    }
                }
            }
            self.flush();
            self.tell(ready);
        }
    }

    fn put(&mut self, key: &str, body: Bytes, deletes: bool, done: CommitDone) {
        self.last_put.insert(key.to_owned(), self.puts.len());
        self.puts.push(Put {
            key: key.to_owned(),
            body,
            deletes,
            done,
        });
    }

    /// Hands to the store what was decided in this turn.
    fn flush(&mut self) {
        self.last_put.clear();
        let puts = std::mem::take(&mut self.puts);
        if puts.is_empty() {
            return;
        }
        if let Err(e) = self.store.put(puts) {
            // The notices went with the puts and come as failed commits.
            internal("shadows", &e);
        }
    }

    fn begin(&mut self, request: Request, now: &Now, ready: &mut Vec<Slot>) {
        // Deciding changes nothing: after a panic there is nothing to repair, and one request shall
        // not end the service of all others.
        let decision = catch_unwind(AssertUnwindSafe(|| self.decide(&request, now)))
            .unwrap_or_else(|_| Err(ShadowError::Internal.into()))
            .unwrap_or_else(|rejection| Decision {
                outcome: refusal(&rejection, &request.reply, request.operation, now),
                put: None,
                deletes: false,
                seen: None,
            });
        if let (Some(seen), Ok(key)) = (decision.seen, &request.key) {
            self.put(key, seen, false, unheard());
        }
        let lane = self.lanes.entry(request.thing.clone()).or_default();
        let number = lane.next_number();
        let slot = Slot {
            thing: request.thing.clone(),
            prefix: request.prefix,
            operation: request.operation,
            trace: request.trace,
            hops: request.hops,
            protocol: request.protocol,
            reply: request.reply,
            counted: request.counted,
            outcome: decision.outcome,
            ready: decision.put.is_none(),
        };
        let notice = CommitNotice::new(self.queue.clone(), slot.thing.clone(), number);
        lane.push(slot);
        if let (Some(body), Ok(key)) = (decision.put, &request.key) {
            let done = Box::new(move |outcome| notice.tell(outcome));
            self.put(key, body, decision.deletes, done);
        } else {
            notice.discard();
        }
        drain(&mut self.lanes, &request.thing, ready);
    }

    fn decide(&self, request: &Request, now: &Now) -> Result<Decision, Rejection> {
        let limits = &self.settings.limits;
        let reject = |reason| core::reject(reason, &request.payload, limits);
        let key = match &request.key {
            _ if request.excess => {
                let max = self.settings.max_in_flight;
                return Err(reject(ShadowError::TooManyRequests { max }));
            }
            Ok(key) => key,
            Err(e) => return Err(reject(ShadowError::InvalidName(*e))),
        };
        let body = self.load(key).map_err(reject)?;
        let stored = body.as_deref().map(Stored::parse).transpose();
        let stored = stored.map_err(|e| reject(internal(key, &e)))?;
        let stored = stored.as_ref();
        match &request.work {
            Work::Ask => self.answer(request, key, stored, now),
            Work::Synchronise(cloud) => sync::synchronise(stored, cloud, now, limits),
            Work::Settle(peer, base) => Ok(sync::settle(stored, peer, base.as_deref())),
        }
    }

    fn answer(
        &self,
        request: &Request,
        key: &str,
        stored: Option<&Stored<'_>>,
        now: &Now,
    ) -> Result<Decision, Rejection> {
        let limits = &self.settings.limits;
        let name = key.replacen('/', "~", 1);
        Ok(match request.operation {
            ShadowOperation::Get => {
                let document = core::get(stored, &request.payload, &name, now, limits)?;
                let published = matches!(request.reply, Reply::Message(_));
                let mut decision = Decision::new(Bytes::from(document));
                if published {
                    decision.say("get/accepted", decision.answer());
                }
                decision.outcome.metric = Some(Metric::GetThingShadowAccepted);
                decision.seen = self.seen(stored, now);
                decision
            }
            ShadowOperation::Update => {
                let updated = core::update(stored, &request.payload, now, limits)?;
                Decision::updated(updated)
            }
            ShadowOperation::Delete => {
                let deleted = core::delete(stored, &request.payload, &name, now, limits)?;
                Decision::deleted(deleted)
            }
        })
    }

    fn load(&self, key: &str) -> Result<Option<Bytes>, ShadowError> {
        if let Some(put) = self.last_put.get(key).and_then(|at| self.puts.get(*at)) {
            return Ok(Some(put.body.clone()));
        }
        self.store.get(key).map_err(|e| internal(key, &e))
    }

    fn committed(
        &mut self,
        thing: &Arc<str>,
        number: u64,
        outcome: Result<(), StorageFailure>,
        now: &Now,
        ready: &mut Vec<Slot>,
    ) {
        if let Some(slot) = self.lanes.get_mut(thing).and_then(|l| l.slot(number)) {
            if let Err(e) = outcome {
                let rejection = Rejection {
                    reason: internal(&slot.prefix, &e),
                    client_token: slot.outcome.client_token(),
                };
                slot.outcome = refusal(&rejection, &slot.reply, slot.operation, now);
                slot.outcome.durable = Err(Failure::Store);
            }
            slot.ready = true;
        }
        drain(&mut self.lanes, thing, ready);
    }

    /// Publishes, then acknowledges and answers.
    fn tell(&self, mut slots: Vec<Slot>) {
        let mut batch = Vec::new();
        for slot in &mut slots {
            for (suffix, payload) in slot.outcome.messages.drain(..) {
                let topic = format!("{}/{suffix}", slot.prefix);
                match Topic::new(&topic) {
                    Ok(topic) => batch.push(publication(topic, payload, slot.trace, slot.hops)),
                    Err(e) => tracing::warn!(topic, "no shadow response can be sent: {e}"),
                }
            }
        }
        if !batch.is_empty() {
            self.broker.publish(&mut batch);
        }
        for refused in batch.iter().filter_map(|p| match p.outcome {
            PublishOutcome::Refused(refusal) => Some(refusal),
            _ => None,
        }) {
            tracing::warn!(
                event = event::MESSAGE_DROPPED,
                "the broker took no shadow response: {refused:?}"
            );
        }
        for slot in slots {
            log(&slot);
            if let Some(key) = slot.changed() {
                self.queue.changed(&key);
            }
            if let Some(metric) = slot.outcome.metric {
                METRICS.count(metric, slot.protocol);
            }
            self.queue.answered(&slot.thing, slot.counted);
            match slot.reply {
                Reply::Message(Some(part)) => part.finish(slot.outcome.durable),
                Reply::Direct(Some(reply)) => reply(slot.outcome.answer),
                Reply::Synchronised(Some(reply)) => reply(match slot.outcome.answer {
                    Ok(_) => {
                        let done = slot.outcome.synchronised.map(|done| *done);
                        done.ok_or(ShadowError::Internal)
                    }
                    Err(rejection) => Err(rejection.reason),
                }),
                Reply::Settled(Some(reply)) => {
                    reply(slot.outcome.answer.map(drop).map_err(|r| r.reason));
                }
                Reply::Message(None)
                | Reply::Direct(None)
                | Reply::Synchronised(None)
                | Reply::Settled(None) => {}
            }
        }
    }

    fn sweep_one(&self, key: &str, body: &[u8], now: &Now) -> Result<(), StorageFailure> {
        let put = |stored: Stored<'_>| {
            self.store.put(vec![Put {
                key: key.to_owned(),
                deletes: matches!(stored, Stored::Deleted(_)),
                body: stored.to_bytes().into(),
                done: unheard(),
            }])
        };
        match (Stored::parse(body), self.settings.unused_lifetime) {
            (Ok(Stored::Deleted(tombstone)), _) if tombstone.is_over(now) => self.store.forget(key),
            (Ok(Stored::Live(mut document)), Some(lifetime)) => {
                if document.is_unused(now, lifetime) {
                    tracing::info!(
                        event = event::DELETE_SHADOW,
                        shadow = key,
                        "nobody has used it for shadow.unused_lifetime: deleted"
                    );
                    put(Stored::Deleted(document.bury(now)))?;
                    self.queue.changed(key);
                    return Ok(());
                }
                // Its time begins when it is first seen.
                match document.used.is_none() && document.touch(now) {
                    true => put(Stored::Live(document)),
                    false => Ok(()),
                }
            }
            // What is damaged stays for those who can read it.
            _ => Ok(()),
        }
    }

    /// A reader has been there: noted once a day, where that counts.
    fn seen(&self, stored: Option<&Stored<'_>>, now: &Now) -> Option<Bytes> {
        let (Some(Stored::Live(document)), Some(_)) = (stored, self.settings.unused_lifetime)
        else {
            return None;
        };
        let mut document = document.clone();
        let news = document.touch(now);
        news.then(|| Stored::Live(document).to_bytes().into())
    }

    /// One step through all keys; gives the key after which the next one goes on.
    fn sweep(&self, after: Option<&str>, now: &Now) -> Option<String> {
        // Few, since requests wait for the step: shadows are parsed, of 8 kB each at most.
        const PAGE: usize = 32;
        let page = match self.store.list("", after, PAGE) {
            Ok(page) => page,
            Err(e) => {
                internal("tombstones", &e);
                return None;
            }
        };
        for (key, body) in &page {
            if let Err(e) = self.sweep_one(key, body, now) {
                internal(key, &e);
                return None;
            }
        }
        let full = page.len() == PAGE;
        page.into_iter()
            .next_back()
            .map(|(key, _)| key)
            .filter(|_| full)
    }
}

/// Nobody waits for it; the next sweep sees what became of it.
fn unheard() -> CommitDone {
    Box::new(|_| {})
}

fn log(slot: &Slot) {
    let event = log_event(slot.operation);
    match &slot.outcome.answer {
        Ok(_) => tracing::debug!(event, shadow = slot.prefix, trace_id = %slot.trace, "accepted"),
        Err(rejection) => tracing::info!(
            event,
            shadow = slot.prefix,
            trace_id = %slot.trace,
            code = rejection.reason.code(),
            "rejected: {rejection}"
        ),
    }
}

fn drain(lanes: &mut HashMap<Arc<str>, Lane>, thing: &Arc<str>, ready: &mut Vec<Slot>) {
    let Some(lane) = lanes.get_mut(thing) else {
        return;
    };
    while let Some(slot) = lane.pop_ready() {
        ready.push(slot);
    }
    if lane.is_empty() {
        lanes.remove(thing);
    }
}

/// Messages go out at QoS 1: the subscriber's own QoS decides.
fn publication(topic: Topic, payload: Bytes, trace: TraceId, hops: u8) -> Publication {
    let mut message = Message::internal("shadow", topic, payload, QoS::AtLeastOnce);
    message.trace = trace;
    // A rule that answers a shadow with the shadow is found out as any loop is.
    message.hops = hops;
    Publication::new(message, None)
}

fn refusal(rejection: &Rejection, reply: &Reply, operation: ShadowOperation, now: &Now) -> Outcome {
    let messages = match reply {
        Reply::Message(_) => vec![(rejected(operation), bytes(&rejection.to_json(now)))],
        // "No MQTT error messages are emitted" for other ways in.
        Reply::Direct(_) | Reply::Synchronised(_) | Reply::Settled(_) => Vec::new(),
    };
    Outcome {
        answer: Err(rejection.clone()),
        messages,
        durable: Ok(()),
        metric: Some(Metric::ThingShadowRejected),
        synchronised: None,
    }
}
