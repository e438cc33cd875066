//! A request with all its facts as JSON: what `iotedgectl policy test --request` reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use iotedge_model::{Action, ArnScope};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    CertificateNames, ConnectFacts, Context, PolicyDocument, PolicyError, Request, Thing,
    Transport, evaluate, explain, operand,
};

/// Why a request file cannot be used.
#[derive(Debug, Error)]
pub enum CaseError {
    /// It is no JSON of that form.
    #[error("the request cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Its action is not asked by this gateway.
    #[error("{0:?} is no action that this gateway asks for")]
    Action(String),
    /// Its `current_time` is none.
    #[error("{0:?} is no time like 2026-01-31T12:00:00Z")]
    Time(String),
    /// There is no action or no resource, and the documents are good.
    #[error("the request has no {0}")]
    Missing(&'static str),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// Allowed; why.
    Allow(String),
    /// Denied; why.
    Deny(String),
    /// A document is refused: its number from 1 and the reason.
    Invalid(usize, PolicyError),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Via {
    #[default]
    Mqtt,
    Http,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Principal {
    certificate_id: Option<String>,
    thing_name: Option<String>,
    thing_type: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    is_attached: Option<bool>,
    certificate: Option<Certificate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    #[serde(default)]
    subject: BTreeMap<String, Value>,
    #[serde(default)]
    issuer: BTreeMap<String, Value>,
    serial_number: Option<String>,
}

/// One request with policies, principal and facts. Members that are not listed are ignored, so that
/// a file may carry its own notes.
#[derive(Debug, Deserialize)]
pub struct Case {
    policies: Vec<Box<RawValue>>,
    #[serde(default)]
    principal: Principal,
    #[serde(default)]
    client_id: String,
    source_ip: Option<IpAddr>,
    #[serde(default)]
    via: Via,
    #[serde(default)]
    connect_attributes: Vec<String>,
    last_will_topic: Option<String>,
    domain_name: Option<String>,
    secure_transport: Option<bool>,
    /// ISO 8601, or seconds since 1970.
    current_time: Option<String>,
    action: Option<String>,
    resource: Option<String>,
}

fn add_names(names: &mut CertificateNames, prefix: &str, members: &BTreeMap<String, Value>) {
    for (name, value) in members {
        let name = format!("{prefix}.{name}");
        match value {
            Value::String(text) => names.push(&name, text),
            Value::Array(items) => {
                for text in items.iter().filter_map(Value::as_str) {
                    names.push(&name, text);
                }
            }
            // `{"AlternativeName": {"DNSName": […]}}`
            Value::Object(inner) => {
                let inner = inner.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                add_names(names, &name, &inner);
            }
            _ => {}
        }
    }
}

impl Case {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        Ok(serde_json::from_str(text)?)
    }

    /// The documents, or the first that is refused.
    fn documents(&self) -> Result<Vec<PolicyDocument>, (usize, PolicyError)> {
        #[derive(Deserialize)]
        struct AsText {
            #[serde(rename = "$text")]
            text: String,
        }
        self.policies
            .iter()
            .enumerate()
            .map(|(i, raw)| {
                let parsed = match serde_json::from_str::<AsText>(raw.get()) {
                    Ok(document) => PolicyDocument::parse(&document.text),
                    Err(_) => PolicyDocument::parse(raw.get()),
                };
                parsed.map_err(|e| (i + 1, e))
            })
            .collect()
    }

    /// Decides it for a gateway of that region and account.
    pub fn run(&self, scope: &ArnScope) -> Result<CaseOutcome, CaseError> {
        let documents = match self.documents() {
            Ok(documents) => documents,
            Err((number, error)) => return Ok(CaseOutcome::Invalid(number, error)),
        };
        let action = self.action.as_deref().ok_or(CaseError::Missing("action"))?;
        let action = Action::parse(action).ok_or_else(|| CaseError::Action(action.to_owned()))?;
        let resource = self
            .resource
            .as_deref()
            .ok_or(CaseError::Missing("resource"))?;
        let principal = &self.principal;
        let attributes: Vec<(String, String)> = principal.attributes.clone().into_iter().collect();
        let certificate = principal.certificate.as_ref().map(|c| {
            let mut names = CertificateNames::default();
            add_names(&mut names, "Subject", &c.subject);
            add_names(&mut names, "Issuer", &c.issuer);
            if let Some(serial) = &c.serial_number {
                names.set_serial_number(serial);
            }
            names
        });
        let now = match &self.current_time {
            None => None,
            Some(text) => Some(operand::moment(text).ok_or_else(|| CaseError::Time(text.clone()))?),
        };
        let words: Vec<&str> = self.connect_attributes.iter().map(String::as_str).collect();
        let request = Request {
            action,
            resource,
            context: Context {
                scope,
                transport: match self.via {
                    Via::Mqtt => Transport::Mqtt,
                    Via::Http => Transport::Http,
                },
                client_id: &self.client_id,
                source_ip: self.source_ip,
                domain_name: self.domain_name.as_deref(),
                secure: self.secure_transport,
                now,
                certificate_id: principal.certificate_id.as_deref(),
                certificate: certificate.as_ref(),
                thing: principal.thing_name.as_deref().map(|name| Thing {
                    name,
                    thing_type: principal.thing_type.as_deref(),
                    attributes: &attributes,
                    attached: principal.is_attached.unwrap_or(true),
                }),
                connect: (action == Action::Connect).then_some(ConnectFacts {
                    attributes: &words,
                    last_will_topic: self.last_will_topic.as_deref(),
                }),
            },
        };
        let references: Vec<&PolicyDocument> = documents.iter().collect();
        let names: Vec<String> = (1..=documents.len()).map(|i| i.to_string()).collect();
        let named: Vec<(&str, &PolicyDocument)> =
            names.iter().map(String::as_str).zip(&documents).collect();
        let who = principal.certificate_id.as_deref().unwrap_or("unknown");
        let why = explain(who, &named, &request);
        Ok(if evaluate(&references, &request).is_allow() {
            CaseOutcome::Allow(why)
        } else {
            CaseOutcome::Deny(why)
        })
    }
}
