//! The service: takes requests, hands them to its thread, and reads for those that only read.

mod http;
mod lane;
mod queue;
mod sync;
mod worker;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_channel::oneshot;
use iotedge_model::reserved::{ShadowOperation, ShadowRequest, shadow_prefix};
use iotedge_model::{
    DropReason, Message, NameError, Protocol, ShadowName, Source, ThingName, TopicFilter, TraceId,
};
use iotedge_ports::{BrokerPort, Clock, Part, Service, ShadowReader};
use iotedge_telemetry::{METRICS, event};
use serde_json::{Value, json};

use crate::ShadowStore;
use crate::core::{self, Limits, Rejection, ShadowError, Stored};
use queue::{Queue, Refused, Reply, Request, Work};
use worker::Worker;

pub use http::ShadowHttp;
pub use sync::{Found, SettledReply, SyncKey, SynchronisedReply, Watcher};

/// How the service behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of documents.
    pub limits: Limits,
    /// Bytes of a thing's name; a [`ThingName`] has at most 128.
    pub max_thing_name: usize,
    /// Bytes of a shadow's name; a [`ShadowName`] has at most 64.
    pub max_shadow_name: usize,
    /// Unanswered requests for one thing; more are refused with 429 (2016 guide, "Device Shadow
    /// Limits").
    pub max_in_flight: usize,
    /// Unanswered requests of all things; more are dropped, which their publishers are told.
    pub max_open: usize,
    /// Bytes of requests that wait for their turn.
    pub max_queued_bytes: usize,
    /// Seconds after which a shadow that nobody has updated or read is deleted (2016 guide, "Device
    /// Shadow Limits": a year); never without.
    pub unused_lifetime: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            max_thing_name: 128,
            max_shadow_name: 64,
            max_in_flight: 10,
            max_open: 10_000,
            max_queued_bytes: 16 << 20,
            unused_lifetime: None,
        }
    }
}

/// A request that does not come as a message.
#[derive(Debug, Clone)]
pub struct Call {
    /// The thing.
    pub thing: ThingName,
    /// The shadow's name; `None` for the classic shadow.
    pub shadow: Option<ShadowName>,
    /// What is asked.
    pub operation: ShadowOperation,
    /// The request document.
    pub payload: Bytes,
    /// For the log, and for the messages that follow.
    pub trace: TraceId,
    /// The label of metrics.
    pub protocol: Protocol,
}

/// The response document or why there is none.
pub type Answer = Result<Bytes, Rejection>;

/// A shadow that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The thing.
    pub thing: String,
    /// The shadow's name; `None` for the classic one.
    pub name: Option<String>,
    /// Its version.
    pub version: u64,
    /// When it was last updated, in seconds since 1970.
    pub timestamp: u64,
}

impl Listed {
    /// Tombstones are no shadows; a damaged one is shown without version.
    fn new(key: &str, body: &[u8]) -> Option<Self> {
        let (version, timestamp) = match Stored::parse(body) {
            Ok(Stored::Live(document)) => (document.version, document.timestamp),
            Ok(Stored::Deleted(_)) => return None,
            Err(_) => (0, 0),
        };
        let (thing, name) = match key.split_once('/') {
            Some((thing, name)) => (thing, Some(name.to_owned())),
            None => (key, None),
        };
        Some(Self {
            thing: thing.to_owned(),
            name,
            version,
            timestamp,
        })
    }
}

/// The key in the store, which is also the order of lists: names have no `/`.
fn key(thing: &ThingName, shadow: Option<&ShadowName>) -> String {
    match shadow {
        None => thing.to_string(),
        Some(shadow) => format!("{thing}/{shadow}"),
    }
}

