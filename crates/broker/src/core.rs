//! The state behind the lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use iotedge_model::{
    ClientId, DropReason, MessageId, Principal, QoS, SharedFilter, SubscriptionIds, Topic,
    TopicFilter, TraceId, reserved,
};
use iotedge_ports::{Clock, CloseReason, ConnectionId, Service, SubscribeOptions};
use iotedge_store::{Opened, SessionRecord, Store, TakerKind, WillRecord};
use iotedge_telemetry::METRICS;
use slab::Slab;

use crate::Limits;
use crate::events::{EVENTS, Event};
use crate::group::{Groups, Shares, is_shared};
use crate::outbox::{Durable, Env, Outboxes, RouteBox, SessionBox};
use crate::pace::Pace;
use crate::received::Received;
use crate::retained::Retained;
use crate::session::{Session, subscription_options};
use crate::tree::Tree;
use crate::will::DelayedWill;

/// Who a subscription belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Taker {
    Session(usize),
    Group(usize),
    Route(usize),
    Service(usize),
}

impl Taker {
    /// A route or a service: it has no deviation from the standard.
    fn is_of_the_house(&self) -> bool {
        matches!(self, Self::Route(_) | Self::Service(_))
    }
}

/// What one taker gets of a topic, its matching subscriptions taken together.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: SubscriptionIds,
}

/// A taker of a topic.
#[derive(Clone)]
pub(crate) struct Match {
    pub(crate) taker: Taker,
    /// What it gets of others' messages.
    pub(crate) remote: Grant,
    /// What it gets of its own (MQTT 5's no local may leave nothing).
    pub(crate) local: Option<Grant>,
}

/// Topics whose takers are remembered.
const CACHED_TOPICS: usize = 4_096;
/// Longer topics are not remembered: AWS IoT's limit, which real topics keep.
const CACHED_TOPIC_BYTES: usize = 256;

pub(crate) struct Core {
    pub(crate) sessions: Sessions,
    pub(crate) by_client: HashMap<ClientId, usize>,
    pub(crate) by_connection: HashMap<ConnectionId, usize>,
    pub(crate) groups: Groups,
    pub(crate) routes: Vec<Arc<RouteBox>>,
    pub(crate) route_names: HashMap<Arc<str>, usize>,
    pub(crate) services: Vec<Arc<dyn Service>>,
    /// Rule actions' outboxes, by their numbers.
    pub(crate) outboxes: Outboxes,
    pub(crate) retained: Retained,
    /// The broker's own counters, which are retained in memory alone.
    pub(crate) sys: Retained,
    /// The most connections that there were at once.
    pub(crate) most_connected: usize,
    /// Sessions whose time was over, since the start.
    pub(crate) expired: u64,
    pub(crate) env: Arc<Env>,
    pub(crate) stopping: bool,
    pub(crate) pace: Option<Pace>,
    /// Lifecycle events that are to be published when the lock is free.
    pub(crate) events: Vec<Event>,
    /// Wills of the process before whose sessions have ended: to be published at the next tick.
    pub(crate) due_wills: Vec<DelayedWill>,
    /// Monotonic milliseconds of the last note of how long sessions have waited.
    pub(crate) noted: u64,
    tree: Tree<Taker, SubscribeOptions>,
    cache: Matches,
    next_message: u64,
    next_connection: u64,
}

/// All sessions, by a number that the tree uses.
#[derive(Default)]
pub(crate) struct Sessions(Slab<Session>);

