//! All rooms of one daemon, bound to each other.

mod bridge_metrics;
mod convert;
mod health;
mod lines;
mod name;
mod policies;
mod reload;
mod rule_metrics;
mod server;
mod store;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use iotedge_bridge::Bridge;
use iotedge_broker::Broker;
use iotedge_devices::{DeviceStatus, SerialDevice, SerialPort};
use iotedge_gateway::{Gateway, Running};
use iotedge_identity::Identity;
use iotedge_ports::{BrokerPort, Clock, Grant, HttpMount};
use iotedge_registry::Registry;
use iotedge_rules::{Catalog, Engine, Facilities, Outboxes};
use iotedge_shadow::sync::{Journal, Synchroniser};
use iotedge_shadow::{ShadowHttp, ShadowService};
use iotedge_store::{Store, TakerKind};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::authenticate::{self, Authorizers, Users};
use crate::authority::Authority;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::documents;
use crate::registration::Registrar;
use crate::{admin, control, dev, sinks};

use self::policies::{check_policies, configured};
use self::reload::install;
use self::server::ServerCare;

/// Milliseconds between two looks for what is left of deleted shadows.
const SWEEP: u64 = 24 * 3600 * 1000;
/// When the first one begins, after the start: a gateway may be switched off every night.
const FIRST_SWEEP: u64 = 600 * 1000;
/// Entries of the journal of conflicts.
const MAX_CONFLICTS: usize = 1000;
/// How long connections may take to end when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The rooms that commands reach.
pub struct Rooms {
    pub config: Config,
    pub clock: Arc<SystemClock>,
    pub store: Store,
    pub broker: Broker,
    pub identity: Arc<Identity>,
    pub registry: Arc<Registry>,
    pub authority: Arc<Authority>,
    users: Arc<Users>,
    pub engine: Arc<Engine>,
    pub rules: Arc<Catalog>,
    pub outboxes: Arc<Outboxes>,
    pub shadow: Arc<ShadowService>,
    pub bridge: Arc<Bridge>,
    /// What keeps shadows together with upstreams'.
    pub synchronisers: Vec<Arc<Synchroniser>>,
    /// What they have to tell.
    pub conflicts: Arc<Journal>,
    devices: Mutex<Vec<SerialPort>>,
    tls: Vec<convert::TlsSlot>,
    server: ServerCare,
    /// Monotonic milliseconds of the next look for what is left of deleted shadows.
    next_sweep: AtomicU64,
    started: Arc<OnceLock<()>>,
    fatal: Arc<Fatal>,
    reloading: tokio::sync::Mutex<()>,
}

/// The daemon: its rooms and what runs in them.
pub struct House {
    rooms: Arc<Rooms>,
    gateway: Mutex<Option<Running>>,
    admin: JoinHandle<()>,
    control: control::Control,
}

/// The store's end, told once.
#[derive(Default)]
struct Fatal {
    reason: OnceLock<String>,
    notify: Notify,
}

type Problems = Vec<String>;

/// Whether the certificates, keys and CAs of listeners can be used. Writes nothing.
pub fn check_files(config: &Config) -> Result<(), Problems> {
    convert::check_files(config)
}

/// What this configuration lets rules use.
pub fn facilities(config: &Config) -> Facilities {
    Facilities {
        exec_allow: config.rules.exec_allow.clone(),
        routes: convert::route_names(config).into_iter().collect(),
    }
}

fn problem(error: impl ToString) -> Problems {
    vec![error.to_string()]
}

/// Who there is, what belongs to them and what they may do.
struct Registers {
    system: Arc<SystemClock>,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    registry: Arc<Registry>,
    authority: Arc<Authority>,
}

