//! Policy decisions of one connection, remembered while no policy changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use iotedge_model::{Action, Principal, Topic, TraceId};
use iotedge_ports::{AuthRequest, Authorizer, Decision};
use iotedge_telemetry::event;

/// Topics remembered for each action.
const REMEMBERED: usize = 128;
/// Longer ones are asked each time: AWS IoT's limit, which real topics keep.
const REMEMBERED_BYTES: usize = 256;

pub(crate) struct Permissions {
    authorizer: Arc<dyn Authorizer>,
    principal: Arc<Principal>,
    client_id: Arc<str>,
    source_ip: Option<IpAddr>,
    trace: TraceId,
    generation: u64,
    publish: HashMap<Topic, bool>,
    receive: HashMap<Topic, bool>,
    /// The last of each, for runs of messages on one topic.
    last_published: Option<(Topic, bool)>,
    last_received: Option<(Topic, bool)>,
}

impl Permissions {
    pub(crate) fn new(
        authorizer: Arc<dyn Authorizer>,
        principal: Arc<Principal>,
        client_id: Arc<str>,
        source_ip: Option<IpAddr>,
        trace: TraceId,
    ) -> Self {
        let generation = authorizer.generation();
        Self {
            authorizer,
            principal,
            client_id,
            source_ip,
            trace,
            generation,
            publish: HashMap::new(),
            receive: HashMap::new(),
            last_published: None,
            last_received: None,
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Asks, and logs a denial with its explanation.
    pub(crate) fn ask(&self, action: Action, resource: &str) -> bool {
        let request = AuthRequest {
            principal: &self.principal,
            client_id: &self.client_id,
            source_ip: self.source_ip,
            action,
            resource,
        };
        match self.authorizer.authorize(&request) {
            Decision::Allow => true,
            Decision::Deny(why) => {
                tracing::warn!(
                    event = event::POLICY_DENIED,
                    principal_id = %self.principal,
                    trace_id = %self.trace,
                    client_id = %self.client_id,
                    action = %action,
                    resource,
                    "{why}"
                );
                false
            }
        }
    }

    /// Forgets what was decided under other policies; once for each batch is enough.
    pub(crate) fn refresh(&mut self) {
        let generation = self.authorizer.generation();
        if generation != self.generation {
            self.generation = generation;
            self.publish.clear();
            self.receive.clear();
            self.last_published = None;
            self.last_received = None;
        }
    }

    pub(crate) fn may_publish(&mut self, topic: &Topic) -> bool {
        if let Some(allowed) = again(&self.last_published, topic) {
            return allowed;
        }
        let known = self.publish.get(topic).copied();
        let allowed = known.unwrap_or_else(|| self.ask(Action::Publish, topic.as_str()));
        if known.is_none() {
            remember(&mut self.publish, topic, allowed);
        }
        self.last_published = Some((topic.clone(), allowed));
        allowed
    }

    pub(crate) fn may_receive(&mut self, topic: &Topic) -> bool {
        if let Some(allowed) = again(&self.last_received, topic) {
            return allowed;
        }
        let known = self.receive.get(topic).copied();
        let allowed = known.unwrap_or_else(|| self.ask(Action::Receive, topic.as_str()));
        if known.is_none() {
            remember(&mut self.receive, topic, allowed);
        }
        self.last_received = Some((topic.clone(), allowed));
        allowed
    }
}

fn again(last: &Option<(Topic, bool)>, topic: &Topic) -> Option<bool> {
    last.as_ref()
        .filter(|(last, _)| last.is_same(topic))
        .map(|(_, allowed)| *allowed)
}

fn remember(map: &mut HashMap<Topic, bool>, topic: &Topic, allowed: bool) {
    if topic.as_str().len() > REMEMBERED_BYTES {
        return;
    }
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map.insert(topic.clone(), allowed);
}