impl Sessions {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.0.iter().map(|(_, s)| s)
    }
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.0.iter_mut().map(|(_, s)| s)
    }
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.0.iter()
    }
    pub(crate) fn get(&self, key: usize) -> Option<&Session> {
        self.0.get(key)
    }
    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut Session> {
        self.0.get_mut(key)
    }
    pub(crate) fn insert(&mut self, session: Session) -> usize {
        self.0.insert(session)
    }
    pub(crate) fn remove(&mut self, key: usize) -> Option<Session> {
        self.0.try_remove(key)
    }
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Core {
    pub(crate) fn load(
        store: &Store,
        opened: &mut Opened,
        clock: &Arc<dyn Clock>,
        limits: &Limits,
    ) -> Self {
        let env = Arc::new(Env {
            store: store.clone(),
            clock: clock.clone(),
            max_messages: limits.outbox_messages,
            max_bytes: limits.outbox_bytes,
            first_id: MessageId(opened.next_message_id),
            shares: Shares::default(),
            unread: Arc::default(),
        });
        let mut core = Self {
            sessions: Sessions::default(),
            by_client: HashMap::new(),
            by_connection: HashMap::new(),
            groups: Groups::default(),
            routes: Vec::new(),
            route_names: HashMap::new(),
            services: Vec::new(),
            outboxes: Outboxes::new(&env),
            retained: Retained::default(),
            sys: Retained::default(),
            most_connected: 0,
            expired: 0,
            env,
            stopping: false,
            pace: limits.max_connects_per_client.map(Pace::new),
            events: Vec::new(),
            due_wills: Vec::new(),
            noted: clock.now().mono,
            tree: Tree::new(if limits.wildcards_match_parent {
                |_| true
            } else {
                Taker::is_of_the_house
            }),
            cache: Matches::default(),
            next_message: opened.next_message_id,
            next_connection: 1,
        };
        let now = clock.now();
        for message in opened.retained.drain(..) {
            core.retained.set(Arc::new(message), &now);
        }
        let mut wills: HashMap<Arc<str>, Vec<WillRecord>> = HashMap::new();
        for will in opened.wills.drain(..) {
            let of = will.message.client_id.clone();
            wills.entry(of).or_default().push(will);
        }
        for record in opened.sessions.drain(..) {
            let wills = wills.remove(record.client_id.as_str()).unwrap_or_default();
            core.load_session(Box::new(record), wills, &now, limits);
        }
        let over = wills.into_values().flatten();
        core.due_wills
            .extend(over.map(|will| DelayedWill::load(will, &now, u64::MAX)));
        core.remove_orphans(store, opened);
        core
    }

    /// Queues of groups whose last member ended with a connection that a kill ended.
    fn remove_orphans(&self, store: &Store, opened: &Opened) {
        let kept = self.groups.takers();
        for taker in &opened.takers {
            if taker.kind == TakerKind::Shared && !kept.contains(&taker.id) {
                METRICS.dropped(DropReason::TakerRemoved, taker.account.queued);
                store.remove_taker(taker.id, DropReason::TakerRemoved, None);
            }
        }
    }

    /// A session comes back. The time it waited counts where both ends of it are known.
    fn load_session(
        &mut self,
        mut record: Box<SessionRecord>,
        mut wills: Vec<WillRecord>,
        now: &iotedge_model::Now,
        limits: &Limits,
    ) {
        let waited = waited(&record, now);
        // A will before the last one was about to be published.
        let will = wills.pop().map(|will| DelayedWill::load(will, now, waited));
        let over = wills.into_iter();
        self.due_wills
            .extend(over.map(|will| DelayedWill::load(will, now, u64::MAX)));
        if record.ended_at.is_none() {
            // Killed while it was connected: its time begins now.
            record.ended_at = Some(now.wall);
            record.ended_trusted = now.trusted;
            self.env.store.put_session(record.clone(), None);
        }
        let deadline = (record.expiry != u32::MAX).then(|| {
            now.mono
                .saturating_add((u64::from(record.expiry) * 1000).saturating_sub(waited))
        });
        let subscriptions = std::mem::take(&mut record.subscriptions);
        let mailbox = SessionBox::new(
            self.env.clone(),
            Some(Durable {
                taker: record.taker,
                client_id: record.client_id.clone(),
            }),
            limits.max_inflight,
            false,
            Received::load(&std::mem::take(&mut record.unreleased)),
        );
        if record.identifier == 0 {
            record.identifier = TraceId::unique().0;
        }
        let client_id = record.client_id.clone();
        let key = self.sessions.insert(Session {
            client_id: client_id.clone(),
            principal: record.principal.clone(),
            protocol_level: record.protocol_level,
            identifier: record.identifier,
            expiry: record.expiry,
            record: Some(record),
            mailbox: Arc::new(mailbox),
            subscriptions: BTreeMap::new(),
            live: None,
            deadline,
            delayed_will: will,
        });
        self.by_client.insert(client_id, key);
        for row in subscriptions {
            match SharedFilter::new(&row.text) {
                Ok(shared) => {
                    let options = subscription_options(&row);
                    self.add_subscription(key, row.text.clone(), shared, options);
                }
                Err(error) => {
                    tracing::error!(filter = %row.text, %error, "a stored subscription is no filter");
                }
            }
        }
    }

    /// `true` when the filter was not there before.
    pub(crate) fn add_subscription(
        &mut self,
        key: usize,
        text: Arc<str>,
        shared: SharedFilter,
        options: SubscribeOptions,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let filter = shared.filter;
        if shared.share.is_some() {
            let (group, new) = self.groups.group(&self.env, &text);
            let outlives = session.record.is_some();
            if let Some(group) = self.groups.get(group) {
                let handle = session.live.as_ref().map(|live| &live.handle);
                group.join(key, &session.mailbox, handle, &options, outlives);
            }
            if new {
                let most = SubscribeOptions::v311(QoS::ExactlyOnce);
                self.tree.insert(filter.as_str(), Taker::Group(group), most);
                self.cache.clear();
            }
        } else {
            self.tree
                .insert(filter.as_str(), Taker::Session(key), options);
            self.cache.clear();
        }
        session
            .subscriptions
            .insert(text, (filter, options))
            .is_none()
    }

    pub(crate) fn remove_subscription(&mut self, key: usize, text: &str) -> bool {
        let removed = self
            .sessions
            .get_mut(key)
            .and_then(|s| s.subscriptions.remove(text));
        match removed {
            Some((filter, _)) => {
                self.forget_subscription(key, text, &filter, DropReason::TakerRemoved);
                true
            }
            None => false,
        }
    }

    fn forget_subscription(
        &mut self,
        key: usize,
        text: &str,
        filter: &TopicFilter,
        reason: DropReason,
    ) {
        let taker = if is_shared(text) {
            match self.groups.leave(key, text, reason) {
                Some(group) => Taker::Group(group),
                None => return,
            }
        } else {
            Taker::Session(key)
        };
        self.tree.remove(filter.as_str(), taker);
        self.cache.clear();
    }

    /// Takes a session out of every index; its rows are the caller's business.
    pub(crate) fn remove_session(&mut self, key: usize) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        for (text, (filter, _)) in &session.subscriptions {
            self.forget_subscription(key, text, filter, DropReason::SessionEnded);
        }
        self.by_client.remove(&session.client_id);
        if let Some(live) = &session.live {
            self.by_connection.remove(&live.connection);
        }
        Some(session)
    }

    pub(crate) fn attach_service(&mut self, filters: &[TopicFilter], service: Arc<dyn Service>) {
        let key = Taker::Service(self.services.len());
        self.services.push(service);
        for filter in filters {
            self.tree.insert(
                filter.as_str(),
                key,
                SubscribeOptions::v311(QoS::ExactlyOnce),
            );
        }
        self.cache.clear();
    }

    pub(crate) fn session_of(&self, connection: ConnectionId) -> Option<usize> {
        self.by_connection.get(&connection).copied()
    }

    pub(crate) fn next_connection(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        id
    }

    pub(crate) fn next_message(&mut self) -> MessageId {
        let id = MessageId(self.next_message);
        self.next_message += 1;
        id
    }

    pub(crate) fn close_principal(&self, principal: &Principal, reason: CloseReason) -> usize {
        self.sessions
            .iter()
            .filter(|session| *session.principal == *principal)
            .filter_map(|session| session.live.as_ref())
            .map(|live| live.handle.close(reason))
            .count()
    }

    /// Whether a message on this topic has a taker; rules apart.
    pub(crate) fn is_taken(&self, topic: &str) -> bool {
        let mut taken = false;
        self.tree.matches(topic, &mut |_, _| taken = true);
        taken
    }

    /// The takers of a topic, each once.
    pub(crate) fn takers(&mut self, topic: &Topic) -> Arc<[Match]> {
        if let Some(found) = self.cache.get(topic) {
            return found;
        }
        let mut found: Vec<Gathered> = Vec::new();
        let mut places: HashMap<Taker, usize> = HashMap::new();
        let ingest = reserved::is_basic_ingest(topic.as_str());
        self.tree.matches(topic.as_str(), &mut |taker, options| {
            if ingest && !taker.is_of_the_house() {
                return;
            }
            match places.get(&taker).and_then(|at| found.get_mut(*at)) {
                Some(gathered) => gathered.add(options),
                None => {
                    places.insert(taker, found.len());
                    found.push(Gathered::new(taker, options));
                }
            }
        });
        let matches: Arc<[Match]> = found.into_iter().map(Gathered::finish).collect();
        // Each client has event topics of its own, which come rarely.
        let text = topic.as_str();
        if text.len() <= CACHED_TOPIC_BYTES && !text.starts_with(EVENTS) {
            self.cache.insert(topic, &matches);
        }
        matches
    }
}