/// Shadows on the broker's port, over HTTP and in process.
pub struct ShadowService {
    store: Arc<dyn ShadowStore>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ShadowService {
    /// Starts the service's thread. [`ShadowService::attach`] makes it hear messages.
    pub fn start(
        store: Arc<dyn ShadowStore>,
        broker: Arc<dyn BrokerPort>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::new(&settings));
        let worker = Worker::new(
            queue.clone(),
            store.clone(),
            broker,
            clock.clone(),
            settings,
        );
        let thread = std::thread::Builder::new()
            .name("shadow".into())
            .spawn(move || worker.run())?;
        Ok(Arc::new(Self {
            store,
            clock,
            settings,
            queue,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Takes the request topics of all things from now on.
    pub fn attach(self: &Arc<Self>, broker: &dyn BrokerPort) {
        const FILTERS: [&str; 6] = [
            "$aws/things/+/shadow/update",
            "$aws/things/+/shadow/get",
            "$aws/things/+/shadow/delete",
            "$aws/things/+/shadow/name/+/update",
            "$aws/things/+/shadow/name/+/get",
            "$aws/things/+/shadow/name/+/delete",
        ];
        let filters: Vec<TopicFilter> = FILTERS
            .iter()
            .filter_map(|f| TopicFilter::new(f).ok())
            .collect();
        broker.attach_service(&filters, self.clone());
    }

    /// The key, unless a name is longer than the settings allow.
    fn allowed(&self, thing: &ThingName, shadow: Option<&ShadowName>) -> Result<String, NameError> {
        let within = |what, text: &str, max| match text.len() > max {
            true => Err(NameError::TooLong { what, max }),
            false => Ok(()),
        };
        within("thing name", thing.as_str(), self.settings.max_thing_name)?;
        if let Some(shadow) = shadow {
            let max = self.settings.max_shadow_name;
            within("shadow name", shadow.as_str(), max)?;
        }
        Ok(key(thing, shadow))
    }

    /// Does a request as if it had come by MQTT: accepted, delta and documents are published; a
    /// refusal is only told to the caller. `reply` is called once, on the service's thread, and
    /// must not block.
    pub fn submit(&self, call: Call, reply: Box<dyn FnOnce(Answer) + Send>) {
        let request = Request {
            thing: call.thing.shared(),
            key: self.allowed(&call.thing, call.shadow.as_ref()),
            prefix: shadow_prefix(&call.thing, call.shadow.as_ref()),
            operation: call.operation,
            work: Work::Ask,
            payload: call.payload,
            trace: call.trace,
            hops: 0,
            protocol: call.protocol,
            reply: Reply::Direct(Some(reply)),
            excess: false,
            counted: false,
        };
        if let Err(Refused(request)) = self.queue.submit(request) {
            METRICS.dropped(DropReason::QueueFull, 1);
            if let Reply::Direct(Some(reply)) = request.reply {
                let max = self.settings.max_open;
                reply(Err(ShadowError::TooManyRequests { max }.into()));
            }
        }
    }

    /// [`ShadowService::submit`] with a future.
    pub fn call(&self, call: Call) -> impl Future<Output = Answer> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.submit(
            call,
            Box::new(move |answer| {
                // The caller may have gone: then nobody wants to know.
                let _ = sender.send(answer);
            }),
        );
        async move { receiver.await.unwrap_or(Err(ShadowError::Internal.into())) }
    }

    /// The names of a thing's named shadows, sorted, after `after`; at most `limit`. The second
    /// value says that there are more.
    pub fn list_named(
        &self,
        thing: &ThingName,
        after: Option<&ShadowName>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), ShadowError> {
        let prefix = format!("{thing}/");
        let mut after = after.map(|name| format!("{prefix}{name}"));
        let mut names = Vec::new();
        loop {
            let page = limit.saturating_add(1);
            let found = self
                .store
                .list(&prefix, after.as_deref(), page)
                .map_err(|e| internal(&prefix, &e))?;
            let last = found.len() < page;
            after = found.last().map(|(key, _)| key.clone());
            for (key, body) in found {
                // Tombstones are no shadows.
                if matches!(Stored::parse(&body), Ok(Stored::Deleted(_))) {
                    continue;
                }
                if names.len() == limit {
                    return Ok((names, true));
                }
                names.extend(key.strip_prefix(&prefix).map(str::to_owned));
            }
            if last {
                return Ok((names, false));
            }
        }
    }

    /// Shadows of one thing or of all, sorted, behind the key `after` (`thing` or `thing/shadow`);
    /// at most `limit`.
    pub fn list(
        &self,
        thing: Option<&ThingName>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, ShadowError> {
        let prefix = thing.map_or_else(String::new, |thing| format!("{thing}/"));
        let fail = |e: crate::StorageFailure| internal(&prefix, &e);
        let mut listed = Vec::new();
        if let (Some(thing), None) = (thing, after) {
            let body = self.store.get(thing.as_str()).map_err(fail)?;
            listed.extend(body.and_then(|body| Listed::new(thing.as_str(), &body)));
        }
        let mut after = after.map(str::to_owned);
        while listed.len() < limit {
            let page = limit - listed.len();
            let found = self.store.list(&prefix, after.as_deref(), page);
            let found = found.map_err(fail)?;
            let last = found.len() < page;
            after = found.last().map(|(key, _)| key.clone());
            listed.extend(
                found
                    .iter()
                    .filter_map(|(key, body)| Listed::new(key, body)),
            );
            if last {
                break;
            }
        }
        Ok(listed)
    }

    /// Removes what is left of shadows that were deleted long ago, and deletes those that nobody has
    /// used for [`Settings::unused_lifetime`]. Returns at once: the service's
    /// thread reads everything in small steps, and answers between them what has come in. Does
    /// nothing while an earlier call is at it; [`ShadowService::stop`] ends it. Once a day is often
    /// enough.
    pub fn sweep(&self) {
        self.queue.begin_sweep();
    }

    /// Answers what has come in and ends the thread. To be called before the store is closed.
    pub fn stop(&self) {
        self.queue.stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }

    fn list_page(
        &self,
        thing: &ThingName,
        page_size: Option<&str>,
        next_token: Option<&str>,
    ) -> Result<Value, ShadowError> {
        const MAX_PAGE: usize = 100;
        const DEFAULT_PAGE: usize = 25;
        let size = match page_size {
            None => DEFAULT_PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|n| (1..=MAX_PAGE).contains(n))
                .ok_or(ShadowError::InvalidParameter(
                    "pageSize must be between 1 and 100",
                ))?,
        };
        // The token is the last name of the page before.
        let after = match next_token.filter(|t| !t.is_empty()) {
            None => None,
            Some(token) => Some(
                ShadowName::new(token)
                    .map_err(|_| ShadowError::InvalidParameter("Invalid nextToken"))?,
            ),
        };
        let (names, more) = self.list_named(thing, after.as_ref(), size)?;
        let mut page = json!({"results": names, "timestamp": self.clock.now().wall.seconds()});
        if let (true, Some(last), Some(page)) = (more, names.last(), page.as_object_mut()) {
            page.insert("nextToken".into(), last.as_str().into());
        }
        Ok(page)
    }
}

/// Logs a failure of the store; the client hears no details.
fn internal(what: &str, error: &dyn std::fmt::Display) -> ShadowError {
    tracing::error!(
        event = event::UPDATE_SHADOW,
        key = what,
        "shadow store: {error}"
    );
    ShadowError::Internal
}

impl Service for ShadowService {
    fn deliver(&self, message: &Arc<Message>, done: Option<Part>) {
        let topic = message.topic.as_str();
        let parsed = ShadowRequest::parse(topic)
            // Wills are ignored here; a rule may republish them.
            .filter(|_| message.source != Source::Will);
        let Some(parsed) = parsed else {
            // Not for us: nothing to do, and nothing failed.
            if let Some(part) = done {
                part.finish(Ok(()));
            }
            return;
        };
        let names = ThingName::new(parsed.thing).and_then(|thing| {
            let shadow = parsed.shadow.map(ShadowName::new).transpose()?;
            self.allowed(&thing, shadow.as_ref())
        });
        let word = parsed.operation.as_str();
        let prefix = topic.strip_suffix(word).unwrap_or(topic);
        let request = Request {
            thing: Arc::from(parsed.thing),
            key: names,
            prefix: prefix.trim_end_matches('/').to_owned(),
            operation: parsed.operation,
            work: Work::Ask,
            payload: message.payload.clone(),
            trace: message.trace,
            hops: message.hops,
            protocol: message.source.protocol(),
            reply: Reply::Message(done),
            excess: false,
            counted: false,
        };
        if let Err(Refused(request)) = self.queue.submit(request) {
            METRICS.dropped(DropReason::QueueFull, 1);
            tracing::warn!(
                event = event::MESSAGE_DROPPED,
                topic,
                trace_id = %request.trace,
                "too many shadow requests are open: dropped without acknowledgement"
            );
        }
    }
}

impl ShadowReader for ShadowService {
    fn shadow(&self, thing: &ThingName, name: Option<&ShadowName>) -> Option<Value> {
        let key = key(thing, name);
        let body = match self.store.get(&key) {
            Ok(body) => body?,
            Err(e) => {
                internal(&key, &e);
                return None;
            }
        };
        let stored = Stored::parse(&body).map_err(|e| internal(&key, &e)).ok()?;
        let limits = &self.settings.limits;
        let text = core::get(Some(&stored), b"", &key, &self.clock.now(), limits).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Drop for ShadowService {
    fn drop(&mut self) {
        self.stop();
    }
}
