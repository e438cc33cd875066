//! Policy decisions of one connection, remembered while no policy changes.

use std::collections::HashMap;

use iotedge_model::{Action, ClientId, Topic};
use iotedge_ports::{AuthRequest, Authorizer, ConnectFacts, Decision, Link};
use iotedge_telemetry::event;

use super::Peer;
use crate::Context;

/// Topics remembered for each action.
const REMEMBERED: usize = 128;
/// Longer ones are asked each time: AWS IoT's limit, which real topics keep.
const REMEMBERED_BYTES: usize = 256;

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

/// What was decided for the topics of one connection.
pub(crate) struct Decisions {
    generation: u64,
    /// Nothing while there are no messages.
    known: Option<Box<Known>>,
}

#[derive(Default)]
struct Known {
    publish: Decided,
    receive: Decided,
}

/// What was decided about one action.
#[derive(Default)]
struct Decided {
    topics: HashMap<Topic, bool>,
    /// The last one, for runs of messages on one topic.
    last: Option<(Topic, bool)>,
}

impl Decisions {
    pub(crate) fn new(authorizer: &dyn Authorizer, peer: &Peer) -> Self {
        Self {
            generation: generation(authorizer, peer),
            known: None,
        }
    }

    /// Forgets what was decided under other policies; once for each batch is enough.
    pub(crate) fn refresh(&mut self, authorizer: &dyn Authorizer, peer: &Peer) {
        let generation = generation(authorizer, peer);
        if generation != self.generation {
            self.generation = generation;
            self.known = None;
        }
    }

    pub(crate) fn may_publish(&mut self, asker: Asker<'_>, topic: &Topic) -> bool {
        let known = self.known.get_or_insert_default();
        known.publish.decide(asker, Action::Publish, topic)
    }

    pub(crate) fn may_receive(&mut self, asker: Asker<'_>, topic: &Topic) -> bool {
        let known = self.known.get_or_insert_default();
        known.receive.decide(asker, Action::Receive, topic)
    }
}

/// Grows when the policies or what was granted change.
fn generation(authorizer: &dyn Authorizer, peer: &Peer) -> u64 {
    let granted = peer.grant.as_ref().map_or(0, |slot| slot.generation());
    authorizer.generation().wrapping_add(granted)
}

impl Decided {
    fn decide(&mut self, asker: Asker<'_>, action: Action, topic: &Topic) -> bool {
        if let Some((last, allowed)) = &self.last {
            if last.is_same(topic) {
                return *allowed;
            }
        }
        let known = self.topics.get(topic).copied();
        let allowed = known.unwrap_or_else(|| asker.ask(action, topic.as_str()));
        if known.is_none() {
            self.remember(topic, allowed);
        }
        self.last = Some((topic.clone(), allowed));
        allowed
    }

    fn remember(&mut self, topic: &Topic, allowed: bool) {
        if topic.as_str().len() > REMEMBERED_BYTES {
            return;
        }
        if self.topics.len() >= REMEMBERED {
            self.topics.clear();
        }
        self.topics.insert(topic.clone(), allowed);
    }
}
