//! Who is here by a certificate that nobody has registered: what a listener with `policy` lets it do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use iotedge_identity::{ClientCas, Guest};
use iotedge_policy::CertificateNames;
use iotedge_ports::Grant;

use super::compiled::names_of;

/// What is inside the grant of a guest.
pub(super) struct Pass {
    /// By which it came.
    pub(super) listener: Arc<str>,
    pub(super) guest: Guest,
    pub(super) names: CertificateNames,
}

/// The CAs of each listener that lets guests in, by its address.
pub type GuestRooms = HashMap<Arc<str>, ClientCas>;

/// All who were let in, and who may be.
#[derive(Default)]
pub(super) struct Guests {
    rooms: ArcSwap<GuestRooms>,
    here: Mutex<Vec<Weak<Pass>>>,
}

impl Guests {
    pub(super) fn set_rooms(&self, rooms: GuestRooms) {
        self.rooms.store(Arc::new(rooms));
    }

    /// Looks at who has come to a listener.
    pub(super) fn welcome(
        &self,
        listener: &str,
        check: impl FnOnce(&ClientCas) -> Option<Guest>,
    ) -> Option<Grant> {
        let rooms = self.rooms.load();
        let (listener, cas) = rooms.get_key_value(listener)?;
        let guest = check(cas)?;
        let pass = Arc::new(Pass {
            listener: listener.clone(),
            names: names_of(&guest.facts),
            guest,
        });
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.len() == here.capacity() {
            // Before it grows.
            here.retain(|pass| pass.strong_count() > 0);
        }
        here.push(Arc::downgrade(&pass));
        Some(Grant(pass))
    }

    /// Whether its listener still lets guests in.
    pub(super) fn has_room(&self, pass: &Pass) -> bool {
        self.rooms.load().contains_key(&pass.listener)
    }

    pub(super) fn here(&self) -> Vec<Arc<Pass>> {
        let here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The pass that a grant is, if it is one.
pub(super) fn pass(grant: &Grant) -> Option<Arc<Pass>> {
    grant.0.clone().downcast().ok()
}
