//! From the configuration to what each room is told.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use iotedge_bridge::ConfigError;
use iotedge_gateway::{Address, Auth, Listener, Speaks};
use iotedge_identity::{
    ClientAuth, ClientCas, Crls, Identity, TlsOptions, is_token_key, token_key,
};
use iotedge_model::{Principal, PrincipalKind};
use rustls::ServerConfig;

use super::policies::open_listeners;
use crate::authenticate::{Authorizers, Users};
use crate::authority::GuestRooms;
use crate::config::{
    Config, ListenerAddress, ListenerAuth, ListenerConfig, ListenerProtocol, Profile, RouteConfig,
    RulesConfig, ShadowConfig, UpstreamConfig,
};

/// Messages that wait for an upstream's PUBACK, where neither its kind nor the configuration says
/// how many: 50,000 a second over a line of 20 ms there and back.
const IN_FLIGHT: u16 = 1000;

pub(super) fn broker_limits(config: &Config, gateway_id: &Arc<str>) -> iotedge_broker::Limits {
    let broker = &config.broker;
    let standard = broker.profile == Profile::Standard;
    iotedge_broker::Limits {
        max_connections: broker.max_connections,
        max_connects_per_client: broker.max_connects_per_client,
        max_inflight: broker.max_inflight,
        max_queued_messages: broker.max_queued_messages,
        max_queued_bytes: broker.max_queued_bytes,
        outbox_messages: broker.max_outbox_messages,
        outbox_bytes: broker.max_outbox_bytes,
        max_subscriptions: broker.max_subscriptions,
        max_topic_levels: broker.max_topic_levels,
        retained_max: broker.retained_max,
        retained_max_bytes: broker.retained_max_bytes,
        max_sessions: broker.max_sessions,
        max_hops: broker.max_hops,
        sys_interval: broker.sys_interval,
        lifecycle_events: broker.lifecycle_events,
        wildcards_match_parent: standard,
        retained_to_wildcards: standard,
        gateway_id: Some(gateway_id.clone()),
        resume_across_versions: standard,
    }
}

pub(super) fn gateway_limits(config: &Config) -> iotedge_gateway::Limits {
    let broker = &config.broker;
    iotedge_gateway::Limits {
        profile: match broker.profile {
            Profile::Standard => iotedge_gateway::Profile::Standard,
            Profile::AwsIot => iotedge_gateway::Profile::AwsIot,
        },
        connect_timeout: broker.connect_timeout,
        max_websocket_duration: broker.max_websocket_duration,
        write_timeout: broker.write_timeout,
        max_client_id_bytes: broker.max_client_id_bytes,
        // A listener says it.
        allow_empty_client_id: true,
        min_keep_alive: broker.min_keep_alive,
        max_keep_alive: broker.max_keep_alive,
        max_packet_bytes: broker.max_packet_bytes,
        max_payload_bytes: broker.max_payload_bytes,
        max_user_property_bytes: broker.max_user_property_bytes,
        max_inflight: usize::from(broker.max_inflight),
        max_inflight_bytes: broker.max_inflight_bytes,
        max_topic_bytes: broker.max_topic_bytes,
        max_topic_levels: broker.max_topic_levels,
        max_qos: broker.max_qos,
        retain_available: broker.retain_available,
        max_filters_per_subscribe: broker.max_filters_per_subscribe,
        subscription_identifiers: broker.subscription_identifiers,
        max_topic_alias: broker.max_topic_alias,
        max_publish_rate: broker.max_publish_rate,
        max_delivery_rate: broker.max_delivery_rate,
        max_bytes_rate: broker.max_bytes_rate,
        max_message_expiry: broker.max_message_expiry,
        session_expiry: broker.session_expiry,
        max_session_expiry: broker.max_session_expiry,
        reserved_wills: broker.reserved_wills,
    }
}

/// The TLS of one listener, replaced at reload.
#[derive(Clone)]
pub(crate) struct TlsSlot {
    address: ListenerAddress,
    options: TlsOptions,
    place: String,
    server: Arc<ArcSwap<ServerConfig>>,
}

impl TlsSlot {
    /// New connections get this from now on.
    pub(super) fn put(&self, server: Arc<ServerConfig>) {
        self.server.store(server);
    }
}

/// What the files of listeners hold now.
pub(super) struct Renewed {
    /// One for each listener with TLS.
    pub(super) servers: Vec<Arc<ServerConfig>>,
    pub(super) crls: Crls,
    pub(super) guests: GuestRooms,
}

