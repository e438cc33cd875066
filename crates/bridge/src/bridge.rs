use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use iotedge_model::DropReason;
use iotedge_ports::{
    AttachRoute, BrokerPort, Clock, Pause, UpstreamLine, UpstreamPeer, UpstreamPort,
    UpstreamStatus, Wake,
};
use iotedge_store::Store;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::losses::Losses;
use crate::shared::{Desired, Shared, taker_name};
use crate::task::{Around, OutRoute, Task};
use crate::uplink::{Client, Connector};
use crate::{Config, ConfigError, Direction, Route};

/// Wakes the link's task for one route. Called under the broker's lock: two stores and no wait.
pub(crate) struct RouteWake {
    ready: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Wake for RouteWake {
    fn wake(&self) {
        self.ready.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// All upstreams, each with a task of its own.
pub struct Bridge {
    links: Vec<Arc<Shared>>,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    store: Store,
    clock: Arc<dyn Clock>,
    losses: Mutex<Losses>,
}

impl Bridge {
    /// Checks all configurations, attaches all outbound routes (their queues fill from now on,
    /// links up or not) and starts the links.
    ///
    /// `store` is asked for the books of outbound routes only; their rows come and go through the
    /// broker's mailboxes.
    pub fn start(
        configs: Vec<Config>,
        broker: &Arc<dyn BrokerPort>,
        clock: &Arc<dyn Clock>,
        store: Store,
        runtime: &Handle,
    ) -> Result<Self, ConfigError> {
        let mut connectors: Vec<Arc<dyn Connector>> = Vec::with_capacity(configs.len());
        for config in &configs {
            config.check()?;
            let config = Arc::new(config.clone());
            connectors.push(Arc::new(Client::new(config, clock.clone())?));
        }
        let links = configs.into_iter().zip(connectors).collect();
        Self::start_over(links, broker, clock, store, runtime)
    }

    /// [`Bridge::start`] over connections that the caller makes.
    #[doc(hidden)]
    pub fn start_over(
        links: Vec<(Config, Arc<dyn Connector>)>,
        broker: &Arc<dyn BrokerPort>,
        clock: &Arc<dyn Clock>,
        store: Store,
        runtime: &Handle,
    ) -> Result<Self, ConfigError> {
        for (at, (config, _)) in links.iter().enumerate() {
            config.check()?;
            if links
                .iter()
                .skip(at + 1)
                .any(|(c, _)| c.name == config.name)
            {
                return Err(ConfigError::Twice {
                    what: "upstream",
                    name: config.name.clone(),
                });
            }
        }
        let (given, mut links, mut tasks) = (links, Vec::new(), Vec::new());
        for (config, connector) in given {
            let notify = Arc::new(Notify::new());
            let kept = store.documents("upstreams");
            let paused = crate::pause::read(&kept, &config.name);
            let shared = Shared::new(config, connector, clock.now(), notify.clone(), paused);
            let shared = Arc::new(shared);
            let out = attach(&shared.config, broker, &notify)?;
            let around = Around {
                broker: broker.clone(),
                clock: clock.clone(),
                kept: Some(kept),
            };
            let task = Task::new(shared.clone(), around, notify, out)?;
            tasks.push(runtime.spawn(task.run()));
            links.push(shared);
        }
        let before: Vec<_> = links.iter().map(|link| link.status(&store)).collect();
        Ok(Self {
            losses: Mutex::new(Losses::new(&before)),
            links,
            tasks: tokio::sync::Mutex::new(tasks),
            store,
            clock: clock.clone(),
        })
    }

    /// Ends all links: nothing more is sent, acknowledgements under way have a second to come,
    /// DISCONNECT goes out.
    pub async fn stop(&self) {
        for link in &self.links {
            link.desired.send_replace(Desired::Stopped);
        }
        for task in self.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(event = iotedge_telemetry::event::UPSTREAM, %error, "an upstream's task did not end well");
            }
        }
    }

    /// Once a second or so: says what routes have lost, and what became dead letters.
    pub fn tick(&self) {
        let (status, now) = (self.status(), self.clock.now().mono);
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        for loss in losses.look(&status, now) {
            let what = match loss.reason == DropReason::UpstreamRefused.as_str() {
                true => {
                    "messages became dead letters: `iotedgectl bridge dead-letters list` says why"
                }
                false => "a route has lost messages",
            };
            tracing::warn!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream = &*loss.upstream,
                route = &*loss.route,
                reason = loss.reason,
                messages = loss.messages,
                "{what}"
            );
        }
    }

