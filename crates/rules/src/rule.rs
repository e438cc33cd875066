//! A rule, ready to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iotedge_model::QoS;
use iotedge_sql::{SqlVersion, Statement, Template};

use crate::document::RuleProblem;

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
    /// The document's text.
    pub(crate) source: String,
    /// The file it stands in, or what stands for one.
    pub(crate) file: String,
}

/// What a rule does with its output.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Publishes it on another topic.
    Republish(Republish),
}

/// The `republish` action.
#[derive(Debug, Clone)]
pub(crate) struct Republish {
    pub(crate) topic: Template,
    pub(crate) qos: QoS,
}

/// A topic rule. Immutable but for its counters.
#[derive(Debug)]
pub struct Rule {
    pub(crate) definition: RuleDefinition,
    pub(crate) counters: Arc<Counters>,
}

impl Rule {
    pub(crate) fn new(definition: RuleDefinition) -> Self {
        Self {
            definition,
            counters: Arc::default(),
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
        let name = |action: &Action| match action {
            Action::Republish(_) => "republish".to_owned(),
        };
        self.definition.actions.iter().map(name).collect()
    }

    /// `awsIotSqlVersion`.
    pub fn sql_version(&self) -> SqlVersion {
        self.definition.version
    }

    /// What its author should look at again.
    pub fn warnings(&self) -> &[String] {
        self.definition
            .statement
            .as_ref()
            .map_or(&[], Statement::warnings)
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
}