/// Reads every listener's files again, those that the new configuration names; all of them or none. A
/// listener that moves or goes keeps its own until the restart.
pub(super) fn renew(
    slots: &[TlsSlot],
    running: &Config,
    config: &Config,
    identity: &Identity,
) -> Result<Renewed, Vec<String>> {
    let mut servers = Vec::with_capacity(slots.len());
    let mut problems = Vec::new();
    for slot in slots {
        let mut options = slot.options.clone();
        options.names.clone_from(&config.gateway.names);
        let listeners = config.listeners.iter().filter(|l| l.is_tls());
        for listener in listeners.filter(|l| l.address == slot.address) {
            options.certificate.clone_from(&listener.certificate);
            options.key.clone_from(&listener.key);
            options.client_ca.clone_from(&listener.client_ca);
        }
        match identity.server_config(&options) {
            Ok(server) => servers.push(server),
            Err(error) => problems.push(format!("{}listener: {error}", slot.place)),
        }
    }
    let crls = crls(config).unwrap_or_else(|error| {
        problems.push(error);
        Crls::default()
    });
    let guests = guest_rooms(&open_listeners(running, config)).unwrap_or_else(|error| {
        problems.push(error);
        GuestRooms::default()
    });
    if problems.is_empty() {
        Ok(Renewed {
            servers,
            crls,
            guests,
        })
    } else {
        Err(problems)
    }
}

/// The revocation lists of all listeners: who is revoked is so everywhere.
pub(super) fn crls(config: &Config) -> Result<Crls, String> {
    let lists: BTreeSet<_> = config.listeners.iter().flat_map(|l| &l.crl).collect();
    let lists: Vec<_> = lists.into_iter().cloned().collect();
    let cas = config.listeners.iter().filter_map(|l| l.client_ca.clone());
    let cas: BTreeSet<_> = cas.collect();
    let cas: Vec<_> = cas.into_iter().collect();
    Crls::read(&lists, &cas).map_err(|e| format!("listener.crl: {e}"))
}

/// The CAs of the listeners that let certificates in which are not registered.
pub(super) fn guest_rooms(listeners: &[&ListenerConfig]) -> Result<GuestRooms, String> {
    let guests = listeners.iter().filter_map(|listener| {
        let ListenerAuth::Certificate { policy: Some(_) } = listener.auth else {
            return None;
        };
        Some((listener, listener.client_ca.as_ref()?))
    });
    guests
        .map(|(listener, path)| {
            let cas = ClientCas::read(path).map_err(|e| format!("{}{e}", place(listener)))?;
            Ok((Arc::from(listener.address.to_string()), cas))
        })
        .collect()
}

