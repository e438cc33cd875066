//! The rules in force, and what they do with a message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use iotedge_model::{DropReason, Message, MessageId, Now, Source, UnixMillis};
use iotedge_ports::{RuleEngine, RuleOutput, ShadowReader, Target, ThingFacts};
use iotedge_sql::{Input, Payload, Variables, Via};
use iotedge_telemetry::{METRICS, Metric, event};

use crate::action::{Invalid, Rendered};
use crate::counters::{FailureReason, MAX_ACTIONS};
use crate::failure::{self, Failure};
use crate::host::GatewayHost;
use crate::index::Index;
use crate::outbox::Outboxes;
use crate::rule::Rule;
use crate::work::Work;

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
    /// Weak: they hold the broker, which holds the rules.
    outboxes: OnceLock<Weak<Outboxes>>,
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
            outboxes: OnceLock::new(),
        }
    }

    /// Gives its rules' actions outboxes, which the caller keeps; once, before the first rules.
    /// Without, every action that needs one fails.
    pub fn bind_outboxes(self: &Arc<Self>, outboxes: &Arc<Outboxes>) {
        outboxes.bind(self);
        if self.outboxes.set(Arc::downgrade(outboxes)).is_err() {
            tracing::error!("outboxes were bound twice; the first stay");
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
        let outboxes = self.outboxes.get().and_then(Weak::upgrade);
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
            if let Some(outboxes) = &outboxes {
                rule.outboxes = outboxes.attach(&rule);
            }
            new.push(Arc::new(rule));
        }
        for before in &old.rules {
            if !new.iter().any(|r| r.name() == before.name()) {
                changes.removed.push(before.name().clone());
            }
        }
        if let Some(outboxes) = &outboxes {
            outboxes.keep(&new);
        }
        self.set.store(Arc::new(RuleSet::new(new)));
        changes
    }

    /// The rules in force, disabled ones included.
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        self.set.load().rules.clone()
    }

    /// The rule of this name, disabled or not.
    pub(crate) fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        let set = self.set.load();
        set.rules.iter().find(|r| &**r.name() == name).cloned()
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
            Ok(None) => {
                told(rule, message, "its WHERE does not let the message through");
                return;
            }
            Ok(Some(payload)) => {
                told(rule, message, "the rule is executed");
                count(&counters.executed);
                METRICS.count(Metric::RulesExecuted, protocol);
                for number in 0..rule.definition.actions.len() {
                    match self.carry(rule, number, input, message, &payload) {
                        Ok(made) => made.into_output(out),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
            Err(error) => {
                count(&counters.failed_sql);
                METRICS.count(Metric::RuleActionFailure, protocol);
                let failure = Failure {
                    action: "SQL",
                    resource: rule.sql().to_owned(),
                    message: error.to_string(),
                };
                report(rule, message, "SQL", &failure);
                failures.push(failure);
            }
        }
        if !failures.is_empty() {
            if let Some(made) = self.error_action(rule, input, message, &failures) {
                made.into_output(out);
            }
        }
    }

    /// What the error action makes of these failures; `None` where there is none, or it fails too.
    fn error_action(
        &self,
        rule: &Rule,
        input: &Input<'_>,
        message: &Message,
        failures: &[Failure],
    ) -> Option<Made> {
        rule.definition.error_action.as_ref()?;
        let original = input.payload.bytes();
        let document = failure::document(rule.name(), message, original, failures);
        self.carry(rule, MAX_ACTIONS, input, message, &document)
            .ok()
    }

    /// What the error action makes of an action that failed long after its message was accepted.
    pub(crate) fn late_error_action(
        &self,
        rule: &Rule,
        message: &Message,
        original: Bytes,
        failure: &Failure,
    ) -> Option<Made> {
        let payload = Payload::new(original);
        let principal = message.principal.id();
        let variables = Variables::default();
        let input = self.input(rule, message, &payload, &principal, &variables);
        if let Some(statement) = &rule.definition.statement {
            // For the variables that it sets; what else comes of it was handed over long ago.
            drop(statement.evaluate(&input));
        }
        self.error_action(rule, &input, message, std::slice::from_ref(failure))
    }

    fn input<'a>(
        &'a self,
        rule: &'a Rule,
        message: &'a Message,
        payload: &'a Payload,
        principal: &'a str,
        variables: &'a Variables,
    ) -> Input<'a> {
        Input {
            topic: message.topic.as_str(),
            payload,
            client_id: &message.client_id,
            principal,
            via: via(message),
            now: message.accepted_at,
            account_id: &self.account_id,
            trace: message.trace,
            rule_name: rule.name(),
            properties: message.properties.as_deref(),
            source_ip: message.source_ip,
            variables,
            host: &self.host,
        }
    }

    /// Fills one action in. A failure is counted and logged.
    fn carry(
        &self,
        rule: &Rule,
        number: usize,
        input: &Input<'_>,
        message: &Message,
        output: &Bytes,
    ) -> Result<Made, Failure> {
        let (name, made) = match rule.action(number) {
            None => ("SQL", Err(Invalid::NoOutbox)),
            Some(action) => (
                action.name(),
                action
                    .render(input, output)
                    .and_then(|rendered| make(rule, number, rendered, input, message, output)),
            ),
        };
        let counters = rule.counters.action(number);
        let protocol = message.source.protocol();
        let error = match made {
            Ok(made) => {
                // The others are done when their outbox says so.
                if !matches!(&made, Made::Handed(Target::Outbox(_), _)) {
                    rule.counters.succeeded.fetch_add(1, Ordering::Relaxed);
                    counters.success(Duration::ZERO);
                    METRICS.count(Metric::RuleActionSuccess, protocol);
                    succeeded(rule, message, name);
                }
                return Ok(made);
            }
            Err(error) => error,
        };
        let (reason, resource) = match &error {
            Invalid::Template { .. } => (&rule.counters.failed_template, ""),
            Invalid::Topic { text, .. } => {
                METRICS.dropped(DropReason::BadTopic, 1);
                (&rule.counters.failed_topic, text.as_str())
            }
            _ => (&rule.counters.failed_action, ""),
        };
        reason.fetch_add(1, Ordering::Relaxed);
        counters.failure(FailureReason::Template);
        METRICS.count(Metric::RuleActionFailure, protocol);
        let failure = Failure {
            action: failure::names(name).0,
            resource: resource.to_owned(),
            message: error.to_string(),
        };
        report(rule, message, name, &failure);
        Err(failure)
    }
}

