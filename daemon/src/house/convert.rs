//! From the configuration to what each room is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use iotedge_gateway::{Auth, Listener};
use iotedge_identity::{ClientAuth, Identity, TlsOptions};
use iotedge_model::{Principal, PrincipalKind};

use crate::config::{
    Config, Direction, ListenerAuth, ListenerConfig, ListenerProtocol, RouteConfig, UpstreamConfig,
};

pub(super) fn broker_limits(config: &Config) -> iotedge_broker::Limits {
    let broker = &config.broker;
    iotedge_broker::Limits {
        max_connections: broker.max_connections,
        max_inflight: broker.max_inflight,
        max_queued_messages: broker.max_queued_messages,
        max_queued_bytes: broker.max_queued_bytes,
        max_subscriptions: broker.max_subscriptions,
        max_topic_levels: broker.max_topic_levels,
        retained_max: broker.retained_max,
        ..iotedge_broker::Limits::default()
    }
}

pub(super) fn gateway_limits(config: &Config) -> iotedge_gateway::Limits {
    let broker = &config.broker;
    iotedge_gateway::Limits {
        connect_timeout: broker.connect_timeout,
        max_packet_bytes: broker.max_packet_bytes,
        max_payload_bytes: broker.max_payload_bytes,
        max_inflight: usize::from(broker.max_inflight),
        max_inflight_bytes: broker.max_inflight_bytes,
        max_topic_levels: broker.max_topic_levels,
        session_expiry: broker.session_expiry,
        ..iotedge_gateway::Limits::default()
    }
}

pub(super) fn listeners(
    config: &Config,
    identity: &Arc<Identity>,
) -> Result<Vec<Listener>, Vec<String>> {
    let mut listeners = Vec::with_capacity(config.listeners.len());
    let mut problems = Vec::new();
    for listener in &config.listeners {
        match one_listener(listener, identity) {
            Ok(listener) => listeners.push(listener),
            Err(reason) => {
                let place = listener
                    .place
                    .as_ref()
                    .map(|p| format!("{p}: "))
                    .unwrap_or_default();
                problems.push(format!("{place}listener: {reason}"));
            }
        }
    }
    if problems.is_empty() {
        Ok(listeners)
    } else {
        Err(problems)
    }
}

fn one_listener(config: &ListenerConfig, identity: &Identity) -> Result<Listener, String> {
    let (protocol, alpn): (_, &[&[u8]]) = match config.protocol {
        ListenerProtocol::Mqtt | ListenerProtocol::Mqtts => (
            iotedge_gateway::ListenerProtocol::Mqtt,
            &[b"x-amzn-mqtt-ca", b"mqtt"],
        ),
        ListenerProtocol::Http | ListenerProtocol::Https => (
            iotedge_gateway::ListenerProtocol::Http,
            &[b"x-amzn-http-ca", b"http/1.1"],
        ),
    };
    let auth = match &config.auth {
        ListenerAuth::Certificate => Auth::Certificate,
        ListenerAuth::Anonymous { .. } => Auth::Anonymous(Arc::new(Principal {
            kind: PrincipalKind::Anonymous {
                listener: Arc::from(config.address.to_string()),
            },
        })),
    };
    let tls: Option<iotedge_gateway::Tls> = if config.protocol.is_tls() {
        let options = TlsOptions {
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            client_ca: config.client_ca.clone(),
            client_auth: match auth {
                Auth::Certificate => ClientAuth::Required,
                Auth::Anonymous(_) => ClientAuth::None,
            },
            alpn: alpn.iter().map(|p| p.to_vec()).collect(),
            names: Vec::new(),
        };
        let server = identity
            .server_config(&options)
            .map_err(|e| e.to_string())?;
        Some(Arc::new(move || server.clone()))
    } else {
        None
    };
    Ok(Listener {
        address: config.address,
        protocol,
        tls,
        auth,
        max_connections: config.max_connections,
    })
}

/// The names of all outbound queues.
pub(super) fn route_names(config: &Config) -> HashSet<String> {
    let mut names = HashSet::new();
    for upstream in &config.upstreams {
        for route in upstream
            .routes
            .iter()
            .filter(|r| r.direction == Direction::Out)
        {
            names.insert(format!("{}/{}", upstream.name, route.name));
        }
    }
    names
}

/// Every upstream's link.
pub(super) fn upstreams(config: &Config) -> Vec<iotedge_bridge::Config> {
    config
        .upstreams
        .iter()
        .map(|upstream| link(upstream, config))
        .collect()
}

fn link(upstream: &UpstreamConfig, config: &Config) -> iotedge_bridge::Config {
    let seconds = upstream.keep_alive.as_secs().clamp(1, u64::from(u16::MAX));
    iotedge_bridge::Config {
        name: upstream.name.clone(),
        url: upstream.url.to_string(),
        client_id: upstream.client_id.to_string(),
        ca: upstream.ca.clone(),
        certificate: upstream.certificate.clone(),
        key: upstream.key.clone(),
        alpn: upstream.alpn.clone(),
        username: None,
        password: None,
        keep_alive: u16::try_from(seconds).unwrap_or(u16::MAX),
        clean_session: false,
        max_in_flight: config.broker.max_inflight,
        max_packet_bytes: config.broker.max_packet_bytes,
        // Of clients it may be shorter than what a distant link needs.
        connect_timeout: config.broker.connect_timeout.max(Duration::from_secs(10)),
        backoff: iotedge_bridge::Backoff::default(),
        routes: upstream.routes.iter().map(route).collect(),
    }
}

fn route(route: &RouteConfig) -> iotedge_bridge::Route {
    iotedge_bridge::Route {
        name: route.name.clone(),
        direction: match route.direction {
            Direction::Out => iotedge_bridge::Direction::Out,
            Direction::In => iotedge_bridge::Direction::In,
        },
        filter: route.filter.to_string(),
        qos: route.qos,
        local_prefix: route.local_prefix.clone(),
        remote_prefix: route.remote_prefix.clone(),
        on_full: route.on_full,
        max_bytes: route.max_bytes,
        max_messages: route.max_messages,
    }
}

/// Whether something changed that a reload does not put in force.
pub(super) fn needs_restart(old: &Config, new: &Config) -> bool {
    let still = |config: &Config| {
        let mut config = config.clone();
        for listener in &mut config.listeners {
            listener.place = None;
            if let ListenerAuth::Anonymous { policy } = &mut listener.auth {
                policy.clear();
            }
        }
        config
    };
    still(old) != still(new)
}