impl Registers {
    fn open(config: &Config, store: &Store) -> Result<Self, Problems> {
        let system = Arc::new(SystemClock::open(store).map_err(problem)?);
        let clock: Arc<dyn Clock> = system.clone();
        let ca = config.data_dir.join("ca");
        let identity = Arc::new(Identity::open(&ca, store, clock.clone()).map_err(problem)?);
        let registry = Arc::new(Registry::open(store, clock.clone()).map_err(problem)?);
        let authority = Authority::new(
            config.gateway.arn.clone(),
            identity.clone(),
            clock.clone(),
            registry.clone(),
            configured(config),
        );
        let follower = Arc::downgrade(&authority);
        registry.on_change(Arc::new(move || {
            if let Some(authority) = follower.upgrade() {
                authority.invalidate();
            }
        }));
        Ok(Self {
            system,
            clock,
            identity,
            registry,
            authority,
        })
    }

    /// Certificates that nobody has registered: who registers itself, who is a guest, who is revoked.
    fn let_in(&self, config: &Config, port: &Arc<dyn BrokerPort>) -> Result<(), Problems> {
        let account = config.gateway.arn.account_id.clone();
        let (identity, clock) = (self.identity.clone(), self.clock.clone());
        let registrar = Registrar::start(identity, port.clone(), clock, account);
        self.authority.set_registrar(registrar.map_err(problem)?);
        let listeners: Vec<_> = config.listeners.iter().collect();
        self.identity
            .set_crls(convert::crls(config).map_err(problem)?);
        self.authority
            .let_guests_in(convert::guest_rooms(&listeners).map_err(problem)?);
        Ok(())
    }
}

/// Services on the broker's port.
struct Works {
    shadow: Arc<ShadowService>,
    engine: Arc<Engine>,
    rules: Arc<Catalog>,
    outboxes: Arc<Outboxes>,
}

impl Works {
    fn open(
        config: &Config,
        registers: &Registers,
        store: &Store,
        port: &Arc<dyn BrokerPort>,
    ) -> Result<Self, Problems> {
        let clock = &registers.clock;
        let shadow = ShadowService::start(
            Arc::new(store.documents("shadows")),
            port.clone(),
            clock.clone(),
            convert::shadow_settings(&config.shadow),
        )
        .map_err(problem)?;
        let engine = Engine::new(&config.gateway.arn.account_id, Some(shadow.clone()));
        let engine = Arc::new(engine.with_things(registers.registry.clone()));
        let outboxes = Outboxes::new(
            port.clone(),
            clock.clone(),
            sinks::of(&config.rules, &config.data_dir, clock),
            convert::outbox_settings(&config.rules),
            tokio::runtime::Handle::current(),
        );
        engine.bind_outboxes(&outboxes);
        let rules = Catalog::new(store, engine.clone()).with_facilities(facilities(config));
        Ok(Self {
            shadow,
            engine,
            rules: Arc::new(rules),
            outboxes,
        })
    }
}

