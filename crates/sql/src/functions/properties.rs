//! MQTT 5 properties of the message (today's guide, "get_mqtt_property" and
//! "get_user_properties").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_model::PayloadFormat;
use serde_json::{Map, Value as Json};

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// One of four; Undefined for one that the message does not carry, and for every other name. The
/// format indicator is always there: without one the bytes are unspecified.
pub(super) fn get_mqtt_property<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([Value::Text(name)]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let properties = context.input.properties;
    let found = match &*name {
        "format_indicator" => match properties.and_then(|p| p.payload_format) {
            Some(PayloadFormat::Utf8) => Some(Value::text("UTF8_DATA")),
            Some(PayloadFormat::Bytes) | None => Some(Value::text("UNSPECIFIED_BYTES")),
        },
        "content_type" => properties
            .and_then(|p| p.content_type.as_deref())
            .map(Value::text),
        "response_topic" => properties
            .and_then(|p| p.response_topic.as_ref())
            .map(|topic| Value::text(topic.as_str())),
        "correlation_data" => properties
            .and_then(|p| p.correlation_data.as_deref())
            .map(|data| Value::text(STANDARD.encode(data))),
        _ => None,
    };
    Ok(found.unwrap_or_default())
}

/// The values of a name, in order; without a name all of them, each an object with one member.
/// Undefined where there is none.
pub(super) fn get_user_properties<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let all = context.input.properties.map_or(&[][..], |p| &p.user);
    let text = |s: &str| Json::String(s.to_owned());
    let found: Vec<Json> = match arguments.values.as_slice() {
        [] => all
            .iter()
            .map(|p| Json::Object(Map::from_iter([(p.name.to_string(), text(&p.value))])))
            .collect(),
        [name] => match name.to_text(context.version) {
            Some(name) => all
                .iter()
                .filter(|p| *p.name == *name)
                .map(|p| text(&p.value))
                .collect(),
            None => return Ok(Value::Undefined),
        },
        _ => return Ok(Value::Undefined),
    };
    Ok(if found.is_empty() {
        Value::Undefined
    } else {
        Value::array(found)
    })
}
