//! Arrays, objects, Null and Undefined.

use serde_json::{Map, Value as Json};

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// An array's item, a string's character (amb-sql-021) or an object's member, whose name must be a
/// String (today's guide, "get").
pub(crate) fn element<'a>(value: Value<'a>, index: &Value<'_>) -> Value<'a> {
    if let Value::Object(_) = value {
        return match index {
            Value::Text(name) => value.member(name),
            _ => Value::Undefined,
        };
    }
    match index.to_index().map(usize::try_from) {
        Some(Ok(index)) => value.item(index),
        _ => Value::Undefined,
    }
}

pub(super) fn get<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    Ok(match arguments.exactly() {
        Some([value, index]) => element(value, &index),
        None => Value::Undefined,
    })
}

pub(super) fn isnull<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    Ok(match arguments.exactly() {
        Some([value]) => Value::Bool(matches!(value, Value::Null)),
        None => Value::Undefined,
    })
}

pub(super) fn isundefined<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    Ok(match arguments.exactly() {
        Some([value]) => Value::Bool(value.is_undefined()),
        None => Value::Undefined,
    })
}

/// The default for Undefined, Null, and so for every invalid calculation.
pub(super) fn nanvl<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    Ok(match arguments.exactly() {
        Some([Value::Undefined | Value::Null, default]) => default,
        Some([value, _]) => value,
        None => Value::Undefined,
    })
}

/// `transform('enrichArray', object, array)`: the object's attributes in each element, before the
/// element's own of the same name (amb-sql-039).
pub(super) fn transform<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([Value::Text(name), Value::Object(with), Value::Array(items)]) = arguments.exactly()
    else {
        return Ok(Value::Undefined);
    };
    if name != "enrichArray" {
        return Ok(Value::Undefined);
    }
    let added = Value::Object(with.clone()).size();
    let mut out = Vec::with_capacity(items.len());
    let mut size = 0usize;
    for item in items.iter() {
        let Json::Object(members) = item else {
            return Ok(Value::Undefined);
        };
        size = size.saturating_add(added);
        context.charge_bytes(size)?;
        let mut members: Map<String, Json> = members.clone();
        for (key, value) in with.iter() {
            members.insert(key.clone(), value.clone());
        }
        out.push(Json::Object(members));
    }
    Ok(Value::array(out))
}