impl House {
    /// Opens everything, in the order in which it depends on each other. Listeners answer when this
    /// returns.
    pub async fn open(config: Config, dev: bool) -> Result<Self, Problems> {
        let documents = documents::read(&config)?;
        convert::check_upstreams(&config)?;
        let named_users = authenticate::read_users(&config.users).await?;
        let ports = serial_ports(&config)?;
        let fatal = Arc::new(Fatal::default());
        let (store, mut opened) = store::open(&config, &fatal)?;
        let registers = Registers::open(&config, &store)?;
        let gateway_id = name::gateway_id(&store, &config.data_dir).map_err(problem)?;
        let limits = convert::broker_limits(&config, &gateway_id);
        let broker = Broker::new(store.clone(), &mut opened, registers.clock.clone(), limits);
        let port: Arc<dyn BrokerPort> = Arc::new(broker.clone());
        let works = Works::open(&config, &registers, &store, &port)?;
        install(&registers.identity, &works.rules, &works.engine, documents)?;
        let left = opened.takers.iter().filter(|t| t.kind == TakerKind::Outbox);
        works.outboxes.adopt(left.map(|taker| &taker.name));
        if dev {
            dev::prepare(&config, &registers.identity, &registers.registry).map_err(problem)?;
        }
        check_policies(&config, &registers.identity)?;
        broker.bind_rules(works.engine.clone());
        works.shadow.attach(&broker);
        let bridge = Bridge::start(
            convert::upstreams(&config, &gateway_id)?,
            &port,
            &registers.clock,
            store.clone(),
            &tokio::runtime::Handle::current(),
        )
        .map_err(problem)?;
        let conflicts = Arc::new(Journal::new(
            Arc::new(store.documents("shadow-conflicts")),
            MAX_CONFLICTS,
        ));
        let synchronisers = synchronise(
            &config,
            &works.shadow,
            &bridge,
            &conflicts,
            &registers.clock,
        )?;
        registers.let_in(&config, &port)?;
        works.outboxes.start();
        let users = Arc::new(Users::new().map_err(problem)?);
        users.set(named_users);
        let doors = convert::Doors {
            identity: registers.identity.clone(),
            users: users.clone(),
            authorizers: authorizers(&config, &registers.authority).map_err(problem)?,
        };
        let (gateway, tls) =
            open_gateway(&config, &doors, &registers.authority, &works.shadow, &port).await?;
        let devices = ports
            .into_iter()
            .map(|device| SerialPort::start(device, port.clone()))
            .collect();
        let rooms = Arc::new(Rooms {
            server: ServerCare::new(&config),
            config,
            clock: registers.system,
            store,
            broker,
            identity: registers.identity,
            registry: registers.registry,
            authority: registers.authority,
            users,
            engine: works.engine,
            rules: works.rules,
            outboxes: works.outboxes,
            shadow: works.shadow,
            bridge: Arc::new(bridge),
            synchronisers,
            conflicts,
            devices: Mutex::new(devices),
            tls,
            next_sweep: AtomicU64::new(FIRST_SWEEP),
            started: Arc::new(OnceLock::new()),
            fatal,
            reloading: tokio::sync::Mutex::new(()),
        });
        Self::answer(rooms, gateway).await
    }

    /// From now on the world outside is heard.
    async fn answer(rooms: Arc<Rooms>, gateway: Gateway) -> Result<Self, Problems> {
        let address = rooms.config.admin.address;
        let admin = admin::start(address, rooms.clone())
            .await
            .map_err(|e| problem(format!("admin.address: cannot listen on {address}: {e}")))?;
        let gateway = gateway.start();
        // Only now, so that whoever sees the socket finds every listener answering.
        let control = control::Control::start(rooms.clone()).map_err(problem)?;
        let _ = rooms.started.set(());
        Ok(Self {
            rooms,
            gateway: Mutex::new(Some(gateway)),
            admin,
            control,
        })
    }

    /// The configuration that it runs with.
    pub fn config(&self) -> &Config {
        &self.rooms.config
    }

    /// Once a second or so.
    pub fn tick(&self) {
        self.rooms.clock.tick();
        self.rooms.server.tick(&self.rooms);
        self.rooms.broker.tick();
        self.rooms.bridge.tick();
        let now = self.rooms.clock.now().mono;
        let due = self.rooms.next_sweep.load(Ordering::Relaxed);
        if now >= due {
            self.rooms.next_sweep.store(now + SWEEP, Ordering::Relaxed);
            self.rooms.shadow.sweep();
        }
    }

    /// Waits until the store has failed for good.
    pub async fn failed(&self) -> String {
        loop {
            let notified = self.rooms.fatal.notify.notified();
            if let Some(reason) = self.rooms.fatal.reason.get() {
                return reason.clone();
            }
            notified.await;
        }
    }

    /// Reads policies and rules again; see [`Rooms::reload`].
    pub async fn reload(&self) -> Result<Vec<String>, Problems> {
        self.rooms.reload().await
    }