/// The takers of topics that were asked for lately.
#[derive(Default)]
struct Matches {
    by_topic: HashMap<Topic, Arc<[Match]>>,
    /// The last one, for runs of messages on one topic.
    last: Option<(Topic, Arc<[Match]>)>,
}

impl Matches {
    fn get(&mut self, topic: &Topic) -> Option<Arc<[Match]>> {
        if let Some((last, found)) = &self.last {
            if last.is_same(topic) {
                return Some(found.clone());
            }
        }
        let found = self.by_topic.get(topic)?.clone();
        self.last = Some((topic.clone(), found.clone()));
        Some(found)
    }

    fn insert(&mut self, topic: &Topic, matches: &Arc<[Match]>) {
        if self.by_topic.len() >= CACHED_TOPICS {
            self.clear();
        }
        self.by_topic.insert(topic.clone(), matches.clone());
    }

    fn clear(&mut self) {
        self.by_topic.clear();
        self.last = None;
    }
}

/// A taker's matching subscriptions while they are collected.
struct Gathered {
    taker: Taker,
    remote: Partial,
    local: Partial,
}

#[derive(Default)]
struct Partial {
    qos: Option<QoS>,
    retain_as_published: bool,
    identifiers: Vec<u32>,
}

impl Grant {
    /// Of one subscription alone.
    pub(crate) fn of(options: &SubscribeOptions) -> Self {
        Self {
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            identifiers: options.identifier.iter().map(|i| i.get()).collect(),
        }
    }
}

