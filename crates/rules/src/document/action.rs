//! The actions that this gateway carries out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iotedge_model::QoS;
use iotedge_sql::{SqlVersion, Template};

use super::cloud;
use super::fields::Fields;
use super::read::Node;
use super::{Place, Reader, RuleProblem, check_topic};
use crate::action::{
    Action, ColumnType, Exec, File, Headers, Http, Lambda, Republish, Sqlite, Upstream,
};
use crate::counters::MAX_ACTIONS;
use crate::rule::RuleDefinition;

/// Most user properties of a republished message.
const MAX_USER_PROPERTIES: usize = 100;
/// Most headers of a request (today's guide, "HTTP").
const MAX_HTTP_HEADERS: usize = 100;
/// Most columns of a row.
const MAX_COLUMNS: usize = 100;
/// Most arguments of a program.
const MAX_ARGUMENTS: usize = 100;
/// How long a request or a program may take when its action does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

impl<'t> Reader<'t> {
    pub(super) fn actions(&mut self, node: &Node<'t>, definition: &mut RuleDefinition) {
        let items = node.items();
        let items = self.take(node, items).unwrap_or_default();
        if items.len() > MAX_ACTIONS {
            self.report(node, RuleProblem::TooManyActions(MAX_ACTIONS));
        }
        let version = definition.version;
        for item in items {
            let action = self.action(&item, version, &mut definition.warnings);
            definition.actions.extend(action);
            definition.places.push(self.place(&item));
        }
    }

    pub(super) fn place(&self, node: &Node<'t>) -> Place {
        let (line, column) = node.position(self.text);
        Place {
            line,
            column,
            key: node.key.clone(),
        }
    }

    /// One action; `None` beside a reported error.
    pub(super) fn action(
        &mut self,
        node: &Node<'t>,
        version: SqlVersion,
        warnings: &mut Vec<String>,
    ) -> Option<Action> {
        let members = self.members(node)?;
        let [(name, settings)] = members.as_slice() else {
            self.report(node, RuleProblem::OneAction);
            return None;
        };
        let known = match name.as_str() {
            "republish" => "topic, qos, retain, headers, roleArn",
            "upstream" => "route, topic, qos",
            "sqlite" => "file, table, columns, maxAge, maxBytes",
            "file" => "path, mode, separator, maxBytes, maxAge, keep, gzip",
            "http" => {
                "url, confirmationUrl, method, headers, body, timeout, certificate, key, ca, auth"
            }
            "exec" => "command, timeout",
            "lambda" => "functionArn",
            other => {
                self.cloud_action(other, settings, version);
                return None;
            }
        };
        let mut fields = Fields::open(self, settings, known, version)?;
        match name.as_str() {
            "republish" => republish(&mut fields).map(|a| Action::Republish(Box::new(a))),
            "upstream" => upstream(&mut fields).map(Action::Upstream),
            "sqlite" => sqlite(&mut fields).map(|a| Action::Sqlite(Box::new(a))),
            "file" => file(&mut fields).map(|a| Action::File(Box::new(a))),
            "http" => http(&mut fields, warnings).map(|a| Action::Http(Box::new(a))),
            "exec" => exec(&mut fields).map(Action::Exec),
            _ => lambda(&mut fields).map(Action::Lambda),
        }
    }

    /// Checks what AWS would check, and says that it cannot be carried out here.
    fn cloud_action(&mut self, name: &str, settings: &Node<'t>, version: SqlVersion) {
        match cloud::find(name) {
            Some(action) => {
                cloud::check(self, action, settings, version);
                self.report(settings, RuleProblem::ActionNotAvailable(action.name));
            }
            None => self.report(settings, RuleProblem::UnknownAction(name.to_owned())),
        }
    }
}

fn qos(fields: &mut Fields<'_, '_>) -> Option<QoS> {
    let node = fields.get("qos")?;
    match node.small_integer() {
        Some(0) => Some(QoS::AtMostOnce),
        Some(1) => Some(QoS::AtLeastOnce),
        _ => {
            fields.wrong(&node, RuleProblem::QoS);
            None
        }
    }
}

fn republish(fields: &mut Fields<'_, '_>) -> Option<Republish> {
    // The role says what the rule may publish in AWS; here the rule is the operator's.
    fields.text("roleArn");
    let qos = qos(fields).unwrap_or(QoS::AtMostOnce);
    let retain = fields.flag("retain").unwrap_or(false);
    let headers = headers(fields);
    let node = fields.need("topic")?;
    let text = node.string();
    fields.reader.take(&node, text)?;
    let topic = fields.template_of(&node)?;
    if let Some(literal) = topic.as_literal() {
        let checked = check_topic(literal);
        fields.reader.take(&node, checked)?;
    }
    Some(Republish {
        topic,
        qos,
        retain,
        headers,
    })
}

const HEADERS: &str = "payloadFormatIndicator, contentType, responseTopic, correlationData, \
                       messageExpiry, userProperties";