    /// Ends in the order in which nothing that was taken in is lost: sources first, then clients,
    /// then the actions of rules and the link, then the store.
    pub async fn stop(self) {
        let rooms = self.rooms;
        self.control.stop().await;
        rooms.stop_devices().await;
        rooms.broker.stop();
        let gateway = self
            .gateway
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(gateway) = gateway {
            gateway.stop(STOP_DEADLINE).await;
        }
        rooms.outboxes.stop().await;
        rooms.bridge.stop().await;
        self.admin.abort();
        rooms.clock.save();
        let shadow = rooms.shadow.clone();
        let store = rooms.store.clone();
        let synchronisers = rooms.synchronisers.clone();
        let closing = tokio::task::spawn_blocking(move || {
            synchronisers.iter().for_each(|s| s.stop());
            shadow.stop();
            store.close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the store could not be closed in order");
        }
    }
}

impl Rooms {
    /// What the serial ports do.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.iter().map(SerialPort::status).collect()
    }

    async fn stop_devices(&self) {
        let devices =
            std::mem::take(&mut *self.devices.lock().unwrap_or_else(PoisonError::into_inner));
        let stops: Vec<_> = devices
            .into_iter()
            .map(|d| tokio::spawn(d.stop()))
            .collect();
        for stop in stops {
            if let Err(error) = stop.await {
                tracing::error!(%error, "a serial port did not stop in order");
            }
        }
    }

    /// All listeners answer.
    pub fn is_started(&self) -> bool {
        self.started.get().is_some()
    }
}

/// Those of all upstreams that have some.
fn synchronise(
    config: &Config,
    service: &Arc<ShadowService>,
    bridge: &Bridge,
    journal: &Arc<Journal>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<Synchroniser>>, Problems> {
    let mut all = Vec::new();
    let of_upstreams = config.upstreams.iter().filter_map(|u| u.shadows.as_ref());
    for shadows in of_upstreams {
        let settings = shadows.settings.clone();
        let name = settings.upstream.clone();
        // Another one at each start.
        let seed = RandomState::new().hash_one(std::process::id());
        let started = Synchroniser::start(
            settings,
            service,
            bridge,
            journal.clone(),
            clock.clone(),
            seed,
        );
        let started = started.map_err(problem)?;
        let missing = || problem(format!("upstream {name:?} is not there for its shadows"));
        all.push(started.ok_or_else(missing)?);
    }
    Ok(all)
}

fn serial_ports(config: &Config) -> Result<Vec<SerialDevice>, Problems> {
    let mut ports = Vec::with_capacity(config.serial.len());
    let mut problems = Vec::new();
    for serial in &config.serial {
        match serial.check() {
            Ok(port) => ports.push(port),
            Err(found) => {
                problems.extend(
                    found
                        .iter()
                        .map(|p| format!("serial {:?}: {p}", serial.name)),
                );
            }
        }
    }
    if problems.is_empty() {
        Ok(ports)
    } else {
        Err(problems)
    }
}

fn authorizers(config: &Config, authority: &Arc<Authority>) -> Result<Authorizers, String> {
    let authority = Arc::downgrade(authority);
    Authorizers::new(
        &config.authorizers,
        &(Arc::new(move |documents| match authority.upgrade() {
            Some(authority) => authority.grant(documents),
            // The daemon is ending: nothing is granted any more.
            None => Grant(Arc::new(())),
        }) as authenticate::MakeGrant),
    )
}

async fn open_gateway(
    config: &Config,
    doors: &convert::Doors,
    authority: &Arc<Authority>,
    shadow: &Arc<ShadowService>,
    broker: &Arc<dyn BrokerPort>,
) -> Result<(Gateway, Vec<convert::TlsSlot>), Problems> {
    let mounts: Vec<Arc<dyn HttpMount>> =
        vec![Arc::new(ShadowHttp::new(shadow.clone(), authority.clone()))];
    let context = iotedge_gateway::Context {
        broker: broker.clone(),
        authorizer: authority.clone(),
        mounts,
        limits: convert::gateway_limits(config),
    };
    let (listeners, tls) = convert::listeners(config, doors)?;
    let gateway = Gateway::bind(context, listeners).await.map_err(problem)?;
    Ok((gateway, tls))
}
