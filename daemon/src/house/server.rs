//! Keeps the gateway's own server certificate fit: names and addresses of the host come and go, and it
//! comes to its end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use iotedge_identity::{Identity, host_names};
use iotedge_ports::Clock as _;
use iotedge_telemetry::event;

use super::Rooms;
use crate::config::Config;

/// Milliseconds between two looks at the host's names.
const LOOK_EVERY: u64 = 10_000;
/// Milliseconds between two looks at the certificate, whatever the names.
const CHECK_EVERY: u64 = 3_600_000;

pub(super) struct ServerCare {
    /// Whether any listener shows it.
    used: bool,
    more: Mutex<Vec<String>>,
    /// The names of the last look.
    seen: Mutex<BTreeSet<String>>,
    next_look: AtomicU64,
    next_check: AtomicU64,
    /// One at a time.
    working: Arc<AtomicBool>,
}

impl ServerCare {
    pub(super) fn new(config: &Config) -> Self {
        let own = |l: &crate::config::ListenerConfig| l.is_tls() && l.certificate.is_none();
        Self {
            used: config.listeners.iter().any(own),
            more: Mutex::new(config.gateway.names.clone()),
            seen: Mutex::new(host_names(&config.gateway.names)),
            next_look: AtomicU64::new(0),
            next_check: AtomicU64::new(CHECK_EVERY),
            working: Arc::default(),
        }
    }

    /// After a reload.
    pub(super) fn set_names(&self, config: &Config) {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        more.clone_from(&config.gateway.names);
    }

    /// Has the certificate made again where it must be. Once a second or so.
    pub(super) fn tick(&self, rooms: &Rooms) {
        let now = rooms.clock.now().mono;
        if !self.used || now < self.next_look.load(Ordering::Relaxed) {
            return;
        }
        self.next_look.store(now + LOOK_EVERY, Ordering::Relaxed);
        let more = self
            .more
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let names = host_names(&more);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == names && now < self.next_check.load(Ordering::Relaxed) {
            return;
        }
        if self.working.swap(true, Ordering::Acquire) {
            return;
        }
        *seen = names;
        self.next_check.store(now + CHECK_EVERY, Ordering::Relaxed);
        let (identity, working) = (rooms.identity.clone(), self.working.clone());
        // It waits for the disk.
        tokio::task::spawn_blocking(move || {
            renew(&identity, &more);
            working.store(false, Ordering::Release);
        });
    }
}

fn renew(identity: &Identity, more: &[String]) {
    match identity.renew_server(more) {
        Ok(true) => tracing::info!(
            event = event::CERTIFICATE,
            "new connections are shown a new server certificate"
        ),
        Ok(false) => {}
        Err(error) => tracing::error!(
            event = event::CERTIFICATE,
            "the server certificate could not be made again, and stays: {error}"
        ),
    }
}
