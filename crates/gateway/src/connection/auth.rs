//! What a connection asks the policies.

use iotedge_model::{Action, ClientId};
use iotedge_ports::{AuthRequest, Authorizer, ConnectFacts, Decision, Link};
use iotedge_telemetry::event;

use super::Peer;
use crate::Context;

/// Who asks the policies, for one connection.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    authorizer: &'a dyn Authorizer,
    peer: &'a Peer,
    client_id: &'a ClientId,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(context: &'a Context, peer: &'a Peer, client_id: &'a ClientId) -> Self {
        Self {
            authorizer: &*context.authorizer,
            peer,
            client_id,
        }
    }

    pub(crate) fn client_id(&self) -> &'a ClientId {
        self.client_id
    }

    /// Asks whether it may connect.
    pub(crate) fn ask_connect(&self, facts: ConnectFacts<'_>) -> bool {
        self.put(Action::Connect, self.client_id.as_str(), Some(facts))
    }

    /// Asks, and logs a denial with its explanation.
    pub(crate) fn ask(&self, action: Action, resource: &str) -> bool {
        self.put(action, resource, None)
    }

    fn put(&self, action: Action, resource: &str, connect: Option<ConnectFacts<'_>>) -> bool {
        let grant = self.peer.grant.as_ref().map(|slot| slot.current());
        let request = AuthRequest {
            source_ip: self.peer.remote.ip(),
            link: Link {
                secure: Some(self.peer.is_secure()),
                server_name: self.peer.server_name.as_deref(),
                grant: grant.as_ref(),
            },
            connect,
            ..AuthRequest::new(
                &self.peer.principal,
                self.client_id.as_str(),
                action,
                resource,
            )
        };
        match self.authorizer.authorize(&request) {
            Decision::Allow => true,
            Decision::Deny(why) => {
                tracing::warn!(
                    event = event::POLICY_DENIED,
                    principal_id = %self.peer.principal,
                    trace_id = %self.peer.trace,
                    client_id = %self.client_id,
                    action = %action,
                    resource,
                    "{why}"
                );
                false
            }
        }
    }
}
