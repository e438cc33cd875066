//! What a publish over HTTP says of its message beside topic and payload (AWS IoT Core's data plane,
//! `Publish`): the query has `qos`, `retain`, `contentType`, `responseTopic` and `messageExpiry`, the
//! headers have the other properties of MQTT 5.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use iotedge_model::{PayloadFormat, PrincipalKind, Properties, QoS, Topic, UserProperty};
use iotedge_mqtt::Str;
use iotedge_ports::HttpRequest;
use serde_json::Value;

use crate::Limits;

const USER: &str = "x-amz-mqtt5-user-properties";
const CORRELATION: &str = "x-amz-mqtt5-correlation-data";
const FORMAT: &str = "x-amz-mqtt5-payload-format-indicator";
/// The longest text or binary data of MQTT 5 (1.5.4, 1.5.6).
const LONGEST: usize = u16::MAX as usize;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expiry: Option<u32>,
    pub(super) properties: Option<Box<Properties>>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            qos: QoS::AtMostOnce,
            retain: false,
            expiry: None,
            properties: None,
        }
    }
}

/// Reads all of it; the error says what is wrong.
pub(super) fn read(
    request: &HttpRequest,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut properties = Properties::default();
    for (name, value) in &request.query {
        match name.as_str() {
            "qos" => asked.qos = qos(value, limits)?,
            "retain" => asked.retain = retain(value, limits)?,
            "messageExpiry" => {
                let seconds = value.parse().map_err(|_| {
                    format!("messageExpiry is a number of seconds below 2^32, not {value:?}")
                })?;
                asked.expiry = limits.message_expiry(Some(seconds));
            }
            "contentType" => properties.content_type = Some(text("contentType", value)?),
            "responseTopic" => {
                let topic = Topic::new(value)
                    .map_err(|error| format!("responseTopic is not a topic: {error}"))?;
                properties.response_topic = Some(topic);
            }
            // Of a signature, which nobody looks at.
            signed if signed.starts_with("X-Amz-") => {}
            // What a custom authorizer has been shown, and has taken.
            _ if matches!(request.principal.kind, PrincipalKind::Custom { .. }) => {}
            _ => return Err(format!("The query parameter {name:?} is not supported")),
        }
    }
    if let Some(value) = header(headers, FORMAT)? {
        properties.payload_format = Some(match value {
            "UNSPECIFIED_BYTES" => PayloadFormat::Bytes,
            "UTF8_DATA" => PayloadFormat::Utf8,
            _ => {
                return Err(format!(
                    "{FORMAT} is UNSPECIFIED_BYTES or UTF8_DATA, not {value:?}"
                ));
            }
        });
    }
    if let Some(value) = header(headers, CORRELATION)? {
        properties.correlation_data = Some(decode(CORRELATION, value)?);
    }
    if let Some(value) = header(headers, USER)? {
        properties.user = user_properties(&decode(USER, value)?, limits)?;
    }
    if properties != Properties::default() {
        asked.properties = Some(Box::new(properties));
    }
    Ok(asked)
}

fn qos(value: &str, limits: &Limits) -> Result<QoS, String> {
    let qos = match value {
        "0" => QoS::AtMostOnce,
        "1" => QoS::AtLeastOnce,
        _ => return Err(format!("qos is 0 or 1, not {value:?}")),
    };
    let most = limits.max_qos;
    if qos > most {
        let most = u8::from(most);
        return Err(format!("qos {value} is more than max_qos ({most})"));
    }
    Ok(qos)
}

fn retain(value: &str, limits: &Limits) -> Result<bool, String> {
    match value {
        "true" if !limits.retain_available => {
            Err("retain is not available: broker.retain_available is false".into())
        }
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("retain is true or false, not {value:?}")),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str();
    text.map(Some).map_err(|_| format!("{name} is not ASCII"))
}

fn decode(name: &str, value: &str) -> Result<Vec<u8>, String> {
    let bytes = STANDARD
        .decode(value)
        .map_err(|_| format!("{name} is not base64"))?;
    if bytes.len() > LONGEST {
        return Err(format!("{name} has more than {LONGEST} bytes"));
    }
    Ok(bytes)
}

/// A text that a packet can carry.
fn text(name: &str, value: &str) -> Result<Arc<str>, String> {
    match Str::new(value) {
        Ok(_) => Ok(Arc::from(value)),
        Err(error) => Err(format!("{name} cannot be sent: {error}")),
    }
}

