//! Policy decisions of one connection, remembered while no policy changes.

use std::collections::HashMap;

use iotedge_model::{Action, ClientId, Topic};
use iotedge_ports::{AuthRequest, Authorizer, Decision};
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

    /// Asks, and logs a denial with its explanation.
    pub(crate) fn ask(&self, action: Action, resource: &str) -> bool {
        let request = AuthRequest {
            principal: &self.peer.principal,
            client_id: self.client_id.as_str(),
            source_ip: self.peer.remote.ip(),
            action,
            resource,
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
    pub(crate) fn new(authorizer: &dyn Authorizer) -> Self {
        Self {
            generation: authorizer.generation(),
            known: None,
        }
    }

    /// Forgets what was decided under other policies; once for each batch is enough.
    pub(crate) fn refresh(&mut self, authorizer: &dyn Authorizer) {
        let generation = authorizer.generation();
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