/// What an action makes of a message, for the broker.
#[derive(Debug)]
pub(crate) enum Made {
    Published(Message),
    Handed(Target, Message),
}

impl Made {
    fn into_output(self, out: &mut RuleOutput) {
        match self {
            Self::Published(message) => out.published.push(message),
            Self::Handed(target, message) => out.handed.push((target, message)),
        }
    }
}

fn make(
    rule: &Rule,
    number: usize,
    rendered: Rendered,
    input: &Input<'_>,
    message: &Message,
    output: &Bytes,
) -> Result<Made, Invalid> {
    // What stays as it is on every way; ids and the time of acceptance are the broker's.
    let derived = Message {
        id: MessageId(0),
        retain: false,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: None,
        properties: None,
        payload: output.clone(),
        ..message.clone()
    };
    match rendered {
        Rendered::Publish {
            topic,
            qos,
            retain,
            expiry,
            properties,
        } => Ok(Made::Published(Message {
            hops: message.hops.saturating_add(1),
            source: Source::Rule {
                name: rule.name().clone(),
            },
            topic,
            qos,
            retain,
            expiry,
            properties,
            ..derived
        })),
        Rendered::Route { route, topic, qos } => Ok(Made::Handed(
            Target::Route(route.into()),
            Message {
                topic: topic.unwrap_or_else(|| message.topic.clone()),
                qos: qos.unwrap_or(message.qos),
                source: Source::Rule {
                    name: rule.name().clone(),
                },
                ..derived
            },
        )),
        Rendered::Task(task, body) => {
            let outbox = rule.outbox(number).ok_or(Invalid::NoOutbox)?;
            let work = Work {
                task: *task,
                body: body.unwrap_or_else(|| output.clone()),
                original: input.payload.bytes().clone(),
            };
            let payload = work.encode().ok_or(Invalid::NoNumber)?;
            Ok(Made::Handed(
                Target::Outbox(outbox),
                Message {
                    payload,
                    // For the templates of the error action.
                    properties: message.properties.clone(),
                    ..derived
                },
            ))
        }
    }
}

/// A message has reached a rule (2016 guide, "Rules Engine Events").
fn told(rule: &Rule, message: &Message, what: &str) {
    tracing::debug!(
        event = event::MESSAGE_RECEIVED,
        rule = &**rule.name(),
        trace_id = %message.trace,
        principal_id = %message.principal,
        topic = message.topic.as_str(),
        client_id = &*message.client_id,
        "{what}"
    );
}

/// An action was carried out.
pub(crate) fn succeeded(rule: &Rule, message: &Message, action: &str) {
    tracing::debug!(
        event = failure::names(action).1,
        rule = &**rule.name(),
        trace_id = %message.trace,
        principal_id = %message.principal,
        topic = message.topic.as_str(),
        client_id = &*message.client_id,
        "done"
    );
}

/// Logs what failed for good.
pub(crate) fn report(rule: &Rule, message: &Message, action: &str, failure: &Failure) {
    tracing::warn!(
        event = failure::names(action).2,
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
            let variables = Variables::default();
            let input = Input {
                now: now.wall,
                ..self.input(rule, message, &payload, &principal, &variables)
            };
            self.run(rule, &input, message, out);
        }
    }
}
