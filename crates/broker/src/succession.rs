//! One connection after another of the same client id.

use std::sync::Arc;

use iotedge_model::{ClientId, Principal};
use iotedge_ports::{CloseReason, Wake};

use crate::Shared;
use crate::session::Session;

impl Session {
    /// Decision 7: without proof of who it is, nobody gets a proven principal's session.
    pub(crate) fn is_open_to(&self, principal: &Principal) -> bool {
        !principal.is_anonymous() || self.principal.is_anonymous()
    }
}

impl Shared {
    /// What [`crate::Broker`] says of it. A connection that already makes way for another, or whose
    /// successor would come too soon, is not asked.
    pub(crate) fn make_way(
        &self,
        client_id: &ClientId,
        principal: &Principal,
        successor: Arc<dyn Wake>,
    ) -> bool {
        let mut core = self.lock();
        let mono = self.clock.now().mono;
        let too_soon = core
            .pace
            .as_ref()
            .is_some_and(|p| !p.has_room(client_id, mono));
        if core.stopping || too_soon {
            return false;
        }
        let Some(key) = core.by_client.get(client_id).copied() else {
            return false;
        };
        let Some(session) = core.sessions.get_mut(key) else {
            return false;
        };
        if !session.is_open_to(principal) {
            return false;
        }
        let Some(live) = session.live.as_mut().filter(|l| l.successor.is_none()) else {
            return false;
        };
        live.successor = Some(successor);
        live.handle.close(CloseReason::SessionTakenOver);
        true
    }
}
