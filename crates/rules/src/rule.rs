//! A rule, ready to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iotedge_ports::OutboxId;
use iotedge_sql::{SqlVersion, Statement};

use crate::action::Action;
use crate::counters::{ActionCounters, MAX_ACTIONS};
use crate::document::{Place, RuleProblem};

/// 1 to 128 of `[a-zA-Z0-9_-]`. AWS IoT has no `-`, but its guide's own example is `my-rule`.
pub(crate) fn check_name(name: &str) -> Result<(), RuleProblem> {
    let character = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(character) {
        return Err(RuleProblem::Name);
    }
    Ok(())
}

/// What a document says.
#[derive(Debug)]
pub(crate) struct RuleDefinition {
    pub(crate) name: Arc<str>,
    pub(crate) description: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) sql: String,
    pub(crate) version: SqlVersion,
    /// `None` only beside a reported error.
    pub(crate) statement: Option<Statement>,
    pub(crate) actions: Vec<Action>,
    pub(crate) error_action: Option<Action>,
    /// Where each of `actions`, and then `error_action`, stands.
    pub(crate) places: Vec<Place>,
    /// What its author should look at again, the statement's own apart.
    pub(crate) warnings: Vec<String>,
    /// The document's text.
    pub(crate) source: String,
    /// The file it stands in, or what stands for one.
    pub(crate) file: String,
}

/// A topic rule. Immutable but for its counters.
#[derive(Debug)]
pub struct Rule {
    pub(crate) definition: RuleDefinition,
    pub(crate) counters: Arc<Counters>,
    /// The outboxes of `actions`, and then of `error_action`; none for those that need none.
    pub(crate) outboxes: Vec<Option<OutboxId>>,
}

impl Rule {
    pub(crate) fn new(definition: RuleDefinition) -> Self {
        Self {
            definition,
            counters: Arc::default(),
            outboxes: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.definition.name
    }

    /// The document it was read from.
    pub fn document(&self) -> &str {
        &self.definition.source
    }

    /// The file it was read from, or what stands for one.
    pub fn file(&self) -> &str {
        &self.definition.file
    }

    /// `description`.
    pub fn description(&self) -> Option<&str> {
        self.definition.description.as_deref()
    }

    /// Not `ruleDisabled`.
    pub fn is_enabled(&self) -> bool {
        self.definition.enabled
    }

    /// `sql` as written.
    pub fn sql(&self) -> &str {
        &self.definition.sql
    }

    /// The topic filter of FROM.
    pub fn topic_pattern(&self) -> Option<&str> {
        self.definition
            .statement
            .as_ref()
            .and_then(Statement::filter)
            .map(|filter| filter.as_str())
    }

    /// The names of its actions, in order, without the error action.
    pub fn action_names(&self) -> Vec<String> {
        let actions = self.definition.actions.iter();
        actions.map(|action| action.name().to_owned()).collect()
    }

    /// `awsIotSqlVersion`.
    pub fn sql_version(&self) -> SqlVersion {
        self.definition.version
    }

    /// What its author should look at again.
    pub fn warnings(&self) -> Vec<String> {
        let statement = self.definition.statement.as_ref();
        let warnings = statement.map_or(&[][..], Statement::warnings).iter();
        warnings.chain(&self.definition.warnings).cloned().collect()
    }

    /// An action of its list, or with the number behind the last of it its error action.
    pub(crate) fn action(&self, number: usize) -> Option<&Action> {
        let actions = &self.definition.actions;
        match number {
            n if n == MAX_ACTIONS => self.definition.error_action.as_ref(),
            n => actions.get(n),
        }
    }

    /// The outbox of an action, numbered as [`Rule::action`] has them.
    pub(crate) fn outbox(&self, number: usize) -> Option<OutboxId> {
        self.outboxes.get(number).copied().flatten()
    }

    /// What its actions have done since the daemon started, the error action last: its name in the
    /// document (`actions[0]`, `errorAction`), its kind, and its counters.
    pub fn action_counts(&self) -> Vec<(String, &'static str, crate::ActionCounts)> {
        let numbered = self.definition.actions.iter().enumerate();
        let named = numbered.map(|(n, action)| (format!("actions[{n}]"), n, action));
        let error = self.definition.error_action.as_ref();
        let error = error.map(|action| ("errorAction".to_owned(), MAX_ACTIONS, action));
        named
            .chain(error)
            .map(|(name, n, action)| (name, action.name(), self.counters.action(n).counts()))
            .collect()
    }

    /// What it has done since the daemon started.
    pub fn counts(&self) -> RuleCounts {
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        RuleCounts {
            topic_matched: load(&self.counters.topic_matched),
            executed: load(&self.counters.executed),
            succeeded: load(&self.counters.succeeded),
            failed_sql: load(&self.counters.failed_sql),
            failed_template: load(&self.counters.failed_template),
            failed_topic: load(&self.counters.failed_topic),
            failed_action: load(&self.counters.failed_action),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) topic_matched: AtomicU64,
    pub(crate) executed: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed_sql: AtomicU64,
    pub(crate) failed_template: AtomicU64,
    pub(crate) failed_topic: AtomicU64,
    pub(crate) failed_action: AtomicU64,
    actions: [ActionCounters; MAX_ACTIONS + 1],
}

impl Counters {
    /// Of one action, numbered as [`Rule::action`] has them.
    pub(crate) fn action(&self, number: usize) -> &ActionCounters {
        &self.actions[number.min(MAX_ACTIONS)]
    }
}

/// What a rule has done since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounts {
    /// Messages on a topic of its FROM.
    pub topic_matched: u64,
    /// Of these, those that WHERE let through.
    pub executed: u64,
    /// Actions that succeeded.
    pub succeeded: u64,
    /// Messages whose statement failed.
    pub failed_sql: u64,
    /// Actions whose template failed.
    pub failed_template: u64,
    /// Actions whose topic was none that can be published to.
    pub failed_topic: u64,
    /// Actions that failed for good when they were carried out, or that could not be filled in
    /// otherwise.
    pub failed_action: u64,
}
