//! The rules in force, and what they do with a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use iotedge_model::{DropReason, Message, MessageId, Now, Protocol, Source, UnixMillis};
use iotedge_ports::{RuleEngine, RuleOutput, ShadowReader, ThingFacts};
use iotedge_sql::{Input, Payload, Variables, Via};
use iotedge_telemetry::{METRICS, Metric, event};

use crate::document::check_topic;
use crate::failure::{self, Failure};
use crate::host::GatewayHost;
use crate::index::Index;
use crate::rule::{Action, Republish, Rule};

/// The rules of one moment.
#[derive(Default)]
struct RuleSet {
    rules: Vec<Arc<Rule>>,
    /// Enabled rules by their FROM.
    index: Index,
    /// Enabled rules by name, for `$aws/rules/NAME/…`.
    by_name: HashMap<Arc<str>, usize>,
}

impl RuleSet {
    fn new(rules: Vec<Arc<Rule>>) -> Self {
        let mut index = Index::default();
        let mut by_name = HashMap::new();
        for (n, rule) in rules.iter().enumerate().filter(|(_, r)| r.is_enabled()) {
            by_name.insert(rule.name().clone(), n);
            let filter = rule.definition.statement.as_ref().and_then(|s| s.filter());
            if let Some(filter) = filter {
                index.insert(filter.as_str(), n);
            }
        }
        Self {
            rules,
            index,
            by_name,
        }
    }

    /// The rules that a topic concerns. A message on `$aws/rules/NAME/…` is for that rule alone.
    fn matching(&self, topic: &str) -> Vec<usize> {
        match topic.strip_prefix("$aws/rules/") {
            None => self.index.matching(topic),
            Some(rest) => {
                let name = rest.split('/').next().unwrap_or("");
                self.by_name.get(name).copied().into_iter().collect()
            }
        }
    }
}

/// What a change of the rules changed, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// New ones.
    pub added: Vec<Arc<str>>,
    /// Those whose document differs.
    pub changed: Vec<Arc<str>>,
    /// Gone ones.
    pub removed: Vec<Arc<str>>,
}

/// All rules. Evaluates on an immutable snapshot, so that a change never waits for a message nor a
/// message for a change.
pub struct Engine {
    set: ArcSwap<RuleSet>,
    account_id: String,
    host: GatewayHost,
}

impl Engine {
    /// No rules yet. `account_id` is what `accountid()` says; without `shadows`
    /// `get_thing_shadow()` is Undefined.
    pub fn new(account_id: &str, shadows: Option<Arc<dyn ShadowReader>>) -> Self {
        Self {
            set: ArcSwap::default(),
            account_id: account_id.to_owned(),
            host: GatewayHost {
                shadows,
                things: None,
            },
        }
    }

    /// With a registry for `get_registry_data()`; it is Undefined without one.
    #[must_use]
    pub fn with_things(mut self, things: Arc<dyn ThingFacts>) -> Self {
        self.host.things = Some(things);
        self
    }

    /// Puts these rules in force, all at once. A rule of the same name keeps its counters. Of two
    /// of one name the later wins; [`crate::load_dir`] cannot give such.
    pub fn replace(&self, rules: Vec<Rule>) -> Changes {
        let old = self.set.load_full();
        let find = |name: &str| old.rules.iter().find(|r| &**r.name() == name);
        let mut changes = Changes::default();
        let mut new: Vec<Arc<Rule>> = Vec::with_capacity(rules.len());
        for mut rule in rules {
            match find(rule.name()) {
                None => changes.added.push(rule.name().clone()),
                Some(before) => {
                    rule.counters = before.counters.clone();
                    if before.definition.source != rule.definition.source {
                        changes.changed.push(rule.name().clone());
                    }
                }
            }
            new.push(Arc::new(rule));
        }
        for before in &old.rules {
            if !new.iter().any(|r| r.name() == before.name()) {
                changes.removed.push(before.name().clone());
            }
        }
        self.set.store(Arc::new(RuleSet::new(new)));
        changes
    }

