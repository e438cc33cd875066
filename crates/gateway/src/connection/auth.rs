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
        }
    }

    pub(crate) fn may_publish(&mut self, topic: &Topic) -> bool {
        if let Some(known) = self.publish.get(topic) {
            return *known;
        }
        let allowed = self.ask(Action::Publish, topic.as_str());
        remember(&mut self.publish, topic, allowed);
        allowed
    }

    pub(crate) fn may_receive(&mut self, topic: &Topic) -> bool {
        if let Some(known) = self.receive.get(topic) {
            return *known;
        }
        let allowed = self.ask(Action::Receive, topic.as_str());
        remember(&mut self.receive, topic, allowed);
        allowed
    }
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