/// Whether the files that listeners name can be used, and the bridge its upstreams.
pub(super) fn check_files(config: &Config) -> Result<(), Vec<String>> {
    let tls = config.listeners.iter().filter(|l| l.is_tls());
    let problems: Vec<String> = tls
        .filter_map(|listener| {
            let error = tls_options(listener, config).check_files().err()?;
            Some(format!("{}listener: {error}", place(listener)))
        })
        .chain(crls(config).err())
        .chain(check_upstreams(config).err().into_iter().flatten())
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn place(config: &ListenerConfig) -> String {
    config
        .place
        .as_ref()
        .map(|p| format!("{p}: "))
        .unwrap_or_default()
}

type Opened = (Vec<Listener>, Vec<TlsSlot>);

/// Who finds out who clients are.
pub(super) struct Doors {
    pub(super) identity: Arc<Identity>,
    pub(super) users: Arc<Users>,
    pub(super) authorizers: Authorizers,
}

pub(super) fn listeners(config: &Config, doors: &Doors) -> Result<Opened, Vec<String>> {
    let mut listeners = Vec::with_capacity(config.listeners.len());
    let mut slots = Vec::new();
    let mut problems = Vec::new();
    for listener in &config.listeners {
        match one_listener(listener, config, doors, &mut slots) {
            Ok(listener) => listeners.push(listener),
            Err(reason) => problems.push(format!("{}listener: {reason}", place(listener))),
        }
    }
    if problems.is_empty() {
        Ok((listeners, slots))
    } else {
        Err(problems)
    }
}

fn speaks(config: &ListenerConfig) -> Speaks {
    use ListenerProtocol::{Http, Https, Mqtt, Mqtts, Unix, Ws, Wss};
    let has = |wanted| config.protocols.contains(&wanted);
    let any = |one, other| has(one) || has(other);
    Speaks {
        mqtt: any(Mqtt, Mqtts) || has(Unix),
        websocket: any(Ws, Wss),
        http: any(Http, Https),
    }
}

fn tls_options(config: &ListenerConfig, whole: &Config) -> TlsOptions {
    TlsOptions {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        client_ca: config.client_ca.clone(),
        client_auth: match config.auth {
            ListenerAuth::Certificate { .. } => ClientAuth::Required,
            ListenerAuth::Peer { .. }
            | ListenerAuth::Anonymous { .. }
            | ListenerAuth::Password
            | ListenerAuth::Custom { .. } => ClientAuth::None,
        },
        alpn: speaks(config).alpn(),
        names: whole.gateway.names.clone(),
    }
}

fn one_listener(
    config: &ListenerConfig,
    whole: &Config,
    doors: &Doors,
    slots: &mut Vec<TlsSlot>,
) -> Result<Listener, String> {
    let auth = match &config.auth {
        ListenerAuth::Certificate { .. } => Auth::Certificate,
        ListenerAuth::Peer { .. } => Auth::Peer,
        ListenerAuth::Anonymous { .. } => Auth::Anonymous(Arc::new(Principal {
            kind: PrincipalKind::Anonymous {
                listener: Arc::from(config.address.to_string()),
            },
        })),
        ListenerAuth::Password => Auth::Credentials(doors.users.clone()),
        ListenerAuth::Custom { authorizers } => {
            Auth::Credentials(Arc::new(doors.authorizers.of(authorizers)))
        }
    };
    let tls: Option<iotedge_gateway::Tls> = if config.is_tls() {
        let options = tls_options(config, whole);
        let server = doors
            .identity
            .server_config(&options)
            .map_err(|e| e.to_string())?;
        let server = Arc::new(ArcSwap::new(server));
        slots.push(TlsSlot {
            address: config.address.clone(),
            options,
            place: place(config),
            server: server.clone(),
        });
        Some(Arc::new(move || server.load_full()))
    } else {
        None
    };
    Ok(Listener {
        name: Arc::from(config.address.to_string()),
        address: match &config.address {
            ListenerAddress::Tcp(address) => Address::Tcp(*address),
            ListenerAddress::Unix { path, mode } => Address::Unix {
                path: path.clone(),
                mode: *mode,
            },
        },
        speaks: speaks(config),
        tls,
        auth,
        allowed_origins: config.allowed_origins.clone(),
        max_connections: config.max_connections,
        max_connection_rate: config.max_connection_rate,
        max_qos: config.max_qos,
        max_topic_alias: config.max_topic_alias,
        allow_empty_client_id: config.allow_empty_client_id,
    })
}

/// How the outboxes of rules behave.
pub(super) fn outbox_settings(rules: &RulesConfig) -> iotedge_rules::OutboxSettings {
    iotedge_rules::OutboxSettings {
        retry_for: rules.retry_for,
        max_attempts: rules.max_attempts,
        max_bytes: rules.max_outbox_bytes,
        max_messages: rules.max_outbox_messages,
        on_full: rules.on_full,
    }
}

/// The names of all outbound queues.
pub(super) fn route_names(config: &Config) -> HashSet<String> {
    let mut names = HashSet::new();
    for upstream in &config.upstreams {
        for route in upstream
            .routes
            .iter()
            .filter(|r| r.direction == iotedge_bridge::Direction::Out)
        {
            names.insert(format!("{}/{}", upstream.name, route.name));
        }
    }
    names
}

/// What the bridge would refuse, before anything is opened.
pub(super) fn check_upstreams(config: &Config) -> Result<(), Vec<String>> {
    let all = config.upstreams.iter();
    let problems: Vec<_> = all.filter_map(|upstream| wrong(upstream, config)).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn wrong(upstream: &UpstreamConfig, config: &Config) -> Option<String> {
    let error = link(upstream, config).check().err()?;
    let (key, told) = match &error {
        ConfigError::Value { key, reason } => (*key, format!("upstream.{key}: {reason}")),
        ConfigError::Url { .. } => ("url", format!("upstream.{error}")),
        _ => ("", format!("upstream {:?}: {error}", upstream.name)),
    };
    let places = &upstream.places;
    let place = places.get(key).or_else(|| places.get(""));
    let place = place.map(|p| format!("{p}: ")).unwrap_or_default();
    Some(format!("{place}{told}"))
}

/// Every upstream's link.
pub(super) fn upstreams(
    config: &Config,
    gateway_id: &Arc<str>,
) -> Result<Vec<iotedge_bridge::Config>, Vec<String>> {
    let mut links = Vec::with_capacity(config.upstreams.len());
    let mut problems = Vec::new();
    for upstream in &config.upstreams {
        let mut link = link(upstream, config);
        link.gateway_id = gateway_id.clone();
        if let Some(uri) = link.key.take_if(|key| is_token_key(key)) {
            match token_key(&uri) {
                Ok(key) => link.signing_key = Some(key),
                Err(error) => problems.push(format!("upstream {:?}: {error}", upstream.name)),
            }
        }
        links.push(link);
    }
    if problems.is_empty() {
        Ok(links)
    } else {
        Err(problems)
    }
}

fn link(upstream: &UpstreamConfig, config: &Config) -> iotedge_bridge::Config {
    let seconds = upstream.keep_alive.as_secs().clamp(1, u64::from(u16::MAX));
    let mut link = iotedge_bridge::Config::new(
        &upstream.name,
        &upstream.url.to_string(),
        upstream.client_id.as_str(),
    );
    link.version = upstream.version;
    link.ca = upstream.ca.clone();
    link.certificate = upstream.certificate.clone();
    link.key = upstream.key.clone();
    link.alpn = upstream.alpn.clone();
    link.username = upstream.username.clone();
    link.password_file = upstream.password_file.clone();
    link.proxy = upstream.proxy.clone();
    link.keep_alive = u16::try_from(seconds).unwrap_or(u16::MAX);
    // Of a server that says nothing and is of no known kind. Bytes have their own limit.
    link.max_in_flight = IN_FLIGHT;
    link.max_packet_bytes = config.broker.max_packet_bytes;
    // Of clients it may be shorter than what a distant link needs.
    link.connect_timeout = config.broker.connect_timeout.max(Duration::from_secs(10));
    link.routes = upstream.routes.iter().map(route).collect();
    link.windows = upstream.windows.clone();
    link.daily_bytes = upstream.daily_bytes;
    link.preset(upstream.kind);
    link.max_rate = upstream.max_rate.or(link.max_rate);
    link.max_byte_rate = upstream.max_byte_rate.or(link.max_byte_rate);
    let payload = upstream
        .max_payload_bytes
        .and_then(|n| usize::try_from(n).ok());
    link.max_payload_bytes = payload.or(link.max_payload_bytes);
    let in_flight = upstream.max_inflight.and_then(|n| u16::try_from(n).ok());
    link.max_in_flight = in_flight.unwrap_or(link.max_in_flight);
    link
}

fn route(route: &RouteConfig) -> iotedge_bridge::Route {
    iotedge_bridge::Route {
        name: route.name.clone(),
        direction: route.direction,
        filter: route.filter.to_string(),
        qos: route.qos,
        local_prefix: route.local_prefix.clone(),
        remote_prefix: route.remote_prefix.clone(),
        topic: route.topic.clone(),
        on_full: route.on_full,
        max_bytes: route.max_bytes,
        max_messages: route.max_messages,
        priority: route.priority,
        rules: route.rules.clone(),
        keep_retain: route.keep_retain,
        compress: route.compress,
        decompress: route.decompress,
        idempotency: route.idempotency.clone(),
    }
}

/// Whether something changed that a reload does not put in force.
pub(super) fn needs_restart(old: &Config, new: &Config) -> bool {
    let still = |config: &Config| {
        let mut config = config.clone();
        config.gateway.names = Vec::new();
        config.users.clear();
        for listener in &mut config.listeners {
            listener.place = None;
            listener.auth = listener.auth.clone().without_policy();
            listener.certificate = None;
            listener.key = None;
            listener.client_ca = None;
            listener.crl = Vec::new();
        }
        for upstream in &mut config.upstreams {
            upstream.places.clear();
            if let Some(shadows) = &mut upstream.shadows {
                shadows.places.clear();
            }
        }
        config
    };
    still(old) != still(new)
}

/// What the shadow service may take.
pub(super) fn shadow_settings(config: &ShadowConfig) -> iotedge_shadow::Settings {
    let mut settings = iotedge_shadow::Settings::default();
    settings.limits.max_bytes = config.max_document_bytes;
    settings.limits.max_depth = config.max_depth;
    settings.limits.max_client_token_bytes = config.max_client_token_bytes;
    settings.max_thing_name = config.max_thing_name;
    settings.max_shadow_name = config.max_shadow_name;
    settings.max_in_flight = config.max_in_flight;
    settings.unused_lifetime = config.unused_lifetime.map(|d| d.as_secs());
    settings
}