fn headers(fields: &mut Fields<'_, '_>) -> Headers {
    let version = fields.version;
    let Some(node) = fields.get("headers") else {
        return Headers::default();
    };
    let Some(mut fields) = Fields::open(fields.reader, &node, HEADERS, version) else {
        return Headers::default();
    };
    let headers = Headers {
        payload_format: fields.template("payloadFormatIndicator"),
        content_type: fields.template("contentType"),
        response_topic: fields.template("responseTopic"),
        correlation_data: fields.template("correlationData"),
        expiry: fields.template("messageExpiry"),
        user: fields.pairs("userProperties", MAX_USER_PROPERTIES),
    };
    check_literals(&mut fields, &headers);
    headers
}

/// What is wrong for every message is refused now.
fn check_literals(fields: &mut Fields<'_, '_>, headers: &Headers) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let format = |text: &str| crate::action::payload_format(text).is_some();
    let topic = |text: &str| iotedge_model::Topic::new(text).is_ok();
    let base64 = |text: &str| STANDARD.decode(text).is_ok();
    let seconds = |text: &str| text.parse::<u32>().is_ok();
    type Check<'a> = &'a dyn Fn(&str) -> bool;
    let checks: [(&str, &Option<Template>, Check<'_>, &str); 4] = [
        (
            "payloadFormatIndicator",
            &headers.payload_format,
            &format,
            "must be UNSPECIFIED_BYTES or UTF8_DATA",
        ),
        (
            "responseTopic",
            &headers.response_topic,
            &topic,
            "is no topic that can be published to",
        ),
        (
            "correlationData",
            &headers.correlation_data,
            &base64,
            "must be Base64",
        ),
        (
            "messageExpiry",
            &headers.expiry,
            &seconds,
            "must be whole seconds",
        ),
    ];
    for (key, template, good, reason) in checks {
        let literal = template.as_ref().and_then(Template::as_literal);
        if let (Some(false), Some(node)) = (literal.map(good), fields.get(key)) {
            fields.wrong(&node, RuleProblem::Value(reason.into()));
        }
    }
}

fn upstream(fields: &mut Fields<'_, '_>) -> Option<Upstream> {
    let qos = qos(fields);
    let topic = fields.template("topic");
    fields.need("route")?;
    Some(Upstream {
        route: fields.text("route")?,
        topic,
        qos,
    })
}

fn sqlite(fields: &mut Fields<'_, '_>) -> Option<Sqlite> {
    let file = fields.template("file");
    let columns = fields.get("columns").map(|node| columns(fields, &node));
    let max_age = fields.duration("maxAge", Duration::from_secs(1));
    let max_bytes = fields.size("maxBytes", 64 << 10);
    let table = fields.need_template("table")?;
    let default = || Template::parse("rules.db", fields.version).ok();
    Some(Sqlite {
        file: file.or_else(default)?,
        table,
        columns,
        max_age,
        max_bytes,
    })
}

/// An object: the name is a template, and so is the value, or the value in an object with a type.
fn columns<'t>(
    fields: &mut Fields<'_, 't>,
    node: &Node<'t>,
) -> Vec<(Template, ColumnType, Template)> {
    let version = fields.version;
    let members = fields.reader.members(node).unwrap_or_default();
    if members.is_empty() || members.len() > MAX_COLUMNS {
        let problem = RuleProblem::Value(format!("must have 1 to {MAX_COLUMNS} columns"));
        fields.wrong(node, problem);
    }
    let mut columns = Vec::with_capacity(members.len());
    for (name, value) in &members {
        let name = Template::parse(name, version).map_err(RuleProblem::from);
        let name = fields.reader.take(value, name);
        let (kind, value) = match value.members() {
            Err(_) => (Some(ColumnType::Text), fields.template_of(value)),
            Ok(_) => match Fields::open(fields.reader, value, "type, value", version) {
                Some(mut column) => (column_type(&mut column), column.need_template("value")),
                None => (None, None),
            },
        };
        if let (Some(name), Some(kind), Some(value)) = (name, kind, value) {
            columns.push((name, kind, value));
        }
    }
    columns
}

fn column_type(fields: &mut Fields<'_, '_>) -> Option<ColumnType> {
    let kinds = [
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Real,
        ColumnType::Numeric,
    ];
    let node = fields.need("type")?;
    let text = fields.text("type")?;
    let found = kinds.into_iter().find(|k| k.as_str() == text);
    if found.is_none() {
        let problem = RuleProblem::Value("must be TEXT, INTEGER, REAL or NUMERIC".into());
        fields.wrong(&node, problem);
    }
    found
}