    pub(crate) fn link(&self, upstream: &str) -> Option<Arc<Shared>> {
        let mut links = self.links.iter();
        links.find(|l| l.config.name == upstream).cloned()
    }

    /// What an operator wants holds at once, whatever the disk says then.
    fn desire(&self, upstream: &str, pause: Option<Pause>) -> Result<bool, String> {
        let Some(link) = self.link(upstream) else {
            return Ok(false);
        };
        let desired = match pause {
            Some(_) => Desired::Paused,
            None => Desired::Run,
        };
        *link.paused() = pause.clone();
        // Told a second time, a link that waits for its next try begins it.
        let tries = desired == Desired::Run && link.link().waits_for_a_try();
        link.desired.send_if_modified(|now| {
            let changes = *now != desired && *now != Desired::Stopped;
            if changes {
                *now = desired;
            }
            changes || (tries && *now == Desired::Run)
        });
        let kept = self.store.documents("upstreams");
        crate::pause::write(&kept, upstream, pause.as_ref())?;
        Ok(true)
    }
}

fn attach(
    config: &Config,
    broker: &Arc<dyn BrokerPort>,
    notify: &Arc<Notify>,
) -> Result<Vec<OutRoute>, ConfigError> {
    let upstream: Arc<str> = Arc::from(config.name.as_str());
    let mut out = Vec::new();
    for (index, route) in config.routes.iter().enumerate() {
        if route.direction != Direction::Out {
            continue;
        }
        let filter = route.local_filter().map_err(|reason| ConfigError::Filter {
            route: route.name.clone(),
            key: "filter",
            reason,
        })?;
        let inbound = |r: &&Route| r.direction == Direction::In;
        let mut inbound = config.routes.iter().filter(inbound);
        let rules = iotedge_ports::RouteRules {
            tells_retained: route.keep_retain && inbound.any(|other| route.sends_back(other)),
            ..route.rules.clone()
        };
        let ready = Arc::new(AtomicBool::new(true));
        let mailbox = broker.attach_route(AttachRoute {
            name: Arc::from(taker_name(config, route)),
            filters: vec![filter],
            qos: route.qos,
            upstream: upstream.clone(),
            max_bytes: route.max_bytes,
            max_messages: route.max_messages,
            on_full: route.on_full,
            rules,
            wake: Arc::new(RouteWake {
                ready: ready.clone(),
                notify: notify.clone(),
            }),
        });
        out.push(OutRoute {
            index,
            mailbox,
            ready,
            acked: Vec::new(),
        });
    }
    Ok(out)
}

impl UpstreamPort for Bridge {
    fn status(&self) -> Vec<UpstreamStatus> {
        self.links.iter().map(|l| l.status(&self.store)).collect()
    }

    fn pause(&self, upstream: &str, by: &str) -> Result<bool, String> {
        let earlier = self.link(upstream).and_then(|link| link.paused().clone());
        // Who says it again does not make it younger.
        let pause = earlier.unwrap_or_else(|| Pause {
            since: self.clock.now().wall,
            by: by.to_owned(),
        });
        self.desire(upstream, Some(pause))
    }

    fn resume(&self, upstream: &str) -> Result<bool, String> {
        self.desire(upstream, None)
    }

    fn join(&self, upstream: &str, peer: Arc<dyn UpstreamPeer>) -> Option<Arc<dyn UpstreamLine>> {
        let link = self.links.iter().find(|l| l.config.name == upstream)?;
        let peering = link.peering.clone();
        peering
            .join(peer)
            .then_some(peering as Arc<dyn UpstreamLine>)
    }
}
