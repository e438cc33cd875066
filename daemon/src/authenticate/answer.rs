//! What a custom authorizer is told, and what it answers: the JSON of AWS IoT's custom
//! authentication ("Defining your Lambda function").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_policy::{MAX_POLICIES_PER_PRINCIPAL, PolicyDocument};
use iotedge_ports::{Credentials, HttpCredentials};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The longest that a connection may stay or an answer may hold.
const DAY: u64 = 86_400;
/// Longest `principalId`.
const MAX_PRINCIPAL: usize = 128;

/// Headers that differ from request to request and prove nothing. An authorizer does not see them,
/// so an answer that is kept cannot rest on them.
const LEFT_OUT: [&str; 6] = [
    "content-length",
    "date",
    "traceparent",
    "tracestate",
    "x-amzn-trace-id",
    "sec-websocket-key",
];

/// A good answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) principal: String,
    pub(super) documents: Vec<PolicyDocument>,
    pub(super) disconnect_after: Duration,
    pub(super) refresh_after: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    is_authenticated: bool,
    principal_id: Option<String>,
    #[serde(borrow, default)]
    policy_documents: Vec<&'a RawValue>,
    disconnect_after_in_seconds: Option<u64>,
    refresh_after_in_seconds: Option<u64>,
}

/// Reads an answer; `Ok(None)` is a no.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let written: Written<'_> =
        serde_json::from_slice(bytes).map_err(|e| format!("its answer cannot be read: {e}"))?;
    if !written.is_authenticated {
        // The other members mean nothing then.
        return Ok(None);
    }
    let principal = written.principal_id.unwrap_or_default();
    let spelled = principal.bytes().all(|b| b.is_ascii_alphanumeric());
    if !spelled || !(1..=MAX_PRINCIPAL).contains(&principal.len()) {
        return Err(format!(
            "its principalId {principal:?} is not 1 to {MAX_PRINCIPAL} letters and digits"
        ));
    }
    let count = written.policy_documents.len();
    if count > MAX_POLICIES_PER_PRINCIPAL {
        return Err(format!(
            "its answer has {count} policy documents, more than {MAX_POLICIES_PER_PRINCIPAL}"
        ));
    }
    let documents = written
        .policy_documents
        .iter()
        .enumerate()
        .map(|(i, raw)| document(raw).map_err(|e| format!("its policy document {}: {e}", i + 1)))
        .collect::<Result<_, _>>()?;
    let seconds = |name: &str, value: Option<u64>| match value {
        Some(seconds) if !(1..=DAY).contains(&seconds) => {
            Err(format!("its {name} of {seconds} is not 1 to {DAY}"))
        }
        value => Ok(value.map(Duration::from_secs)),
    };
    let disconnect = seconds(
        "disconnectAfterInSeconds",
        written.disconnect_after_in_seconds,
    )?;
    Ok(Some(Answer {
        principal,
        documents,
        disconnect_after: disconnect.unwrap_or(Duration::from_secs(DAY)),
        refresh_after: seconds("refreshAfterInSeconds", written.refresh_after_in_seconds)?,
    }))
}

/// A document, or its text in a string.
fn document(raw: &RawValue) -> Result<PolicyDocument, String> {
    let text: Option<String> = serde_json::from_str(raw.get()).ok();
    PolicyDocument::parse(text.as_deref().unwrap_or(raw.get())).map_err(|e| e.to_string())
}

fn seen(http: &HttpCredentials) -> impl Iterator<Item = &(String, String)> {
    http.headers
        .iter()
        .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
}

