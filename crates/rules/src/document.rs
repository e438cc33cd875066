//! A rule's JSON document: `topicRulePayload` (guide, "Creating an AWS IoT Rule"), bare or wrapped.

mod action;
mod cloud;
mod fields;
mod read;

use std::path::Path;

use iotedge_model::{Topic, TopicError, reserved};
use iotedge_sql::{SqlError, SqlVersion, Statement, Template};
use thiserror::Error;

pub(crate) use read::Node;

use crate::rule::{Rule, RuleDefinition, check_name};

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleProblem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// No JSON.
    #[error("is not JSON: {0}")]
    Syntax(String),
    /// A key that a rule does not have.
    #[error("unknown key; known here: {0}")]
    UnknownKey(&'static str),
    /// A key twice in one object.
    #[error("the key stands twice")]
    DuplicateKey,
    /// A key that must be there.
    #[error("is missing")]
    Missing,
    /// A value of another type.
    #[error("must be {0}")]
    WrongType(&'static str),
    /// `sql` or a template.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A template with a variable that the statement does not set.
    #[error("uses @{0}, which the statement does not SET")]
    UnknownVariable(String),
    /// An action of AWS's that this gateway does not carry out.
    #[error(
        "the action {0} needs a service of AWS, which this gateway does not reach from a rule yet; \
         what works here: republish, sqlite, file, http, exec, upstream, lambda"
    )]
    ActionNotAvailable(&'static str),
    /// An option of an action that this gateway does not have yet.
    #[error("is not available yet: {0}")]
    NotAvailable(&'static str),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
    /// A rule that is too large.
    #[error("a rule's document has at most {0} bytes")]
    TooLarge(usize),
    /// A program that the configuration does not allow.
    #[error("the configuration does not allow this program: rules.exec_allow names it not")]
    ProgramNotAllowed,
    /// A route that no upstream has.
    #[error("there is no outbound route of this name; there are: {0}")]
    UnknownRoute(String),
    /// An action of no such name.
    #[error("there is no action {0:?}")]
    UnknownAction(String),
    /// An action object with none or several actions.
    #[error("each action is an object with one key, the action's name")]
    OneAction,
    /// More actions than a rule may have.
    #[error("a rule has at most {0} actions")]
    TooManyActions(usize),
    /// A republish QoS.
    #[error("the QoS of republish is 0 or 1")]
    QoS,
    /// A topic without substitution that can be no topic.
    #[error("is no topic that can be published to: {0}")]
    Topic(#[from] TopicError),
    /// A topic that begins with `$` and takes no publication.
    #[error("is a reserved topic that takes no publication")]
    ReservedTopic,
    /// A name that a rule cannot have.
    #[error("a rule's name is 1 to 128 of a-z, A-Z, 0-9, '_' and '-'")]
    Name,
    /// `ruleName` and the file's name differ.
    #[error("is {0:?}, but the file's name says {1:?}")]
    OtherName(String, String),
    /// Two rules of one name.
    #[error("there is a rule of this name already")]
    DuplicateName,
}

/// Where something stands in a rule's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) key: String,
}

/// A refused rule: where and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}:{line}:{column}: {key}{sep}{problem}", sep = if key.is_empty() { "" } else { ": " })]
pub struct RuleError {
    /// The file, or what stands for one.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key with its path, such as `actions[0].republish.topic`; empty for the whole.
    pub key: String,
    /// Why.
    pub problem: RuleProblem,
}

impl RuleError {
    /// An error that is about the file as a whole.
    pub(crate) fn of_file(file: &Path, problem: RuleProblem) -> Self {
        Self {
            file: file.display().to_string(),
            line: 1,
            column: 1,
            key: String::new(),
            problem,
        }
    }
}

/// Largest document of a rule, in bytes (today's quotas: 256 KB).
const MAX_DOCUMENT: usize = 256 * 1024;

const RULE_KEYS: &str = "sql, awsIotSqlVersion, description, ruleDisabled, actions, errorAction, ruleName, createdAt, ruleArn";

/// Parses a rule's document. `name` is the rule's, `file` is for the errors. All problems are
/// reported, not the first alone.
pub fn parse_rule(name: &str, file: &str, text: &str) -> Result<Rule, Vec<RuleError>> {
    let mut reader = Reader {
        file,
        text,
        errors: Vec::new(),
    };
    if text.len() > MAX_DOCUMENT {
        let problem = RuleProblem::TooLarge(MAX_DOCUMENT);
        return Err(vec![RuleError::of_file(Path::new(file), problem)]);
    }
    let definition = reader.document(name);
    match definition {
        Some(definition) if reader.errors.is_empty() => Ok(Rule::new(definition)),
        _ => {
            reader.errors.sort_by_key(|e| (e.line, e.column));
            Err(reader.errors)
        }
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    errors: Vec<RuleError>,
}

impl<'t> Reader<'t> {
    fn report(&mut self, node: &Node<'t>, problem: impl Into<RuleProblem>) {
        let (line, column) = node.position(self.text);
        self.errors.push(RuleError {
            file: self.file.to_owned(),
            line,
            column,
            key: node.key.clone(),
            problem: problem.into(),
        });
    }

    /// A reading's value, or its problem reported.
    fn take<T>(&mut self, node: &Node<'t>, value: Result<T, RuleProblem>) -> Option<T> {
        value.map_err(|problem| self.report(node, problem)).ok()
    }

    /// An object's members; a key that stands twice is reported.
    fn members(&mut self, node: &Node<'t>) -> Option<Vec<(String, Node<'t>)>> {
        let members = node.members();
        let members = self.take(node, members)?;
        for (at, (key, member)) in members.iter().enumerate() {
            if members.iter().take(at).any(|(k, _)| k == key) {
                self.report(member, RuleProblem::DuplicateKey);
            }
        }
        Some(members)
    }

    fn missing(&mut self, node: &Node<'t>, key: &str) {
        self.report(&node.named(key), RuleProblem::Missing);
    }

    fn document(&mut self, name: &str) -> Option<RuleDefinition> {
        let whole = match Node::parse(self.text) {
            Ok(node) => node,
            Err((line, column, reason)) => {
                self.errors.push(RuleError {
                    file: self.file.to_owned(),
                    line,
                    column,
                    key: String::new(),
                    problem: RuleProblem::Syntax(reason),
                });
                return None;
            }
        };
        if check_name(name).is_err() {
            self.report(&whole, RuleProblem::Name);
        }
        let members = self.members(&whole)?;
        let wrapper = |key: &str| key == "topicRulePayload" || key == "rule";
        let Some((_, inner)) = members.iter().find(|(k, _)| wrapper(k)) else {
            return self.rule(name, &whole, &members);
        };
        for (key, member) in &members {
            match key.as_str() {
                "ruleName" => self.rule_name(name, member),
                "ruleArn" => {}
                key if wrapper(key) && member.key == inner.key => {}
                _ => self.report(
                    member,
                    RuleProblem::UnknownKey("topicRulePayload or rule, ruleName, ruleArn"),
                ),
            }
        }
        let members = self.members(inner)?;
        self.rule(name, inner, &members)
    }

    fn rule_name(&mut self, name: &str, node: &Node<'t>) {
        let given = node.string();
        if let Some(given) = self.take(node, given) {
            if given != name {
                self.report(node, RuleProblem::OtherName(given, name.to_owned()));
            }
        }
    }

    fn rule(
        &mut self,
        name: &str,
        whole: &Node<'t>,
        members: &[(String, Node<'t>)],
    ) -> Option<RuleDefinition> {
        let find = |key: &str| members.iter().find(|(k, _)| k == key).map(|(_, n)| n);
        let version = match find("awsIotSqlVersion") {
            None => Some(SqlVersion::default()),
            Some(node) => {
                let version = node
                    .string()
                    .and_then(|v| SqlVersion::parse(&v).map_err(RuleProblem::from));
                self.take(node, version)
            }
        };
        // With a bad version the rest is still checked, against the later one.
        let checked = version.unwrap_or(SqlVersion::V2016);
        let mut definition = RuleDefinition {
            name: name.into(),
            description: None,
            enabled: true,
            sql: String::new(),
            version: checked,
            statement: None,
            actions: Vec::new(),
            error_action: None,
            places: Vec::new(),
            warnings: Vec::new(),
            source: self.text.to_owned(),
            file: self.file.to_owned(),
        };
        let mut error_place = None;
        for (key, node) in members {
            match key.as_str() {
                "sql" => {
                    let sql = node.string();
                    if let Some(sql) = self.take(node, sql) {
                        let statement = Statement::parse(&sql, checked).map_err(RuleProblem::from);
                        definition.statement = self.take(node, statement);
                        definition.sql = sql;
                    }
                }
                "description" => {
                    let text = node.string();
                    definition.description = self.take(node, text);
                }
                "ruleDisabled" => {
                    let disabled = node.boolean();
                    definition.enabled = !self.take(node, disabled).unwrap_or(false);
                }
                "actions" => self.actions(node, &mut definition),
                "errorAction" => {
                    let mut warnings = Vec::new();
                    definition.error_action = self.action(node, checked, &mut warnings);
                    definition.warnings.append(&mut warnings);
                    error_place = Some(self.place(node));
                }
                "ruleName" => self.rule_name(name, node),
                // What get-topic-rule adds; awsIotSqlVersion is read above.
                "awsIotSqlVersion" | "createdAt" | "ruleArn" => {}
                _ => self.report(node, RuleProblem::UnknownKey(RULE_KEYS)),
            }
        }
        definition.places.extend(error_place);
        for key in ["sql", "actions"] {
            if find(key).is_none() {
                self.missing(whole, key);
            }
        }
        if let Some(statement) = &definition.statement {
            for node in ["actions", "errorAction"].into_iter().filter_map(find) {
                self.variables(node, statement);
            }
        }
        Some(definition)
    }

    /// Reports each template that uses a variable which the statement does not set.
    fn variables(&mut self, node: &Node<'t>, statement: &Statement) {
        if let Ok(items) = node.items() {
            for item in &items {
                self.variables(item, statement);
            }
        } else if let Ok(members) = node.members() {
            for (_, member) in &members {
                self.variables(member, statement);
            }
        } else if let Ok(text) = node.string() {
            // What is no template was reported before, if it should be one.
            let template = Template::parse(&text, statement.version());
            let unknown = template.iter().flat_map(Template::variables);
            for name in unknown.filter(|name| !statement.sets(name)) {
                self.report(node, RuleProblem::UnknownVariable(name.clone()));
            }
        }
    }
}

/// Whether a rule may publish there.
pub(crate) fn check_topic(text: &str) -> Result<Topic, RuleProblem> {
    let topic = Topic::new(text)?;
    if !reserved::client_may_publish(text) {
        return Err(RuleProblem::ReservedTopic);
    }
    Ok(topic)
}
