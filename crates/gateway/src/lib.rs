//! The device gateway: listeners, TLS handshakes, MQTT connections and HTTP requests.
//!
//! A connection is one task that owns its socket, its codec and the order of its acknowledgements;
//! it asks the Authorizer and calls the broker itself. A handshake runs in the connection's own
//! task under a deadline, so that accepting never waits. A panic in a connection closes that
//! connection and no other.
#![forbid(unsafe_code)]

mod authenticate;
mod config;
mod connection;
mod http;
mod limits;
mod listener;
mod principal;
mod stage;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iotedge_ports::{Authorizer, BrokerPort, HttpMount};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{Address, Auth, Listener, Speaks, Tls};
pub use connection::standing_text;
pub use limits::{Limits, Profile};
pub use listener::BindError;
pub use principal::certificate_id;
pub use websocket::frame;

/// What connections need of the rest of the house.
#[derive(Clone)]
pub struct Context {
    /// The broker.
    pub broker: Arc<dyn BrokerPort>,
    /// The policies.
    pub authorizer: Arc<dyn Authorizer>,
    /// Services below HTTP paths, asked in order.
    pub mounts: Vec<Arc<dyn HttpMount>>,
    /// Limits of every connection.
    pub limits: Limits,
}

/// Listeners that are bound and not yet accepting.
pub struct Gateway {
    context: Context,
    listeners: Vec<listener::Bound>,
}

/// Listeners at work.
pub struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Gateway {
    /// Binds every listener; all of them or none.
    pub async fn bind(context: Context, listeners: Vec<Listener>) -> Result<Self, BindError> {
        let mut bound = Vec::with_capacity(listeners.len());
        for config in listeners {
            bound.push(listener::Bound::new(config).await?);
        }
        Ok(Self {
            context,
            listeners: bound,
        })
    }

    /// Begins to accept.
    pub fn start(self) -> Running {
        let (stop, stopped) = watch::channel(false);
        let addresses = self.listeners.iter().filter_map(|l| l.address()).collect();
        let tasks = self
            .listeners
            .into_iter()
            .map(|bound| {
                let context = Arc::new(Context {
                    limits: bound.limits(&self.context.limits),
                    ..self.context.clone()
                });
                tokio::spawn(bound.run(context, stopped.clone()))
            })
            .collect();
        Running {
            stop,
            tasks,
            addresses,
        }
    }
}

impl Running {
    /// The addresses that were bound, in the order of the configuration, Unix sockets left out.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets connections end until `deadline` and cuts those that have not. The
    /// broker's `stop` is what tells them to.
    pub async fn stop(self, deadline: Duration) {
        self.stop.send_replace(true);
        let aborts: Vec<_> = self.tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = async {
            for task in self.tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a listener ended badly");
                }
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!("connections were still busy after {deadline:?} and are cut");
            // With a listener's task go its connections.
            for abort in aborts {
                abort.abort();
            }
        }
    }
}
