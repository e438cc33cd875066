//! What a link's task and those who ask for its status have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotedge_model::{DropReason, Message, Now, QoS, Topic};
use iotedge_ports::{BrokerPort, LinkState, Pause, Publication, RouteStatus, UpstreamStatus};
use iotedge_store::{Account, Store, TakerKind};
use tokio::sync::{Notify, watch};

use crate::link::Link;
use crate::peering::Peering;
use crate::uplink::Connector;
use crate::{Config, Direction, Route};

/// What an operator wants of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Desired {
    Run,
    Paused,
    Stopped,
}

/// The counters of a route.
#[derive(Default)]
pub(crate) struct RouteBooks {
    pub(crate) resent: AtomicU64,
    /// In: since start. Out: the store has them.
    inbound: Mutex<Account>,
}

impl RouteBooks {
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker has taken a message and will say when it is durable.
    pub(crate) fn pending(&self, bytes: u64) {
        let mut books = self.lock();
        books.accepted += 1;
        books.queued += 1;
        books.queued_bytes += bytes;
    }

    /// A pending message ended.
    pub(crate) fn settled(&self, bytes: u64, durable: bool) {
        let mut books = self.lock();
        books.queued = books.queued.saturating_sub(1);
        books.queued_bytes = books.queued_bytes.saturating_sub(bytes);
        if durable {
            books.delivered += 1;
        } else {
            // Not acknowledged: the upstream sends it again, and then it counts.
            books.accepted = books.accepted.saturating_sub(1);
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        iotedge_telemetry::METRICS.dropped(reason, 1);
        let mut books = self.lock();
        books.accepted += 1;
        *books.dropped.entry(reason).or_default() += 1;
    }
}

/// One link.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) link: Mutex<Link>,
    /// In the order of `config.routes`.
    pub(crate) books: Vec<RouteBooks>,
    pub(crate) desired: watch::Sender<Desired>,
    /// What an operator has said.
    paused: Mutex<Option<Pause>>,
    /// Bytes of the day that count for its budget.
    pub(crate) spent: AtomicU64,
    /// The state that was told last.
    pub(crate) told: watch::Sender<LinkState>,
    /// Who talks with the upstream beside the routes.
    pub(crate) peering: Arc<Peering>,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        connector: Arc<dyn Connector>,
        now: Now,
        notify: Arc<Notify>,
        paused: Option<Pause>,
    ) -> Self {
        let desired = match paused {
            Some(_) => Desired::Paused,
            None => Desired::Run,
        };
        Self {
            link: Mutex::new(Link::new(config.backoff, now)),
            books: config
                .routes
                .iter()
                .map(|_| RouteBooks::default())
                .collect(),
            desired: watch::Sender::new(desired),
            paused: Mutex::new(paused),
            spent: AtomicU64::new(0),
            told: watch::Sender::new(LinkState::Resolving),
            connector,
            peering: Arc::new(Peering::new(notify)),
            config,
        }
    }

    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never locked together with the link.
    pub(crate) fn paused(&self) -> MutexGuard<'_, Option<Pause>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever listens hears of the state at once, whoever comes later of the last one.
    pub(crate) fn tell(&self, broker: &dyn BrokerPort) {
        let link = self.link();
        let state = link.state();
        let text = serde_json::json!({
            "upstream": self.config.name,
            "state": state,
            "reason": link.reason(),
            "since": link.since().0,
            "next_retry": link.next_retry().map(|at| at.0),
        });
        drop(link);
        self.told.send_replace(state);
        let name = format!("$SYS/upstream/{}/state", self.config.name);
        let Ok(topic) = Topic::new(&name) else {
            return;
        };
        let text = text.to_string().into();
        let message = Message {
            retain: true,
            ..Message::internal("bridge", topic, text, QoS::AtMostOnce)
        };
        broker.publish(&mut [Publication::new(message, None)]);
    }

    pub(crate) fn status(&self, store: &Store) -> UpstreamStatus {
        let routes = self.config.routes.iter().zip(&self.books);
        let routes = routes
            .map(|(route, books)| self.route_status(route, books, store))
            .collect();
        let (bytes_sent, bytes_received) = self.connector.traffic();
        let paused = self.paused().clone();
        let daily_bytes = self.config.daily_bytes;
        let link = self.link();
        UpstreamStatus {
            bytes_sent,
            bytes_received,
            daily_bytes,
            day_bytes: daily_bytes.map(|_| self.spent.load(Ordering::Relaxed)),
            paused,
            name: Arc::from(self.config.name.as_str()),
            url: self.config.url.clone(),
            state: link.state(),
            reason: link.reason().to_owned(),
            since: link.since(),
            next_retry: link.next_retry(),
            connects: link.connects(),
            routes,
        }
    }

    fn route_status(&self, route: &Route, books: &RouteBooks, store: &Store) -> RouteStatus {
        let account = match route.direction {
            Direction::In => books.lock().clone(),
            Direction::Out => store
                .find_taker(TakerKind::Route, &taker_name(&self.config, route))
                .map(|taker| store.account(taker))
                .unwrap_or_default(),
        };
        let dropped: BTreeMap<String, u64> = account
            .dropped
            .iter()
            .map(|(reason, n)| (reason.to_string(), *n))
            .collect();
        RouteStatus {
            name: Arc::from(route.name.as_str()),
            direction: route.direction.as_str(),
            filter: route.filter.clone(),
            accepted: account.accepted,
            delivered: account.delivered,
            queued: account.queued,
            queued_bytes: account.queued_bytes,
            dropped,
            resent: books.resent.load(Ordering::Relaxed),
        }
    }
}

/// The name of an outbound route's queue.
pub(crate) fn taker_name(config: &Config, route: &Route) -> String {
    format!("{}/{}", config.name, route.name)
}