    /// The rules in force, disabled ones included.
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        self.set.load().rules.clone()
    }

    fn run(&self, rule: &Rule, input: &Input<'_>, message: &Message, out: &mut RuleOutput) {
        let count = |c: &AtomicU64| c.fetch_add(1, Ordering::Relaxed);
        let Some(statement) = &rule.definition.statement else {
            return;
        };
        if !statement.takes(input) {
            return;
        }
        let counters = &rule.counters;
        count(&counters.topic_matched);
        let protocol = message.source.protocol();
        METRICS.count(Metric::TopicMatch, protocol);
        let mut failures = Vec::new();
        match statement.evaluate(input) {
            Ok(None) => return,
            Ok(Some(payload)) => {
                count(&counters.executed);
                METRICS.count(Metric::RulesExecuted, protocol);
                for Action::Republish(action) in &rule.definition.actions {
                    match self.republish(rule, action, input, message, payload.clone()) {
                        Ok(derived) => {
                            count(&counters.succeeded);
                            METRICS.count(Metric::RuleActionSuccess, protocol);
                            out.published.push(derived);
                        }
                        Err(failure) => failures.push(failure),
                    }
                }
            }
            Err(error) => {
                count(&counters.failed_sql);
                failures.push(Failure {
                    action: "SQL",
                    resource: rule.sql().to_owned(),
                    message: error.to_string(),
                });
            }
        }
        if failures.is_empty() {
            return;
        }
        for failure in &failures {
            report(rule, message, protocol, failure);
        }
        if let Some(Action::Republish(action)) = &rule.definition.error_action {
            let payload = failure::document(rule.name(), message, &failures);
            match self.republish(rule, action, input, message, payload) {
                Ok(derived) => out.published.push(derived),
                Err(failure) => report(rule, message, protocol, &failure),
            }
        }
    }

    fn republish(
        &self,
        rule: &Rule,
        action: &Republish,
        input: &Input<'_>,
        message: &Message,
        payload: Bytes,
    ) -> Result<Message, Failure> {
        let failed = |resource: &str, why: String| Failure {
            action: "RepublishAction",
            resource: resource.to_owned(),
            message: why,
        };
        let text = action.topic.evaluate(input).map_err(|error| {
            rule.counters
                .failed_template
                .fetch_add(1, Ordering::Relaxed);
            failed("", format!("the topic cannot be made: {error}"))
        })?;
        let topic = check_topic(&text).map_err(|problem| {
            rule.counters.failed_topic.fetch_add(1, Ordering::Relaxed);
            METRICS.dropped(DropReason::BadTopic, 1);
            failed(&text, format!("the topic {problem}"))
        })?;
        Ok(Message {
            id: MessageId(0),
            trace: message.trace,
            hops: message.hops.saturating_add(1),
            principal: message.principal.clone(),
            client_id: message.client_id.clone(),
            source_ip: message.source_ip,
            source: Source::Rule {
                name: rule.name().clone(),
            },
            topic,
            payload,
            qos: action.qos,
            retain: false,
            accepted_at: UnixMillis(0),
            trusted: false,
            expiry: None,
            properties: None,
        })
    }
}

/// Counts and logs what failed.
fn report(rule: &Rule, message: &Message, protocol: Protocol, failure: &Failure) {
    METRICS.count(Metric::RuleActionFailure, protocol);
    tracing::warn!(
        event = event::REPUBLISH_FAILURE,
        rule = &**rule.name(),
        trace_id = %message.trace,
        principal_id = %message.principal,
        topic = message.topic.as_str(),
        client_id = &*message.client_id,
        action = failure.action,
        resource = failure.resource,
        "{}",
        failure.message
    );
}

/// A message that a rule made came the way its original did; `clientid()` is known where that had
/// one.
fn via(message: &Message) -> Via {
    match &message.source {
        Source::Mqtt | Source::WebSocket => Via::Mqtt,
        Source::Rule { .. } if !message.client_id.is_empty() => Via::Mqtt,
        _ => Via::Other,
    }
}

impl RuleEngine for Engine {
    fn concern(&self, topic: &str) -> bool {
        !self.set.load().matching(topic).is_empty()
    }

    fn evaluate(&self, message: &Message, now: &Now, out: &mut RuleOutput) {
        let set = self.set.load();
        let matching = set.matching(message.topic.as_str());
        if matching.is_empty() {
            return;
        }
        let payload = Payload::new(message.payload.clone());
        let principal = message.principal.id();
        for rule in matching.into_iter().filter_map(|n| set.rules.get(n)) {
            let input = Input {
                topic: message.topic.as_str(),
                payload: &payload,
                client_id: &message.client_id,
                principal: &principal,
                via: via(message),
                now: now.wall,
                account_id: &self.account_id,
                trace: message.trace,
                rule_name: rule.name(),
                properties: message.properties.as_deref(),
                source_ip: message.source_ip,
                variables: &Variables::default(),
                host: &self.host,
            };
            self.run(rule, &input, message, out);
        }
    }
}
