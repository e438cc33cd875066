//! `iotedgectl rule test`: a statement tried out on one message, without side effects.

use std::net::IpAddr;

use bytes::Bytes;
use iotedge_model::{Properties, Topic, TopicError, TraceId, UnixMillis};
use iotedge_sql::{
    Clause, EvalError, Host, Input, Payload, SqlError, SqlErrorKind, SqlVersion, Statement,
    Template, Variables, Via,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use thiserror::Error;

use crate::host::random;

/// What is tried.
#[derive(Debug, Clone, Default)]
pub struct RuleTest<'a> {
    /// The statement.
    pub sql: &'a str,
    /// Its version; `None` is the default, 2015-10-08.
    pub sql_version: Option<&'a str>,
    /// The message's topic.
    pub topic: &'a str,
    /// The message's payload.
    pub payload: Bytes,
    /// The publisher's client id.
    pub client_id: &'a str,
    /// A substitution template to evaluate for the message.
    pub template: Option<&'a str>,
    /// What else there is, as JSON: `account_id`, `via` (`mqtt` or `http`),
    /// `certificate_thumbprint`, `rule_name`, `source_ip`, `shadows` (each `thing`, `shadow_name`,
    /// `state`), `things` (each as DescribeThing says it, by `thingName`), `properties` (of MQTT 5:
    /// `payload_format`, `content_type`, `response_topic`, `correlation_data`, `user`).
    pub context: Option<&'a str>,
    /// Milliseconds since 1970, for `timestamp()`.
    pub now: UnixMillis,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleTestOutcome {
    /// The outgoing payload, or the template's string.
    Output(Bytes),
    /// FROM or WHERE is not satisfied.
    NoMatch,
}

/// What is tried out, and what each of its parts is.
#[derive(Debug)]
pub struct Explained {
    /// Every part of the statement with its value.
    pub clauses: Vec<Clause>,
    /// What came out.
    pub outcome: Result<RuleTestOutcome, RuleTestError>,
}

/// Why nothing could come out.
#[derive(Debug, Error)]
pub enum RuleTestError {
    /// `--sql` or `--sql-version`.
    #[error("sql: {0}")]
    Sql(SqlError),
    /// `--template`.
    #[error("template: {0}")]
    Template(SqlError),
    /// `--topic`.
    #[error("topic: {0}")]
    Topic(#[from] TopicError),
    /// `--context`.
    #[error("context: {0}")]
    Context(serde_json::Error),
    /// The statement or the template failed on this message.
    #[error("{0}")]
    Evaluation(#[from] EvalError),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    account_id: Option<String>,
    via: Option<ContextVia>,
    certificate_thumbprint: Option<String>,
    rule_name: Option<String>,
    #[serde(default)]
    shadows: Vec<ContextShadow>,
    #[serde(default)]
    things: Vec<Json>,
    source_ip: Option<IpAddr>,
    properties: Option<Properties>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ContextVia {
    Mqtt,
    Http,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextShadow {
    thing: String,
    shadow_name: Option<String>,
    state: Json,
}

impl Host for Context {
    fn random(&self) -> u128 {
        random()
    }

    fn shadow(&self, thing: &str, shadow: Option<&str>) -> Option<Json> {
        self.shadows
            .iter()
            .find(|s| s.thing == thing && s.shadow_name.as_deref() == shadow)
            .map(|s| json!({ "state": s.state, "version": 1 }))
    }

    fn thing(&self, thing: &str) -> Option<Json> {
        self.things
            .iter()
            .find(|t| t.get("thingName").and_then(Json::as_str) == Some(thing))
            .cloned()
    }
}

/// Evaluates a statement, and a template where there is one, for one message.
pub fn rule_test(test: &RuleTest<'_>) -> Result<RuleTestOutcome, RuleTestError> {
    with_input(test, |tried, input| tried.evaluate(input))?
}

/// The same with the value of every part of the statement, where nothing comes out too.
///
/// # Errors
/// Where there is nothing to evaluate: a mistake in the statement, the template or the context.
pub fn rule_explain(test: &RuleTest<'_>) -> Result<Explained, RuleTestError> {
    with_input(test, |tried, input| {
        let clauses = iotedge_sql::explain(test.sql, tried.statement.version(), input)
            .map_err(RuleTestError::Sql)?;
        Ok(Explained {
            clauses,
            outcome: tried.evaluate(input),
        })
    })?
}

struct Tried {
    statement: Statement,
    template: Option<Template>,
}

impl Tried {
    fn evaluate(&self, input: &Input<'_>) -> Result<RuleTestOutcome, RuleTestError> {
        let Some(output) = self.statement.evaluate(input)? else {
            return Ok(RuleTestOutcome::NoMatch);
        };
        Ok(RuleTestOutcome::Output(match &self.template {
            Some(template) => Bytes::from(template.evaluate(input)?),
            None => output,
        }))
    }
}

fn with_input<T>(
    test: &RuleTest<'_>,
    f: impl FnOnce(&Tried, &Input<'_>) -> T,
) -> Result<T, RuleTestError> {
    let version = test
        .sql_version
        .map_or(Ok(SqlVersion::default()), SqlVersion::parse)
        .map_err(RuleTestError::Sql)?;
    let statement = Statement::parse(test.sql, version).map_err(RuleTestError::Sql)?;
    let template = test
        .template
        .map(|t| Template::parse(t, version))
        .transpose()
        .map_err(RuleTestError::Template)?;
    let used = template.iter().flat_map(Template::variables);
    if let Some(name) = used.into_iter().find(|name| !statement.sets(name)) {
        return Err(RuleTestError::Template(SqlError {
            column: 1,
            reason: SqlErrorKind::UnknownVariable(name.clone()),
        }));
    }
    Topic::check(test.topic)?;
    let context: Context = match test.context {
        Some(text) => serde_json::from_str(text).map_err(RuleTestError::Context)?,
        None => Context::default(),
    };
    let payload = Payload::new(test.payload.clone());
    let input = Input {
        topic: test.topic,
        payload: &payload,
        client_id: test.client_id,
        principal: context.certificate_thumbprint.as_deref().unwrap_or(""),
        via: match context.via {
            None | Some(ContextVia::Mqtt) => Via::Mqtt,
            Some(ContextVia::Http) => Via::Other,
        },
        now: test.now,
        account_id: context.account_id.as_deref().unwrap_or("000000000000"),
        trace: TraceId(random()),
        rule_name: context.rule_name.as_deref().unwrap_or("test"),
        properties: context.properties.as_ref(),
        source_ip: context.source_ip,
        variables: &Variables::default(),
        host: &context,
    };
    let tried = Tried {
        statement,
        template,
    };
    Ok(f(&tried, &input))
}
