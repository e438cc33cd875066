//! What is known of the message beside its payload.

use iotedge_model::TraceId;

use super::Arguments;
use crate::decimal::Decimal;
use crate::eval::Context;
use crate::value::Value;
use crate::{EvalError, Via};

type Out<'a> = Result<Value<'a>, EvalError>;

/// A function without arguments.
fn plain<'a>(arguments: &Arguments<'a>, value: impl FnOnce() -> Value<'a>) -> Out<'a> {
    Ok(if arguments.values.is_empty() && !arguments.payload {
        value()
    } else {
        Value::Undefined
    })
}

/// The account that owns the rule (amb-sql-033).
pub(super) fn accountid<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || Value::text(context.input.account_id))
}

/// `n/a` for what did not come over MQTT (amb-sql-032).
pub(super) fn clientid<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || match context.input.via {
        Via::Mqtt => Value::text(context.input.client_id),
        Via::Other => Value::text("n/a"),
    })
}

/// The principal's id; for a certificate its SHA-256.
pub(super) fn principal<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || match context.input.principal {
        "" => Value::Undefined,
        id => Value::text(id),
    })
}

/// The topic, or one level of it counted from 1; Undefined beyond it (amb-sql-035 to 037).
pub(super) fn topic<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let topic = context.input.effective_topic();
    let level = match arguments.values.as_slice() {
        [] => return Ok(Value::text(topic)),
        [level] => level.to_index(),
        _ => None,
    };
    let found = level
        .and_then(|n| usize::try_from(n).ok()?.checked_sub(1))
        .and_then(|n| topic.split('/').nth(n));
    Ok(found.map_or(Value::Undefined, Value::text))
}

/// Milliseconds since 1970 (amb-sql-034).
pub(super) fn timestamp<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || {
        Value::Number(Decimal::from(context.input.now.0))
    })
}

/// Undefined for what did not come over MQTT.
pub(super) fn traceid<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || match context.input.via {
        Via::Mqtt => Value::text(context.input.trace.to_string()),
        Via::Other => Value::Undefined,
    })
}

/// The address that the message came from: the client's, or the last router's before the gateway.
/// `n/a` for what did not come over a network.
pub(super) fn sourceip<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || match context.input.source_ip {
        Some(address) => Value::text(address.to_string()),
        None => Value::text("n/a"),
    })
}

/// A random UUID (RFC 9562, version 4).
pub(super) fn newuuid<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || {
        let random = context.input.host.random();
        let version = (random & !(0xf << 76)) | (0x4 << 76);
        let uuid = (version & !(0x3 << 62)) | (0x2 << 62);
        // A trace id is written as a UUID.
        Value::text(TraceId(uuid).to_string())
    })
}

/// A double from 0 to 1.
pub(super) fn rand<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || {
        let bits = (context.input.host.random() >> 75) as u64;
        Value::double(bits as f64 / (1u64 << 53) as f64)
    })
}

pub(super) fn sql_version<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    plain(&arguments, || Value::text(context.version.as_str()))
}

/// `get_thing_shadow(thing, [shadow,] role)`: the document. The role has no meaning here, but its
/// place must be filled as in AWS IoT.
pub(super) fn get_thing_shadow<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let texts: Option<Vec<&str>> = arguments
        .values
        .iter()
        .map(|v| match v {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    context.charge(1000)?;
    let document = match texts.as_deref() {
        Some([thing, _role]) => context.input.host.shadow(thing, None),
        Some([thing, shadow, _role]) => context.input.host.shadow(thing, Some(shadow)),
        _ => None,
    };
    Ok(document.map_or(Value::Undefined, Value::owned))
}