/// What the authorizer is told.
pub(super) fn event(credentials: &Credentials, token_key: Option<&str>, verified: bool) -> Value {
    let mut protocols = Vec::new();
    let mut data = Map::new();
    if credentials.secure {
        protocols.push("tls");
        if let Some(name) = &credentials.server_name {
            data.insert("tls".into(), json!({ "serverName": &**name }));
        }
    }
    if let Some(http) = &credentials.http {
        protocols.push("http");
        let headers: Map<String, Value> = seen(http)
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let query = match http.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        data.insert(
            "http".into(),
            json!({ "headers": headers, "queryString": query }),
        );
    }
    if let Some(mqtt) = &credentials.mqtt {
        protocols.push("mqtt");
        let mut members = Map::new();
        if let Some(name) = &mqtt.user_name {
            members.insert("username".into(), json!(name));
        }
        if let Some(password) = &mqtt.password {
            members.insert("password".into(), json!(STANDARD.encode(password)));
        }
        if !mqtt.client_id.is_empty() {
            members.insert("clientId".into(), json!(mqtt.client_id));
        }
        data.insert("mqtt".into(), Value::Object(members));
    }
    let mut event = Map::new();
    if let Some(token) = token_key.and_then(|key| parameter(credentials, key)) {
        event.insert("token".into(), json!(token));
        event.insert("signatureVerified".into(), json!(verified));
    }
    event.insert("protocols".into(), json!(protocols));
    event.insert("protocolData".into(), Value::Object(data));
    if let Some(trace) = credentials.trace {
        event.insert(
            "connectionMetadata".into(),
            json!({ "id": trace.to_string() }),
        );
    }
    Value::Object(event)
}

/// A parameter of a header, of the query, or of the query behind CONNECT's user name.
pub(super) fn parameter(credentials: &Credentials, key: &str) -> Option<String> {
    let http = credentials.http.as_deref();
    let header = http.and_then(|http| http.header(&key.to_ascii_lowercase()));
    if let Some(value) = header {
        return Some(value.to_owned());
    }
    let user_name = credentials
        .mqtt
        .as_ref()
        .and_then(|m| m.user_name.as_deref());
    let behind = user_name.and_then(|name| name.split_once('?'));
    let queries = [http.map(|http| http.query.as_str()), behind.map(|(_, q)| q)];
    queries.into_iter().flatten().find_map(|query| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        iotedge_model::percent_decode(value)
    })
}

