//! `parse_time()` with Joda-Time's patterns and `time_to_epoch()` with those of `java.time`, which
//! the guide points to.

mod calendar;
mod java;
mod pattern;
mod read;
mod write;
mod zone;

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;
use pattern::parse_pattern;
use zone::Zone;

type Out<'a> = Result<Value<'a>, EvalError>;

/// Why a pattern that stands in a statement cannot be used: Joda-Time knows it, this gateway does
/// not. What Joda-Time does not know either is an invalid argument and gives Undefined.
pub(crate) fn check_write_pattern(text: &str) -> Result<(), String> {
    let elements = parse_pattern(text).unwrap_or_default();
    match elements.iter().find(|e| !e.is_supported()) {
        Some(element) => Err(format!("{element} in the date pattern")),
        None => Ok(()),
    }
}

/// The same for reading, and `java.time`.
pub(crate) fn check_read_pattern(text: &str) -> Result<(), String> {
    match java::parse(text) {
        Err(java::Bad::Unsupported(letters)) => Err(format!("{letters:?} in the date pattern")),
        Ok(_) | Err(java::Bad::Invalid) => Ok(()),
    }
}

/// `parse_time(pattern, milliseconds[, zone])`: a moment as text, in UTC unless said otherwise.
pub(super) fn parse_time<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let mut values = arguments.values.into_iter();
    let (Some(Value::Text(pattern)), Some(moment), zone, None) =
        (values.next(), values.next(), values.next(), values.next())
    else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(pattern.len())?;
    let zone = match zone {
        None => Some(Zone::Utc),
        Some(Value::Text(name)) => Zone::find(&name),
        Some(_) => None,
    };
    let moment = moment.to_decimal().and_then(|n| n.floor_i64());
    let (Some(moment), Some(zone)) = (moment, zone) else {
        return Ok(Value::Undefined);
    };
    let text = parse_pattern(&pattern)
        .filter(|elements| elements.iter().all(pattern::Element::is_supported))
        .and_then(|elements| write::write(&elements, moment, &zone));
    Ok(text.map_or(Value::Undefined, Value::text))
}

/// `time_to_epoch(text, pattern)`: milliseconds since 1970, in UTC unless the text says otherwise.
pub(super) fn time_to_epoch<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([Value::Text(text), Value::Text(pattern)]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(text.len() + pattern.len())?;
    let moment = java::parse(&pattern)
        .ok()
        .and_then(|elements| read::read(&elements, &text));
    Ok(moment.map_or(Value::Undefined, Value::int))
}
