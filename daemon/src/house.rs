//! All rooms of one daemon, bound to each other.

mod convert;
mod health;
mod rule_metrics;
mod server;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use iotedge_bridge::Bridge;
use iotedge_broker::Broker;
use iotedge_devices::{DeviceStatus, SerialDevice, SerialPort};
use iotedge_gateway::{Gateway, Running};
use iotedge_identity::Identity;
use iotedge_model::{CertificateId, DropReason, Principal, PrincipalKind};
use iotedge_ports::{BrokerPort, Clock, CloseReason, Grant, HttpMount};
use iotedge_registry::Registry;
use iotedge_rules::{Catalog, Engine, Facilities, Outboxes};
use iotedge_shadow::{ShadowHttp, ShadowService};
use iotedge_store::{Opened, Options as StoreOptions, Store, TakerKind};
use iotedge_telemetry::event;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::authenticate::{self, Authorizers, Users};
use crate::authority::{Authority, Configured};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::documents::{self, Documents};
use crate::registration::Registrar;
use crate::{admin, control, dev, sinks};

use self::server::ServerCare;

/// Milliseconds between two looks for what is left of deleted shadows.
const SWEEP: u64 = 24 * 3600 * 1000;
/// When the first one begins, after the start: a gateway may be switched off every night.
const FIRST_SWEEP: u64 = 600 * 1000;
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

