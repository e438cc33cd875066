//! The clients, by the addresses of their `AWS_IoT_Client`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::shadow::{Limits, Shadow};
use super::types::AwsIotClient;
use crate::client::Client;

/// A client and what only this border knows of it.
pub(super) struct Entry {
    pub(super) client: Client,
    /// Send the application's user name, not the SDK's metrics.
    pub(super) disable_metrics: bool,
    packet_id: AtomicU16,
    shadow: Mutex<Shadow>,
}

impl Entry {
    pub(super) fn new(client: Client, disable_metrics: bool, limits: Limits) -> Self {
        Self {
            client,
            disable_metrics,
            packet_id: AtomicU16::new(1),
            shadow: Mutex::new(Shadow::new(limits)),
        }
    }

    /// What the client knows of its shadows. Not to be held while a callback runs.
    pub(super) fn shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Increments, then returns; 65,535 is followed by 1.
    pub(super) fn next_packet_id(&self) -> u16 {
        let next = |id: u16| if id == u16::MAX { 1 } else { id + 1 };
        match self
            .packet_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| Some(next(id)))
        {
            Ok(before) | Err(before) => next(before),
        }
    }
}

static CLIENTS: RwLock<BTreeMap<usize, Arc<Entry>>> = RwLock::new(BTreeMap::new());

/// The client at this address, if it was initialised.
pub(super) fn find(client: *const AwsIotClient) -> Option<Arc<Entry>> {
    find_address(client.addr())
}

/// As [`find`], for those who keep the address only.
pub(super) fn find_address(address: usize) -> Option<Arc<Entry>> {
    let clients = CLIENTS.read().unwrap_or_else(PoisonError::into_inner);
    clients.get(&address).cloned()
}

/// Keeps a client under its address. One that was there before is ended: its memory has been
/// given to another.
pub(super) fn put(client: *const AwsIotClient, entry: Entry) {
    let before = {
        let mut clients = CLIENTS.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.addr(), Arc::new(entry))
    };
    if let Some(before) = before {
        before.client.retire();
    }
}

/// Ends the client at this address, if there is one.
pub(super) fn remove(client: *const AwsIotClient) {
    let before = {
        let mut clients = CLIENTS.write().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&client.addr())
    };
    if let Some(before) = before {
        before.client.retire();
    }
}
