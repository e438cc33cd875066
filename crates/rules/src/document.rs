//! A rule's JSON document: `topicRulePayload` (guide, "Creating an AWS IoT Rule"), bare or wrapped.

mod read;

use std::path::Path;

use iotedge_model::{QoS, Topic, TopicError, reserved};
use iotedge_sql::{SqlError, SqlVersion, Statement, Template};
use thiserror::Error;

pub(crate) use read::Node;

use crate::rule::{Action, Republish, Rule, RuleDefinition, check_name};

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
    /// An action that AWS IoT has and this gateway does not yet.
    #[error("the action {0} is not available yet")]
    ActionNotAvailable(&'static str),
    /// An option of an action that this gateway does not have yet.
    #[error("is not available yet")]
    NotAvailable,
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

/// Most actions of a rule (the guide's limits).
const MAX_ACTIONS: usize = 10;

/// Actions of both guides that are not here yet.
const NOT_AVAILABLE: [&str; 26] = [
    "cloudwatchAlarm",
    "cloudwatchLogs",
    "cloudwatchMetric",
    "dynamoDB",
    "dynamoDBv2",
    "elasticsearch",
    "firehose",
    "http",
    "iotAnalytics",
    "iotEvents",
    "iotSiteWise",
    "kafka",
    "kinesis",
    "lambda",
    "location",
    "machinelearning",
    "openSearch",
    "openDistro",
    "redshift",
    "s3",
    "salesforce",
    "sns",
    "sqs",
    "stepFunctions",
    "timestream",
    "webhook",
];

const RULE_KEYS: &str = "sql, awsIotSqlVersion, description, ruleDisabled, actions, errorAction, ruleName, createdAt, ruleArn";
const REPUBLISH_KEYS: &str = "topic, qos, roleArn";

/// Parses a rule's document. `name` is the rule's, `file` is for the errors. All problems are
/// reported, not the first alone.
pub fn parse_rule(name: &str, file: &str, text: &str) -> Result<Rule, Vec<RuleError>> {
    let mut reader = Reader {
        file,
        text,
        errors: Vec::new(),
    };
    let definition = reader.document(name);
    match definition {
        Some(definition) if reader.errors.is_empty() => Ok(Rule::new(definition)),
        _ => Err(reader.errors),
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
            source: self.text.to_owned(),
            file: self.file.to_owned(),
        };
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
                "actions" => definition.actions = self.actions(node, checked),
                "errorAction" => definition.error_action = self.action(node, checked),
                "ruleName" => self.rule_name(name, node),
                // What get-topic-rule adds; awsIotSqlVersion is read above.
                "awsIotSqlVersion" | "createdAt" | "ruleArn" => {}
                _ => self.report(node, RuleProblem::UnknownKey(RULE_KEYS)),
            }
        }
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

    fn actions(&mut self, node: &Node<'t>, version: SqlVersion) -> Vec<Action> {
        let items = node.items();
        let Some(items) = self.take(node, items) else {
            return Vec::new();
        };
        if items.len() > MAX_ACTIONS {
            self.report(node, RuleProblem::TooManyActions(MAX_ACTIONS));
        }
        items
            .iter()
            .filter_map(|item| self.action(item, version))
            .collect()
    }

    fn action(&mut self, node: &Node<'t>, version: SqlVersion) -> Option<Action> {
        let members = self.members(node)?;
        let [(name, settings)] = members.as_slice() else {
            self.report(node, RuleProblem::OneAction);
            return None;
        };
        if name == "republish" {
            return self.republish(settings, version).map(Action::Republish);
        }
        match NOT_AVAILABLE.into_iter().find(|n| n == name) {
            Some(known) => self.report(settings, RuleProblem::ActionNotAvailable(known)),
            None => self.report(settings, RuleProblem::UnknownAction(name.clone())),
        }
        None
    }

    fn republish(&mut self, node: &Node<'t>, version: SqlVersion) -> Option<Republish> {
        let members = self.members(node)?;
        let mut topic = None;
        let mut qos = QoS::AtMostOnce;
        for (key, member) in &members {
            match key.as_str() {
                "topic" => topic = self.topic(member, version),
                "qos" => {
                    let level = member.small_integer().ok_or(RuleProblem::QoS);
                    match self.take(member, level) {
                        Some(0) | None => {}
                        Some(1) => qos = QoS::AtLeastOnce,
                        Some(_) => self.report(member, RuleProblem::QoS),
                    }
                }
                // The role says what the rule may publish in AWS; here the rule is the operator's.
                "roleArn" => {
                    let role = member.string();
                    self.take(member, role);
                }
                "headers" => self.report(member, RuleProblem::NotAvailable),
                _ => self.report(member, RuleProblem::UnknownKey(REPUBLISH_KEYS)),
            }
        }
        if !members.iter().any(|(k, _)| k == "topic") {
            self.missing(node, "topic");
        }
        Some(Republish { topic: topic?, qos })
    }

    fn topic(&mut self, node: &Node<'t>, version: SqlVersion) -> Option<Template> {
        let text = node.string();
        let text = self.take(node, text)?;
        let template = Template::parse(&text, version).map_err(RuleProblem::from);
        let template = self.take(node, template)?;
        if let Some(literal) = template.as_literal() {
            let checked = check_topic(literal);
            self.take(node, checked)?;
        }
        Some(template)
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