impl Partial {
    fn add(&mut self, options: &SubscribeOptions) {
        // MQTT-3.3.5-1: one copy with the highest QoS of all that match.
        self.qos = self.qos.max(Some(options.qos));
        self.retain_as_published |= options.retain_as_published;
        self.identifiers
            .extend(options.identifier.map(std::num::NonZeroU32::get));
    }

    fn finish(self) -> Option<Grant> {
        self.qos.map(|qos| Grant {
            qos,
            retain_as_published: self.retain_as_published,
            identifiers: self.identifiers.into(),
        })
    }
}

impl Gathered {
    fn new(taker: Taker, options: &SubscribeOptions) -> Self {
        let mut gathered = Self {
            taker,
            remote: Partial::default(),
            local: Partial::default(),
        };
        gathered.add(options);
        gathered
    }

    fn add(&mut self, options: &SubscribeOptions) {
        self.remote.add(options);
        if !options.no_local {
            self.local.add(options);
        }
    }

    fn finish(self) -> Match {
        let nothing = Grant {
            qos: QoS::AtMostOnce,
            retain_as_published: false,
            identifiers: SubscriptionIds::NONE,
        };
        Match {
            taker: self.taker,
            remote: self.remote.finish().unwrap_or(nothing),
            local: self.local.finish(),
        }
    }
}

/// Milliseconds that a session has waited for its client.
fn waited(record: &SessionRecord, now: &iotedge_model::Now) -> u64 {
    match record.ended_at {
        Some(end) if record.ended_trusted && now.trusted => now.wall.0.saturating_sub(end.0),
        Some(_) => record.waited,
        None => 0,
    }
}

impl Core {
    /// A route takes what its filters match from now on.
    pub(crate) fn add_route(
        &mut self,
        name: Arc<str>,
        route: Arc<RouteBox>,
        filters: &[TopicFilter],
    ) {
        let number = self.routes.len();
        self.route_names.insert(name, number);
        for filter in filters {
            let options = SubscribeOptions::v311(route.qos);
            self.tree
                .insert(filter.as_str(), Taker::Route(number), options);
        }
        self.routes.push(route);
        self.cache.clear();
    }
}
