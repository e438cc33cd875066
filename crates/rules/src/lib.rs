//! Topic rules: documents, the set of them that is in force, and their actions.
//!
//! A rule's JSON is AWS's `topicRulePayload`. [`load_dir`] reads `rules.d`; [`Engine`] is what the
//! broker asks for each message it accepts; [`Catalog`] keeps rules made by command beside the files; [`rule_test`] tries a statement out without one.
#![forbid(unsafe_code)]

mod action;
mod catalog;
mod check;
mod counters;
mod document;
mod engine;
mod failure;
mod host;
mod index;
mod load;
mod outbox;
mod path;
mod rule;
pub mod sink;
mod try_out;
mod work;

pub use catalog::{Catalog, CatalogError, RuleOrigin};
pub use check::{Facilities, check_rules};
pub use counters::{ActionCounts, FailureReason};
pub use document::{RuleError, RuleProblem, parse_rule};
pub use engine::{Changes, Engine};
pub use iotedge_sql::Clause;
pub use load::{load_dir, load_file};
pub use outbox::{OutboxSettings, OutboxStatus, Outboxes};
pub use rule::{Rule, RuleCounts};
pub use try_out::{Explained, RuleTest, RuleTestError, RuleTestOutcome, rule_explain, rule_test};
pub use work::{Cell, Column, ExecTask, FileTask, HttpTask, SqliteTask, Task, Work};