/// A JSON array of objects, whose members are the properties: `[{"name": "value"}, …]`.
fn user_properties(json: &[u8], limits: &Limits) -> Result<Vec<UserProperty>, String> {
    let wrong = || {
        format!("{USER} is not a JSON array of objects with texts, like [{{\"name\": \"value\"}}]")
    };
    let Ok(Value::Array(items)) = serde_json::from_slice(json) else {
        return Err(wrong());
    };
    let mut all = Vec::new();
    let mut bytes = 0;
    for item in items {
        let Value::Object(members) = item else {
            return Err(wrong());
        };
        for (name, value) in members {
            let Value::String(value) = value else {
                return Err(wrong());
            };
            bytes += name.len() + value.len();
            all.push(UserProperty {
                name: text("The name of a user property", &name)?,
                value: text("The value of a user property", &value)?,
            });
        }
    }
    if bytes > limits.max_user_property_bytes {
        return Err(format!(
            "{bytes} bytes of user properties are more than broker.max_user_property_bytes ({})",
            limits.max_user_property_bytes
        ));
    }
    Ok(all)
}

/// The same for an answer: `None` where there are none.
pub(super) fn user_properties_json(properties: Option<&Properties>) -> Option<String> {
    let user = &properties?.user;
    if user.is_empty() {
        return None;
    }
    let items: Vec<Value> = user
        .iter()
        .map(|property| {
            let member = (property.name.to_string(), Value::from(&*property.value));
            Value::Object([member].into_iter().collect())
        })
        .collect();
    Some(STANDARD.encode(Value::Array(items).to_string()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use iotedge_model::{Principal, TraceId};
    use iotedge_ports::Method;

    use super::*;

    fn asked(query: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<Asked, String> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let request = HttpRequest {
            method: Method::Post,
            path: String::new(),
            query: query.iter().map(own).collect(),
            body: Bytes::new(),
            principal: Arc::new(Principal::service("test")),
            remote: None,
            trace: TraceId(0),
            link: iotedge_ports::HttpLink::default(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = hyper::header::HeaderName::try_from(*name).unwrap();
            map.append(name, value.parse().unwrap());
        }
        let limits = Limits {
            max_user_property_bytes: 100,
            max_message_expiry: Some(1_000),
            ..Limits::default()
        };
        read(&request, &map, &limits)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(asked(&[], &[]).unwrap(), Asked::default());
        let signed = [("X-Amz-Signature", "x"), ("retain", "false")];
        assert_eq!(asked(&signed, &[]).unwrap(), Asked::default());
    }

    #[test]
    fn everything_is_read() {
        let json = STANDARD.encode(r#"[{"a": "1"}, {"a": "2", "b": "ü"}]"#);
        let found = asked(
            &[
                ("qos", "1"),
                ("retain", "true"),
                ("messageExpiry", "5000"),
                ("contentType", "text/plain"),
                ("responseTopic", "an/answer"),
            ],
            &[(FORMAT, "UTF8_DATA"), (CORRELATION, "AAEC"), (USER, &json)],
        )
        .unwrap();
        assert_eq!(
            (found.qos, found.retain, found.expiry),
            (QoS::AtLeastOnce, true, Some(1_000))
        );
        let properties = found.properties.unwrap();
        assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(properties.response_topic, Topic::new("an/answer").ok());
        assert_eq!(properties.payload_format, Some(PayloadFormat::Utf8));
        assert_eq!(properties.correlation_data, Some(vec![0, 1, 2]));
        let user: Vec<_> = properties
            .user
            .iter()
            .map(|p| (&*p.name, &*p.value))
            .collect();
        assert_eq!(user, [("a", "1"), ("a", "2"), ("b", "ü")]);
        let back = user_properties_json(Some(&properties)).unwrap();
        let back = STANDARD.decode(back).unwrap();
        assert_eq!(back, r#"[{"a":"1"},{"a":"2"},{"b":"ü"}]"#.as_bytes());
    }

    #[test]
    fn each_mistake_is_told() {
        for (name, value) in [
            ("qos", "2"),
            ("qos", ""),
            ("retain", "yes"),
            ("messageExpiry", "-1"),
            ("messageExpiry", "4294967296"),
            ("contentType", "a\0b"),
            ("responseTopic", "a/#"),
            ("responseTopic", ""),
            ("Qos", "1"),
        ] {
            let error = asked(&[(name, value)], &[]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let json = |text: &str| STANDARD.encode(text);
        for (name, value) in [
            (FORMAT, "utf8".to_owned()),
            (CORRELATION, "?".to_owned()),
            (CORRELATION, STANDARD.encode([0; 65_536])),
            (USER, "?".to_owned()),
            (USER, json("{}")),
            (USER, json(r#"["a"]"#)),
            (USER, json(r#"[{"a": 1}]"#)),
            (USER, json(r#"[{"a": "b"}"#)),
        ] {
            let error = asked(&[], &[(name, &value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        for (text, words) in [
            (r#"[{"a": "\u0000"}]"#.to_owned(), "cannot be sent"),
            (format!(r#"[{{"a": "{}"}}]"#, "x".repeat(100)), "more than"),
        ] {
            let error = asked(&[], &[(USER, &json(&text))]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