impl House {
    /// Opens everything, in the order in which it depends on each other. Listeners answer when this
    /// returns.
    pub async fn open(config: Config, dev: bool) -> Result<Self, Problems> {
        let documents = documents::read(&config)?;
        let named_users = authenticate::read_users(&config.users).await?;
        let ports = serial_ports(&config)?;
        make_directory(&config.data_dir)?;
        let fatal = Arc::new(Fatal::default());
        let (store, mut opened) = open_store(&config, fatal.clone())?;
        report_salvage(&opened);
        remove_orphans(&store, &opened, &config);
        let system = Arc::new(SystemClock::open(&store).map_err(problem)?);
        let clock: Arc<dyn Clock> = system.clone();
        let ca = config.data_dir.join("ca");
        let identity = Arc::new(Identity::open(&ca, &store, clock.clone()).map_err(problem)?);
        let registry = Arc::new(Registry::open(&store, clock.clone()).map_err(problem)?);
        let broker = Broker::new(
            store.clone(),
            &mut opened,
            clock.clone(),
            convert::broker_limits(&config),
        );
        let port: Arc<dyn BrokerPort> = Arc::new(broker.clone());
        let shadow = ShadowService::start(
            Arc::new(store.documents("shadows")),
            port.clone(),
            clock.clone(),
            convert::shadow_settings(&config.shadow),
        )
        .map_err(problem)?;
        let engine = Engine::new(&config.gateway.arn.account_id, Some(shadow.clone()));
        let engine = Arc::new(engine.with_things(registry.clone()));
        let authority = Authority::new(
            config.gateway.arn.clone(),
            identity.clone(),
            clock.clone(),
            registry.clone(),
            configured(&config),
        );
        let outboxes = Outboxes::new(
            port.clone(),
            clock.clone(),
            sinks::of(&config.rules, &config.data_dir, &clock),
            convert::outbox_settings(&config.rules),
            tokio::runtime::Handle::current(),
        );
        engine.bind_outboxes(&outboxes);
        let rules = Catalog::new(&store, engine.clone()).with_facilities(facilities(&config));
        let rules = Arc::new(rules);
        install(&identity, &rules, &engine, documents)?;
        let left = opened.takers.iter().filter(|t| t.kind == TakerKind::Outbox);
        outboxes.adopt(left.map(|taker| &taker.name));
        if dev {
            dev::prepare(&config, &identity, &registry).map_err(problem)?;
        }
        check_policies(&config, &identity)?;
        let follower = Arc::downgrade(&authority);
        registry.on_change(Arc::new(move || {
            if let Some(authority) = follower.upgrade() {
                authority.invalidate();
            }
        }));
        broker.bind_rules(engine.clone());
        shadow.attach(&broker);
        let bridge = Bridge::start(
            convert::upstreams(&config)?,
            &port,
            &clock,
            store.clone(),
            &tokio::runtime::Handle::current(),
        )
        .map_err(problem)?;
        let account = config.gateway.arn.account_id.clone();
        let registrar = Registrar::start(identity.clone(), port.clone(), clock.clone(), account);
        authority.set_registrar(registrar.map_err(problem)?);
        identity.set_crls(convert::crls(&config).map_err(problem)?);
        outboxes.start();
        let users = Arc::new(Users::new().map_err(problem)?);
        users.set(named_users);
        let doors = convert::Doors {
            identity: identity.clone(),
            users: users.clone(),
            authorizers: authorizers(&config, &authority).map_err(problem)?,
        };
        let (gateway, tls) = open_gateway(&config, &doors, &authority, &shadow, &port).await?;
        let devices = ports
            .into_iter()
            .map(|device| SerialPort::start(device, port.clone()))
            .collect();
        let rooms = Arc::new(Rooms {
            server: ServerCare::new(&config),
            config,
            clock: system,
            store,
            broker,
            identity,
            registry,
            authority,
            users,
            engine,
            rules,
            outboxes,
            shadow,
            bridge: Arc::new(bridge),
            devices: Mutex::new(devices),
            tls,
            next_sweep: AtomicU64::new(FIRST_SWEEP),
            started: Arc::new(OnceLock::new()),
            fatal,
            reloading: tokio::sync::Mutex::new(()),
        });
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
        let closing = tokio::task::spawn_blocking(move || {
            shadow.stop();
            store.close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the store could not be closed in order");
        }
    }
}

impl Rooms {
    /// Reads the configuration with its policies and rules again and puts them in force at once, or
    /// leaves everything as it was.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub async fn reload(&self) -> Result<Vec<String>, Problems> {
        let _one = self.reloading.lock().await;
        let mut changes = Vec::new();
        let config = match &self.config.file {
            None => self.config.clone(),
            Some(file) => config::load(file).map_err(|errors| {
                errors
                    .problems()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Problems>()
            })?,
        };
        let documents = documents::read(&config)?;
        let users = authenticate::read_users(&config.users).await?;
        check_configured_policies(&config, |name| {
            documents.policies.iter().any(|(n, _)| n == name) || stored_policy(&self.identity, name)
        })?;
        let identity = self.identity.clone();
        let (slots, new) = (self.tls.clone(), config.clone());
        let (tls, crls) =
            tokio::task::spawn_blocking(move || convert::renew(&slots, &new, &identity))
                .await
                .map_err(problem)??;
        let policies = documents.policies.len();
        let rules = install(&self.identity, &self.rules, &self.engine, documents)?;
        for (slot, server) in self.tls.iter().zip(tls) {
            slot.put(server);
        }
        self.server.set_names(&config);
        let revoked = self.identity.set_crls(crls);
        if !revoked.is_empty() {
            changes.push(format!(
                "{} certificates are revoked by their CAs",
                revoked.len()
            ));
        }
        self.close(&revoked);
        let gone = self.users.set(users);
        self.authority
            .configure(running_policies(&self.config, &config));
        for name in gone {
            let kind = PrincipalKind::User { name: name.clone() };
            self.broker
                .close_principal(&Principal { kind }, CloseReason::NotAuthorized);
            changes.push(format!("user {name:?} is gone or has another password"));
        }
        changes.push(format!(
            "{policies} policies in {}",
            config.policies_dir.display()
        ));
        for (what, names) in [
            ("added", rules.added),
            ("changed", rules.changed),
            ("removed", rules.removed),
        ] {
            for name in names {
                changes.push(format!("rule {name} {what}"));
            }
        }
        if convert::needs_restart(&self.config, &config) {
            changes.push(
                "the configuration file has other changes, which take effect at the next start"
                    .into(),
            );
        }
        Ok(changes)
    }

    /// Closes the connections of all that stand in a revocation list.
    pub fn close_revoked(&self) {
        self.close(&self.identity.revoked_by_their_cas());
    }

    /// Closes the connections of certificates that may not be here any more.
    pub fn close(&self, certificates: &[CertificateId]) {
        for id in certificates {
            let principal = Principal::certificate(id.clone());
            self.broker
                .close_principal(&principal, CloseReason::NotAuthorized);
        }
    }

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

fn make_directory(path: &Path) -> Result<(), Problems> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|e| problem(format!("data_dir {}: {e}", path.display())))
}

fn open_store(config: &Config, fatal: Arc<Fatal>) -> Result<(Store, Opened), Problems> {
    let options = StoreOptions {
        linger: config.store.linger,
        max_bytes: config.store.max_bytes,
        min_free_disk: config.store.min_free_disk,
        on_fatal: Some(Arc::new(move |error| {
            let _ = fatal.reason.set(error.to_string());
            fatal.notify.notify_waiters();
        })),
    };
    Store::open(&config.data_dir, options).map_err(problem)
}