fn file(fields: &mut Fields<'_, '_>) -> Option<File> {
    let replace = match fields.text("mode").as_deref() {
        None | Some("append") => false,
        Some("replace") => true,
        Some(_) => {
            let node = fields.need("mode")?;
            fields.wrong(
                &node,
                RuleProblem::Value("must be append or replace".into()),
            );
            false
        }
    };
    let rotates = ["separator", "maxBytes", "maxAge", "keep", "gzip"];
    for key in rotates.iter().filter(|_| replace) {
        if let Some(node) = fields.get(key) {
            let problem = "has no meaning where each message replaces the file";
            fields.wrong(&node, RuleProblem::Value(problem.into()));
        }
    }
    let separator = fields.text("separator").unwrap_or_else(|| "\n".into());
    let max_bytes = fields.size("maxBytes", 1_024);
    let max_age = fields.duration("maxAge", Duration::from_secs(1));
    let keep = fields.number("keep", 1, 10_000).unwrap_or(10);
    let gzip = fields.flag("gzip").unwrap_or(false);
    let node = fields.need("path")?;
    let path = fields.need_template("path")?;
    if let Some(reason) = path.as_literal().and_then(crate::path::problem) {
        fields.wrong(&node, RuleProblem::Value(reason.to_owned()));
        return None;
    }
    Some(File {
        path,
        replace,
        separator,
        max_bytes,
        max_age,
        keep: u32::try_from(keep).unwrap_or(u32::MAX),
        gzip,
    })
}

fn http(fields: &mut Fields<'_, '_>, warnings: &mut Vec<String>) -> Option<Http> {
    if let Some(node) = fields.get("auth") {
        let reason = "requests are not signed for AWS (sigv4) here; \
                      use headers, or certificate and key";
        fields.wrong(&node, RuleProblem::NotAvailable(reason));
    }
    if fields.text("confirmationUrl").is_some() {
        warnings.push(
            "http: confirmationUrl is not used: a destination needs no confirmation here".into(),
        );
    }
    let method = fields.text("method").unwrap_or_else(|| "POST".into());
    if !METHODS.contains(&method.as_str()) {
        let node = fields.need("method")?;
        let problem = format!("must be one of {}", METHODS.join(", "));
        fields.wrong(&node, RuleProblem::Value(problem));
    }
    let headers = fields.pairs("headers", MAX_HTTP_HEADERS);
    let body = fields.template("body");
    let timeout = fields.duration("timeout", Duration::from_millis(1));
    let certificate = absolute(fields, "certificate");
    let key = absolute(fields, "key");
    let ca = absolute(fields, "ca");
    if certificate.is_some() != key.is_some() {
        let node = fields.get("certificate").or_else(|| fields.get("key"))?;
        let problem = "certificate and key belong together";
        fields.wrong(&node, RuleProblem::Value(problem.into()));
    }
    let node = fields.need("url")?;
    let url = fields.need_template("url")?;
    let web = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if url.as_literal().is_some_and(|text| !web(text)) {
        let problem = RuleProblem::Value("must begin with http:// or https://".into());
        fields.wrong(&node, problem);
    }
    Some(Http {
        url,
        method,
        headers,
        body,
        timeout: timeout.unwrap_or(TIMEOUT),
        certificate,
        key,
        ca,
    })
}

/// A path that means the same wherever the daemon was started.
fn absolute(fields: &mut Fields<'_, '_>, key: &str) -> Option<PathBuf> {
    let text = fields.text(key)?;
    if !Path::new(&text).is_absolute() {
        let node = fields.need(key)?;
        fields.wrong(&node, RuleProblem::Value("must be an absolute path".into()));
    }
    Some(PathBuf::from(text))
}

fn exec(fields: &mut Fields<'_, '_>) -> Option<Exec> {
    let timeout = fields.duration("timeout", Duration::from_millis(1));
    let node = fields.need("command")?;
    let items = node.items();
    let items = fields.reader.take(&node, items)?;
    let Some((program, arguments)) = items.split_first() else {
        let problem = "must name a program, and may have arguments";
        fields.wrong(&node, RuleProblem::Value(problem.into()));
        return None;
    };
    if arguments.len() > MAX_ARGUMENTS {
        let problem = RuleProblem::Value(format!("has at most {MAX_ARGUMENTS} arguments"));
        fields.wrong(&node, problem);
    }
    let path = program.string();
    let path = fields.reader.take(program, path)?;
    if !Path::new(&path).is_absolute() || path.contains("${") {
        let problem = "must be an absolute path without substitution";
        fields.wrong(program, RuleProblem::Value(problem.into()));
    }
    let arguments = arguments.iter().map(|node| fields.template_of(node));
    Some(Exec {
        program: PathBuf::from(path),
        arguments: arguments.collect::<Option<_>>()?,
        timeout: timeout.unwrap_or(TIMEOUT),
    })
}

fn lambda(fields: &mut Fields<'_, '_>) -> Option<Lambda> {
    let node = fields.need("functionArn")?;
    let function = fields.need_template("functionArn")?;
    let arn = |text: &str| {
        let mut parts = text.split(':');
        parts.next() == Some("arn")
            && parts.nth(1) == Some("lambda")
            && parts.nth(2) == Some("function")
            && parts.next().is_some_and(|name| !name.is_empty())
            && parts.nth(1).is_none()
    };
    if function.as_literal().is_some_and(|text| !arn(text)) {
        let problem = "must be a function's ARN: arn:aws:lambda:REGION:ACCOUNT:function:NAME, \
                       with :ALIAS or :VERSION where one is meant";
        fields.wrong(&node, RuleProblem::Value(problem.into()));
    }
    Some(Lambda { function })
}