/// Everything that an authorizer may decide by, in an order of its own.
pub(super) fn parts(credentials: &Credentials) -> Vec<Vec<u8>> {
    let mut parts = vec![
        credentials.listener.as_bytes().to_vec(),
        vec![u8::from(credentials.secure)],
        credentials
            .server_name
            .as_ref()
            .map_or_else(Vec::new, |name| name.as_bytes().to_vec()),
    ];
    match &credentials.mqtt {
        None => parts.push(vec![0]),
        Some(mqtt) => {
            parts.push(vec![1, u8::from(mqtt.user_name.is_some())]);
            parts.push(mqtt.client_id.clone().into_bytes());
            parts.push(mqtt.user_name.clone().unwrap_or_default().into_bytes());
            parts.push(vec![u8::from(mqtt.password.is_some())]);
            parts.push(mqtt.password.as_ref().map_or_else(Vec::new, |p| p.to_vec()));
        }
    }
    if let Some(http) = &credentials.http {
        parts.push(http.query.clone().into_bytes());
        for (name, value) in seen(http) {
            parts.push(name.clone().into_bytes());
            parts.push(value.clone().into_bytes());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed
    use std::sync::Arc;

    use iotedge_ports::MqttCredentials;

    use super::*;

    const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Action":"iot:Connect","Resource":"*"}}"#;

    fn answer(documents: &str, rest: &str) -> String {
        format!(
            r#"{{"isAuthenticated":true,"principalId":"xxxxxxxx","policyDocuments":[{documents}]{rest}}}"#
        )
    }

    #[test]
    fn answers_are_read_as_aws_writes_them() {
        let rest = r#","disconnectAfterInSeconds":86400,"refreshAfterInSeconds":300,"context":{}"#;
        let read_one = read(answer(DOCUMENT, rest).as_bytes()).unwrap().unwrap();
        assert_eq!(read_one.principal, "xxxxxxxx");
        assert_eq!(read_one.documents.len(), 1);
        assert_eq!(read_one.disconnect_after, Duration::from_secs(86_400));
        assert_eq!(read_one.refresh_after, Some(Duration::from_secs(300)));
        let text = serde_json::to_string(DOCUMENT).unwrap();
        let as_text = read(answer(&text, rest).as_bytes()).unwrap().unwrap();
        assert_eq!(as_text, read_one);
        let no = read(br#"{"isAuthenticated":false,"principalId":"-","policyDocuments":[]}"#);
        assert_eq!(no, Ok(None));
        let least = read(br#"{"isAuthenticated":true,"principalId":"a"}"#)
            .unwrap()
            .unwrap();
        assert!(least.documents.is_empty());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let many = [DOCUMENT; 11].join(",");
        let id = |id: &str| format!(r#"{{"isAuthenticated":true,"principalId":"{id}"}}"#);
        for wrong in [
            String::new(),
            "{}".into(),
            r#"{"isAuthenticated":"true","principalId":"a"}"#.into(),
            r#"{"isAuthenticated":true}"#.into(),
            id("a b"),
            id("a:b"),
            id(&"x".repeat(129)),
            answer("{}", ""),
            answer("5", ""),
            answer(&many, ""),
            answer(DOCUMENT, r#","refreshAfterInSeconds":0"#),
            answer(DOCUMENT, r#","disconnectAfterInSeconds":86401"#),
            answer(DOCUMENT, r#","refreshAfterInSeconds":"300""#),
            answer(&DOCUMENT.replace("Allow", "Maybe"), ""),
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    fn credentials() -> Credentials {
        Credentials {
            secure: true,
            server_name: Some("gw.example".into()),
            mqtt: Some(MqttCredentials {
                client_id: "myClientId".into(),
                user_name: Some("me?x-amz-customauthorizer-name=badge&tok=a%20b".into()),
                password: Some("test".into()),
            }),
            http: Some(Arc::new(HttpCredentials {
                headers: vec![
                    ("x-badge".into(), "7".into()),
                    ("content-length".into(), "9".into()),
                ],
                query: "tok2=z".into(),
            })),
            ..Credentials::default()
        }
    }

    #[test]
    fn the_event_is_awss() {
        let event = event(&credentials(), Some("tok"), false);
        assert_eq!(
            event,
            json!({
                "token": "a b", "signatureVerified": false,
                "protocols": ["tls", "http", "mqtt"],
                "protocolData": {
                    "tls": {"serverName": "gw.example"},
                    "http": {"headers": {"x-badge": "7"}, "queryString": "?tok2=z"},
                    "mqtt": {"username": "me?x-amz-customauthorizer-name=badge&tok=a%20b",
                             "password": "dGVzdA==", "clientId": "myClientId"},
                },
            })
        );
        assert_eq!(parameter(&credentials(), "X-Badge").as_deref(), Some("7"));
        assert_eq!(parameter(&credentials(), "tok2").as_deref(), Some("z"));
        assert_eq!(
            parameter(&credentials(), "x-amz-customauthorizer-name").as_deref(),
            Some("badge")
        );
    }

    #[test]
    fn whatever_an_authorizer_sees_makes_other_parts() {
        let base = parts(&credentials());
        let change = |f: fn(&mut Credentials)| {
            let mut changed = credentials();
            f(&mut changed);
            parts(&changed)
        };
        for changed in [
            change(|c| c.secure = false),
            change(|c| c.server_name = None),
            change(|c| c.http = None),
            change(|c| c.mqtt = None),
            change(|c| c.mqtt.as_mut().unwrap().password = None),
            change(|c| c.mqtt.as_mut().unwrap().client_id.clear()),
            change(|c| c.mqtt.as_mut().unwrap().user_name = None),
        ] {
            assert_ne!(changed, base);
        }
    }
}
