//! Request documents ("Request State Documents").

use iotedge_model::json;
use serde_json::Value;

use super::tree::{self, Object};
use super::{Document, Limits, Rejection, Section, ShadowError, merge};

/// What a request says about one section.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// `null`: the section goes.
    Remove,
    Merge(Section),
}

/// What a request says about the state.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// `null`: everything goes.
    Remove,
    /// The sections in the request's order.
    Sections(Vec<(Side, Change)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Desired,
    Reported,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
        }
    }
}

pub(super) struct UpdateRequest {
    state: State,
    pub(super) version: Option<u64>,
    pub(super) client_token: Option<String>,
}

/// SDKs in C have sent the terminating NUL with the document: one is taken off.
fn without_nul(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(b"\0").unwrap_or(payload)
}

/// A document from outside; see [`iotedge_model::json`].
pub(crate) fn read_json(text: &[u8]) -> serde_json::Result<Value> {
    if json::may_be_reserved(text) {
        serde_json::from_slice::<json::Plain>(text)?;
    }
    serde_json::from_slice(text)
}

/// The token of a request whose content does not count otherwise; an unusable one is none.
pub(super) fn client_token(payload: &[u8], limits: &Limits) -> Option<String> {
    if payload.len() > limits.max_request_bytes {
        return None;
    }
    let value = read_json(without_nul(payload)).ok()?;
    read_token(value.get("clientToken"), limits).ok().flatten()
}

fn read_token(value: Option<&Value>, limits: &Limits) -> Result<Option<String>, ShadowError> {
    match value {
        None => Ok(None),
        Some(Value::String(token)) if token.len() <= limits.max_client_token_bytes => {
            Ok(Some(token.clone()))
        }
        Some(_) => Err(ShadowError::InvalidClientToken),
    }
}

impl UpdateRequest {
    pub(super) fn parse(payload: &[u8], limits: &Limits) -> Result<Self, Rejection> {
        if payload.len() > limits.max_request_bytes {
            return Err(ShadowError::TooLarge.into());
        }
        let text = std::str::from_utf8(without_nul(payload)).map_err(|_| ShadowError::Encoding)?;
        let mut root = match read_json(text.as_bytes()) {
            Ok(Value::Object(root)) => root,
            // The parser's own limit of nesting lies far above ours.
            Err(e) if e.to_string().starts_with("recursion limit") => {
                let max = limits.max_depth;
                return Err(ShadowError::TooDeep { max }.into());
            }
            Ok(_) | Err(_) => return Err(ShadowError::InvalidJson.into()),
        };
        let client_token = read_token(root.get("clientToken"), limits)?;
        let reject = |reason| Rejection {
            reason,
            client_token: client_token.clone(),
        };
        let state = root
            .remove("state")
            .ok_or_else(|| reject(ShadowError::MissingState))?;
        let state = parse_state(state, limits).map_err(reject)?;
        let version = match root.get("version") {
            None => None,
            Some(version) => match version.as_u64() {
                Some(version) => Some(version),
                None => return Err(reject(ShadowError::InvalidVersion)),
            },
        };
        Ok(Self {
            state,
            version,
            client_token,
        })
    }

    /// Merges it into the document.
    pub(super) fn apply(&self, document: &mut Document<'_>, seconds: u64) {
        match &self.state {
            State::Remove => {
                document.desired = Object::default();
                document.reported = Object::default();
            }
            State::Sections(sections) => {
                for (side, change) in sections {
                    let section = match side {
                        Side::Desired => &mut document.desired,
                        Side::Reported => &mut document.reported,
                    };
                    match change {
                        Change::Remove => *section = Object::default(),
                        Change::Merge(patch) => merge::merge(section, patch, seconds),
                    }
                }
            }
        }
    }

    fn write_sections(&self, out: &mut String, write: impl Fn(&Change, &mut String)) {
        out.push('{');
        if let State::Sections(sections) = &self.state {
            for (at, (side, change)) in sections.iter().enumerate() {
                out.push_str(if at > 0 { ",\"" } else { "\"" });
                out.push_str(side.as_str());
                out.push_str("\":");
                write(change, out);
            }
        }
        out.push('}');
    }

    /// The state as it was sent.
    pub(super) fn write_echo(&self, out: &mut String) {
        if self.state == State::Remove {
            out.push_str("null");
            return;
        }
        self.write_sections(out, |change, out| match change {
            Change::Remove => out.push_str("null"),
            // A map of values can always be written.
            Change::Merge(patch) => {
                out.push_str(&serde_json::to_string(patch).unwrap_or_default());
            }
        });
    }

    /// A timestamp for each leaf that was sent, removed ones included.
    pub(super) fn write_echo_metadata(&self, seconds: u64, out: &mut String) {
        self.write_sections(out, |change, out| match change {
            Change::Remove => tree::write_value_stamps(&Value::Null, seconds, out),
            Change::Merge(patch) => tree::write_section_stamps(patch, seconds, out),
        });
    }
}

fn parse_state(state: Value, limits: &Limits) -> Result<State, ShadowError> {
    let members = match state {
        Value::Null => return Ok(State::Remove),
        Value::Object(members) => members,
        _ => return Err(ShadowError::StateNotObject),
    };
    let mut sections = Vec::new();
    for (name, value) in members {
        let (side, wrong) = match name.as_str() {
            "desired" => (Side::Desired, ShadowError::DesiredNotObject),
            "reported" => (Side::Reported, ShadowError::ReportedNotObject),
            _ => return Err(ShadowError::InvalidNode),
        };
        if !value.is_object() && !value.is_null() {
            return Err(wrong);
        }
        if merge::depth(&value) > limits.max_depth {
            return Err(ShadowError::TooDeep {
                max: limits.max_depth,
            });
        }
        if merge::null_in_array(&value) {
            return Err(ShadowError::InvalidNode);
        }
        let change = match value {
            Value::Object(section) => Change::Merge(section),
            _ => Change::Remove,
        };
        sections.push((side, change));
    }
    Ok(State::Sections(sections))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_with_a_key_that_would_be_read_as_more_json_is_refused() {
        for text in [
            r#"{"state":{"reported":{"o":{"$serde_json::private::RawValue":"[1]"}}}}"#,
            r#"{"state":{"reported":{"a":1,"\u0024serde_json::private::RawValue":"x"}}}"#,
        ] {
            let refused = UpdateRequest::parse(text.as_bytes(), &Limits::default()).err();
            assert_eq!(
                refused.map(|r| r.reason),
                Some(ShadowError::InvalidJson),
                "{text}"
            );
            assert_eq!(client_token(text.as_bytes(), &Limits::default()), None);
        }
    }
}
