//! What one message makes of an action.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use iotedge_model::{PayloadFormat, Properties, QoS, Topic, UserProperty};
use iotedge_sql::{EvalError, Input, Template};
use serde_json::Value as Json;
use thiserror::Error;

use super::{Action, File, Headers, Http, Republish, Sqlite, Upstream};
use crate::document::{RuleProblem, check_topic};
use crate::work::{Cell, Column, ExecTask, FileTask, HttpTask, SqliteTask, Task};

/// An action, filled in.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// To be published.
    Publish {
        topic: Topic,
        qos: QoS,
        retain: bool,
        expiry: Option<u32>,
        properties: Option<Box<Properties>>,
    },
    /// For a route; with the message's own QoS where there is none.
    Route {
        route: String,
        topic: Option<Topic>,
        qos: Option<QoS>,
    },
    /// For the action's outbox, with what goes to the sink instead of the output.
    Task(Box<Task>, Option<Bytes>),
}

/// Why an action cannot be filled in for a message.
#[derive(Debug, Error)]
pub(crate) enum Invalid {
    /// A template failed.
    #[error("{key} cannot be made: {error}")]
    Template { key: &'static str, error: EvalError },
    /// It gave no topic.
    #[error("the topic {problem}")]
    Topic { text: String, problem: RuleProblem },
    /// It gave something else that cannot be.
    #[error("{key} is {text:?}: {reason}")]
    Value {
        key: &'static str,
        text: String,
        reason: &'static str,
    },
    /// Nothing carries it out: the rule is no longer in force, or there is no such action.
    #[error("there is no outbox for it")]
    NoOutbox,
    /// A number that JSON cannot say.
    #[error("a number is too large to be kept")]
    NoNumber,
    /// Columns are to be made of an output that is no object.
    #[error("the output is no JSON object, and the action names no columns")]
    NoObject,
}

type Result<T, E = Invalid> = std::result::Result<T, E>;

fn text(key: &'static str, template: &Template, input: &Input<'_>) -> Result<String> {
    template
        .evaluate(input)
        .map_err(|error| Invalid::Template { key, error })
}

fn optional(
    key: &'static str,
    template: Option<&Template>,
    input: &Input<'_>,
) -> Result<Option<String>> {
    template.map(|t| text(key, t, input)).transpose()
}

fn topic(key: &'static str, template: &Template, input: &Input<'_>) -> Result<Topic> {
    let text = text(key, template, input)?;
    check_topic(&text).map_err(|problem| Invalid::Topic { text, problem })
}

impl Action {
    /// Fills the action in for a message and the rule's output.
    pub(crate) fn render(&self, input: &Input<'_>, output: &Bytes) -> Result<Rendered> {
        Ok(match self {
            Self::Republish(action) => action.render(input)?,
            Self::Upstream(action) => action.render(input)?,
            Self::Sqlite(action) => task(Task::Sqlite(action.render(input, output)?)),
            Self::File(action) => task(Task::File(action.render(input)?)),
            Self::Http(action) => action.render(input)?,
            Self::Exec(action) => {
                let arguments = action.arguments.iter();
                let arguments = arguments.map(|a| text("command", a, input));
                task(Task::Exec(ExecTask {
                    program: action.program.clone(),
                    arguments: arguments.collect::<Result<_>>()?,
                    timeout_ms: millis(action.timeout),
                }))
            }
            Self::Lambda(action) => task(Task::Lambda {
                function: text("functionArn", &action.function, input)?,
            }),
        })
    }
}

fn task(task: Task) -> Rendered {
    Rendered::Task(Box::new(task), None)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Republish {
    fn render(&self, input: &Input<'_>) -> Result<Rendered> {
        let (expiry, properties) = self.headers.render(input)?;
        Ok(Rendered::Publish {
            topic: topic("the topic", &self.topic, input)?,
            qos: self.qos,
            retain: self.retain,
            expiry,
            properties,
        })
    }
}

impl Headers {
    fn render(&self, input: &Input<'_>) -> Result<(Option<u32>, Option<Box<Properties>>)> {
        let mut properties = Properties::default();
        let value = |key, template: &Option<Template>| optional(key, template.as_ref(), input);
        let wrong = |key, text, reason| Invalid::Value { key, text, reason };
        if let Some(format) = value("payloadFormatIndicator", &self.payload_format)? {
            properties.payload_format = Some(payload_format(&format).ok_or_else(|| {
                wrong(
                    "payloadFormatIndicator",
                    format,
                    "UNSPECIFIED_BYTES or UTF8_DATA",
                )
            })?);
        }
        if let Some(content) = value("contentType", &self.content_type)? {
            let content = mqtt_string("contentType", content)?;
            properties.content_type = Some(content.into());
        }
        if let Some(template) = &self.response_topic {
            let text = text("responseTopic", template, input)?;
            let topic = Topic::new(&text).map_err(|e| Invalid::Topic {
                text,
                problem: e.into(),
            })?;
            properties.response_topic = Some(topic);
        }
        if let Some(data) = value("correlationData", &self.correlation_data)? {
            let bytes = STANDARD.decode(&data).ok();
            let bytes = bytes.filter(|bytes| bytes.len() <= usize::from(u16::MAX));
            properties.correlation_data =
                Some(bytes.ok_or_else(|| wrong("correlationData", data, "must be Base64"))?);
        }
        let mut expiry = None;
        if let Some(seconds) = value("messageExpiry", &self.expiry)? {
            let number = seconds.parse().ok();
            expiry = Some(
                number.ok_or_else(|| wrong("messageExpiry", seconds, "must be whole seconds"))?,
            );
        }
        for (key, value) in &self.user {
            let name = mqtt_string("userProperties", text("userProperties", key, input)?)?;
            let value = mqtt_string("userProperties", text("userProperties", value, input)?)?;
            properties.user.push(UserProperty {
                name: name.into(),
                value: value.into(),
            });
        }
        let none = properties == Properties::default();
        Ok((expiry, (!none).then(|| Box::new(properties))))
    }
}

pub(crate) fn payload_format(text: &str) -> Option<PayloadFormat> {
    match text {
        "UNSPECIFIED_BYTES" => Some(PayloadFormat::Bytes),
        "UTF8_DATA" => Some(PayloadFormat::Utf8),
        _ => None,
    }
}

/// A UTF-8 string of MQTT (5, 1.5.4).
fn mqtt_string(key: &'static str, text: String) -> Result<String> {
    if text.len() > usize::from(u16::MAX) || text.contains('\0') {
        let reason = "at most 65,535 bytes without U+0000";
        return Err(Invalid::Value { key, text, reason });
    }
    Ok(text)
}

impl Upstream {
    fn render(&self, input: &Input<'_>) -> Result<Rendered> {
        let topic = self.topic.as_ref();
        let topic = topic.map(|template| {
            let text = text("the topic", template, input)?;
            Topic::new(&text).map_err(|e| Invalid::Topic {
                text,
                problem: e.into(),
            })
        });
        Ok(Rendered::Route {
            route: self.route.clone(),
            topic: topic.transpose()?,
            qos: self.qos,
        })
    }
}

impl Sqlite {
    fn render(&self, input: &Input<'_>, output: &Bytes) -> Result<SqliteTask> {
        let columns = match &self.columns {
            Some(columns) => columns
                .iter()
                .map(|(name, kind, value)| {
                    Ok(Column {
                        name: text("columns", name, input)?,
                        kind: kind.as_str().to_owned(),
                        value: Cell::Text(text("columns", value, input)?),
                    })
                })
                .collect::<Result<_>>()?,
            None => members(output)?,
        };
        Ok(SqliteTask {
            file: text("file", &self.file, input)?,
            table: text("table", &self.table, input)?,
            columns,
            max_age_s: self.max_age.map(|age| age.as_secs()),
            max_bytes: self.max_bytes,
        })
    }
}

/// A column for each member of the output, as `dynamoDBv2` has an attribute.
fn members(output: &Bytes) -> Result<Vec<Column>> {
    let Ok(Json::Object(members)) = serde_json::from_slice::<Json>(output) else {
        return Err(Invalid::NoObject);
    };
    let column = |(name, value): (String, Json)| Column {
        name,
        // Without a declared type: each value keeps its own.
        kind: String::new(),
        value: match value {
            Json::Null => Cell::Null,
            Json::Bool(value) => Cell::Integer(value.into()),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Cell::Integer(whole),
                None => number.as_f64().map_or(Cell::Null, Cell::Real),
            },
            Json::String(text) => Cell::Text(text),
            nested => Cell::Text(nested.to_string()),
        },
    };
    Ok(members.into_iter().map(column).collect())
}

impl File {
    fn render(&self, input: &Input<'_>) -> Result<FileTask> {
        Ok(FileTask {
            path: text("path", &self.path, input)?,
            replace: self.replace,
            separator: self.separator.clone(),
            max_bytes: self.max_bytes,
            max_age_s: self.max_age.map(|age| age.as_secs()),
            keep: self.keep,
            gzip: self.gzip,
        })
    }
}

impl Http {
    fn render(&self, input: &Input<'_>) -> Result<Rendered> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for (key, value) in &self.headers {
            headers.push((text("headers", key, input)?, text("headers", value, input)?));
        }
        let body = optional("body", self.body.as_ref(), input)?;
        let task = Task::Http(HttpTask {
            url: text("url", &self.url, input)?,
            method: self.method.clone(),
            headers,
            timeout_ms: millis(self.timeout),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            ca: self.ca.clone(),
        });
        Ok(Rendered::Task(Box::new(task), body.map(Bytes::from)))
    }
}