/// Queues that nobody reads any more: routes that are gone from the configuration, and sessions
/// whose record did not come through a kill. What waits in them is counted as dropped.
fn remove_orphans(store: &Store, opened: &Opened, config: &Config) {
    let routes: HashSet<String> = convert::route_names(config);
    for taker in &opened.takers {
        let orphan = match taker.kind {
            TakerKind::Route => !routes.contains(&*taker.name),
            TakerKind::Session => !opened.sessions.iter().any(|s| s.taker == taker.id),
            TakerKind::Outbox | TakerKind::Shared => false,
        };
        if orphan {
            tracing::warn!(
                event = event::STORE,
                taker = %taker.name,
                queued = taker.account.queued,
                "nobody reads this queue any more; it is removed"
            );
            store.remove_taker(taker.id, DropReason::TakerRemoved, None);
        }
    }
}

fn report_salvage(opened: &Opened) {
    for salvage in &opened.damaged {
        tracing::error!(
            event = event::STORE,
            file = salvage.file,
            set_aside = %salvage.set_aside.display(),
            lost_rows = salvage.lost_rows,
            recovered = ?salvage.recovered,
            incomplete = ?salvage.incomplete,
            "a damaged file was set aside and what could be read was brought over: {}",
            salvage.reason
        );
    }
}

/// Puts policies and rules in force.
fn install(
    identity: &Identity,
    catalog: &Catalog,
    engine: &Engine,
    documents: Documents,
) -> Result<iotedge_rules::Changes, Problems> {
    catalog.check(&documents.rules).map_err(problem)?;
    identity
        .set_file_policies(documents.policies)
        .map_err(problem)?;
    let changes = catalog.install(documents.rules).map_err(problem)?;
    for rule in engine.rules() {
        for warning in rule.warnings() {
            tracing::warn!(rule = %rule.name(), "{warning}");
        }
    }
    Ok(changes)
}

/// The policies of listeners whose clients have none of their own, by the listener's address.
fn listener_policies(config: &Config) -> HashMap<Arc<str>, Arc<str>> {
    config
        .listeners
        .iter()
        .filter_map(|listener| {
            let policy = listener.auth.policy()?;
            Some((Arc::from(listener.address.to_string()), Arc::from(policy)))
        })
        .collect()
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

/// What the configuration gives to whom.
fn configured(config: &Config) -> Configured {
    Configured {
        listeners: listener_policies(config),
        users: config
            .users
            .iter()
            .map(|user| (user.name.clone(), user.policies.clone()))
            .collect(),
    }
}

/// The policies of users, and of the listeners that are open, as the new configuration has them; a
/// listener that moves or goes keeps its own until the restart.
fn running_policies(running: &Config, new: &Config) -> Configured {
    let mut policies = listener_policies(running);
    for (address, policy) in listener_policies(new) {
        if let Some(known) = policies.get_mut(&address) {
            *known = policy;
        }
    }
    Configured {
        listeners: policies,
        ..configured(new)
    }
}

fn stored_policy(identity: &Identity, name: &str) -> bool {
    identity
        .snapshot()
        .policy(name)
        .is_some_and(|p| p.origin == iotedge_identity::PolicyOrigin::Store)
}

fn check_policies(config: &Config, identity: &Identity) -> Result<(), Problems> {
    check_configured_policies(config, |name| identity.snapshot().policy(name).is_some())
}

fn check_configured_policies(
    config: &Config,
    known: impl Fn(&str) -> bool,
) -> Result<(), Problems> {
    let no_policy = |policy: &str| {
        format!(
            "there is no policy {policy:?}, neither in {} nor in the store",
            config.policies_dir.display()
        )
    };
    let users = config.users.iter().flat_map(|user| {
        let place = user.place.as_ref().map(ToString::to_string);
        let unknown = user.policies.iter().filter(|name| !known(name));
        unknown.map(move |name| (place.clone().unwrap_or_default(), name))
    });
    let users = users.map(|(place, name)| format!("{place}: user.policy: {}", no_policy(name)));
    let listeners = config
        .listeners
        .iter()
        .filter_map(|listener| match listener.auth.policy() {
            Some(policy) if !known(policy) => {
                let place = listener
                    .place
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                Some(format!("{place}: listener.policy: {}", no_policy(policy)))
            }
            _ => None,
        });
    let problems: Problems = listeners.chain(users).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
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
